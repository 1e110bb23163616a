"""Conversations: who talks with which sandbox, their settings, totals, and the number of the last event."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors

_Q = Queries("conversations")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation's row. `last_seq` is the number of its last event."""

    id: str
    user_id: str
    sandbox_id: str | None
    title: str | None
    model_used: str | None
    total_tokens: int
    cost_usd: float
    status: str
    settings: dict[str, Any]
    event_seq: int
    created_at: datetime
    updated_at: datetime
    quarantined: str | None  # why its entity was put aside, told by `get` and `list` alone


def _row(record: Any, id: str) -> Conversation:
    if record is None:
        raise errors.NotFound(f"there is no conversation {id}")
    return rows.one(Conversation, {"quarantined": None, **record, "cost_usd": float(record["cost_usd"])})


async def create(
    c: Executor,
    id: str,
    user_id: str,
    sandbox_id: str | None,
    *,
    title: str | None = None,
    model: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Conversation:
    """The new conversation, or the one that exists under this id. Titles are cut at 255 characters.

    Raises NotFound when the sandbox or user does not exist, Conflict when the id belongs to another user.
    """
    name = None if title is None else rows.text(title)
    record = await c.fetchrow(_Q.create, id, user_id, sandbox_id, name, model, settings or {})
    row = _row(record, id) if record is not None else await get(c, id)
    if row.user_id != user_id:
        raise errors.Conflict(f"conversation {id} belongs to another user")
    return row


async def get(c: Executor, id: str) -> Conversation:
    """Raises NotFound."""
    return _row(await c.fetchrow(_Q.get, id), id)


async def update_settings(c: Executor, id: str, settings: dict[str, Any]) -> Conversation:
    """Merges the keys of `settings` (top level) into those kept. Raises NotFound."""
    return _row(await c.fetchrow(_Q.update_settings, id, settings), id)


async def add_usage(c: Executor, id: str, tokens: int, cost_usd: float | None = None) -> Conversation:
    """Adds to the totals; an unknown cost (None) adds nothing. Raises NotFound."""
    cost = None if cost_usd is None else repr(float(cost_usd))
    return _row(await c.fetchrow(_Q.add_usage, id, int(tokens), cost), id)


async def set_title(c: Executor, id: str, title: str, *, replace: bool = False) -> bool:
    """Names it if it has no name yet, or always with `replace`; whether it did."""
    return await c.execute(_Q.set_title, id, rows.text(title), replace) == "UPDATE 1"


async def change(c: Executor, id: str, *, title: str | None = None, status: str | None = None) -> None:
    """Another title, another status, or both. Raises NotFound, also for one that is being deleted."""
    name = None if title is None else rows.text(title)
    if await c.execute(_Q.change, id, name, status) != "UPDATE 1":
        raise errors.NotFound(f"there is no conversation {id}")


async def delete(c: Executor, id: str) -> None:
    """Deletes it with what refers to it; one that is not there is fine. Checkpoints go by themselves."""
    await c.execute(_Q.delete, id)


async def set_status(c: Executor, id: str, status: str) -> Conversation:
    """`active`, `archived` or `deleted` (hidden, kept). Raises NotFound."""
    return _row(await c.fetchrow(_Q.set_status, id, status), id)


async def list(
    c: Executor,
    user_id: str | None = None,
    *,
    sandbox_id: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    after: rows.Place | None = None,
    limit: int = 100,
) -> builtins.list[Conversation]:
    """Behind `after`, newest first; everyone's when `user_id` is None."""
    at = after or rows.NOWHERE
    records = await c.fetch(
        _Q.list_conversations, user_id, sandbox_id, status, since, at.created_at, at.id, limit
    )
    return [_row(record, record["id"]) for record in records]
