"""Snapshots of a sandbox's files, and what each differs in from the one before.

A snapshot that is deleted hands its entries down to the next, so what any other holds stays the same.
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
from terminalpp.types import errors

_Q = Queries("snapshots")
ABSENT = "absent"
LAST = 2**62
ROWS = 5000  # in one statement


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`seq` orders those of one sandbox. `whole`: its entries are all there is, not what differs."""

    id: str
    sandbox_id: str
    name: str
    description: str | None
    snapshot_type: str
    file_count: int
    total_size_bytes: int
    metadata: dict[str, Any]
    created_by: str | None
    created_at: datetime
    seq: int
    whole: bool
    tree_hash: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A path as it is kept: text (see `terminalpp.types.paths`), `permissions` in octal. A file without
    `content_hash` was there, and its content is not kept."""

    path: str
    type: str
    permissions: str | None = None
    size_bytes: int = 0
    content_hash: str | None = None
    symlink_target: str | None = None


_COLUMNS = tuple(Entry.__dataclass_fields__)


async def add(
    c: Connection,
    id: str,
    sandbox_id: str,
    name: str,
    entries: Sequence[Entry],
    *,
    whole: bool,
    type: str = "manual",
    description: str | None = None,
    file_count: int = 0,
    total_size_bytes: int = 0,
    metadata: dict[str, Any] | None = None,
    created_by: str | None = None,
    tree_hash: str | None = None,
) -> Snapshot:
    """The sandbox's next snapshot, or the one of this id. Raises NotFound (no such sandbox, or a content
    that was collected meanwhile)."""
    made = await c.fetchrow(
        _Q.add,
        id,
        sandbox_id,
        rows.text(name),
        None if description is None else rows.text(description),
        type,
        file_count,
        total_size_bytes,
        metadata or {},
        created_by,
        whole,
        tree_hash,
    )
    if made is None:
        return await get(c, id)
    for at in range(0, len(entries), ROWS):
        some = entries[at : at + ROWS]
        await c.execute(_Q.add_entries, id, *([getattr(e, name) for e in some] for name in _COLUMNS))
    return rows.one(Snapshot, made)


async def get(c: Executor, id: str) -> Snapshot:
    """Raises NotFound."""
    record = await c.fetchrow(_Q.get, id)
    if record is None:
        raise errors.NotFound(f"there is no snapshot {id}")
    return rows.one(Snapshot, record)


async def head(c: Executor, sandbox_id: str) -> Snapshot | None:
    """The sandbox's newest, or None."""
    return rows.maybe(Snapshot, await c.fetchrow(_Q.head, sandbox_id))


async def list(
    c: Executor, sandbox_id: str, *, before: int = LAST, type: str | None = None, limit: int = 100
) -> builtins.list[Snapshot]:
    """Those with a `seq` below `before`, newest first."""
    return rows.many(Snapshot, await c.fetch(_Q.list_snapshots, sandbox_id, before, type, limit))


async def since_whole(c: Executor, sandbox_id: str) -> tuple[int, int]:
    """How many snapshots there are from the newest whole one on, and how many entries these hold."""
    record = await c.fetchrow(_Q.since_whole, sandbox_id)
    return record["snapshots"], record["entries"]


async def tree(c: Executor, snapshot: Snapshot, below: str | None = None) -> builtins.list[Entry]:
    """All that it holds, at or below a path."""
    return rows.many(Entry, await c.fetch(_Q.tree, snapshot.sandbox_id, snapshot.seq, below))


async def touched(c: Executor, snapshot: Snapshot, until: Snapshot) -> builtins.list[Entry] | None:
    """What `snapshot` holds at every path that any of those behind it, up to `until`, says something of: type
    `absent` where it holds nothing. None when that is not known, because one among them is whole."""
    if await c.fetchval(_Q.whole_between, snapshot.sandbox_id, snapshot.seq, until.seq):
        return None
    return rows.many(Entry, await c.fetch(_Q.touched, snapshot.sandbox_id, snapshot.seq, until.seq))


async def at(c: Executor, snapshot: Snapshot, paths: Sequence[str]) -> builtins.list[Entry]:
    """What it holds at these paths; where it holds nothing there is no entry."""
    return rows.many(Entry, await c.fetch(_Q.at, snapshot.sandbox_id, snapshot.seq, [*paths]))


async def delete(c: Connection, id: str) -> bool:
    """Delete it; False when it is not there. Raises Conflict for a sandbox's newest, from which the next
    one is told."""
    record = await c.fetchrow(_Q.get, id)
    if record is None:
        return False
    await c.execute(_Q.lock, record["sandbox_id"])
    following = await c.fetchrow(_Q.following, record["sandbox_id"], record["seq"])
    if following is None:
        raise errors.Conflict(
            "the newest snapshot of a sandbox cannot be deleted",
            "Make another one first, or delete the sandbox.",
        )
    if not following["whole"]:
        await c.execute(_Q.hand_down, id, following["id"])
        if record["whole"]:
            await c.execute(_Q.make_whole, following["id"])
    await c.execute(_Q.delete, id)
    return True


async def past(c: Executor, keep: int, limit: int = 100) -> builtins.list[str]:
    """Ids of automatic snapshots beyond the newest `keep` of their sandbox that nothing refers to."""
    return [record["id"] for record in await c.fetch(_Q.past, keep, limit)]
