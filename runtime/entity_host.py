"""Everything a cell does apart from Ray: hosts entities, renews their leases, polls, passivates.

What it guarantees:
- One activation per entity in this cell, made by one claim in the database.
- It serves only while it can prove its lease on its own clock; then it refuses calls and starts no turn.
  Work under way goes on: its writes are fenced, and so is the sandbox helper.
- What a renewal does not confirm was taken over, and is dropped at once.
- Passivation is decided and made known in one step of the loop: a call either finds the entity active and
  keeps it so, or finds it gone; the next activation waits until the last one has let go.
- No wake-up is needed for liveness: each second it asks which of its entities have work (one query).

It refuses to decide who hosts what: the steward does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from runtime import leases, supervision, wire
from runtime.activation import Activation
from runtime.supervision import Cause
from runtime.tenure import Means
from schema import entities
from terminalpp.types import errors
from terminalpp.types.ids import Ref

if TYPE_CHECKING:
    from runtime.client import Runtime
    from runtime.registry import Registry
    from runtime.settings import Settings
    from schema import Database, Live

log = logging.getLogger("terminalpp.runtime")
POLL_SECONDS = 1.0
ENTITIES_MAX = 5000  # hosted by one cell; 6.5 KB each (measured), so memory is not what runs out first


def boot_clock() -> float:
    """Seconds since boot, sleep included: a laptop that slept past its leases must know it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Host:
    """`owner` names this incarnation of the cell and is never used again."""

    def __init__(
        self, owner: str, settings: Settings, registry: Registry, database: Database, live: Live,
        runtime: Runtime, clock: Any = boot_clock,
    ) -> None:
        self.owner = owner
        self.settings = settings
        self.registry = registry
        self.database = database
        self.live = live
        self.runtime = runtime
        self.clock = clock
        self.idle_since = clock()
        self._means = Means(settings, database, live, runtime, clock, lambda: self.serving)
        self._table: dict[Ref, Activation] = {}
        self._activating: dict[Ref, asyncio.Task[None]] = {}
        self._leaving: dict[Ref, asyncio.Task[Any]] = {}
        self._retired = False
        self._lease = leases.Lease.begin(settings.lease_seconds, clock())
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to renew the leases and to look for work."""
        for work in (self._renew_for_ever(), self._poll_for_ever()):
            self.background(work, "host")

    async def stop(self) -> None:
        """Give everything up in good order; returns when stopped."""
        leaving = list(self._leaving.values())
        tasks = [*self._activating.values(), *(task for task in self._tasks if task not in leaving)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *leaving, return_exceptions=True)
        activations = list(self._table.values())
        self._table.clear()
        for error in await asyncio.gather(*(a.passivate() for a in activations), return_exceptions=True):
            if isinstance(error, Exception):
                log.warning("an entity was not given up and its lease must run out: %r", error)

    async def retire(self) -> bool:
        """Stop for good if nothing is hosted; False, and nothing done, if something is."""
        if self.count:
            return False
        self._retired = True  # in one step with the look: nothing can arrive any more
        await self.stop()
        return True

    def background(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` beside the entities until the cell ends; its failure is logged under `name`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)
        return task

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    @property
    def serving(self) -> bool:
        """Whether the cell can prove its lease now, and so may serve."""
        return self._lease.serving(self.clock())

    # ---- the table -------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many entities are hosted, those under way included."""
        return len(self._table) + len(self._activating)

    def list(self) -> list[dict[str, Any]]:
        """Kind, id and epoch of what is hosted. Safe to call from another thread."""
        return [
            {"kind": ref.kind, "id": ref.id, "epoch": activation.fence.epoch, "calls": activation.calls}
            for ref, activation in list(self._table.items())
        ]

    def find(self, ref: Ref) -> Activation:
        """Raises Refused when it is not here, or when the cell cannot serve."""
        activation = self._table.get(ref)
        if activation is None or activation.tenure.closed:
            raise wire.Refused(wire.NOT_HERE)
        if not self.serving:
            raise wire.Refused(wire.SUSPENDED)
        return activation

    def nudge(self, ref: Ref) -> None:
        """Wake the entity if it is here; else its own cell's poll or the sweeper will."""
        if (activation := self._table.get(ref)) is not None:
            activation.wake()
        elif ref not in self._activating:  # it looks into its mailbox when it starts
            self.runtime.nudge(ref)

    async def activate(self, ref: Ref, takeover_from: str | None = None, crashed: bool = False) -> None:
        """Claim and start the entity unless it is here. Two callers at once share one claim.

        `takeover_from`: an owner known to be dead. `crashed`: the last owner did not give it up in peace.
        One in quarantine is activated too, for what it may do there. Raises Unavailable while another live
        owner holds it, Quarantined when its cells keep dying, Overloaded, and what its `activated` raises.
        """
        if (present := self._table.get(ref)) is not None and not present.tenure.closed:
            return
        task = self._activating.get(ref)
        if task is None:
            task = asyncio.create_task(self._activate(ref, takeover_from, crashed), name=f"activate {ref}")
            self._activating[ref] = task
            task.add_done_callback(lambda _: self._activating.pop(ref, None))
        await asyncio.shield(task)

    async def _activate(self, ref: Ref, takeover_from: str | None, crashed: bool) -> None:
        if not self.serving or self._retired:
            raise wire.Refused(wire.SUSPENDED)
        if len(self._table) >= ENTITIES_MAX:
            raise errors.Overloaded(f"this cell hosts {ENTITIES_MAX} entities")
        if (leaving := self._leaving.get(ref)) is not None:
            await asyncio.wait([leaving])
        cls = await asyncio.to_thread(self.registry.class_of, ref.kind)
        row = await entities.claim(
            self.database, ref, self.owner, self.settings.lease_seconds, takeover_from
        )
        if row is None:
            raise errors.Unavailable(f"{ref} is held by another cell")
        activation = Activation(self, self._means, cls, row)
        try:
            if crashed and not activation.tenure.quarantined:
                await activation.note_crash()
            await activation.start()
            self._table[ref] = activation  # only now: nobody reaches it before it is whole
        except BaseException as error:
            if supervision.cause_of(error) is Cause.DEFECT and isinstance(error, Exception):
                log.exception("%s could not be activated", ref)
                await activation.count_failure(error)
            await activation.close(error if isinstance(error, Exception) else None)
            await entities.release(self.database, row.fence)
            raise

    def drop(self, activation: Activation, error: Exception) -> None:
        """Forget an entity that is no longer ours. Writes nothing; may be called from its own tasks."""
        if activation.tenure.closed:
            return
        log.warning("dropping %s at epoch %d: %s", activation.ref, activation.fence.epoch, error)
        fenced = isinstance(error, errors.Fenced)
        self._leave(activation, activation.close(None if fenced else error))

    def give_up(self, activation: Activation, error: Exception) -> None:
        """Forget an entity that cannot go on here, and let the next caller claim it anew."""
        if activation.tenure.closed:
            return
        log.warning("giving %s up: %s", activation.ref, error)

        async def leave() -> None:
            await activation.close(error)
            await entities.release(self.database, activation.fence)

        self._leave(activation, leave())

    def _leave(self, activation: Activation, work: Coroutine[Any, Any, Any]) -> None:
        """From this very step on it takes nothing; `work` ends what is under way."""
        ref = activation.ref
        activation.tenure.closed = True
        if self._table.get(ref) is activation:
            del self._table[ref]
        if not self._table:
            self.idle_since = self.clock()
        task = self._leaving[ref] = self.background(work, f"{ref} leaves")
        task.add_done_callback(lambda done: self._left(ref, done))

    def _left(self, ref: Ref, task: asyncio.Task[Any]) -> None:
        if self._leaving.get(ref) is task:
            del self._leaving[ref]

    # ---- the rounds ------------------------------------------------------------------------------

    async def _renew_for_ever(self) -> None:
        while True:
            try:
                await self.renew()
            except Exception as error:
                log.warning("leases could not be renewed: %s", error or type(error).__name__)
            await asyncio.sleep(self._lease.renew_every)

    async def renew(self) -> None:
        """One renewal of all leases; drops what it does not confirm."""
        sent_at = self.clock()
        held = {self._key(activation) for activation in self._table.values()}
        async with asyncio.timeout(self.settings.lease_seconds * leases.MARGIN):
            confirmed = await entities.renew(self.database, self.owner, self.settings.lease_seconds)
        self._lease = self._lease.renewed(sent_at)
        for kind, id, epoch in leases.lost(held, confirmed):
            activation = self._table.get(Ref(kind, id))
            if activation is not None and activation.fence.epoch == epoch:
                self.drop(activation, errors.Fenced(f"{activation.ref} was taken over"))

    async def _poll_for_ever(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.poll()
            except Exception as error:
                log.warning("poll: %s", error or type(error).__name__)

    async def poll(self) -> None:
        """Wake entities that have work, and passivate those that have had none for long."""
        if not self._table:
            return
        for ref in await entities.owned_with_work(self.database, self.owner):
            if (activation := self._table.get(ref)) is not None:
                activation.wake()
        for activation in list(self._table.values()):
            if activation.idle_for > activation.entity.idle_seconds and not activation.tenure.closed:
                self._leave(activation, activation.passivate())

    @staticmethod
    def _key(activation: Activation) -> leases.Key:
        return (activation.ref.kind, activation.ref.id, activation.fence.epoch)
