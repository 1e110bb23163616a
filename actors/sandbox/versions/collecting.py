"""What goes: automatic snapshots beyond the newest of each sandbox, contents that nothing refers to, their
objects.

Nothing that is referred to can go: a snapshot hands what it holds down to the next one in the transaction
that deletes it; a content's row goes only while no foreign key points at it; an object goes only when no row
names it, and its name is never used again. What was written for a snapshot that is not committed yet is
younger than the time that everything has at least.
"""

from __future__ import annotations

import time

from actors.sandbox.versions.objects import Objects
from schema import Database, blobs, rewind_points, snapshots

UNUSED_SECONDS = 86400.0
POINTS = 500  # of a conversation whose files are kept
KEPT = 100  # automatic snapshots of a sandbox, besides those that a conversation's step refers to


async def prune(database: Database, keep: int = KEPT) -> int:
    """Deletes old automatic snapshots, each in a transaction of its own, and lets go of the oldest points;
    how many snapshots went."""
    await rewind_points.loosen(database, POINTS)
    count = 0
    while ids := await snapshots.past(database, keep):
        for id in ids:
            async with database.transaction() as connection:
                count += await snapshots.delete(connection, id)
    return count


async def collect(
    database: Database, objects: Objects, unused_seconds: float = UNUSED_SECONDS
) -> tuple[int, int]:
    """Forgets contents that nothing refers to, and deletes objects that hold nothing; how many of each.
    Raises Unavailable."""
    forgotten, idle = 0, []
    while count := await blobs.collect(database, unused_seconds):
        forgotten += count
    async for page in objects.names():
        old = [name for name, written in page if written < time.time() - unused_seconds]
        used = await blobs.urls(database, old) if old else set()
        idle += [name for name in old if name not in used]
    for (
        name
    ) in idle:  # behind the listing: a folder that is emptied goes, and the listing would lose its place
        await objects.delete(name)
    return forgotten, len(idle)
