"""The records of a sandbox: its entity's state, its row, and the answer to whoever asks.

State: `core` (core.Sandbox as JSON, whose `spec` is what the driver is told), user_id, node_id, name,
auto_sleep_after_minutes. The row shows the same to people and SQL; the state decides.
"""

from __future__ import annotations

from typing import Any

from actors.sandbox import core, limits, networked
from actors.sandbox.core import Wanted
from actors.sandbox.image import check_image
from actors.sandbox.machine import machine_limits
from runtime import Context, typed
from schema import Connection, sandboxes, snapshots
from schema import network as network_rows
from terminalpp.types.commands import check_environment
from terminalpp.types.errors import InvalidInput, NotFound
from terminalpp.types.states import SandboxState

_OPTIONS: dict[str, type | tuple[type, ...]] = {
    "user_id": str, "name": str, "description": str, "image": str, "network": str, "allow": list,
    "allow_private": list, "resource_limits": dict, "environment": dict,
    "auto_sleep_after_minutes": int, "start": bool, "id": str,
    "from_snapshot": str,
}


async def create(c: Connection, id: str, payload: dict[str, Any], context: Context) -> dict[str, Any]:
    """The state of a new sandbox, and its row. A row that is there already fills what `payload` leaves out.

    Raises InvalidInput naming the field, NotFound (no such snapshot), Conflict (the id belongs to another
    user).
    """
    if unknown := set(payload) - set(_OPTIONS):
        raise InvalidInput(f"unknown field: {', '.join(sorted(unknown))}")
    typed(payload, **_OPTIONS)
    if begins_with := payload.get("from_snapshot"):
        await snapshots.get(c, begins_with)
    try:
        row = await sandboxes.get(c, id)
    except NotFound:
        row = None
    settings = context.settings
    given = payload.get("resource_limits") or (row.resource_limits if row else None)
    defaults = limits.Limits(settings.sandbox_cpu, settings.sandbox_memory_bytes, settings.sandbox_disk_bytes,
                             settings.sandbox_pids, settings.sandbox_nofile)
    allowed = limits.parse(given, defaults, machine_limits())
    environment = payload.get("environment") or (row.environment_vars if row else {})
    check_environment(environment)
    network, policy = networked.chosen(payload, row, settings)
    image = payload.get("image") or (row.image if row and row.image != sandboxes.SEED_IMAGE else None)
    if image is not None:
        check_image(image)
    minutes = payload.get("auto_sleep_after_minutes", row.auto_sleep_after_minutes if row else 60)
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int) or minutes < 0):
        raise InvalidInput("auto_sleep_after_minutes: a whole number of minutes; 0 is never")
    user_id = payload.get("user_id") or (row.user_id if row else None)
    if not user_id:
        raise InvalidInput("user_id is missing")
    name = payload.get("name") or (row.name if row else f"sandbox-{id[:8]}")
    await sandboxes.create(
        c, id, user_id, name, description=payload.get("description"), image=image, network=str(network),
        resource_limits=_as_people_write(allowed), environment_vars=environment,
        auto_sleep_after_minutes=minutes, node_id=context.node_id)
    await network_rows.set_network(c, id, network, policy)
    spec = {"image": image, "network": str(network), "environment": environment, **allowed.to_json()}
    return {
        "core": core.Sandbox(spec=spec).to_json(), "user_id": user_id, "node_id": context.node_id,
        "name": name, "auto_sleep_after_minutes": minutes,
        **({"from_snapshot": begins_with} if begins_with else {}),
    }


def describe(id: str, state: dict[str, Any]) -> dict[str, Any]:
    """The sandbox as `status` answers: what it is, and what is really enforced."""
    s = core_of(state)
    started = s.started or {}
    return {
        "id": id, "name": state.get("name"), "status": str(s.status), "status_detail": s.detail,
        "wanted": str(s.wanted), "at_rest": at_rest(s),
        "paused": s.frozen, "generation": s.generation, "driver": s.driver,
        "isolation": started.get("isolation"), "network": s.spec.get("network"),
        "limits": started.get("limits") or {}, "error": s.error,
        "image": (started.get("details") or {}).get("image", s.spec.get("image")),
        "run_dir": started.get("run_dir"), "node_id": state.get("node_id"),
    }


def at_rest(s: core.Sandbox) -> bool:
    """No start, no stop, no pause and no resume is under way."""
    return s.status is not SandboxState.STARTING and not (s.ending or s.holding)


async def write_row(c: Connection, id: str, before: core.Sandbox, after: core.Sandbox, node_id: str) -> None:
    """Bring the row from `before` to `after`, step by step as its trigger wants it.

    A deleted row is fine for a sandbox that is being deleted. Raises NotFound otherwise.
    """
    try:
        if _shown_paused(before) != _shown_paused(after):
            await sandboxes.set_paused(c, id, _shown_paused(after))
        if before.started and not after.started:
            await sandboxes.set_container(c, id, None)
        if (before.status, after.status) == (SandboxState.RUNNING, SandboxState.STARTING):
            await sandboxes.set_status(c, id, SandboxState.STOPPED)
        if (before.status, before.detail) != (after.status, after.detail):
            await sandboxes.set_status(c, id, after.status, after.detail or None)
        if after.started and not before.started:
            await _write_started(c, id, after, node_id)
    except NotFound:
        if after.wanted is not Wanted.DESTROYED:
            raise


def _shown_paused(s: core.Sandbox) -> bool:
    return s.frozen and not s.ending


async def _write_started(c: Connection, id: str, s: core.Sandbox, node_id: str) -> None:
    assert s.started is not None
    handle = str(s.started["handle"])
    # A host pid says nothing by itself, and comes back: the column is unique.
    container_id = handle if s.driver == "docker" else f"{s.driver}:{id}:{handle}"
    details = s.started.get("details") or {}
    started_as = {name: details.get(name) for name in ("helper", "image", "image_id", "image_base")}
    await sandboxes.set_container(
        c, id, container_id, node_id=node_id, driver=s.driver, isolation=s.started["isolation"],
        generation=s.generation, workspace=details.get("workspace"),
        started_as={**started_as, "limits": s.started.get("limits") or {}})


def core_of(state: dict[str, Any]) -> core.Sandbox:
    """The core within a state, or that of a sandbox that was never created."""
    return core.Sandbox.from_json(state.get("core") or {})


def _as_people_write(allowed: limits.Limits) -> dict[str, str]:
    """Limits in the seed's form: numbers as texts, sizes with a unit where they are whole."""
    def size(value: int) -> str:
        for unit, factor in (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024)):
            if value % factor == 0:
                return f"{value // factor}{unit}"
        return str(value)

    return {"cpu": f"{allowed.cpu:g}", "memory": size(allowed.memory_bytes), "disk": size(allowed.disk_bytes),
            "pids": str(allowed.pids), "nofile": str(allowed.nofile)}
