"""The node: the one entity of a machine that may start, end and delete sandboxes on it.

It remembers nothing that matters: what runs is known to the drivers (labels, records on disk), and the
wish to start lies in the sandbox entity's outbox. Killed in the middle of a start, it is asked again and
begins anew, and the driver recognises what is already there.

A start may take minutes (an image is built), longer than any call should: `start_sandbox` is a long
poll. Each answer brings the progress lines since the last one; the work goes on between the calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from actors.node import choice
from actors.node.bubblewrap import Bubblewrap
from actors.node.docker import DockerDriver
from actors.node.driver import Driver, SandboxSpec, Started
from actors.sandbox import retention
from runtime import Entity, Turn, readonly, volatile
from runtime.services import helper
from runtime.settings import Settings
from terminalpp.types.errors import InvalidInput, TerminalError
from terminalpp.types.states import Network

log = logging.getLogger("terminalpp.node")

TRIM = "trim"
TRIM_SECONDS = 30.0
COLLECT_SECONDS, COLLECT_STATEMENT_SECONDS = 3600.0, 600.0
KEPT_LINES = 500  # of one start; older ones are dropped, the reader sees the numbers jump


def make_drivers(settings: Settings) -> dict[str, Driver]:
    """Both drivers of this home by name. Does nothing yet: `probe` finds out what works."""
    tppd = helper.path(settings.home)
    return {
        choice.DOCKER: DockerDriver(
            settings.home, tppd, image=settings.sandbox_image, image_base=settings.image_base),
        choice.BUBBLEWRAP: Bubblewrap(settings.home, tppd),
    }


class Job:
    """One start under way: its task and its last lines, numbered from 0."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.count = 0
        self.task: asyncio.Task[dict[str, Any]] | None = None

    async def say(self, line: str) -> None:
        """Keep a line of progress."""
        self.lines.append(line)
        self.count += 1

    def since(self, seen: int) -> list[str]:
        """Lines from number `seen` on, as far as they are kept."""
        new = min(self.count - seen, len(self.lines))
        return list(self.lines)[-new:] if new > 0 else []


class Node(Entity):
    """The machine: starts, stops and removes the sandboxes on it."""

    kind = "node"
    group = "node"

    async def activated(self) -> None:
        """Find the drivers, and have the journals trimmed from time to time."""
        self._drivers: Mapping[str, Driver] = make_drivers(self.context.settings)
        self._jobs: dict[tuple[str, int], Job] = {}
        self._trimming: asyncio.Task[None] | None = None
        self._collected = time.monotonic()
        async with self.context.turn() as turn:
            turn.remind(TRIM, after_seconds=TRIM_SECONDS, every_seconds=TRIM_SECONDS)

    async def passivated(self) -> None:
        """End the starts that are under way."""
        for job in self._jobs.values():
            if job.task:
                job.task.cancel()

    async def on_reminder(self, turn: Turn, payload: dict[str, Any]) -> None:
        """Keep the journals of finished commands within their budgets, in the background."""
        if payload.get("name") == TRIM and (self._trimming is None or self._trimming.done()):
            self._trimming = self.context.spawn(self._tidy(), "trimming the journals")

    async def _tidy(self) -> None:
        await self._trim()
        if time.monotonic() - self._collected > COLLECT_SECONDS:
            self._collected = time.monotonic()
            await self._collect()

    async def _collect(self) -> None:
        """Old automatic snapshots, contents that nothing refers to, and their objects go."""
        from actors.sandbox.versions import collecting
        from actors.sandbox.versions.objects import Objects

        database = self.context.database.within(COLLECT_STATEMENT_SECONDS)
        objects = Objects.of(self.context.settings)
        try:
            pruned = await collecting.prune(database)
            forgotten, deleted = await collecting.collect(database, objects)
        except TerminalError as error:
            log.warning("snapshots could not be tidied: %s", error)
        else:
            words = "snapshots: %d deleted, %d contents and %d objects collected"
            log.log(logging.INFO if pruned or deleted else logging.DEBUG, words, pruned, forgotten, deleted)

    async def _trim(self) -> None:
        settings = self.context.settings
        budget = retention.Budget(
            settings.journal_sandbox_bytes, settings.journal_home_bytes, settings.journal_days * 86400)
        try:
            freed = await retention.trim(settings.home, self.context.database, budget)
        except (TerminalError, OSError) as error:
            log.warning("the journals could not be trimmed: %s", error)
        else:
            log.log(logging.INFO if freed else logging.DEBUG, "journals: %d bytes freed", freed)

    @volatile
    async def start_sandbox(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Start, or wait for the start of, `spec`; `driver` is the one it had before, or None.

        Returns within `wait_ms`: {"state": "working"|"started", "lines": [...], "seen": n} and, once
        started, "started" (driver's record), "driver", "note". Call again with "seen" until then.
        Raises IsolationUnavailable, ImageUnavailable, SandboxFailed, Conflict (a newer generation runs).
        """
        spec = read_spec(payload["spec"])
        key = (spec.sandbox_id, spec.generation)
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = Job()
            job.task = asyncio.create_task(self._start(spec, payload.get("driver"), job))
        assert job.task is not None
        done, _ = await asyncio.wait([job.task], timeout=int(payload.get("wait_ms", 1000)) / 1000)
        answer: dict[str, Any] = {
            "state": "working", "lines": job.since(int(payload.get("seen", 0))), "seen": job.count}
        if done:
            self._jobs.pop(key, None)  # delivered; a repeated call finds the running sandbox by the driver
            answer |= {"state": "started", **job.task.result()}
        return answer

    @volatile
    async def stop_sandbox(self, payload: dict[str, Any]) -> None:
        """End every process of `sandbox_id`; returns when they are gone. Nothing there is fine."""
        await self._give_up(payload["sandbox_id"])
        for driver in await self._of(payload.get("driver")):
            await driver.stop(payload["sandbox_id"])

    @volatile
    async def freeze_sandbox(self, payload: dict[str, Any]) -> None:
        """Freeze `sandbox_id`, or with `frozen` false let it go on. Raises Conflict (it cannot be)."""
        for driver in await self._of(payload.get("driver")):
            await driver.freeze(payload["sandbox_id"], payload["frozen"])

    @volatile
    async def remove_sandbox(self, payload: dict[str, Any]) -> None:
        """End it and delete its workspace and journals. Nothing there is fine."""
        await self._give_up(payload["sandbox_id"])
        for driver in await self._of(payload.get("driver")):
            await driver.remove(payload["sandbox_id"])

    @readonly
    async def inspect_sandbox(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The driver's record of `sandbox_id` if it runs now, else None."""
        for driver in await self._of(payload.get("driver")):
            if found := await driver.inspect(payload["sandbox_id"]):
                return found.to_json()
        return None

    @readonly
    async def drivers(self, _payload: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Each driver with what its probe says: name, available, isolation, detail, fix."""
        probes = [(name, await driver.probe()) for name, driver in self._drivers.items()]
        return [{"name": name, **asdict(probe)} for name, probe in probes]

    async def _start(self, spec: SandboxSpec, pinned: str | None, job: Job) -> dict[str, Any]:
        settings = self.context.settings
        spec = replace(spec, journal_bytes=settings.journal_sandbox_bytes,
                       journal_floor_bytes=settings.disk_reserve_bytes // 2)
        image = spec.image or settings.sandbox_image
        if pinned is not None and pinned not in self._drivers:
            raise InvalidInput(f"there is no driver {pinned!r}")
        if pinned and (found := await self._running(pinned, spec)):
            return {"started": found.to_json(), "driver": pinned, "note": ""}
        chosen = await choice.choose(self._drivers, settings.sandbox_driver, image, pinned, job.say)
        await job.say(f"starting the sandbox ({chosen.driver.name})")
        started = await chosen.driver.start(spec, job.say)
        return {"started": started.to_json(), "driver": chosen.driver.name, "note": chosen.note}

    async def _running(self, pinned: str, spec: SandboxSpec) -> Started | None:
        """The sandbox if it runs at this very generation: no image is looked for then."""
        driver = self._drivers[pinned]
        if not (await driver.probe()).available:
            return None
        found = await driver.inspect(spec.sandbox_id)
        return found if found and found.generation == spec.generation else None

    async def _give_up(self, sandbox_id: str) -> None:
        """Cancel starts of this sandbox that are under way, and wait until they have let go."""
        for key in [key for key in self._jobs if key[0] == sandbox_id]:
            task = self._jobs.pop(key).task
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def _of(self, name: str | None) -> list[Driver]:
        """The named driver; without a name (it never ran), every driver that works here."""
        if name is not None:
            return [self._drivers[name]]
        return [driver for driver in self._drivers.values() if (await driver.probe()).available]


def read_spec(value: dict[str, Any]) -> SandboxSpec:
    """The spec that the sandbox entity wrote as JSON. Raises InvalidInput."""
    try:
        return SandboxSpec(**{**value, "network": Network(value.get("network", "none"))})
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"not a sandbox spec: {error}") from error
