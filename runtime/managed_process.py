"""One supervised service: its process, from start (or adoption) to the end of its session.

A unit never decides *when*: the supervisor does. It promises that `start` returns only when the process
itself answers (not a stranger at its address), that no two processes of one service run because of
it, and that `end` leaves nothing of the service's session.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import signal
from collections.abc import Callable

from runtime.home import Home, read_json, write_atomically
from runtime.services import Service, base_environment, mark_prefix, processes
from runtime.services.processes import Identity, Running
from runtime.settings import Settings
from terminalpp import __version__
from terminalpp.types.errors import ServiceFailed

log = logging.getLogger("supervisor")

POLL_SECONDS = 0.05


class Unit:
    """A service with its process and its record. `changed` is called whenever the record changes."""

    def __init__(self, service: Service, changed: Callable[[], None]) -> None:
        self.service = service
        self.home: Home = service.home
        self.running: Running | None = None
        self.up = asyncio.Event()
        self.state = "stopped"
        self.detail = ""
        self.restarts = 0
        self.yielding = False  # ended by us because something that it needs was lost
        self._changed = changed

    def to_json(self) -> dict[str, object]:
        """The service as `state.json` shows it to the boot verbs."""
        process = self.running.identity if self.running else None
        return {
            "pid": process.pid if process else None,
            "start": process.start if process else None,
            "state": self.state,
            "restarts": self.restarts,
            "detail": self.detail,
        }

    def mark(self, state: str, detail: str | None = None) -> None:
        """Record a state and its detail, and make it known."""
        self.state = state
        if detail is not None:
            self.detail = detail
        self._changed()

    def _spec(self, settings: Settings) -> tuple[list[str], dict[str, str], str]:
        """Command, environment and their hash: equal hashes mean that a leftover can be adopted."""
        service = self.service
        command = service.command(settings)
        environment = {
            **base_environment(settings if service.takes_settings else None),
            **service.environment(settings),
        }
        relevant = {
            k: v
            for k, v in environment.items()
            if service.takes_settings and (k.startswith("TPP_") or "KEY" in k or "TOKEN" in k)
        }
        words = json.dumps([__version__, command, sorted(relevant.items())])
        digest = hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        environment[processes.MARK] = mark_prefix(self.home, service.name) + digest
        return command, environment, digest

    async def start(self, settings: Settings) -> None:
        """Adopt or start, then wait until it answers. Raises ServiceFailed (or what the service says)."""
        service = self.service
        command, environment, digest = self._spec(settings)
        if await self._adopt(settings, digest):
            return
        await service.before_start()
        since = service.log.stat().st_size if service.log.exists() else 0
        self.mark("starting")
        try:
            self.running = processes.spawn(command, environment, service.directory, service.log)
        except OSError as error:
            raise ServiceFailed(f"{service.name}: {error}") from None
        self._record(digest)
        self._changed()
        await self._until_ready(settings, since)
        service.leftover = False
        self.up.set()
        self.mark("running", service.detail(settings))

    async def _until_ready(self, settings: Settings, since: int) -> None:
        service = self.service
        ended = asyncio.create_task(self.running.ended())
        try:
            async with asyncio.timeout(service.starts_within_s):
                while not await self._answers(settings) or ended.done():
                    done, _ = await asyncio.wait({ended}, timeout=POLL_SECONDS)
                    if done:
                        raise service.failure(ended.result(), processes.log_tail(service.log, since))
        except TimeoutError:
            await self.end()
            how = f"did not answer within {service.starts_within_s:.0f} s"
            raise service.failure(how, processes.log_tail(service.log, since)) from None
        finally:
            ended.cancel()

    async def _answers(self, settings: Settings) -> bool:
        """Whether it answers, and nobody in its place."""
        if not await self.service.ready(settings):
            return False
        port = self.home.remembered_port(self.service.name)
        return not (port and processes.strangers_listen(self.running.identity, port))

    def leftovers(self) -> list[tuple[Identity, str]]:
        """Processes of this service that an earlier supervisor started, with the hash of their spec."""
        service = self.service
        prefix = mark_prefix(self.home, service.name)
        found = {leader: processes.mark_of(leader.pid) for leader in processes.leaders(service.owns)}
        found = {leader: mark.removeprefix(prefix) for leader, mark in found.items()}
        record = read_json(self.home.run / f"{service.name}.pid")
        if (identity := Identity.from_json(record)) and identity.alive:
            found[identity] = str(record.get("spec"))
        pids = {identity.pid for identity in found}
        return [
            (i, spec)
            for i, spec in found.items()
            if service.signature in processes.command_line(i.pid) and processes.parent(i.pid) not in pids
        ]

    async def _adopt(self, settings: Settings, digest: str) -> bool:
        """True if a leftover does the service's work already; all other leftovers are ended."""
        leftovers = self.leftovers()
        for identity, spec in leftovers:
            self.running = Running(identity)
            if len(leftovers) == 1 and spec == digest and await self._answers(settings):
                self.up.set()
                self._record(digest)
                self.mark("running", f"{self.service.detail(settings)} (found running)")
                return True
            log.info("ending a leftover of %s: process %d", self.service.name, identity.pid)
            await self.end(frozen=identity.stopped)
        if not leftovers:
            await self._sweep(Identity.from_json(read_json(self.home.run / f"{self.service.name}.pid")))
        return False

    async def end(self, *, frozen: bool = False) -> None:
        """End the process and all that is left of its session; `frozen`: nobody there hears anything but
        SIGKILL."""
        running, service = self.running, self.service
        self.up.clear()
        if running is None:
            return
        if frozen:
            members = processes.session_members(running.identity, service.owns)
            await processes.end_all([running.identity, *members], signal.SIGKILL, 10.0)
            # Orphans in sessions of their own, as PostgreSQL's backends are.
            await processes.end_all([orphan for orphan, _ in self.leftovers()], signal.SIGKILL, 10.0)
        elif not await processes.end_all([running.identity], service.stop_signal, service.stops_within_s):
            await processes.end_all([running.identity], signal.SIGKILL, 10.0)
        with contextlib.suppress(TimeoutError):
            # Not wait_for: before Python 3.12 it can swallow a cancellation, and a keeper would live on.
            async with asyncio.timeout(5):
                await running.ended()
        await self._sweep(running.identity)
        if self.running is running:
            self.running = None

    async def _sweep(self, leader: Identity | None) -> None:
        """End what a dead leader left behind in its session (Ray's workers, for example)."""
        if leader is None or leader.alive or not leader.start.startswith(processes.boot_id()):
            return
        members = processes.session_members(leader, self.service.owns)
        if members and not await processes.end_all(members, signal.SIGTERM, 3.0):
            await processes.end_all(members, signal.SIGKILL, 5.0)

    def _record(self, digest: str) -> None:
        record = {**self.running.identity.to_json(), "spec": digest}
        write_atomically(self.home.run / f"{self.service.name}.pid", json.dumps(record))
