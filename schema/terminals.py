"""Terminals: starting → running → ended or lost; starting → failed. What was printed is in the journal."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors

_Q = Queries("terminals")


@dataclass(frozen=True, slots=True)
class TerminalRow:
    """`command`: as a person would type it. `agent`: whose it is, None for a person's. `output_bytes`: once
    it has ended. `reason`: why it failed or was lost, or who ended it."""

    id: str
    sandbox_id: str
    user_id: str
    conversation_id: str | None
    agent: str | None
    name: str
    command: str
    cwd: str
    cols: int
    rows: int
    status: str
    exit_code: int | None
    signal: int | None
    reason: str | None
    output_bytes: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


async def create(
    c: Executor, id: str, sandbox_id: str, user_id: str, *, name: str, command: str, cwd: str, cols: int,
    rows_: int, conversation_id: str | None = None, agent: str | None = None,
) -> None:  # fmt: skip
    """A new terminal, or nothing for one that is there. Raises NotFound (no such sandbox)."""
    await c.execute(
        _Q.create, id, sandbox_id, user_id, conversation_id, agent, rows.text(name), rows.text(command),
        rows.text(cwd), cols, rows_,
    )  # fmt: skip


async def get(c: Executor, id: str) -> TerminalRow:
    """Raises NotFound."""
    record = await c.fetchrow(_Q.get, id)
    if record is None:
        raise errors.NotFound(f"there is no terminal {id}")
    return rows.one(TerminalRow, record)


async def list(
    c: Executor, sandbox_id: str, *, open: bool = False, after: rows.Place | None = None, limit: int = 100
) -> builtins.list[TerminalRow]:
    """Behind `after`, newest first. `open`: only those that have a program."""
    at = after or rows.NOWHERE
    return rows.many(
        TerminalRow, await c.fetch(_Q.list_terminals, sandbox_id, open, at.created_at, at.id, limit)
    )


async def list_of_user(
    c: Executor, user_id: str, *, open: bool = False, after: rows.Place | None = None, limit: int = 100
) -> builtins.list[TerminalRow]:
    """Those of a user in all sandboxes, as `list`."""
    at = after or rows.NOWHERE
    return rows.many(TerminalRow, await c.fetch(_Q.list_of_user, user_id, open, at.created_at, at.id, limit))


async def list_open_ids(c: Executor) -> builtins.list[str]:
    """Of all sandboxes, those that have a program."""
    return [record["id"] for record in await c.fetch(_Q.list_open_ids)]


async def started(c: Executor, id: str) -> None:
    """Its program runs. Nothing for one that has ended."""
    await c.fetchrow(_Q.started, id)


async def resize(c: Executor, id: str, cols: int, rows_: int) -> None:
    """Its size from now on."""
    await c.execute(_Q.resize, id, cols, rows_)


async def finish(
    c: Executor, id: str, status: str, *, exit_code: int | None = None, signal: int | None = None,
    reason: str | None = None, output_bytes: int = 0,
) -> None:  # fmt: skip
    """Its end; the first one told stays."""
    told = None if reason is None else rows.text(reason)
    await c.fetchrow(_Q.finish, id, str(status), exit_code, signal, told, output_bytes)
