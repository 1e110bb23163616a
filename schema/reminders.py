"""Reminders: rows that become durable messages when due, once per slot.

A firing is a message with method `remind:<name>`, payload `{"name", "slot", "due_at"}` and the message id
`reminder/<setting>/<slot>`. Time is the database's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types.ids import Ref

_Q = Queries("reminders")


@dataclass(frozen=True, slots=True)
class Reminder:
    """A reminder's row: when it is due, and every how many seconds it comes again (None: once)."""

    kind: str
    id: str
    name: str
    setting: str
    slot: int
    due_at: datetime
    every_seconds: float | None


async def set_reminder(
    c: Executor, ref: Ref, name: str, after_seconds: float, every_seconds: float | None = None
) -> Reminder:
    """Sets (or sets anew) the reminder `name`: first after `after_seconds`, then every `every_seconds`."""
    every = None if every_seconds is None else float(every_seconds)
    record = await c.fetchrow(_Q.set_reminder, ref.kind, ref.id, name, float(after_seconds), every)
    return rows.one(Reminder, record)


async def cancel(c: Executor, ref: Ref, name: str) -> bool:
    """False when there was none. A firing already in the mailbox still arrives."""
    return await c.execute(_Q.cancel, ref.kind, ref.id, name) == "DELETE 1"


async def list_reminders(c: Executor, ref: Ref) -> list[Reminder]:
    """The entity's reminders, by name."""
    return rows.many(Reminder, await c.fetch(_Q.list_reminders, ref.kind, ref.id))


async def fire_due(c: Executor, limit: int = 100) -> list[Ref]:
    """Moves at most `limit` due reminders into mailboxes; the entities that now have a message."""
    records = await c.fetch(_Q.fire_due, limit)
    return sorted({Ref(record["kind"], record["id"]) for record in records}, key=str)
