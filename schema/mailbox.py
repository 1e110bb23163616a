"""The mailbox: durable messages, applied in order, once per message id, with their results kept.

Order: messages of one sender, sent one after the other, are applied in that order. Messages that two
senders sent at the same moment have no order to keep. The depth limit is counted without a lock (a sender
must never wait for the receiver's turn), so it can be exceeded by as many messages as there are
senders at one moment. Results live until `prune`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import Ref

_Q = Queries("mailbox")
MAX_DEPTH = 1000


@dataclass(frozen=True, slots=True)
class MailRow:
    """`status`: pending, done (`result` is the answer), failed (`error` is the answer), dead (dead letter).

    `created` is True only in the answer of the `enqueue` that added the message.
    """

    message_id: str
    seq: int
    kind: str
    id: str
    method: str
    payload: Any
    sender: str | None
    status: str
    attempts: int
    result: Any
    error: dict[str, Any] | None
    enqueued_at: datetime
    finished_at: datetime | None
    created: bool

    @property
    def ref(self) -> Ref:
        """The address of the entity that the message is for."""
        return Ref(self.kind, self.id)

    @property
    def finished(self) -> bool:
        """Whether the message was applied or refused for good, so that its answer is in the row."""
        return self.status != "pending"


async def enqueue(
    c: Executor,
    ref: Ref,
    message_id: str,
    method: str,
    payload: Any,
    sender: str | None = None,
    max_depth: int = MAX_DEPTH,
) -> MailRow:
    """Adds the message, or finds the one that was sent under this id before. One round trip.

    Raises Overloaded when `max_depth` messages wait, IdempotencyMismatch when the id was used for another
    entity, method or payload.
    """
    args = (message_id, ref.kind, ref.id, method, payload, sender, max_depth)
    record = await c.fetchrow(_Q.enqueue, *args)
    if record is None:
        # Full, or a concurrent sender added the same id after this statement's snapshot was taken.
        record = await c.fetchrow(_Q.get, message_id)
    if record is None:
        raise errors.Overloaded(f"{ref} has {max_depth} messages waiting")
    row = rows.one(MailRow, record)
    # The payload is compared as it was stored: JSON has one kind of list and keys that are text.
    same = row.kind == ref.kind and row.id == ref.id and row.method == method
    if not row.created and not (same and row.payload == rows.stored(payload)):
        raise errors.IdempotencyMismatch(f"message id {message_id!r} was used before for another message")
    return row


async def next_message(c: Executor, ref: Ref, only: Sequence[str] | None = None) -> MailRow | None:
    """The oldest waiting message (of the methods `only`), without taking it: only the entity's owner asks."""
    methods = None if only is None else list(only)
    return rows.maybe(MailRow, await c.fetchrow(_Q.next_message, ref.kind, ref.id, methods))


async def pending_count(c: Executor, ref: Ref) -> int:
    """How many messages of the entity wait to be applied."""
    return await c.fetchval(_Q.pending_count, ref.kind, ref.id)


async def finish(c: Executor, message_id: str, result: Any) -> bool:
    """Marks it done. To be called in the transaction that holds the message's effect.

    False when it was finished already.
    """
    return await c.execute(_Q.finish, message_id, result) == "UPDATE 1"


async def fail(c: Executor, message_id: str, error: dict[str, Any]) -> bool:
    """Marks it failed for good: the error is the answer. False when it was finished already."""
    return await c.execute(_Q.fail, message_id, error) == "UPDATE 1"


async def record_attempt(c: Executor, message_id: str, error: dict[str, Any]) -> int:
    """Counts a try whose transaction was rolled back; the number of tries so far."""
    return await c.fetchval(_Q.record_attempt, message_id, error) or 0


async def result_of(c: Executor, message_id: str) -> MailRow | None:
    """The message with its result or error; None when it is not known (never sent, or pruned)."""
    return rows.maybe(MailRow, await c.fetchrow(_Q.get, message_id))


async def to_dead_letter(c: Executor, message_id: str, error: dict[str, Any]) -> str | None:
    """Moves a poison message to the dead letters; their new id, None when it was finished already."""
    return await c.fetchval(_Q.to_dead_letter, message_id, error)


async def prune(c: Executor, older_than_s: float, limit: int = 5000) -> int:
    """Forgets finished messages (their ids are then no longer recognised); how many."""
    return int((await c.execute(_Q.prune, float(older_than_s), limit)).split()[-1])


async def prune_firings(c: Executor, older_than_s: float, limit: int = 5000) -> int:
    """Forgets finished firings of reminders; how many."""
    return int((await c.execute(_Q.prune_firings, float(older_than_s), limit)).split()[-1])
