"""LangGraph's checkpoints and pending writes, as JSON: rows only. The saver in `graphs/` gives them meaning.

`thread_id` is the conversation's id. Checkpoint ids are UUIDs of version 6, so their text sorts by time.
Values are kept as jsonb: key order and duplicate keys are not preserved, numbers and text are.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Connection, Executor
from schema.sql import Queries

_Q = Queries("checkpoints")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint of a graph's thread, as LangGraph hands it over and gets it back."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Write:
    """`idx` orders the writes of a task; LangGraph gives its special channels negative ones."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    idx: int
    task_path: str
    channel: str
    value: Any


async def put(
    c: Executor,
    thread_id: str,
    checkpoint_ns: str,
    checkpoint_id: str,
    parent_id: str | None,
    checkpoint: dict[str, Any],
    metadata: dict[str, Any],
) -> None:
    """Writes a checkpoint; the same id again replaces it (a step that was repeated)."""
    await c.execute(_Q.put, thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata)


async def get(
    c: Executor, thread_id: str, checkpoint_ns: str = "", checkpoint_id: str | None = None
) -> Checkpoint | None:
    """The checkpoint of this id, or the newest one."""
    if checkpoint_id is None:
        return rows.maybe(Checkpoint, await c.fetchrow(_Q.get_latest, thread_id, checkpoint_ns))
    return rows.maybe(Checkpoint, await c.fetchrow(_Q.get, thread_id, checkpoint_ns, checkpoint_id))


async def put_writes(
    c: Executor,
    thread_id: str,
    checkpoint_ns: str,
    checkpoint_id: str,
    task_id: str,
    writes: Sequence[tuple[int, str, Any]],
    task_path: str = "",
    *,
    replace: bool = False,
) -> None:
    """Writes (idx, channel, value) of a task. What is there stays, unless `replace`."""
    if writes:
        query = _Q.replace_write if replace else _Q.put_write
        items = [[idx, channel, value] for idx, channel, value in writes]
        await c.execute(query, thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, items)


async def forget_writes(c: Executor, thread_id: str, checkpoint_ns: str, checkpoint_id: str) -> None:
    """Delete what the tasks of this checkpoint wrote. Only when its successor is stored."""
    await c.execute(_Q.forget_writes, thread_id, checkpoint_ns, checkpoint_id)


async def get_writes(
    c: Executor, thread_id: str, checkpoint_ns: str, checkpoint_id: str
) -> builtins.list[Write]:
    """In order of task path, task and index."""
    return rows.many(Write, await c.fetch(_Q.get_writes, thread_id, checkpoint_ns, checkpoint_id))


async def delete_thread(c: Executor, thread_id: str) -> None:
    """Forgets all checkpoints and writes of a thread."""
    await c.execute(_Q.delete_writes, thread_id)
    await c.execute(_Q.delete_checkpoints, thread_id)


async def delete_for_runs(c: Executor, run_ids: Sequence[str]) -> None:
    """Forgets the checkpoints, with their writes, whose metadata names one of these runs."""
    await c.execute(_Q.delete_for_runs, builtins.list(run_ids))


async def copy_thread(c: Connection, source_thread_id: str, target_thread_id: str) -> None:
    """Copies a thread; what the target has under the same ids stays."""
    await c.execute(_Q.copy_checkpoints, source_thread_id, target_thread_id)
    await c.execute(_Q.copy_writes, source_thread_id, target_thread_id)


async def prune(c: Executor, thread_id: str, keep: int = 20) -> int:
    """Keeps the newest `keep` checkpoints per namespace and all that rewind points name; how many went."""
    return await c.fetchval(_Q.prune, thread_id, keep)


async def list(
    c: Executor,
    thread_id: str | None = None,
    checkpoint_ns: str | None = None,
    *,
    checkpoint_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    before: str | None = None,
    limit: int | None = None,
) -> builtins.list[Checkpoint]:
    """Newest first. `metadata` filters by containment, `before` is a checkpoint id (not included)."""
    records = await c.fetch(
        _Q.list_checkpoints, thread_id, checkpoint_ns, metadata, before, checkpoint_id, limit
    )
    return rows.many(Checkpoint, records)
