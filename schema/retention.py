"""The policies of what is forgotten and when. The seed's four policies, word for word, and the runtime's own.

`run` carries the seed's policies out as they stand, except that rows already archived are not archived again
(the seed's statement would rewrite them every day for ever; the result is the same).
"""

from __future__ import annotations

from schema import dead_letters, idempotency, mailbox, outbox, port_shares
from schema.database import Database
from schema.sql import Queries

_Q = Queries("retention")
SEED = ("expired_sessions", "old_commands", "expired_memory", "old_file_versions")

# How long finished messages, actions and idempotency keys are recognised, in seconds.
REMEMBERED_SECONDS = 7 * 86400.0
STATEMENT_SECONDS = 600.0  # one policy may go over a whole table
# Firings of reminders: a slot never comes again, and there is one every half minute for each running sandbox.
FIRINGS_SECONDS = 3600.0


def seed_policy(name: str) -> str:
    """One of the seed's policies as SQL, without the closing semicolon."""
    return getattr(_Q, name)


PRUNED = {
    "mailbox": lambda database: mailbox.prune(database, REMEMBERED_SECONDS),
    "firings": lambda database: mailbox.prune_firings(database, FIRINGS_SECONDS),
    "outbox": lambda database: outbox.prune(database, REMEMBERED_SECONDS),
    "idempotency_keys": lambda database: idempotency.prune(database, REMEMBERED_SECONDS),
    "dead_letters": lambda database: dead_letters.prune(database, REMEMBERED_SECONDS),
    "port_shares": lambda database: port_shares.prune(database, REMEMBERED_SECONDS),
}


async def run(database: Database) -> dict[str, int]:
    """Carries out every policy, each in its own transaction; how many rows each one touched."""
    database, touched = database.within(STATEMENT_SECONDS), {}
    for name in SEED:
        statement = seed_policy(name)
        if name == "old_commands":
            statement += " AND NOT archived"
        touched[name] = int((await database.execute(statement)).split()[-1])
    for name, prune in PRUNED.items():
        touched[name] = 0
        while count := await prune(database):
            touched[name] += count
    return touched
