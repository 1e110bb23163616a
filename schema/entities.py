"""Entities: who owns what, proven by an epoch that grows with every claim.

`owner` is any text that names one incarnation of a cell, never reused (for example
`cell/local/3@<uuid>`, so that the cell can be found from it). A lease ends by the database's clock.
The epoch in a `Fence` is what every write names; a claim raises it, so writes of earlier owners are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import Fence, Ref

_Q = Queries("entities")


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity's row: who owns it, under which epoch, its state, and whether it is in quarantine."""

    kind: str
    id: str
    state: dict[str, Any]
    owner: str | None
    epoch: int
    lease_expires_at: datetime | None
    failures: int
    first_failure_at: datetime | None
    last_error: dict[str, Any] | None
    retry_at: datetime | None
    quarantined_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def ref(self) -> Ref:
        """The entity's address."""
        return Ref(self.kind, self.id)

    @property
    def fence(self) -> Fence:
        """The proof that a write of this owner carries."""
        return Fence(self.kind, self.id, self.epoch)

    def quarantine(self) -> errors.Quarantined:
        """Why it is put aside, as the error that callers get."""
        reason = (self.last_error or {}).get("detail", "no reason recorded")
        extra = {"kind": self.kind, "id": self.id}
        return errors.Quarantined(f"{self.ref} was put aside: {reason}", extra=extra)


@dataclass(frozen=True, slots=True)
class Owner:
    """`live` is judged by the database's clock; `owner` without `live` is a lease that ran out."""

    kind: str
    id: str
    owner: str | None
    epoch: int
    live: bool
    quarantined_at: datetime | None
    last_error: dict[str, Any] | None


async def load(c: Executor, ref: Ref) -> Entity | None:
    """The entity's row, or None when it was never activated."""
    return rows.maybe(Entity, await c.fetchrow(_Q.load, ref.kind, ref.id))


async def claim(
    c: Executor, ref: Ref, owner: str, lease_s: float, takeover_from: str | None = None
) -> Entity | None:
    """Ownership for `lease_s` seconds under a raised epoch; None while a live other owner holds it.

    `takeover_from` names an owner known to be dead, whose lease need not be waited for. The entity is
    created if it is new. One round trip. One in quarantine is claimed too: what it may do is up to its owner.
    """
    return rows.maybe(
        Entity, await c.fetchrow(_Q.claim, ref.kind, ref.id, owner, float(lease_s), takeover_from)
    )


async def renew(c: Executor, owner: str, lease_s: float) -> set[tuple[str, str, int]]:
    """Renews all leases of `owner` in one statement; the (kind, id, epoch) that it still holds.

    Whatever the cell hosts and does not find here was taken over: it must drop it.
    """
    records = await c.fetch(_Q.renew, owner, float(lease_s))
    return {(record["kind"], record["id"], record["epoch"]) for record in records}


async def release(c: Executor, fence: Fence) -> bool:
    """Gives the entity up; False if it was no longer ours."""
    return await c.execute(_Q.release, fence.kind, fence.id, fence.epoch) == "UPDATE 1"


async def release_all(c: Executor, owner: str) -> int:
    """Gives up everything that `owner` holds; how many that were."""
    return int((await c.execute(_Q.release_all, owner)).split()[-1])


async def save_state(c: Executor, fence: Fence, state: dict[str, Any]) -> None:
    """Writes the state. Raises Fenced when `fence` is not the present owner's."""
    if await c.execute(_Q.save_state, fence.kind, fence.id, fence.epoch, state) != "UPDATE 1":
        raise errors.Fenced(f"{fence.kind}/{fence.id} has a newer owner than epoch {fence.epoch}")


async def owner_of(c: Executor, ref: Ref) -> Owner | None:
    """The owner of the entity; None when it was never claimed. `owner` is None while it is passive."""
    record = await c.fetchrow(_Q.owner_of, ref.kind, ref.id)
    return None if record is None else rows.one(Owner, {**record, "live": bool(record["live"])})


async def record_failure(
    c: Executor, ref: Ref, error: dict[str, Any], *, window_s: float = 60.0, backoff_s: float = 0.0
) -> int:
    """Counts a failure and returns how many there were within `window_s` seconds.

    The sweeper does not wake the entity for `backoff_s` seconds. A saved state resets the count.
    `error` is a `TerminalError.to_json()`.
    """
    return await c.fetchval(_Q.record_failure, ref.kind, ref.id, error, float(window_s), float(backoff_s))


async def defer(c: Executor, ref: Ref, error: dict[str, Any], seconds: float) -> None:
    """The sweeper does not wake the entity for so long; nothing is counted."""
    await c.execute(_Q.defer, ref.kind, ref.id, error, float(seconds))


async def quarantine(c: Executor, ref: Ref, error: dict[str, Any]) -> None:
    """Puts the entity aside until `release_quarantine`. Fences its owner."""
    await c.execute(_Q.quarantine, ref.kind, ref.id, error)


async def release_quarantine(c: Executor, ref: Ref) -> bool:
    """Takes it back, with a clean count of failures; fences its owner. False if it was not in quarantine."""
    return await c.execute(_Q.release_quarantine, ref.kind, ref.id) == "UPDATE 1"


async def owners(c: Executor, prefix: str) -> list[str]:
    """Every owner on record whose name begins with `prefix`."""
    return [record["owner"] for record in await c.fetch(_Q.owners, prefix)]


async def orphans_with_work(c: Executor, limit: int, dead_owners: Sequence[str] = ()) -> list[Ref]:
    """Entities with pending messages or due actions and no live owner, longest waiting first.

    Due reminders count once `reminders.fire_due` has turned them into messages. Leases held by
    `dead_owners` count as ended. Entities in quarantine or in backoff are left out.
    """
    records = await c.fetch(_Q.orphans_with_work, limit, list(dead_owners))
    return [Ref(record["kind"], record["id"]) for record in records]


async def owned_with_work(c: Executor, owner: str, limit: int = 1000) -> list[Ref]:
    """Entities of `owner` with pending messages or due actions, for a cell to poll now and then."""
    return [Ref(record["kind"], record["id"]) for record in await c.fetch(_Q.owned_with_work, owner, limit)]


async def list_entities(
    c: Executor,
    *,
    kind: str | None = None,
    owner: str | None = None,
    quarantined: bool | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[Entity]:
    """Entities by kind and id, those alone that match what is given; at most `limit` from `offset` on."""
    return rows.many(Entity, await c.fetch(_Q.list_entities, kind, owner, quarantined, limit, offset))


async def delete(c: Executor, fence: Fence) -> None:
    """Forgets the entity and its state. Raises Fenced."""
    if await c.execute(_Q.delete, fence.kind, fence.id, fence.epoch) != "DELETE 1":
        raise errors.Fenced(f"{fence.kind}/{fence.id} has a newer owner than epoch {fence.epoch}")
