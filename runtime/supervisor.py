"""The supervisor: starts a node's services in order, keeps each one running, stops them in reverse.

It is the only owner of the home's lock. Each service has a keeper task: it waits for the end of the
process (pidfd) or for a run of failed health checks (it is frozen: it is killed with all that belongs to
it, since a stopped process hears no other signal), then starts it again with backoff, for ever: a
node that cannot run Postgres has nothing better to do than to try. A service that `needs` another is
stopped when that one is lost and started after it is back (the gateway is a driver of Ray).

Killed itself, it loses nothing: the services are sessions of their own and go on. The next supervisor
looks for them by record and by mark, adopts those that were started exactly as it would start them
and that answer, and ends the others before it starts anything: never two of one service.

`run/state.json` is what others read: written atomically at every change.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from runtime import maintenance
from runtime.home import Home, write_atomically
from runtime.managed_process import Unit
from runtime.services import ROOT, Progress, Service, processes
from runtime.services.processes import Running
from runtime.settings import Settings
from terminalpp import __version__
from terminalpp.types.errors import PortInUse, TerminalError

log = logging.getLogger("supervisor")

Report = Callable[[str, str, str], None]  # step, state, detail
Work = Callable[[Settings, Progress], Awaitable[str]]  # what was done, in words

HEALTH_EVERY_SECONDS = 2.0
HEALTH_WITHIN_SECONDS = 3.0  # of one check
HEALTH_FAILURES_MAX = 5  # 25 s without a word: frozen
BACKOFF_FIRST_SECONDS = 0.2
BACKOFF_MAX_SECONDS = 15.0
FROZEN = "stopped answering"
CALM_SECONDS = 5.0  # a service that answered and lived so long is in no crash loop: its backoff begins anew


class Supervisor:
    """Runs `services` (in this order) on one home. `after` maps a service's name to the work that
    follows its start (migrations after Postgres); `first` is done before any service, `last` after
    those that run agents have stopped and before the data stores stop."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        services: Sequence[Service],
        report: Report,
        *,
        first: dict[str, Work] | None = None,
        after: dict[str, tuple[str, Work]] | None = None,
        last: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.home, self.settings, self.report = home, settings, report
        self._given = settings  # `settings` gains addresses as services are prepared
        self.units = {service.name: Unit(service, self._write) for service in services}
        self._first, self._after, self._last = first or {}, after or {}, last
        self._state, self._error = "starting", None
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._keepers: list[asyncio.Task[None]] = []
        self._tending: asyncio.Task[None] | None = None

    @property
    def url(self) -> str | None:
        """The gateway's address, or None when this supervisor runs none."""
        return f"http://127.0.0.1:{self.settings.port}" if "gateway" in self.units else None

    # ---- the whole

    async def start(self) -> None:
        """Every step in order, Ray and the `first` works beside the data stores, since these do not
        need each other. Raises TerminalError after stopping whatever had been started."""
        early: list[asyncio.Task[None]] = []
        try:
            self._write()
            self._tending = asyncio.create_task(maintenance.tend(self.home, self.settings), name="tending")
            for unit in self.units.values():
                unit.service.leftover = bool(unit.leftovers())
            for name, unit in self.units.items():
                decided = await unit.service.prepare(self.settings, partial(self.report, name))
                self.settings = self.settings.model_copy(update=decided)
            works = [(name, partial(work, self.settings)) for name, work in self._first.items()]
            works += [(n, partial(self._boot, u)) for n, u in self.units.items() if u.service.starts_beside]
            early = [asyncio.create_task(self._step(name, work)) for name, work in works]
            for name, unit in self.units.items():
                if unit.service.starts_beside:
                    continue
                if unit.service.needs:
                    await asyncio.gather(*early)
                await self._step(name, partial(self._boot, unit))
                if name in self._after:
                    step, work = self._after[name]
                    await self._step(step, partial(work, self.settings))
            await asyncio.gather(*early)
            self._state = "ready"
            self._write()
        except BaseException as error:
            for task in early:
                task.cancel()
            await asyncio.gather(*early, return_exceptions=True)
            self._error = error.to_json() if isinstance(error, TerminalError) else {"detail": repr(error)}
            await self.stop("failed")
            raise

    async def _step(self, name: str, work: Callable[[Progress], Awaitable[str]]) -> None:
        self.report(name, "start", "")
        try:
            detail = await work(partial(self.report, name))
        except TerminalError as error:
            self.report(name, "failed", error.detail)
            raise
        self.report(name, "done", detail)

    async def _boot(self, unit: Unit, _say: Progress) -> str:
        await self._launch(unit)
        self._keepers.append(asyncio.create_task(self._keep(unit), name=f"keep {unit.service.name}"))
        return unit.detail

    async def stop(self, state: str = "stopped") -> None:
        """Stop in reverse order. Returns when nothing of ours runs any more; may be repeated."""
        beside = [*self._keepers, *([self._tending] if self._tending else [])]
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        self._keepers.clear()
        self._state = "stopping"
        last = self._last
        for name, unit in reversed(self.units.items()):
            if last and name in ("postgres", "redis"):
                await last()
                last = None
            unit.mark("stopping")
            await unit.end()
            unit.mark("stopped")
        if last:
            await last()
        self._state = state
        self._write()

    def find_leftovers(self) -> list[str]:
        """Take charge of what an earlier supervisor left running, to `stop` it. The names found."""
        for unit in self.units.values():
            if leftovers := unit.leftovers():
                unit.running = Running(leftovers[0][0])
        return [name for name, unit in self.units.items() if unit.running]

    # ---- one service

    async def _launch(self, unit: Unit) -> None:
        """Start, on another port if a stranger took the chosen one between choice and use."""
        try:
            await unit.start(self.settings)
        except PortInUse:
            if not unit.service.may_move or self._given.port:
                raise
            log.warning("%s: its port was taken; choosing another", unit.service.name)
            unit.service.leftover = False
            decided = await unit.service.prepare(self._given, lambda *_: None)
            self.settings = self.settings.model_copy(update=decided)
            await unit.start(self.settings)

    async def _keep(self, unit: Unit) -> None:
        """Start the service again whenever it ends, until cancelled."""
        failures = 0
        while True:
            began = time.monotonic()
            how = await self._watch(unit)
            unit.up.clear()
            unit.restarts += 1
            log.warning("%s %s", unit.service.name, how)
            unit.mark("restarting", how)
            await asyncio.gather(self._yield_dependents(unit), unit.end(frozen=how == FROZEN))
            failures = 0 if unit.yielding or time.monotonic() - began > CALM_SECONDS else failures + 1
            unit.yielding = False
            while not unit.up.is_set():
                if failures > 1:
                    await asyncio.sleep(min(BACKOFF_FIRST_SECONDS * 2**failures, BACKOFF_MAX_SECONDS))
                for need in unit.service.needs:
                    if need in self.units:
                        await self.units[need].up.wait()
                try:
                    await self._launch(unit)
                except TerminalError as error:
                    failures += 1
                    log.warning("%s", error.detail)
                    unit.mark("restarting", error.detail)
                except Exception as error:
                    # A keeper that ends would leave its service dead for ever; a defect is no reason.
                    failures += 1
                    log.exception("%s could not be started", unit.service.name)
                    unit.mark("restarting", repr(error))

    async def _watch(self, unit: Unit) -> str:
        """Wait until the process ends or stops answering; how, in words."""
        ended = asyncio.create_task(unit.running.ended())
        missed = 0
        try:
            while missed < HEALTH_FAILURES_MAX:
                done, _ = await asyncio.wait({ended}, timeout=HEALTH_EVERY_SECONDS)
                if done:
                    return ended.result()
                missed = 0 if await self._alive(unit) else missed + 1
            return FROZEN
        finally:
            ended.cancel()

    async def _alive(self, unit: Unit) -> bool:
        """Bounded here, whatever the service's own check does."""
        try:
            async with asyncio.timeout(HEALTH_WITHIN_SECONDS):
                return await unit.service.alive(self.settings)
        except (OSError, TimeoutError):
            return False

    async def _yield_dependents(self, unit: Unit) -> None:
        for other in self.units.values():
            if unit.service.name in other.service.needs and other.running:
                other.yielding = True
                await other.end()

    # ---- records

    def _write(self) -> None:
        """State is for readers: a full disk must not end the services, so it is reported and left."""
        value = {
            "pid": os.getpid(),
            "start": processes.start_of(os.getpid()),
            "state": self._state,
            "url": self.url,
            "port": self.settings.port,
            "version": __version__,
            "started_at": self._started_at,
            "error": self._error,
            "root": str(ROOT),
            "python": sys.executable,
            "services": {name: unit.to_json() for name, unit in self.units.items()},
        }
        try:
            write_atomically(self.home.state_file, json.dumps(value, indent=1))
        except TerminalError as error:
            log.error("state not written: %s", error.detail)
