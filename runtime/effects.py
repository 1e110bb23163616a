"""Performs an entity's outbox: each action by its `@effect` method, at least once, until it returns.

Actions run beside each other and beside the turns, at most `EFFECTS_MAX` at once (the rest wait as rows).
An action is done when its method returned and the mark is committed; a crash in between repeats the
method with the same `Action.id`. Bookkeeping is fenced, so a stale owner can neither finish nor bury
an action. When an action is due is told by the database's clock alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from runtime import supervision, wire
from runtime.entity import EFFECT_FAILED
from runtime.supervision import Verdict
from runtime.tenure import Tenure
from schema import mailbox, outbox
from terminalpp.types import errors

log = logging.getLogger("terminalpp.runtime")
EFFECTS_MAX = 16


class Effects:
    """The outbox of one activation; see the head of this file."""

    def __init__(
        self, tenure: Tenure, perform: Callable[[outbox.ActionRow], Awaitable[None]], wake: Callable[[], None]
    ) -> None:
        """`perform` calls the entity's method; `wake`: there may be mail."""
        self._tenure = tenure
        self._carry_out, self._wake_all = perform, wake
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def running(self) -> int:
        """How many actions are being performed now."""
        return len(self._running)

    def start(self) -> None:
        """Begin to perform what is in the outbox."""
        self._wake.set()
        self._loop = asyncio.create_task(self._dispatch(), name=f"effects of {self._tenure.ref}")

    def stop(self) -> list[asyncio.Task[Any]]:
        """The tasks to cancel."""
        return [*self._running.values(), *([self._loop] if self._loop else [])]

    def wake(self) -> None:
        """Look into the outbox soon: a turn has committed actions."""
        self._wake.set()

    async def interrupted(self) -> bool:
        """Whether some action may have been under way when the last owner died."""
        rows = await outbox.pending(self._tenure.database, self._tenure.ref)
        return any(row.due_in_seconds <= 0 for row in rows)

    async def _dispatch(self) -> None:
        tenure = self._tenure
        pause: float | None = None
        while not tenure.closed:
            with contextlib.suppress(TimeoutError):  # the time of an action's next try has come
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
            await tenure.ready.wait()
            if not tenure.means.serving():
                pause = 0.5
                continue
            try:
                rows = await outbox.pending(tenure.database, tenure.ref)
            except Exception as error:
                log.warning("outbox of %s: %s", tenure.ref, error)
                pause = 1.0
                continue
            pause = None
            only = tenure.only
            for row in rows:
                if row.action_id in self._running or (only is not None and row.name not in only):
                    continue
                wait = row.due_in_seconds
                if wait > 0:
                    pause = wait if pause is None else min(pause, wait)
                elif len(self._running) < EFFECTS_MAX:
                    self._running[row.action_id] = asyncio.create_task(
                        self._perform(row), name=f"{row.name} of {tenure.ref}"
                    )

    async def _perform(self, row: outbox.ActionRow) -> None:
        tenure = self._tenure
        try:
            try:
                await self._carry_out(row)
                async with tenure.fenced() as connection:
                    await outbox.done(connection, row.action_id)
            except Exception as error:
                await self._failed(row, error)
        except errors.Fenced as error:
            tenure.drop(error)
        except Exception as error:
            log.warning("%s of %s: %s", row.name, tenure.ref, error)
            await asyncio.sleep(1.0)  # the database is away: the row still says pending
        finally:
            self._running.pop(row.action_id, None)
            tenure.touch()
            self._wake.set()

    async def _failed(self, row: outbox.ActionRow, error: Exception) -> None:
        tenure = self._tenure
        ruling = supervision.judge_effect(error, row.attempts + 1)
        reason = wire.as_terminal(error).to_json()
        log.warning("%s of %s failed (%d): %r", row.name, tenure.ref, row.attempts + 1, error,
                    exc_info=None if isinstance(error, errors.TerminalError) else error)
        if ruling.verdict is Verdict.DROP:
            raise errors.Fenced(str(error)) from error
        async with tenure.fenced() as connection:
            if ruling.verdict is Verdict.RETRY:
                await outbox.failed(connection, row.action_id, reason, ruling.pause_seconds)
                return
            await outbox.to_dead_letter(connection, row.action_id, reason)
            if hasattr(tenure.cls, "on_effect_failed"):
                action = {"id": row.action_id, "name": row.name, "payload": row.payload}
                # Above any depth limit: the entity must learn of it.
                await mailbox.enqueue(
                    connection, tenure.ref, f"effect-failed/{row.action_id}", EFFECT_FAILED,
                    {"action": action, "error": reason}, str(tenure.ref), max_depth=2**31 - 1,
                )
        self._wake_all()

