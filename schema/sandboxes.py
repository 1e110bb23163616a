"""Sandboxes: stopped → starting → running → stopped or error; error → starting; anything → error."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors

_Q = Queries("sandboxes")
SEED_IMAGE = "ubuntu:22.04"  # the column's default, which stands for the built-in image


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`generation` grows with every start. `auto_sleep_after_minutes` None or 0: never sleeps.

    `image` is what was asked for. `started_as` is what the driver made at the last start: limits (name → by
    which means, or "not enforced: why"), helper, image, image_id, image_base; None before the first.
    `quarantined`: why its entity was put aside, told by `get` and `list` alone; None while it was not.
    """

    id: str
    user_id: str
    name: str
    description: str | None
    container_id: str | None
    image: str | None
    status: str
    status_detail: str | None
    resource_limits: dict[str, Any]
    environment_vars: dict[str, str]
    exposed_ports: builtins.list[Any]
    last_activity_at: datetime
    auto_sleep_after_minutes: int | None
    node_id: str | None
    driver: str | None
    isolation: str | None
    network: str
    network_policy: dict[str, Any] | None
    generation: int
    workspace: str | None
    paused: bool
    started_as: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    quarantined: str | None


def _row(record: Any) -> Sandbox:
    # The seed lets these three be NULL; NULL means the default.
    defaults = {"resource_limits": {}, "environment_vars": {}, "exposed_ports": []}
    fixed = {name: record[name] if record[name] is not None else empty for name, empty in defaults.items()}
    return rows.one(Sandbox, {"quarantined": None, **record, **fixed})


async def create(
    c: Executor,
    id: str,
    user_id: str,
    name: str,
    *,
    description: str | None = None,
    image: str | None = None,
    network: str = "none",
    resource_limits: dict[str, Any] | None = None,
    environment_vars: dict[str, str] | None = None,
    auto_sleep_after_minutes: int | None = 60,
    node_id: str | None = None,
    driver: str | None = None,
    workspace: str | None = None,
) -> Sandbox:
    """The new sandbox, stopped; or the one that exists under this id. None for image or limits: the seed's.

    Raises Conflict when the id belongs to another user.
    """
    record = await c.fetchrow(
        _Q.create, id, user_id, rows.text(name), description, image, network, resource_limits,
        environment_vars or {}, auto_sleep_after_minutes, node_id, driver, workspace,
    )  # fmt: skip
    sandbox = _row(record) if record is not None else await get(c, id)
    if sandbox.user_id != user_id:
        raise errors.Conflict(f"sandbox {id} belongs to another user")
    return sandbox


async def get(c: Executor, id: str) -> Sandbox:
    """Raises NotFound."""
    record = await c.fetchrow(_Q.get, id)
    if record is None:
        raise errors.NotFound(f"there is no sandbox {id}")
    return _row(record)


async def set_status(c: Executor, id: str, status: str, detail: str | None = None) -> Sandbox:
    """One step of the state machine; the same state again only replaces the detail.

    Raises Conflict for a step that is not allowed (`extra` has `from` and `to`), NotFound.
    """
    record = await c.fetchrow(_Q.set_status, id, str(status), None if detail is None else rows.text(detail))
    if record is not None:
        return _row(record)
    now = await get(c, id)
    raise errors.Conflict(
        f"a sandbox cannot go from {now.status} to {status}", extra={"from": now.status, "to": str(status)}
    )


async def set_paused(c: Executor, id: str, paused: bool) -> None:
    """Whether its processes are frozen; it must be running to be so."""
    await c.execute(_Q.set_paused, id, paused)


async def next_generation(c: Executor, id: str) -> int:
    """The number of the sandbox's new life. Raises NotFound."""
    generation = await c.fetchval(_Q.next_generation, id)
    if generation is None:
        raise errors.NotFound(f"there is no sandbox {id}")
    return generation


async def set_container(
    c: Executor,
    id: str,
    container_id: str | None,
    *,
    node_id: str | None = None,
    driver: str | None = None,
    isolation: str | None = None,
    image: str | None = None,
    generation: int | None = None,
    workspace: str | None = None,
    started_as: dict[str, Any] | None = None,
) -> Sandbox:
    """Records what the driver reports. None keeps a value, except `container_id`, which it clears.

    Raises NotFound.
    """
    record = await c.fetchrow(
        _Q.set_container, id, container_id, node_id, driver, isolation, image, generation, workspace,
        started_as,
    )  # fmt: skip
    if record is None:
        raise errors.NotFound(f"there is no sandbox {id}")
    return _row(record)


async def touch(c: Executor, id: str) -> None:
    """The sandbox was used just now (written at most once a second)."""
    await c.execute(_Q.touch, id)


async def delete(c: Executor, id: str) -> bool:
    """Removes the row and, as the seed's foreign keys say, its conversations, commands and files."""
    return await c.execute(_Q.delete, id) == "DELETE 1"


async def list(
    c: Executor,
    user_id: str | None = None,
    *,
    status: str | None = None,
    since: datetime | None = None,
    after: rows.Place | None = None,
    limit: int = 100,
) -> builtins.list[Sandbox]:
    """Behind `after`, newest first; everyone's when `user_id` is None."""
    at = after or rows.NOWHERE
    found = await c.fetch(_Q.list_sandboxes, user_id, status, since, at.created_at, at.id, limit)
    return [_row(record) for record in found]
