"""Rewind points: one row ties event number, graph checkpoint and workspace tree together."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime

from schema import rows
from schema.database import Executor
from schema.sql import Queries

_Q = Queries("rewind_points")


@dataclass(frozen=True, slots=True)
class RewindPoint:
    """`tree` names the workspace's content in its own object store; `snapshot_id` a row of `snapshots`."""

    id: str
    conversation_id: str
    event_seq: int
    checkpoint_ns: str
    checkpoint_id: str
    tree: str | None
    snapshot_id: str | None
    label: str
    created_at: datetime


async def add(
    c: Executor,
    conversation_id: str,
    event_seq: int,
    checkpoint_id: str,
    *,
    checkpoint_ns: str = "",
    tree: str | None = None,
    snapshot_id: str | None = None,
    label: str = "",
) -> RewindPoint:
    """Adds the point in the transaction of its checkpoint; once per checkpoint."""
    record = await c.fetchrow(
        _Q.add, conversation_id, event_seq, checkpoint_ns, checkpoint_id, tree, snapshot_id, label
    )
    return rows.one(RewindPoint, record)


async def list(c: Executor, conversation_id: str, *, limit: int = 10_000) -> builtins.list[RewindPoint]:
    """In order of the events."""
    return rows.many(RewindPoint, await c.fetch(_Q.list_points, conversation_id, limit))
