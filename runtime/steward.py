"""The steward of a node (in cell 0): knows the cells, places entities, keeps spares, sweeps.

What it guarantees:
- It is the only one that decides where an entity of this node goes; askers of the same entity share one
  decision. It is never in the path of a call to an entity whose cell is known.
- A wrong belief of its does no harm: whatever it decides, the claim in the database has the last word,
  and the fence stops the loser. It may therefore take over from a cell at once when Ray says that the
  process ended (its name answers with another incarnation, or is gone); from a cell that is merely silent
  only after the lease.
- The sweep (each second) wakes every entity that has mail, due actions or due reminders and no live
  owner. That alone resumes interrupted work after any crash or reboot.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime import placement, wire
from runtime.client import CellLost
from runtime.placement import CellInfo
from schema import entities, forgetting, reminders, retention
from terminalpp.types import errors
from terminalpp.types.ids import Ref

if TYPE_CHECKING:
    from runtime.cluster import RayCells
    from runtime.entity_host import Host

log = logging.getLogger("terminalpp.runtime")
ROUND_SECONDS = 1.0
PING_SECONDS = 2.0
START_SECONDS = 60.0
ACTIVATE_SECONDS = 120.0   # an entity's `activated` may have much to re-adopt
MISSES_UNREACHABLE = 2
MISSES_KILL = 10           # half a minute: stopped, or stuck in a way that its own watchdog cannot see
RETENTION_SECONDS = 3600.0  # the policies count in days
FORGETTING_SECONDS = 300.0
SWEEP_LIMIT = 100
AGAIN_SECONDS = 5.0        # until an entity that could not be woken is tried again
SWEEP_AT_ONCE = 8
DEAD_OWNERS_KEPT = 512


@dataclass(slots=True)
class Known:
    """A cell as last heard of. `heard`: the owner that its socket named. `coming`: entities on their way
    that it does not count yet."""

    name: str
    group: str
    owner: str | None = None
    heard: str | None = None
    entities: int = 0
    ready: bool = False
    serving: bool = False
    idle_seconds: float = 0.0
    misses: int = 0
    coming: int = 0

    def info(self) -> CellInfo:
        """The cell as the rules of placement see it."""
        return CellInfo(
            self.name, self.group, self.entities + self.coming, self.ready,
            self.serving and self.misses < MISSES_UNREACHABLE, self.idle_seconds,
        )


class Steward:
    """See the head of this file. `host`: the entities of its own cell."""

    def __init__(self, name: str, host: Host, cells: RayCells) -> None:
        self._name = name
        self._host = host
        self._cells = cells
        self._database = host.database
        self._prefix = name.rpartition("/")[0] + "/"
        self._known: dict[str, Known] = {}
        self._starting: dict[str, str] = {}  # name → group of cells on their way
        self._locating: dict[Ref, asyncio.Task[str]] = {}
        self._dead_owners: dict[str, None] = {}
        budget = placement.default_budget(_memory_bytes(), os.cpu_count() or 1)
        self._budget = host.settings.cells_per_node or budget
        self._surveyed = asyncio.Event()
        self._sweeping = asyncio.Semaphore(SWEEP_AT_ONCE)

    def start(self) -> None:
        """Begin its rounds."""
        self._host.background(self._for_ever(self._round), "steward")
        self._host.background(self._for_ever(self.sweep), "sweeper")
        forget = functools.partial(retention.run, self._database)
        self._host.background(self._for_ever(forget, RETENTION_SECONDS), "retention")
        forgotten = functools.partial(forgetting.sweep, self._database)
        self._host.background(self._for_ever(forgotten, FORGETTING_SECONDS), "forgetting")

    # ---- placing -----------------------------------------------------------------------------------

    async def locate(self, ref: Ref) -> str:
        """The name of the cell that hosts `ref` now; activates it if need be.

        Raises Quarantined, NotFound (no such kind), Unavailable (a silent cell's lease still runs), and
        what the entity's `activated` raises.
        """
        task = self._locating.get(ref)
        if task is None:
            task = asyncio.create_task(self._locate(ref), name=f"locate {ref}")
            self._locating[ref] = task
            task.add_done_callback(lambda _: self._locating.pop(ref, None))
        return await asyncio.shield(task)

    async def _locate(self, ref: Ref) -> str:
        group = self._host.registry.group_of(ref.kind)
        await self._surveyed.wait()
        held = await entities.owner_of(self._database, ref)
        target, takeover, crashed = None, None, False
        if held is not None and held.owner is not None:
            cell = held.owner.rpartition("@")[0]
            present = await self._present(cell)
            if present == held.owner:
                target = cell
            elif present is None and held.live:
                raise errors.Unavailable(f"{ref}: {cell} does not answer; its lease will run out")
            else:
                takeover, crashed = held.owner, True
        async with self._reserve(group, target) as name:
            data = wire.request(ref, takeover, crashed)
            try:
                wire.unpack(await self._cells.ask(name, "activate", data, timeout_s=ACTIVATE_SECONDS))
            except CellLost as lost:
                raise errors.Unavailable(f"{ref}: {lost}") from lost
            except wire.Refused as refused:
                raise errors.Unavailable(f"{ref}: {name} is {refused}") from None
        return name

    def _reserve(self, group: str, target: str | None) -> _Reservation:
        return _Reservation(self, group, target)

    async def choose(self, group: str) -> str:
        """The cell for one more entity; starts one if the rule says so."""
        infos = [known.info() for known in self._known.values()]
        infos += [CellInfo(name, of, 1, False, False) for name, of in self._starting.items()]
        decision = placement.choose(infos, group, self._budget)
        if isinstance(decision, placement.Use):
            return decision.name
        if group in placement.SINGLE:
            for name, of in self._starting.items():
                if of == group:
                    return await self._until_booted(name)
        return await self._start_cell(group)

    async def _start_cell(self, group: str) -> str:
        name = self._prefix + str(placement.free_number({*self._known, *self._starting}))
        self._starting[name] = group
        try:
            await self._cells.start(name, group)
            return await self._until_booted(name, group)
        finally:
            self._starting.pop(name, None)

    async def _until_booted(self, name: str, group: str = "") -> str:
        try:
            owner = await self._cells.ask(name, "booted", timeout_s=START_SECONDS)
        except CellLost as lost:
            raise errors.Unavailable(f"{name} could not be started: {lost}") from lost
        known = self._known.setdefault(name, Known(name, group))
        known.owner, known.serving = known.owner or owner, True
        return name

    # ---- knowing -----------------------------------------------------------------------------------

    async def _present(self, name: str) -> str | None:
        """The owner that the cell writes under now, "" when its process has ended, None when it is silent.

        Its socket tells at once; Ray is asked about cells that have none here.
        """
        try:
            owner = await self._cells.incarnation(name, PING_SECONDS)
        except CellLost:
            self._died(name)
            return ""
        except errors.DeadlineExceeded:
            return None
        if owner is None:
            known = await self._fresh(name)
            return "" if known is None else known.owner
        if (known := self._known.get(name)) is not None:
            if known.heard not in (None, owner):
                self._died(name)
            known.heard = owner
        return owner

    def _died(self, name: str) -> None:
        """The process that was heard on its socket has ended. Until the next one is, it takes nothing.

        Ray may have told the next one's owner already, which is starting and must not be buried.
        """
        known = self._known.get(name)
        if known is not None and known.heard is not None:
            self._bury(known.heard)
            if known.owner == known.heard:
                known.owner, known.serving, known.ready, known.entities = None, False, False, 0
            known.heard = None

    async def _fresh(self, name: str) -> Known | None:
        """The cell's word of this moment: None if it does not exist, `owner` None if it does not answer."""
        try:
            told = json.loads(await self._cells.ask(name, "ping", timeout_s=PING_SECONDS))
        except CellLost as lost:
            if lost.gone:
                self._gone(name)
                return None
            return self._missed(name)
        except errors.DeadlineExceeded:
            return self._missed(name)
        known = self._known.setdefault(name, Known(name, told["group"]))
        if known.owner not in (None, told["owner"]):
            self._bury(known.owner)
        known.group, known.owner, known.misses = told["group"], told["owner"], 0
        known.entities, known.ready, known.serving = told["entities"], told["ready"], told["serving"]
        known.idle_seconds = told["idle_seconds"]
        return known

    def _missed(self, name: str) -> Known:
        known = self._known.setdefault(name, Known(name, "unknown"))
        known.misses += 1
        return Known(name, known.group, None)

    def _gone(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None and known.owner is not None:
            self._bury(known.owner)

    def _bury(self, owner: str | None) -> None:
        if owner is not None:
            log.warning("%s ended", owner)
            self._dead_owners[owner] = None
            while len(self._dead_owners) > DEAD_OWNERS_KEPT:
                del self._dead_owners[next(iter(self._dead_owners))]

    async def _survey(self) -> None:
        """At the start: which cells exist, and which owners on record are none of them."""
        names = [name for name in await self._cells.names() if name.startswith(self._prefix)]
        await asyncio.gather(*(self._fresh(name) for name in {*names, self._name}))
        for owner in await entities.owners(self._database, self._prefix):
            known = self._known.get(owner.rpartition("@")[0])
            if known is None or known.owner not in (None, owner):
                self._bury(owner)

    # ---- the rounds --------------------------------------------------------------------------------

    async def _for_ever(
        self, work: Callable[[], Awaitable[Any]], every_seconds: float = ROUND_SECONDS
    ) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                log.warning("the steward's round: %r", error, exc_info=error)
            await asyncio.sleep(every_seconds)

    async def _round(self) -> None:
        """Ask all cells how they are; start spares, end what is too much, kill what is stuck."""
        if not self._surveyed.is_set():
            await self._survey()
            self._surveyed.set()
        # First by their sockets: what has ended is known at once, while Ray holds a ping to it for seconds.
        await asyncio.gather(*(self._present(name) for name in list(self._known) if name != self._name))
        await asyncio.gather(*(self._fresh(name) for name in list(self._known)))
        infos = [known.info() for known in self._known.values()]
        infos += [CellInfo(name, group, 0) for name, group in self._starting.items()]
        for group in placement.missing_spares(infos, self._budget):
            self._host.background(self._spare(group), f"spare {group}")
        for name in placement.superfluous(infos):
            if not self._known[name].coming:
                self._host.background(self._end(name), f"end {name}")
        for name, known in list(self._known.items()):
            if known.misses >= MISSES_KILL:
                log.error("%s has been silent for %d rounds: killing it", name, known.misses)
                known.misses = MISSES_UNREACHABLE  # stays out of use; Ray's start of it takes some rounds
                self._host.background(self._cells.kill(name, restart=True), f"kill {name}")

    async def sweep(self) -> None:
        """Turn due reminders into mail and wake what has work and no live owner."""
        await self._surveyed.wait()
        if not self._host.serving:
            return
        await reminders.fire_due(self._database, SWEEP_LIMIT)
        orphans = await entities.orphans_with_work(self._database, SWEEP_LIMIT, list(self._dead_owners))
        for ref in orphans:
            if ref not in self._locating:
                self._host.background(self._wake(ref), f"wake {ref}")

    async def _wake(self, ref: Ref) -> None:
        async with self._sweeping:
            try:
                await self.locate(ref)
            except errors.TerminalError as error:
                log.warning("%s has work and cannot be woken: %s", ref, error)
                if not isinstance(error, (errors.Quarantined, errors.Unavailable, errors.DiskFull)):
                    # Else it would be tried each second. Not counted: the cell that tried has judged it.
                    await entities.defer(self._database, ref, error.to_json(), AGAIN_SECONDS)

    async def _spare(self, group: str) -> None:
        await self._start_cell(group)

    async def _end(self, name: str) -> None:
        """Retire an empty cell; one that an entity came to meanwhile stays."""
        known = self._known.pop(name)
        if await self._cells.ask(name, "retire", timeout_s=PING_SECONDS):
            await self._cells.kill(name, restart=False)
            self._bury(known.owner)
        else:
            self._known.setdefault(name, known)


class _Reservation:
    """Counts an entity on its way, so that two placed at once do not take the same empty cell."""

    def __init__(self, steward: Steward, group: str, target: str | None) -> None:
        self._steward, self._group, self._target = steward, group, target
        self._counted: Known | None = None

    async def __aenter__(self) -> str:
        name = self._target or await self._steward.choose(self._group)
        self._counted = self._steward._known.get(name)
        if self._counted is not None:
            self._counted.coming += 1
        return name

    async def __aexit__(self, *_: Any) -> None:
        if self._counted is not None:
            self._counted.coming -= 1
            if self._target is None:
                self._counted.entities += 1  # until the next ping counts it


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
