"""Rewind points: one row ties event number, graph checkpoint and workspace tree together."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors

_Q = Queries("rewind_points")


@dataclass(frozen=True, slots=True)
class RewindPoint:
    """`tree` names what of the workspace is the team's work; `snapshot_id` all files of the sandbox.
    `state`: what the conversation knew there, of a point between two turns."""

    id: str
    conversation_id: str
    event_seq: int
    checkpoint_ns: str
    checkpoint_id: str
    tree: str | None
    snapshot_id: str | None
    label: str
    created_at: datetime
    state: dict[str, Any] | None


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
    state: dict[str, Any] | None = None,
) -> RewindPoint:
    """Adds the point in the transaction of its checkpoint; once per checkpoint."""
    record = await c.fetchrow(
        _Q.add,
        conversation_id,
        event_seq,
        checkpoint_ns,
        checkpoint_id,
        tree,
        snapshot_id,
        label[:500],
        state,
    )
    return rows.one(RewindPoint, record)


async def list(c: Executor, conversation_id: str, *, limit: int = 10_000) -> builtins.list[RewindPoint]:
    """In order of the events."""
    return rows.many(RewindPoint, await c.fetch(_Q.list_points, conversation_id, limit))


async def get(c: Executor, conversation_id: str, id: str) -> RewindPoint:
    """Raises NotFound."""
    record = await c.fetchrow(_Q.get, conversation_id, id)
    if record is None:
        raise errors.NotFound(f"there is no point {id} in this conversation")
    return rows.one(RewindPoint, record)


async def newest(c: Executor, conversation_id: str) -> RewindPoint | None:
    """The point with files that was made last."""
    return rows.maybe(RewindPoint, await c.fetchrow(_Q.newest, conversation_id))


async def boundary(
    c: Executor, conversation_id: str, until_seq: int, ranges: Sequence[tuple[int, int]]
) -> RewindPoint | None:
    """The newest point at or before an event, within these ranges of events, that keeps a state."""
    first, last = [one for one, _ in ranges], [two for _, two in ranges]
    return rows.maybe(RewindPoint, await c.fetchrow(_Q.boundary, conversation_id, until_seq, first, last))


async def loosen(c: Executor, keep: int) -> None:
    """The files of points beyond the newest `keep` of their conversation are not kept any more."""
    await c.execute(_Q.loosen, keep)
