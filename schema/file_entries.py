"""The files of a sandbox as its newest snapshot has them, and the versions of each."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schema import rows
from schema.database import Connection, Executor
from schema.snapshots import Entry
from schema.sql import Queries

_Q = Queries("file_entries")
LAST = 2**31 - 1
ROWS = 5000  # in one statement


@dataclass(frozen=True, slots=True)
class Stamped:
    """An entry with the stamp (24 bytes: mtime, ctime, inode) of its last look; None: to be read again."""

    entry: Entry
    stamp: bytes | None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A version to add: what became of the file at `path`. `preview`: its first 1000 characters, if text."""

    path: str
    change_type: str
    size_bytes: int
    content_hash: str | None
    preview: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file; `content_hash` None: it was deleted, or its content is not kept."""

    id: str
    version_number: int
    path: str | None
    change_type: str | None
    size_bytes: int
    content_hash: str | None
    content_preview: str | None
    created_by: str | None
    created_at: datetime
    commit_message: str | None


async def live(c: Executor, sandbox_id: str) -> builtins.list[Stamped]:
    """All that are there."""
    found = await c.fetch(_Q.live, sandbox_id)
    return [Stamped(rows.one(Entry, record), record["stamp"]) for record in found]


async def put(c: Connection, sandbox_id: str, found: Sequence[Stamped]) -> None:
    """Make entries or change them; one that was deleted is there again, with its history."""
    for at in range(0, len(found), ROWS):
        some = found[at : at + ROWS]
        entries = [one.entry for one in some]
        await c.execute(
            _Q.put,
            sandbox_id,
            [e.path for e in entries],
            [e.path.rpartition("/")[2] for e in entries],
            [e.type for e in entries],
            [e.permissions for e in entries],
            [e.size_bytes for e in entries],
            [e.content_hash for e in entries],
            [e.symlink_target for e in entries],
            [one.stamp for one in some],
            [one.mime_type for one in some],
        )


async def restamp(c: Connection, sandbox_id: str, stamps: Sequence[tuple[str, bytes | None]]) -> None:
    """Entries that are as they were, seen at another time."""
    if stamps:
        await c.execute(_Q.restamp, sandbox_id, [path for path, _ in stamps], [stamp for _, stamp in stamps])


async def drop(c: Connection, sandbox_id: str, paths: Sequence[str]) -> None:
    """Entries that are gone; their history stays."""
    if paths:
        await c.execute(_Q.drop, sandbox_id, [*paths])


async def move(c: Connection, sandbox_id: str, moves: Sequence[tuple[str, str]]) -> None:
    """Entries under another name, with their history; where that name has its own, nothing."""
    if moves:
        names = [new.rpartition("/")[2] for _, new in moves]
        await c.execute(_Q.move, sandbox_id, [old for old, _ in moves], [new for _, new in moves], names)


async def add_versions(
    c: Connection, sandbox_id: str, changes: Sequence[Change], *, created_by: str | None, message: str | None
) -> None:
    """The next version of each of these files, of which there must be an entry."""
    for at in range(0, len(changes), ROWS):
        names = ("path", "change_type", "size_bytes", "content_hash", "preview")
        columns = [[getattr(change, name) for change in changes[at : at + ROWS]] for name in names]
        await c.execute(_Q.add_versions, sandbox_id, *columns, created_by, message)


async def versions(
    c: Executor, sandbox_id: str, path: str, *, before: int = LAST, limit: int = 50
) -> builtins.list[Version]:
    """Of one file, newest first."""
    return rows.many(Version, await c.fetch(_Q.versions, sandbox_id, path, before, limit))
