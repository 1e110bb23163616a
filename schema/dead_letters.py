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


async def get(c: Executor, letter_id: str) -> DeadLetter:
    """Raises NotFound."""
    record = await c.fetchrow(_Q.get, letter_id)
    if record is None:
        raise errors.NotFound(f"there is no dead letter {letter_id}", "`./tpp dead-letters ls` lists them.")
    return rows.one(DeadLetter, record)


async def replay(c: Executor, letter_id: str) -> Ref:
    """Gives the message or action another life under its old id; the entity to wake.

    Of two replays of one letter one is refused: the letter's row is locked and marked by the other. Raises
    NotFound when there is no such letter, Conflict when it was replayed before or its source is gone.
    """
    record = await c.fetchrow(_Q.replay_mailbox, letter_id) or await c.fetchrow(_Q.replay_outbox, letter_id)
    if record is None:
        letter = await get(c, letter_id)
        why = "was replayed before" if letter.replayed_at else "has lost what it was made of"
        raise errors.Conflict(f"dead letter {letter_id} {why}")
    return Ref(record["kind"], record["id"])


async def drop(c: Executor, letter_id: str) -> None:
    """Forgets the letter; what it was made of stays finished and is pruned in time. Raises NotFound."""
    if await c.execute(_Q.drop, letter_id) != "DELETE 1":
        raise errors.NotFound(f"there is no dead letter {letter_id}", "`./tpp dead-letters ls` lists them.")


async def list(  # the contract's name
    c: Executor,
    *,
    kind: str | None = None,
    entity_id: str | None = None,
    replayed: bool = False,
    before: tuple[datetime, str] | None = None,
    limit: int = 100,
) -> builtins.list[DeadLetter]:
    """The newest first, behind the place `before`; replayed ones only with `replayed`."""
    at, id = before or (None, None)
    return rows.many(DeadLetter, await c.fetch(_Q.list_letters, replayed, kind, entity_id, limit, at, id))


async def prune(c: Executor, older_than_s: float, limit: int = 5000) -> int:
    """Forgets dead letters that were settled; how many. Open ones are kept until somebody looks."""
    return int((await c.execute(_Q.prune, float(older_than_s), limit)).split()[-1])
