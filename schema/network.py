"""Networks of sandboxes: what each may reach, what each was refused."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors

_Q = Queries("network")
KEPT = 200  # targets of a sandbox whose refusals are kept


@dataclass(frozen=True, slots=True)
class Refusal:
    """One target that was refused `count` times; `detail` says why in words."""

    sandbox_id: str
    host: str
    port: int
    reason: str
    detail: str
    count: int
    first_at: datetime
    last_at: datetime


async def served(c: Executor, node_id: str) -> dict[str, dict[str, Any] | None]:
    """The policies of the sandboxes of a node that need the way out now, by their ids."""
    return {str(record["id"]): record["network_policy"] for record in await c.fetch(_Q.served, node_id)}


async def policy_of(c: Executor, sandbox_id: str) -> dict[str, Any] | None:
    """A sandbox's policy as it stands; None when its network is no allowlist, or it is gone."""
    record = await c.fetchrow(_Q.policy_of, sandbox_id)
    return None if record is None else dict(record["network_policy"] or {})


async def set_network(c: Executor, sandbox_id: str, network: str, policy: dict[str, Any] | None) -> None:
    """Another network and policy. Raises NotFound."""
    if await c.fetchrow(_Q.set_network, sandbox_id, str(network), policy) is None:
        raise errors.NotFound(f"there is no sandbox {sandbox_id}")


async def refused(
    c: Executor, sandbox_id: str, host: str, port: int, reason: str, detail: str, count: int = 1
) -> None:
    """Count refusals of a target; of a sandbox the newest KEPT targets are kept."""
    await c.execute(_Q.refused, sandbox_id, host, port, str(reason), rows.text(detail), count)
    await c.execute(_Q.prune, sandbox_id, KEPT)


async def refusals(
    c: Executor, sandbox_id: str, since: datetime | None = None, limit: int = KEPT
) -> builtins.list[Refusal]:
    """What a sandbox was refused since a moment, the latest first."""
    return [rows.one(Refusal, record) for record in await c.fetch(_Q.refusals, sandbox_id, since, limit)]
