"""What differs between two snapshots, and the content of a file in one; from the database and the store
alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from actors.sandbox.versions import contents, rows
from actors.sandbox.versions.objects import Objects
from actors.sandbox.versions.plan import within
from actors.sandbox.versions.tree import Difference, Tree, differences
from schema import Database, snapshots
from schema.snapshots import Snapshot
from terminalpp.types.errors import FileProblem, NotFound


async def tree_of(database: Database, snapshot: Snapshot, below: bytes = b"") -> Tree:
    """What a snapshot holds at or below a path."""
    found = await snapshots.tree(database, snapshot, rows.text(below) if below else None)
    return await asyncio.to_thread(lambda: Tree.of(rows.entry(one) for one in found))


async def between(database: Database, old: Snapshot, new: Snapshot, below: bytes = b"") -> list[Difference]:
    """What differs at or below a path, by path; the two may be of different sandboxes."""
    if old.sandbox_id == new.sandbox_id and old.seq <= new.seq:
        told = await snapshots.touched(database, old, new)
        if told is not None:
            before = Tree.of(rows.entry(one) for one in told if one.type != snapshots.ABSENT)
            after = Tree.of(
                rows.entry(one) for one in await snapshots.at(database, new, [one.path for one in told])
            )
            return [one for one in differences(before, after) if within(one.path, [below])]
    before, after = await tree_of(database, old, below), await tree_of(database, new, below)
    return [one for one in differences(before, after) if within(one.path, [below])]


async def file(
    database: Database, objects: Objects, snapshot: Snapshot, path: bytes
) -> tuple[int, AsyncIterator[bytes]]:
    """The size and the pieces of a file in a snapshot. Raises NotFound; FileProblem for what is no file, and
    for a file whose content is not kept."""
    found = [
        one
        for one in await snapshots.tree(database, snapshot, rows.text(path))
        if rows.path_of(one.path) == path
    ]
    if not found:
        raise NotFound(f"the snapshot has no {rows.text(path)}")
    if found[0].type != "file":
        raise FileProblem(f"{rows.text(path)} is a {found[0].type}")
    if found[0].content_hash is None:
        raise FileProblem(
            f"the content of {rows.text(path)} was not kept", "It was too large, or not to be read."
        )
    return found[0].size_bytes, contents.stream(database, objects, found[0].content_hash)
