"""Applies an entity's mailbox: one message after the other, each in one turn, until it is empty.

A message is done when its turn is committed, with its effect; so it is applied once or not at all. What
follows a failure is ruled in `runtime.supervision`. In quarantine only messages are applied whose methods the
class allows there; the rest keep their places.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from runtime import supervision, wire
from runtime.supervision import Verdict
from runtime.tenure import Tenure
from runtime.turns import Answer, Answers
from schema import mailbox
from terminalpp.types import errors

log = logging.getLogger("terminalpp.runtime")
TakeTurn = Callable[[mailbox.MailRow], Awaitable[Any]]
Restart = Callable[[BaseException, bool], Awaitable[None]]


class Mail:
    """The mailbox of one activation; see the head of this file."""

    def __init__(
        self, tenure: Tenure, take_turn: TakeTurn, reload: Callable[[], Awaitable[None]], restart: Restart
    ) -> None:
        """`take_turn` applies a message and gives its result; `reload` takes the state from the database;
        `restart` makes the object anew after a defect, which counts or does not."""
        self._tenure = tenure
        self._take_turn, self._reload, self._restart = take_turn, reload, restart
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.answers = Answers()
        self.outside_failures = 0

    def start(self) -> None:
        """Begin to apply what is in the mailbox."""
        self._wake.set()
        self._loop = asyncio.create_task(self._apply_all(), name=f"mailbox {self._tenure.ref}")

    def stop(self) -> list[asyncio.Task[Any]]:
        """The tasks to cancel."""
        return [self._loop] if self._loop else []

    def wake(self) -> None:
        """Look into the mailbox soon."""
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer and no look is due."""
        return not (self.answers.awaited or self._wake.is_set())

    async def deliver(self, message_id: str) -> Answer:
        """Wait for the answer of a stored message. Raises Quarantined when it has to wait for a release."""
        future = self.answers.expect(message_id)
        self._wake.set()
        try:
            return await future
        finally:
            self.answers.forget(message_id, future)

    async def _apply_all(self) -> None:
        tenure = self._tenure
        while not tenure.closed:
            await self._wake.wait()
            self._wake.clear()
            await tenure.ready.wait()
            try:
                while (message := await self._next()) is not None:
                    await self._apply(message)
                for message_id in self.answers.awaited:
                    # A message that was finished before its caller began to wait.
                    row = await mailbox.result_of(tenure.database, message_id)
                    if row is not None and row.finished:
                        self.answers.settle(message_id, Answer.of(row))
            except errors.Fenced as error:
                tenure.drop(error)
                return
            except Exception as error:
                # Only the database can fail here; turns have their own judge. The net is the cell's poll.
                log.warning("mailbox of %s: %s", tenure.ref, error)
                await asyncio.sleep(0.5)
                self._wake.set()

    async def _next(self) -> mailbox.MailRow | None:
        tenure = self._tenure
        return await mailbox.next_message(tenure.database, tenure.ref, tenure.only)

    async def _apply(self, message: mailbox.MailRow) -> None:
        try:
            result = await self._take_turn(message)
        except Exception as error:
            await self._failed(message, error)
        else:
            self.outside_failures = 0
            self.answers.settle(message.message_id, Answer(result, None))

    async def _failed(self, message: mailbox.MailRow, error: Exception) -> None:
        tenure = self._tenure
        attempt = message.attempts + 1
        self.outside_failures += 1
        ruling = supervision.judge_message(error, attempt, self.outside_failures)
        ours = wire.as_terminal(error)
        if ruling.defect:
            log.error("%s.%s failed (%d)", tenure.ref, message.method, attempt, exc_info=error)
        if ruling.verdict is Verdict.DROP:
            raise errors.Fenced(str(error)) from error
        if ruling.verdict is Verdict.RETRY:
            if ruling.defect:
                await mailbox.record_attempt(tenure.database, message.message_id, ours.to_json())
            elif isinstance(ours, errors.DiskFull):
                # Space may not come back for hours: callers are told now, and the message waits.
                self.answers.fail(message.message_id, ours)
            await asyncio.sleep(ruling.pause_seconds)
        else:
            async with tenure.database.fenced(tenure.fence) as connection:
                if ruling.verdict is Verdict.REFUSED:
                    await mailbox.fail(connection, message.message_id, ours.to_json())
                else:
                    await mailbox.to_dead_letter(connection, message.message_id, ours.to_json())
            self.answers.settle(message.message_id, Answer(None, ours.to_json()))
        if ruling.defect:
            # The tries of one message count as one defect of the entity.
            await self._restart(error, ruling.verdict is Verdict.DEAD)
        elif ruling.verdict is Verdict.RETRY:
            # Whether the commit happened is not known: the database says what the state is.
            await self._reload()
