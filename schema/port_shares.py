"""Shares: each opens one port of a sandbox to whoever has its secret, of which only the SHA-256 is kept."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors

_Q = Queries("port_shares")
PRUNED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class PortShare:
    """`seconds_left`: by the database's clock, when it was read; 0 or less: it has expired."""

    id: str
    sandbox_id: str
    port: int
    name: str
    created_at: datetime
    expires_at: datetime
    seconds_left: float


async def create(
    c: Executor, id: str, sandbox_id: str, port: int, *, secret_sha256: str, seconds: float, name: str = ""
) -> PortShare:
    """A share that ends in `seconds`. Asked for again under the same id, its secret is replaced.

    Raises IdempotencyMismatch when the id opens another port."""
    record = await c.fetchrow(_Q.create, id, sandbox_id, port, rows.text(name), secret_sha256, seconds)
    if record is None:
        raise errors.IdempotencyMismatch(f"share {id} opens another port")
    return rows.one(PortShare, record)


async def of_secret(c: Executor, secret_sha256: str) -> PortShare | None:
    """What a secret opens; None when it is unknown or was revoked."""
    return rows.maybe(PortShare, await c.fetchrow(_Q.of_secret, secret_sha256))


async def list(
    c: Executor, sandbox_id: str, *, after: rows.Place | None = None, limit: int = 100
) -> builtins.list[PortShare]:
    """A sandbox's shares behind `after`, newest first, expired ones too."""
    at = after or rows.NOWHERE
    return rows.many(PortShare, await c.fetch(_Q.list_shares, sandbox_id, at.created_at, at.id, limit))


async def revoke(c: Executor, id: str, sandbox_id: str) -> bool:
    """End a share; whether there was one."""
    return await c.execute(_Q.revoke, id, sandbox_id) == "DELETE 1"


async def prune(c: Executor, seconds: float) -> int:
    """Forget some of those that expired more than `seconds` ago; how many."""
    return int((await c.execute(_Q.prune, seconds, PRUNED_AT_ONCE)).split()[-1])
