"""One active entity: its object, its mailbox, its turns and its background work.

What it guarantees:
- Messages are applied one at a time, in order. State, actions, sends and the mark "done" are committed in
  one transaction under the fence, so a message is applied once or not at all.
- The object is never ahead of the database: whatever a failed turn did to it is discarded with it.
- Volatile calls run beside the turns and are bounded; the excess is refused with Overloaded.
- Nothing runs on after `close`: tasks are cancelled, waiting callers are told to look elsewhere.

Rules of failure are pure and live in `runtime.supervision`; effects in `runtime.effects`.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from runtime import supervision, turns, wire
from runtime.context import Context
from runtime.decorators import Kind
from runtime.effects import Effects
from runtime.entity import Entity, Turn, turn_method
from runtime.supervision import Verdict
from runtime.turns import Answer, Answers
from schema import entities, mailbox
from terminalpp.types import errors
from terminalpp.types.ids import Ref

if TYPE_CHECKING:
    from runtime.host import Host

log = logging.getLogger("terminalpp.runtime")
CALLS_MAX = 256  # volatile calls under way in one entity; more are refused


class Activation:
    """Made by `Host.activate` after a successful claim; `row` is what the claim returned."""

    def __init__(self, host: Host, cls: type[Entity], row: entities.Entity) -> None:
        self.host = host
        self.ref: Ref = row.ref
        self.fence = row.fence
        self.cls = cls
        self.closed = False
        self.last_used = host.clock()
        self._callers: set[asyncio.Task[Any]] = set()
        self.answers = Answers()
        self.context = Context(self)
        self.effects = Effects(self)
        self.entity = self._make(row.state)
        self._turn_lock = asyncio.Lock()
        self._mail = asyncio.Event()
        self._spawned: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.Task[None] | None = None
        self.outside_failures = 0
        self._defects = row.failures

    # ---- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Calls `activated` and begins to work. Whatever `activated` raises is raised here."""
        await self.entity.activated()
        self._mail.set()
        self._loop = asyncio.create_task(self._mail_loop(), name=f"mailbox {self.ref}")
        self.effects.start()

    async def close(self, error: Exception | None = None) -> None:
        """Stop everything; idempotent. Callers still waiting get `error` (None: look elsewhere)."""
        self.closed = True
        self.answers.fail_all(error or wire.Refused(wire.NOT_HERE))
        tasks = [*self._callers, *self._spawned, *self.effects.stop()]
        if self._loop is not None:
            tasks.append(self._loop)
        me = asyncio.current_task()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not me), return_exceptions=True)

    async def passivate(self) -> None:
        """Give the entity up in peace: its state is in the database already."""
        await self.close()
        try:
            await self.entity.passivated()
        except Exception:
            log.exception("%s failed in passivated()", self.ref)
        await entities.release(self.host.database, self.fence)

    @property
    def calls(self) -> int:
        """Volatile calls under way."""
        return len(self._callers)

    @property
    def idle(self) -> bool:
        return not (
            self.calls or self._spawned or self.effects.running or self.answers.awaited
            or self._turn_lock.locked() or self._mail.is_set()
        )

    @property
    def idle_for(self) -> float:
        """Seconds since the last call, turn or effect; 0 while something is under way."""
        return self.host.clock() - self.last_used if self.idle else 0.0

    def check_serving(self) -> None:
        """Raises Fenced once closed, Unavailable while the cell cannot prove its lease."""
        if self.closed:
            raise errors.Fenced(f"{self.ref} is no longer active here")
        if not self.host.serving:
            raise errors.Unavailable(f"{self.ref}: the lease could not be renewed")

    def _make(self, state: dict[str, Any]) -> Entity:
        entity = self.cls(self.ref, self.context)
        entity.state = state
        return entity

    # ---- calls beside the turns --------------------------------------------------------------------

    async def call(self, method: str, payload: Any) -> Any:
        """A volatile or read-only call. Raises what the method raises; Refused if it was not started."""
        if self.closed:
            raise wire.Refused(wire.NOT_HERE)
        kind = self.cls.methods.get(method)
        if kind not in (Kind.VOLATILE, Kind.READONLY):
            word = "is durable: send it" if kind is Kind.DURABLE else "does not exist"
            raise errors.UnknownMethod(f"{self.ref}: {method} {word}")
        if self.calls >= CALLS_MAX:
            raise errors.Overloaded(f"{self.ref} has {CALLS_MAX} calls under way")
        # A task of its own, so that `close` can end it without ending the caller's.
        task = asyncio.create_task(getattr(self.entity, method)(payload), name=f"{method} of {self.ref}")
        self._callers.add(task)
        try:
            return await task
        except errors.Fenced as error:
            self.host.drop(self, error)
            raise
        except asyncio.CancelledError:
            if self.closed and task.cancelled():
                raise errors.Fenced(f"{self.ref} was dropped during {method}") from None
            task.cancel()
            raise
        finally:
            self._callers.discard(task)
            self.last_used = self.host.clock()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        if self.closed:
            work.close()
            raise errors.Fenced(f"{self.ref} is no longer active here")
        task = asyncio.create_task(work, name=f"{name} of {self.ref}")
        self._spawned.add(task)
        task.add_done_callback(self._spawned_done)
        return task

    def _spawned_done(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        self.last_used = self.host.clock()
        if task.cancelled() or self.closed or (error := task.exception()) is None:
            return
        if isinstance(error, errors.Fenced):
            self.host.drop(self, error)
        else:
            log.error("%s failed", task.get_name(), exc_info=error)
            self.host.background(self.restart(error), f"restart {self.ref}")

    # ---- turns -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_turn(self, origin: str) -> AsyncIterator[Turn]:
        """One turn; committed at the end of the block, rolled back if it raises."""
        async with self._turn_lock:
            self.check_serving()
            async with self.host.database.fenced(self.fence) as connection:
                turn = Turn(self.ref, copy.deepcopy(self.entity.state), connection, origin)
                yield turn
                changed = turn.state != self.entity.state or self._defects > 0
                await turns.write(
                    turn, self.fence, state_changed=changed, max_depth=self.host.settings.mailbox_max_depth
                )
            self.entity.state = turn.state
            self.last_used = self.host.clock()
            if changed:
                self._defects = 0
        if turn.actions:
            self.effects.wake()
        for ref in {send.ref for send in turn.sends}:
            self.host.nudge(ref)

    async def deliver(self, message_id: str) -> Answer:
        """Wait for the answer of a stored message. Raises Refused if the entity leaves meanwhile."""
        if self.closed:
            raise wire.Refused(wire.NOT_HERE)
        future = self.answers.expect(message_id)
        self._mail.set()
        try:
            return await future
        finally:
            self.answers.forget(message_id, future)

    def wake(self) -> None:
        """There may be mail or a due action."""
        self._mail.set()
        self.effects.wake()

    async def _mail_loop(self) -> None:
        database = self.host.database
        while not self.closed:
            await self._mail.wait()
            self._mail.clear()
            try:
                while (message := await mailbox.next_message(database, self.ref)) is not None:
                    await self._apply(message)
                for message_id in self.answers.awaited:
                    # A message that was finished before its caller began to wait.
                    row = await mailbox.result_of(database, message_id)
                    if row is not None and row.finished:
                        self.answers.settle(message_id, Answer.of(row))
            except errors.Fenced as error:
                self.host.drop(self, error)
                return
            except Exception as error:
                # Only the database can fail here; turns have their own judge. The net is the cell's poll.
                log.warning("mailbox of %s: %s", self.ref, error)
                await asyncio.sleep(0.5)
                self._mail.set()

    async def _apply(self, message: mailbox.MailRow) -> None:
        try:
            result = await self._take_turn(message)
        except Exception as error:
            await self._failed(message, error)
        else:
            self.outside_failures = 0
            self.answers.settle(message.message_id, Answer(result, None))

    async def _take_turn(self, message: mailbox.MailRow) -> Any:
        found = turn_method(self.cls, message.method)
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

    async def _failed(self, message: mailbox.MailRow, error: Exception) -> None:
        attempt = message.attempts + 1
        self.outside_failures += 1
        ruling = supervision.judge_message(error, attempt, self.outside_failures)
        reason = wire.as_terminal(error).to_json()
        if ruling.defect:
            log.error("%s.%s failed (%d)", self.ref, message.method, attempt, exc_info=error)
        if ruling.verdict is Verdict.DROP:
            raise errors.Fenced(str(error)) from error
        if ruling.verdict is Verdict.RETRY:
            if ruling.defect:
                await mailbox.record_attempt(self.host.database, message.message_id, reason)
            await asyncio.sleep(ruling.pause_seconds)
        else:
            async with self.host.database.fenced(self.fence) as connection:
                if ruling.verdict is Verdict.REFUSED:
                    await mailbox.fail(connection, message.message_id, reason)
                else:
                    await mailbox.to_dead_letter(connection, message.message_id, reason)
            self.answers.settle(message.message_id, Answer(None, reason))
        if ruling.defect:
            await self.restart(error)
        elif ruling.verdict is Verdict.RETRY:
            # Whether the commit happened is not known: the database says what the state is.
            row = await entities.load(self.host.database, self.ref)
            if row is not None and row.fence == self.fence:
                self.entity.state = row.state

    # ---- supervision -------------------------------------------------------------------------------

    async def count_failure(self, error: BaseException) -> bool:
        """Count a defect against the entity; True when that put it into quarantine (and ended us)."""
        reason = wire.as_terminal(error).to_json()
        count = await entities.record_failure(
            self.host.database, self.ref, reason, window_s=supervision.BUDGET_WINDOW_SECONDS,
            backoff_s=min(supervision.backoff(self._defects + 1), 2.0),
        )
        self._defects = count
        if count < supervision.BUDGET_FAILURES:
            return False
        log.error("%s failed %d times: quarantine", self.ref, count)
        await entities.quarantine(self.host.database, self.ref, reason)
        self.host.drop(self, errors.Quarantined(f"{self.ref} was put aside: {reason['detail']}"))
        return True

    async def restart(self, error: BaseException) -> None:
        """A new object from the committed state; background work of the old one ends."""
        if self.closed or await self.count_failure(error):
            return
        async with self._turn_lock:
            tasks = [task for task in self._spawned if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            row = await entities.load(self.host.database, self.ref)
            if row is None or row.fence != self.fence:
                self.host.drop(self, errors.Fenced(f"{self.ref} has a newer owner"))
                return
            self.entity = self._make(row.state)
        try:
            await self.entity.activated()
        except Exception as again:
            log.exception("%s failed in activated()", self.ref)
            await asyncio.sleep(supervision.backoff(self._defects))
            await self.restart(again)
            return
        self.wake()

    async def note_crash(self) -> None:
        """The last owner died with this entity. What it was working on may be what killed it.

        A mark before each turn would cost every turn a commit; the head of the mailbox is marked here
        instead, after the fact. Raises Quarantined.
        """
        database = self.host.database
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
