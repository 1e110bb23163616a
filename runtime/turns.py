"""Writes what a turn asked for, inside its transaction, and remembers the answers of finished messages."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from runtime.entity import Turn
from schema import entities, mailbox, outbox, reminders
from terminalpp.types import errors
from terminalpp.types.ids import Fence

ANSWERS_KEPT = 64


async def write(turn: Turn, fence: Fence, *, state_changed: bool, max_depth: int) -> None:
    """State, actions, messages and reminders of the turn. Raises Fenced, Overloaded (a receiver is full)."""
    connection = turn.connection
    if state_changed:
        await entities.save_state(connection, fence, turn.state)
    for action in turn.actions:
        await outbox.add(connection, fence, action.id, action.name, action.payload)
    for send in turn.sends:
        await mailbox.enqueue(
            connection, send.ref, send.message_id, send.method, send.payload, str(turn.ref), max_depth
        )
    for name in turn.cancelled_reminders:
        await reminders.cancel(connection, turn.ref, name)
    for reminder in turn.reminders:
        await reminders.set_reminder(
            connection, turn.ref, reminder.name, reminder.after_seconds, reminder.every_seconds
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """How a message ended: `error` is `TerminalError.to_json()` or None."""

    result: Any
    error: dict[str, Any] | None

    def unwrap(self) -> Any:
        """The result. Raises the error when that is the answer."""
        if self.error is not None:
            raise errors.from_json(self.error)
        return self.result

    @classmethod
    def of(cls, row: mailbox.MailRow) -> Answer:
        """The answer that a finished message's row holds."""
        return cls(row.result, row.error)


class Answers:
    """Callers that wait for messages, and the last few answers for callers that come a moment late."""

    def __init__(self) -> None:
        self._recent: OrderedDict[str, Answer] = OrderedDict()
        self._waiting: dict[str, list[asyncio.Future[Answer]]] = {}

    def expect(self, message_id: str) -> asyncio.Future[Answer]:
        """A future that gets the message's answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if (answer := self._recent.get(message_id)) is not None:
            future.set_result(answer)
        else:
            self._waiting.setdefault(message_id, []).append(future)
        return future

    def forget(self, message_id: str, future: asyncio.Future[Answer]) -> None:
        """Nobody waits for this future any more."""
        waiting = self._waiting.get(message_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(message_id, None)

    def settle(self, message_id: str, answer: Answer) -> None:
        """Hand the answer to all who wait for it, and remember it for who asks a little later."""
        self._recent[message_id] = answer
        if len(self._recent) > ANSWERS_KEPT:
            self._recent.popitem(last=False)
        for future in self._waiting.pop(message_id, []):
            if not future.done():
                future.set_result(answer)

    def fail(self, message_id: str, error: Exception) -> None:
        """Tell who waits now; the message itself has no answer yet."""
        for future in self._waiting.pop(message_id, []):
            if not future.done():
                future.set_exception(error)

    def fail_all(self, error: Exception) -> None:
        """Fail all who wait."""
        for message_id in self.awaited:
            self.fail(message_id, error)

    @property
    def awaited(self) -> list[str]:
        """The ids of the messages whose answers somebody waits for."""
        return list(self._waiting)
