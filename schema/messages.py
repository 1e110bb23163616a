"""Messages of a conversation, in the order in which they were added."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries

_Q = Queries("messages")


@dataclass(frozen=True, slots=True)
class Message:
    """`role`: user, assistant, system or tool. `seq` orders; it may skip numbers."""

    id: str
    conversation_id: str
    seq: int
    role: str
    content: str
    metadata: dict[str, Any] | None
    created_at: datetime


async def add(
    c: Executor,
    id: str,
    conversation_id: str,
    role: str,
    content: str,
    metadata: dict[str, Any] | None = None,
) -> bool:
    """Adds the message; False when one with this id was there. Raises NotFound for the conversation."""
    done = await c.execute(_Q.add, id, conversation_id, role, rows.text(content), metadata or {})
    return done == "INSERT 0 1"


async def get(c: Executor, id: str) -> Message | None:
    """The message, or None."""
    return rows.maybe(Message, await c.fetchrow(_Q.get, id))


async def list(
    c: Executor, conversation_id: str, *, after_seq: int = 0, limit: int = 1000
) -> builtins.list[Message]:
    """Oldest first."""
    return rows.many(Message, await c.fetch(_Q.list_messages, conversation_id, after_seq, limit))


async def mark(c: Executor, conversation_id: str, present: Collection[str]) -> None:
    """Those of `present` are on the conversation's present branch; `metadata.abandoned` marks all others."""
    await c.execute(_Q.mark, conversation_id, [*present])


async def copy(c: Executor, source_id: str, target_id: str, present: Collection[str]) -> None:
    """Those of `present` in another conversation too, under ids of their own; `metadata.origin` is the first
    one's."""
    await c.execute(_Q.copy, source_id, target_id, [*present])
