"""Applies an entity's mailbox: one message after the other, each in one turn, until it is empty.

A message is done when its turn is committed, with its effect; so it is applied once or not at all. What
follows a failure is ruled in `runtime.supervision`. In quarantine only messages are applied whose methods the
class allows there; the rest keep their places.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from runtime import supervision, wire
from runtime.entity import turn_method
from runtime.supervision import Verdict
from runtime.turns import Answer, Answers
from schema import entities, mailbox
from terminalpp.types import errors

if TYPE_CHECKING:
    from runtime.activation import Activation

log = logging.getLogger("terminalpp.runtime")


class Mail:
    """The mailbox of one activation; see the head of this file."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.answers = Answers()
        self.outside_failures = 0

    def start(self) -> None:
        """Begin to apply what is in the mailbox."""
        self._wake.set()
        self._loop = asyncio.create_task(self._apply_all(), name=f"mailbox {self._activation.ref}")

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
        activation = self._activation
        database = activation.host.database
        while not activation.closed:
            await self._wake.wait()
            self._wake.clear()
            await activation.ready.wait()
            try:
                while (message := await self._next()) is not None:
                    await self._apply(message)
                for message_id in self.answers.awaited:
                    # A message that was finished before its caller began to wait.
                    row = await mailbox.result_of(database, message_id)
                    if row is not None and row.finished:
                        self.answers.settle(message_id, Answer.of(row))
            except errors.Fenced as error:
                activation.host.drop(activation, error)
                return
            except Exception as error:
                # Only the database can fail here; turns have their own judge. The net is the cell's poll.
                log.warning("mailbox of %s: %s", activation.ref, error)
                await asyncio.sleep(0.5)
                self._wake.set()

    async def _next(self) -> mailbox.MailRow | None:
        activation = self._activation
        return await mailbox.next_message(activation.host.database, activation.ref, activation.only)

    async def _apply(self, message: mailbox.MailRow) -> None:
        try:
            result = await self._take_turn(message)
        except Exception as error:
            await self._failed(message, error)
        else:
            self.outside_failures = 0
            self.answers.settle(message.message_id, Answer(result, None))

    async def _take_turn(self, message: mailbox.MailRow) -> Any:
        activation = self._activation
        found = turn_method(activation.cls, message.method)
        if found is None:
            raise errors.UnknownMethod(f"{activation.ref} has no durable method {message.method!r}")
        name, payload = found
        if payload is None:
            payload = message.payload
        async with activation.open_turn(message.message_id) as turn:
            result = await getattr(activation.entity, name)(turn, payload)
            wire.encode(result)
            await mailbox.finish(turn.connection, message.message_id, result)
        return result

    async def _failed(self, message: mailbox.MailRow, error: Exception) -> None:
        activation = self._activation
        database = activation.host.database
        attempt = message.attempts + 1
        self.outside_failures += 1
        ruling = supervision.judge_message(error, attempt, self.outside_failures)
        ours = wire.as_terminal(error)
        if ruling.defect:
            log.error("%s.%s failed (%d)", activation.ref, message.method, attempt, exc_info=error)
        if ruling.verdict is Verdict.DROP:
            raise errors.Fenced(str(error)) from error
        if ruling.verdict is Verdict.RETRY:
            if ruling.defect:
                await mailbox.record_attempt(database, message.message_id, ours.to_json())
            elif isinstance(ours, errors.DiskFull):
                # Space may not come back for hours: callers are told now, and the message waits.
                self.answers.fail(message.message_id, ours)
            await asyncio.sleep(ruling.pause_seconds)
        else:
            async with database.fenced(activation.fence) as connection:
                if ruling.verdict is Verdict.REFUSED:
                    await mailbox.fail(connection, message.message_id, ours.to_json())
                else:
                    await mailbox.to_dead_letter(connection, message.message_id, ours.to_json())
            self.answers.settle(message.message_id, Answer(None, ours.to_json()))
        if ruling.defect:
            # The tries of one message count as one defect of the entity.
            await activation.restart(error, counted=ruling.verdict is Verdict.DEAD)
        elif ruling.verdict is Verdict.RETRY:
            # Whether the commit happened is not known: the database says what the state is.
            row = await entities.load(database, activation.ref)
            if row is not None and row.fence == activation.fence:
                activation.entity.state = row.state
