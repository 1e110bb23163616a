"""Figures for /metrics: how much there is now, and what has ended since a moment; no id of an account."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schema.database import Executor
from schema.sql import Queries

_Q = Queries("figures")


async def present(c: Executor) -> list[tuple[str, str, int]]:
    """`(figure, word, n)`: sandboxes and commands by status, entities by kind, …"""
    return [(row["figure"], row["word"], row["n"]) for row in await c.fetch(_Q.present)]


async def commands(c: Executor, after: datetime, limit: int) -> list[Any]:
    """Records of commands that ended after a moment, in that order."""
    return await c.fetch(_Q.commands, after, limit)


async def events(c: Executor, after: datetime, limit: int) -> list[Any]:
    """Records of turns and model calls that ended after a moment, in that order."""
    return await c.fetch(_Q.events, after, limit)


async def clock(c: Executor) -> datetime:
    return await c.fetchval(_Q.clock)
