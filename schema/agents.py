"""Agents of conversations. Their ids follow from conversation and role, so a team is made only once."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import derived_id

_Q = Queries("agents")
_RANKS = ("executor", "critic", "tester", "coder", "planner")  # as the query list_agents has them


@dataclass(frozen=True, slots=True)
class Agent:
    """`type` is the role (planner, coder, critic, tester, executor)."""

    id: str
    conversation_id: str
    type: str
    name: str
    status: str
    context: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


def agent_id(conversation_id: str, role: str) -> str:
    """The id that `create_team` gives to this role of this conversation."""
    return derived_id("agent", conversation_id, str(role))


async def create_team(c: Executor, conversation_id: str, roles: Sequence[str]) -> builtins.list[Agent]:
    """The conversation's agents, after adding those of `roles` that were missing.

    Raises NotFound when there is no such conversation.
    """
    names = [str(role) for role in roles]
    ids = [agent_id(conversation_id, role) for role in names]
    await c.execute(_Q.create, ids, conversation_id, names, [name.capitalize() for name in names])
    return await list(c, None, conversation_id)


async def get(c: Executor, id: str) -> Agent:
    """Raises NotFound."""
    record = await c.fetchrow(_Q.get, id)
    if record is None:
        raise errors.NotFound(f"there is no agent {id}")
    return rows.one(Agent, record)


async def set_status(c: Executor, id: str, status: str, context: dict[str, Any] | None = None) -> Agent:
    """Sets the state and merges `context` (top-level keys). Raises NotFound."""
    record = await c.fetchrow(_Q.set_status, id, str(status), context or {})
    if record is None:
        raise errors.NotFound(f"there is no agent {id}")
    return rows.one(Agent, record)


async def list(
    c: Executor,
    user_id: str | None = None,
    conversation_id: str | None = None,
    *,
    status: str | None = None,
    after: rows.Place | None = None,
    limit: int = 500,
) -> builtins.list[Agent]:
    """Behind `after`: the newest team first, each in the order planner, coder, tester, critic, executor."""
    at = after or rows.NOWHERE
    where = (user_id, conversation_id, status, at.created_at, at.rank, at.id)
    return rows.many(Agent, await c.fetch(_Q.list_agents, *where, limit))


def place(agent: Agent) -> rows.Place:
    """The agent's place in `list`."""
    return rows.Place(agent.created_at, agent.id, _RANKS.index(agent.type) + 1)
