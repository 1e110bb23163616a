"""Commands: pending → running → completed, failed or killed; an end is written once.

`create` is on the path that every command waits for: one statement, which checks the owner's fence, inserts
once per id and answers with the row, in its own transaction when called on the `Database`.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Database, Executor
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.commands import HOME, Execution
from terminalpp.types.ids import Fence
from terminalpp.types.times import moment

_Q = Queries("executions")
# What a row may hold of one stream (ck_ce_out); the journal has the whole.
MAX_STREAM_BYTES = 262_144
_CUT = "\n… cut: the journal has the whole output …\n"


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """`stdout` and `stderr` are bounded extracts; `stdout_bytes` and `stderr_bytes` count the whole streams.

    `reason` says why in a word when the status alone does not (`lost`, `timeout`, …).
    """

    id: str
    sandbox_id: str
    user_id: str
    command: str
    working_directory: str | None
    environment_vars: dict[str, str] | None
    execution_mode: str
    status: str
    exit_code: int | None
    stdout: str | None
    stderr: str | None
    stdout_bytes: int | None
    stderr_bytes: int | None
    truncated: bool
    reason: str | None
    execution_time_ms: int | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    archived: bool
    idempotency_key: str | None
    agent: str | None
    conversation_id: str | None

    def told(self) -> Execution:
        """The command as callers are told of it; its output as far as the row has it."""
        return Execution(
            id=self.id,
            sandbox_id=self.sandbox_id,
            command=self.command,
            working_directory=self.working_directory or HOME,
            status=self.status,
            exit_code=self.exit_code,
            reason=self.reason,
            stdout=self.stdout or "",
            stderr=self.stderr or "",
            stdout_bytes=self.stdout_bytes or 0,
            stderr_bytes=self.stderr_bytes or 0,
            truncated=self.truncated,
            duration_ms=self.execution_time_ms,
            agent=self.agent,
            conversation_id=self.conversation_id,
            created_at=str(moment(self.created_at)),
            started_at=moment(self.started_at),
            completed_at=moment(self.completed_at),
        )


async def create(
    c: Executor,
    id: str,
    sandbox_id: str,
    user_id: str,
    command: str,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    mode: str = "manual",
    idempotency_key: str | None = None,
    *,
    fence: Fence | None = None,
    agent: str | None = None,
    conversation_id: str | None = None,
) -> tuple[ExecutionRow, bool]:
    """The command's row and whether this call added it. One round trip.

    Raises Fenced (with `fence`: nothing was written and nothing may be started), IdempotencyMismatch when the
    id or key was used for another command, NotFound when the sandbox or user does not exist.
    """
    home = HOME if cwd is None else cwd
    command = rows.text(command)
    what = (id, sandbox_id, user_id, command, home, env or {}, str(mode))
    args = (*what, idempotency_key, agent, conversation_id)
    if fence is None:
        record = await c.fetchrow(_Q.create, *args)
    else:
        record = await c.fetchrow(_Q.create_fenced, *args, fence.kind, fence.id, fence.epoch)
    if record is None:
        record = await _explain(c, id, fence)
    if not record["owned"]:
        raise errors.Fenced(f"{fence} is not the present owner; the command was not accepted")
    row = rows.one(ExecutionRow, record)
    if not record["created"]:
        require_same(row, sandbox_id, command, home, env)
    return row, record["created"]


def require_same(
    row: ExecutionRow, sandbox_id: str, command: str, cwd: str, env: dict[str, str] | None
) -> None:
    """Raises IdempotencyMismatch unless `row` is of this very command."""
    was = (row.sandbox_id, row.command, row.working_directory, row.environment_vars or {})
    if was != (sandbox_id, rows.text(command), cwd, env or {}):
        raise errors.IdempotencyMismatch(f"command id {row.id} was used before for another command")


async def _explain(c: Executor, id: str, fence: Fence | None) -> dict[str, Any]:
    """Why the statement found no row: fenced, a twin added at the same moment, or the key's other use."""
    owned = fence is None or await c.fetchval(_Q.owned, fence.kind, fence.id, fence.epoch)
    twin = await c.fetchrow(_Q.get, id)
    if owned and twin is None:
        raise errors.IdempotencyMismatch("this idempotency key was used before for a command with another id")
    return {**(twin or {}), "owned": owned, "created": False}


async def get(c: Executor, id: str) -> ExecutionRow:
    """Raises NotFound."""
    record = await c.fetchrow(_Q.get, id)
    if record is None:
        raise errors.NotFound(f"there is no command {id}")
    return rows.one(ExecutionRow, record)


async def mark_running(c: Executor, id: str) -> bool:
    """The process exists. False when the row was not pending any more."""
    return await c.execute(_Q.mark_running, id) == "UPDATE 1"


def _extract(stream: str | None) -> tuple[str | None, bool]:
    """The stream as a row can hold it (head and tail when it is too long) and whether it was cut."""
    if stream is None:
        return None, False
    stream = rows.text(stream)
    raw = stream.encode()
    if len(raw) <= MAX_STREAM_BYTES:
        return stream, False
    half = (MAX_STREAM_BYTES - len(_CUT.encode())) // 2
    return raw[:half].decode(errors="ignore") + _CUT + raw[-half:].decode(errors="ignore"), True


@dataclass(frozen=True, slots=True)
class End:
    """How a command ended. `ms` is its run time in milliseconds; `completed` needs an `exit_code`.

    `streams_open`: something that it left may still print; `close` follows.
    """

    id: str
    status: str
    exit_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    truncated: bool = False
    reason: str | None = None
    ms: int | None = None
    streams_open: bool = False

    def arguments(self) -> tuple[Any, ...]:
        """For the query `finish`. A stream over 256 KiB is cut in the middle and marked `truncated`."""
        out, out_cut = _extract(self.stdout)
        err, err_cut = _extract(self.stderr)
        return (
            self.id, str(self.status), self.exit_code, out, err, self.stdout_bytes, self.stderr_bytes,
            self.truncated or out_cut or err_cut, None if self.reason is None else rows.text(self.reason),
            None if self.ms is None else min(int(self.ms), 2_147_483_647), self.streams_open,
        )  # fmt: skip


async def finish(c: Executor, end: End) -> bool:
    """Records the end; False when an end was recorded before (that one stays)."""
    return await c.execute(_Q.finish, *end.arguments()) == "UPDATE 1"


async def finish_all(database: Database, ends: Iterable[End]) -> None:
    """Records several ends in one round trip and one commit; an end that was recorded before stays."""
    await database.executemany(_Q.finish, [end.arguments() for end in ends])


async def close(
    c: Executor, id: str, stdout: str, stderr: str, stdout_bytes: int, stderr_bytes: int, truncated: bool
) -> bool:
    """The streams of an ended command have ended too; False when that was known."""
    out, out_cut = _extract(stdout)
    err, err_cut = _extract(stderr)
    cut = truncated or out_cut or err_cut
    return await c.execute(_Q.close, id, out, err, stdout_bytes, stderr_bytes, cut) == "UPDATE 1"


async def withdraw(c: Executor, id: str) -> bool:
    """Takes back a command that was never started. False when it is not pending any more."""
    return await c.execute(_Q.withdraw, id) == "DELETE 1"


async def list_unclosed(c: Executor, sandbox_id: str) -> builtins.list[str]:
    """Ids of commands that have ended and whose streams have not."""
    return [record["id"] for record in await c.fetch(_Q.list_unclosed, sandbox_id)]


async def list_open(c: Executor, sandbox_id: str) -> builtins.list[ExecutionRow]:
    """Commands that have not ended, oldest first."""
    return rows.many(ExecutionRow, await c.fetch(_Q.list_open, sandbox_id))


async def list_open_ids(c: Executor) -> builtins.list[str]:
    """Ids of all commands that have not ended."""
    return [record["id"] for record in await c.fetch(_Q.list_open_ids)]


async def list(
    c: Executor,
    sandbox_id: str,
    *,
    archived: bool = False,
    conversation_id: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    after: rows.Place | None = None,
    limit: int = 100,
) -> builtins.list[ExecutionRow]:
    """Behind `after`, newest first, without output (None); archived ones only with `archived`."""
    at = after or rows.NOWHERE
    where = (sandbox_id, archived, conversation_id, status, since, at.created_at, at.id)
    return rows.many(ExecutionRow, await c.fetch(_Q.list_executions, *where, limit))
