"""The entities in quarantine: those whose defects used their budget up, and what waits for their release.

They are put there and released by `schema.entities`; this is how people see them.
"""

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
from terminalpp.types.ids import Ref

_Q = Queries("quarantines")


@dataclass(frozen=True, slots=True)
class Quarantine:
    """`error`: the last defect, as JSON; `messages` and `actions` wait for the release."""

    kind: str
    id: str
    error: dict[str, Any] | None
    since: datetime
    failures: int
    messages: int
    actions: int


async def get(c: Executor, ref: Ref) -> Quarantine:
    """Raises NotFound when the entity is not in quarantine."""
    record = await c.fetchrow(_Q.get, ref.kind, ref.id)
    if record is None:
        raise errors.NotFound(f"{ref} is not in quarantine")
    return rows.one(Quarantine, record)


async def list(c: Executor, after: tuple[str, str] = ("", ""), limit: int = 100) -> builtins.list[Quarantine]:
    """In the order of kind and id, behind the key `after`."""
    return rows.many(Quarantine, await c.fetch(_Q.list_page, *after, limit))


async def reasons(c: Executor, kind: str, ids: Sequence[str]) -> dict[str, str]:
    """Those of `ids` that are in quarantine, with the last defect's words."""
    found = await c.fetch(_Q.of_kind, kind, builtins.list(ids)) if ids else []
    return {record["id"]: record["reason"] for record in found}


async def count_by_kind(c: Executor) -> dict[str, int]:
    """How many entities of each kind are in quarantine; kinds with none are left out."""
    return {record["kind"]: record["n"] for record in await c.fetch(_Q.count_by_kind)}
