"""Deletes what the runtime kept about sandboxes, terminals, conversations and agents that were deleted.

Their own rows go at once, with all that hangs on them by foreign keys. Entities, messages, effects, reminders
and dead letters refer to them by kind and id alone, and some must outlive the row for a while: a sandbox's
entity still has to remove its files, a repeated delete must find the first one's answer. `sweep` forgets
them once nobody owns the entity any more and nothing is left to do.
"""

from __future__ import annotations

from schema.database import Database
from schema.sql import Queries
from terminalpp.types.ids import Ref

_Q = Queries("forgetting")
GRACE_SECONDS = 600.0
BATCH = 500


async def sweep(database: Database, grace_s: float = GRACE_SECONDS) -> list[Ref]:
    """Forgets what was deleted more than `grace_s` seconds ago, at most BATCH at a time; which they were."""
    found = await database.fetch(_Q.gone, float(grace_s), BATCH)
    if not found:
        return []
    async with database.transaction() as connection:
        refs = ([row["kind"] for row in found], [row["id"] for row in found])
        gone = await connection.fetch(_Q.entities, *refs)
        refs = ([row["kind"] for row in gone], [row["id"] for row in gone])
        for query in (_Q.mailbox, _Q.outbox, _Q.reminders, _Q.dead_letters):
            await connection.execute(query, *refs)
    return [Ref(row["kind"], row["id"]) for row in gone]
