"""One active entity: its object, its calls, its turns and its background work.

What it guarantees:
- Messages are applied one at a time, in order (`runtime.mail`). State, actions, sends and the mark "done" are
  committed in one transaction under the fence, so a message is applied once or not at all.
- The object is never ahead of the database: whatever a failed turn did to it is discarded with it.
- Nobody reaches an object before its `activated()` has returned, after a restart neither.
- Volatile calls run beside the turns and are bounded; the excess is refused with Overloaded.
- Nothing runs on after `close`: tasks are cancelled, waiting callers are told to look elsewhere.
- An entity in quarantine is active like any other, but does only what its class names in `in_quarantine`:
  `activated()`, which may be what is broken, is not called, and no failure is counted.

Rules of failure are pure and live in `runtime.supervision`; effects in `runtime.effects`.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from runtime import supervision, turns, wire
from runtime.context import Context, reading
from runtime.decorators import Kind
from runtime.effects import Effects
from runtime.entity import Action, Entity, Turn, turn_method
from runtime.mail import Mail
from runtime.supervision import Cause
from runtime.tenure import Means, Tenure
from runtime.turns import Answer
from schema import entities, mailbox, outbox
from terminalpp.types import errors
from terminalpp.types.ids import Ref

log = logging.getLogger("terminalpp.runtime")
CALLS_MAX = 256  # volatile calls under way in one entity; more are refused


class Hosting(Protocol):
    """What an activation asks of the host that made it."""

    def drop(self, activation: Activation, error: Exception) -> None:
        """Forget an entity that is no longer ours."""

    def give_up(self, activation: Activation, error: Exception) -> None:
        """Forget an entity that cannot go on here, and let the next caller claim it anew."""

    def background(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` beside the entities."""
        ...

    def nudge(self, ref: Ref) -> None:
        """Wake another entity."""


class Activation:
    """Ties the parts together. Made after a successful claim; `row` is what the claim returned."""

    def __init__(self, host: Hosting, means: Means, cls: type[Entity], row: entities.Entity) -> None:
        self._host = host
        self.tenure = tenure = Tenure(means, cls, row, partial(host.drop, self))
        self.ref: Ref = tenure.ref
        self.fence = tenure.fence
        self._callers: set[asyncio.Task[Any]] = set()
        self.context = Context(tenure, self.spawn, self.open_turn)
        self.mail = Mail(tenure, self._apply, self._reload, self.restart)
        self.effects = Effects(tenure, self._perform, self.wake)
        self.entity = self._make(row.state)
        self._turn_lock = asyncio.Lock()
        self._restarting = asyncio.Lock()
        self._spawned: set[asyncio.Task[Any]] = set()
        self._defects = row.failures

    # ---- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Calls `activated` and begins to work. Whatever `activated` raises is raised here."""
        if not self.tenure.quarantined:
            await self.entity.activated()
        self.tenure.check_open()
        self.tenure.ready.set()
        self.mail.start()
        self.effects.start()

    async def close(self, error: Exception | None = None) -> None:
        """Stop everything; idempotent. Callers still waiting get `error` (None: look elsewhere)."""
        self.tenure.closed = True
        self.mail.answers.fail_all(error or wire.Refused(wire.NOT_HERE))
        tasks = [*self._callers, *self._spawned, *self.effects.stop(), *self.mail.stop()]
        me = asyncio.current_task()
        for task in tasks:
            if task is not me:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not me), return_exceptions=True)

    async def passivate(self) -> None:
        """Give the entity up in peace: its state is in the database already."""
        await self.close()
        try:
            await self.entity.passivated()
        except Exception:
            log.exception("%s failed in passivated()", self.ref)
        await entities.release(self.tenure.database, self.fence)

    @property
    def calls(self) -> int:
        """Volatile calls under way."""
        return len(self._callers)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing waits, so that it may be passivated."""
        return not (
            self.calls or self._spawned or self.effects.running or self._turn_lock.locked()
            or self._restarting.locked() or not self.mail.idle
        )

    @property
    def idle_for(self) -> float:
        """Seconds since the last call, turn or effect; 0 while something is under way."""
        return self.tenure.means.clock() - self.tenure.last_used if self.idle else 0.0

    def _make(self, state: dict[str, Any]) -> Entity:
        entity = self.tenure.cls(self.ref, self.context)
        entity.state = state
        return entity

    # ---- quarantine --------------------------------------------------------------------------------

    async def check_allowed(self, method: str) -> None:
        """Raises Quarantined, or Refused when the entity was released meanwhile (and drops itself)."""
        if not self.tenure.quarantined:
            return
        row = await entities.load(self.tenure.database, self.ref)
        if row is None or row.quarantined_at is None or row.fence != self.fence:
            self.tenure.drop(errors.Fenced(f"{self.ref} was released"))
            raise wire.Refused(wire.NOT_HERE)
        if method not in self.tenure.cls.in_quarantine:
            raise row.quarantine()

    # ---- calls beside the turns --------------------------------------------------------------------

    async def call(self, method: str, payload: Any) -> Any:
        """A volatile or read-only call. Raises what the method raises; Refused if it was not started."""
        if self.tenure.closed:
            raise wire.Refused(wire.NOT_HERE)
        kind = self.tenure.cls.methods.get(method)
        if kind not in (Kind.VOLATILE, Kind.READONLY):
            word = "is durable: send it" if kind is Kind.DURABLE else "does not exist"
            raise errors.UnknownMethod(f"{self.ref}: {method} {word}")
        if self.calls >= CALLS_MAX:
            raise errors.Overloaded(f"{self.ref} has {CALLS_MAX} calls under way")
        began = False

        async def carry_out() -> Any:
            nonlocal began
            await self.check_allowed(method)
            await self.tenure.ready.wait()
            began = True
            reading.set(method if kind is Kind.READONLY else None)
            return await getattr(self.entity, method)(payload)

        # A task of its own, so that `close` can end it without ending the caller's.
        task = asyncio.create_task(carry_out(), name=f"{method} of {self.ref}")
        self._callers.add(task)
        try:
            return await task
        except errors.Fenced as error:
            self.tenure.drop(error)
            raise
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self.tenure.closed and task.cancelled() and not (caller and caller.cancelling()):
                if not began:
                    raise wire.Refused(wire.NOT_HERE) from None
                raise errors.Fenced(f"{self.ref} was dropped during {method}") from None
            task.cancel()
            raise
        finally:
            self._callers.discard(task)
            self.tenure.touch()

    async def deliver(self, message_id: str) -> Answer:
        """Wait for the answer of a stored message.

        Raises Refused if the entity leaves meanwhile, Quarantined when the message has to wait for a release.
        """
        if self.tenure.closed:
            raise wire.Refused(wire.NOT_HERE)
        if self.tenure.quarantined:
            row = await mailbox.result_of(self.tenure.database, message_id)
            if row is not None and not row.finished:
                await self.check_allowed(row.method)
        return await self.mail.deliver(message_id)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background until the entity is passivated; its failure is logged under `name`."""
        if self.tenure.closed:
            work.close()
            raise errors.Fenced(f"{self.ref} is no longer active here")
        task = asyncio.create_task(work, name=f"{name} of {self.ref}")
        self._spawned.add(task)
        task.add_done_callback(self._spawned_done)
        return task

    def _spawned_done(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        self.tenure.touch()
        if task.cancelled() or self.tenure.closed or (error := task.exception()) is None:
            return
        match supervision.cause_of(error):
            case Cause.FENCED:
                self.tenure.drop(errors.Fenced(str(error)))
            case Cause.DEFECT:
                log.error("%s failed", task.get_name(), exc_info=error)
                self._host.background(self.restart(error), f"restart {self.ref}")
            case cause:
                log.warning("%s ended (%s): %r", task.get_name(), cause, error)

    # ---- turns -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_turn(self, origin: str) -> AsyncIterator[Turn]:
        """One turn; committed at the end of the block, rolled back if it raises."""
        async with self._turn_lock:
            async with self.tenure.fenced() as connection:
                turn = Turn(self.ref, copy.deepcopy(self.entity.state), connection, origin)
                yield turn
                changed = turn.state != self.entity.state or self._defects > 0
                depth = self.tenure.means.settings.mailbox_max_depth
                await turns.write(turn, self.fence, state_changed=changed, max_depth=depth)
            self.entity.state = turn.state
            self.tenure.touch()
            if changed:
                self._defects = 0
        if turn.actions:
            self.effects.wake()
        for ref in {send.ref for send in turn.sends}:
            self._host.nudge(ref)

    def wake(self) -> None:
        """There may be mail or a due action."""
        self.mail.wake()
        self.effects.wake()

    async def _apply(self, message: mailbox.MailRow) -> Any:
        """Apply a message in a turn of its own; its result. Raises what the method raises."""
        found = turn_method(self.tenure.cls, message.method)
        if found is None:
            raise errors.UnknownMethod(f"{self.ref} has no durable method {message.method!r}")
        name, payload = found
        if payload is None:
            payload = message.payload
        async with self.open_turn(message.message_id) as turn:
            result = await getattr(self.entity, name)(turn, payload)
            wire.encode(result)
            await mailbox.finish(turn.connection, message.message_id, result)
        return result

    async def _perform(self, row: outbox.ActionRow) -> None:
        """Have the entity perform an action. Raises what its method raises."""
        if self.entity.methods.get(row.name) is not Kind.EFFECT:
            raise errors.UnknownMethod(f"{self.ref} has no effect {row.name!r}")
        await getattr(self.entity, row.name)(Action(row.action_id, row.name, row.payload, row.attempts + 1))

    async def _reload(self) -> None:
        """Take the state from the database: whether a commit happened is not known."""
        if (state := await self.tenure.load()) is not None:
            self.entity.state = state

    # ---- supervision -------------------------------------------------------------------------------

    async def count_failure(self, error: BaseException) -> bool:
        """Count a defect against the entity; True when that put it into quarantine (and ended us)."""
        if self.tenure.quarantined:
            return False
        reason = wire.as_terminal(error).to_json()
        count = await entities.record_failure(
            self.tenure.database, self.ref, reason, window_s=supervision.BUDGET_WINDOW_SECONDS,
            backoff_s=min(supervision.backoff(self._defects + 1), 2.0),
        )
        self._defects = count
        if count < supervision.BUDGET_FAILURES:
            return False
        log.error("%s failed %d times: quarantine", self.ref, count)
        await entities.quarantine(self.tenure.database, self.ref, reason)
        self.tenure.drop(errors.Quarantined(f"{self.ref} was put aside: {reason['detail']}"))
        return True

    async def restart(self, error: BaseException, counted: bool = True) -> None:
        """A new object from the committed state; background work of the old one ends.

        A new object whose `activated` is refused, or meets weather, is given up: the next call makes another.
        """
        async with self._restarting:
            while not self.tenure.closed:
                if counted and await self.count_failure(error):
                    return
                self.tenure.ready.clear()
                if not await self._renewed():
                    return
                try:
                    if not self.tenure.quarantined:
                        await self.entity.activated()
                except Exception as again:
                    log.exception("%s failed in activated()", self.ref)
                    if supervision.cause_of(again) is not Cause.DEFECT:
                        self._host.give_up(self, again)
                        return
                    error, counted = again, True
                    await asyncio.sleep(supervision.backoff(self._defects))
                else:
                    self.tenure.ready.set()
                    self.wake()
                    return

    async def _renewed(self) -> bool:
        """Make the object anew; False when the entity is no longer ours."""
        async with self._turn_lock:
            tasks = [task for task in self._spawned if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            state = await self.tenure.load()
            if state is None:
                self.tenure.drop(errors.Fenced(f"{self.ref} has a newer owner"))
                return False
            self.entity = self._make(state)
            return True

    async def note_crash(self) -> None:
        """The last owner died with this entity. What it was working on may be what killed it.

        A mark before each turn would cost every turn a commit; the head of the mailbox is marked here
        instead, after the fact. Raises Quarantined.
        """
        database = self.tenure.database
        message = await mailbox.next_message(database, self.ref)
        if message is None and not await self.effects.interrupted():
            return
        crash = errors.TerminalError(f"the cell of {self.ref} died")
        if message is not None:
            attempts = await mailbox.record_attempt(database, message.message_id, crash.to_json())
            if attempts >= supervision.CRASHES_PER_MESSAGE:
                await mailbox.to_dead_letter(database, message.message_id, crash.to_json())
        if await self.count_failure(crash):
            raise errors.Quarantined(f"{self.ref} was put aside: its cells keep dying")
