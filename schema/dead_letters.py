"""Dead letters: messages and actions that failed for good, kept to be read and replayed."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import Ref

_Q = Queries("dead_letters")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`source`: mailbox or outbox; `source_id`: the message's or action's id; `name`: method or action."""

    id: str
    source: str
    source_id: str
    kind: str
    entity_id: str
    name: str
    payload: Any
    error: dict[str, Any]
    attempts: int
    created_at: datetime
    replayed_at: datetime | None


async def add(
    c: Executor,
    source: str,
    source_id: str,
    ref: Ref,
    name: str,
    payload: Any,
    error: dict[str, Any],
    attempts: int = 0,
) -> DeadLetter:
    """Keeps a letter by hand; `mailbox.to_dead_letter` and `outbox.to_dead_letter` do it with the move."""
    record = await c.fetchrow(_Q.add, source, source_id, ref.kind, ref.id, name, payload, error, attempts)
    return rows.one(DeadLetter, record)


async def replay(c: Executor, letter_id: str) -> Ref:
    """Gives the message or action another life; the entity to wake.

    Raises NotFound when there is no such letter, it was replayed before, or its source is gone.
    """
    record = await c.fetchrow(_Q.replay_mailbox, letter_id) or await c.fetchrow(_Q.replay_outbox, letter_id)
    if record is None:
        raise errors.NotFound(f"there is no dead letter {letter_id} to replay")
    return Ref(record["kind"], record["id"])


async def list(  # the contract's name
    c: Executor,
    *,
    kind: str | None = None,
    entity_id: str | None = None,
    replayed: bool = False,
    limit: int = 100,
) -> builtins.list[DeadLetter]:
    """The newest first; replayed ones only with `replayed`."""
    return rows.many(DeadLetter, await c.fetch(_Q.list_letters, replayed, kind, entity_id, limit))


async def prune(c: Executor, older_than_s: float, limit: int = 5000) -> int:
    """Forgets dead letters that were settled; how many. Open ones are kept until somebody looks."""
    return int((await c.execute(_Q.prune, float(older_than_s), limit)).split()[-1])
