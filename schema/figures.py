"""Figures for /metrics: how much there is now, and what has ended since a moment; no id of an account."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from schema.database import Executor
from schema.sql import Queries

_Q = Queries("figures")


class After(NamedTuple):
    """A place in what has ended: its time, and among what ended then the id (of an event with its number)."""

    at: datetime
    id: str = "00000000-0000-0000-0000-000000000000"
    seq: int = 0


async def present(c: Executor) -> list[tuple[str, str, int]]:
    """`(figure, word, n)`: sandboxes and commands by status, entities by kind, …"""
    return [(row["figure"], row["word"], row["n"]) for row in await c.fetch(_Q.present)]


async def commands(c: Executor, after: After, limit: int) -> list[tuple[After, Any]]:
    """Commands that ended after that, in order, each with its place."""
    return [(After(row["at"], row["id"]), row) for row in await c.fetch(_Q.commands, *after[:2], limit)]


async def events(c: Executor, after: After, limit: int) -> list[tuple[After, Any]]:
    """Turns and model calls that ended after that, in order, each with its place."""
    rows = await c.fetch(_Q.events, *after[:2], limit, after.seq)
    return [(After(row["at"], row["id"], row["seq"]), row) for row in rows]


async def clock(c: Executor) -> datetime:
    """The database's time now: the moment from which `After` counts."""
    return await c.fetchval(_Q.clock)
