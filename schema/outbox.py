"""The outbox: effects to perform after commit, at least once, each under a stable action id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import Fence, Ref

_Q = Queries("outbox")


@dataclass(frozen=True, slots=True)
class ActionRow:
    """`status`: pending, done, dead. `attempts` counts failures so far.

    `due_in_seconds`: until `retry_at`, when this was read, by the database's clock; negative once due.
    """

    action_id: str
    seq: int
    kind: str
    id: str
    name: str
    payload: Any
    epoch: int
    status: str
    attempts: int
    error: dict[str, Any] | None
    retry_at: datetime
    due_in_seconds: float
    created_at: datetime
    finished_at: datetime | None

    @property
    def ref(self) -> Ref:
        """The address of the entity that performs the action."""
        return Ref(self.kind, self.id)


async def add(c: Executor, fence: Fence, action_id: str, name: str, payload: Any) -> bool:
    """Adds an action of the fence's entity; False when this id was added before. Raises Fenced."""
    record = await c.fetchrow(_Q.add, fence.kind, fence.id, fence.epoch, action_id, name, payload)
    if not record["owned"]:
        raise errors.Fenced(f"{fence.kind}/{fence.id} has a newer owner than epoch {fence.epoch}")
    return record["added"]


async def pending(c: Executor, ref: Ref) -> list[ActionRow]:
    """All actions not yet done, in the order they were added, also those that wait for their `retry_at`."""
    return rows.many(ActionRow, await c.fetch(_Q.pending, ref.kind, ref.id))


async def get(c: Executor, action_id: str) -> ActionRow | None:
    """The action, or None when it was performed and forgotten, or never was."""
    return rows.maybe(ActionRow, await c.fetchrow(_Q.get, action_id))


async def done(c: Executor, action_id: str) -> bool:
    """False when it was done (or given up) already."""
    return await c.execute(_Q.done, action_id) == "UPDATE 1"


async def failed(c: Executor, action_id: str, error: dict[str, Any], retry_at: datetime | float) -> int:
    """Counts a failure and sets when to try again (a time, or seconds from now); the failures so far."""
    query = _Q.failed if isinstance(retry_at, datetime) else _Q.failed_for
    when = retry_at if isinstance(retry_at, datetime) else float(retry_at)
    return await c.fetchval(query, action_id, error, when) or 0


async def to_dead_letter(c: Executor, action_id: str, error: dict[str, Any]) -> str | None:
    """Gives the action up and keeps it among the dead letters; their new id."""
    return await c.fetchval(_Q.to_dead_letter, action_id, error)


async def prune(c: Executor, older_than_s: float, limit: int = 5000) -> int:
    """Forgets actions that are done; how many."""
    return int((await c.execute(_Q.prune, float(older_than_s), limit)).split()[-1])
