"""Ends of commands into their rows: what became of each, written once, whatever is away meanwhile.

What tppd recorded is a fact, whoever writes it: it needs no fence, and ends that come close together are
written together, so that the next command need not wait for the last one's commit. What tppd did not record
(lost, refused, given up) is a judgement: only the owner's counts, so it is written under its fence.
A database that is away or full is waited for; until then the journal keeps the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from actors.sandbox.commands import views
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.journal import ExitRecord
from runtime.context import Context
from schema import executions
from terminalpp.types.errors import DeadlineExceeded, DiskFull, TerminalError, Unavailable
from terminalpp.types.states import ExecutionState

log = logging.getLogger("terminalpp.sandbox")
RETRY_SECONDS = 0.5
GATHER_SECONDS = 0.05
WEATHER = (Unavailable, DeadlineExceeded, DiskFull)  # it passes, and nobody is to blame


class EndWriter:
    """See the head of this file. `run_dir`: where the journals are."""

    def __init__(self, context: Context, run_dir: str) -> None:
        self._context = context
        self._run_dir = run_dir
        self._waiting: list[executions.End] = []
        self._writing: asyncio.Future[None] | None = None

    async def record(self, record: ExitRecord) -> None:
        """Returns when it is written. Raises Fenced for a judgement of one who is not the owner any more."""
        end = views.end_for_row(self._run_dir, record)
        if record.reason == "lost" or not record.generation:
            await insist(lambda: self._judge(end))
            return
        self._waiting.append(end)
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())
        await asyncio.shield(self._writing)

    async def give_up(self, exec_id: str, error: Exception) -> None:
        """Nothing can be learnt of this command: say why, and no more."""
        reason = f"given up: {error.detail if isinstance(error, TerminalError) else type(error).__name__}"
        end = executions.End(exec_id, str(ExecutionState.FAILED), reason=reason)
        await insist(lambda: self._judge(end))

    async def withdraw(self, exec_id: str) -> None:
        """It was refused without a trace, so its id is free again. Raises Fenced."""
        async def delete() -> None:
            async with self._context.fenced() as connection:
                await executions.withdraw(connection, exec_id)

        await insist(delete)

    async def close(self, exec_id: str) -> None:
        """Its streams have ended after it had: its extract becomes that of all it printed."""
        size = {s: journal.end(self._run_dir, exec_id, s) for s in views.STREAMS}
        text = {s: views.extract(self._run_dir, exec_id, s, size[s]) for s in views.STREAMS}
        await insist(lambda: executions.close(
            self._context.database, exec_id, text["stdout"], text["stderr"], size["stdout"], size["stderr"],
            max(size.values()) > views.ROW_BYTES))

    async def _judge(self, end: executions.End) -> None:
        async with self._context.fenced() as connection:
            await executions.finish(connection, end)

    async def _write(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        ends, self._waiting, self._writing = self._waiting, [], None
        database = self._context.database
        try:
            await insist(lambda: executions.finish_all(database, ends))
        except Exception:
            # One that the database does not take must not keep the others from being written.
            log.exception("ends of %d commands could not be written together", len(ends))
            for end in ends:
                await self._write_one(end)

    async def _write_one(self, end: executions.End) -> None:
        database = self._context.database
        try:
            await insist(lambda: executions.finish(database, end))
        except Exception:
            log.exception("the end of command %s could not be written", end.id)
            bare = replace(end, stdout=None, stderr=None, reason="its record does not fit into the database")
            await insist(lambda: executions.finish(database, bare))


async def insist(act: Callable[[], Awaitable[Any]]) -> None:
    """Do it again until the database answers and has room."""
    while True:
        try:
            await act()
            return
        except WEATHER:
            await asyncio.sleep(RETRY_SECONDS)
