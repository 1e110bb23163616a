"""/v1/sandboxes/{id}/processes: what runs in a sandbox, and ending all of it.

Read from tppd itself, without its entity: a look neither wakes a sandbox nor waits for anything. In a sandbox
that does not run there are none.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from actors.sandbox.tppd import replies
from gateway.idempotency import once
from gateway.responses import _ID, _TIME, Answer, Json, example
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.state import app_state
from terminalpp.types.times import moment_of

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/processes", tags=["processes"], route_class=Route)


class Process(Answer):
    """A process inside a sandbox."""

    pid: int
    parent_pid: int
    command_id: str | None = Field(description="Null: the command that started it is not known.")
    name: str
    argv: list[str] = Field(description="At most 4 KiB of them.")
    state: str
    cpu_ms: int
    memory_bytes: int
    started_at: str | None

    model_config = example(
        pid=17, parent_pid=16, command_id=_ID, name="sleep", argv=["sleep", "983"], state="sleeping",
        cpu_ms=0, memory_bytes=1_900_544, started_at=_TIME,
    )  # fmt: skip


class Processes(Answer):
    """All processes inside a sandbox."""

    items: list[Process]


class Killed(Answer):
    """How many processes were killed."""

    model_config = example(killed=3)

    killed: int


_STATES = {"R": "running", "S": "sleeping", "I": "sleeping", "D": "waiting", "T": "stopped", "t": "traced"}


def _shown(one: replies.Process) -> dict[str, Any]:
    return {
        "pid": one.pid,
        "parent_pid": one.parent,
        "command_id": one.exec_id,
        "name": one.name,
        "argv": one.argv,
        "state": _STATES.get(one.state, "other"),
        "cpu_ms": one.cpu_ms,
        "memory_bytes": one.memory_bytes,
        "started_at": moment_of(one.started_at_ms),
    }


@router.get("", operation_id="listProcesses", response_model=Processes)
async def list_all(request: Request, sandbox_id: UUID) -> Response:
    """Every process in the sandbox with the command it comes from, those included that ended commands have
    left; none when it does not run."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    async with gateway.connections.to(sandbox) as access:
        return Json({"items": [_shown(one) for one in await access.processes()]})


@router.post("/kill", operation_id="killProcesses", response_model=Killed)
async def kill(request: Request, sandbox_id: UUID) -> Response:
    """Kills every process in the sandbox and says how many there were. The sandbox runs on: new commands can
    be started at once."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)

    async def work() -> Response:
        async with gateway.connections.to(sandbox) as access:
            killed = await access.kill_all() if await access.processes() else 0
        return Json({"killed": killed})

    return await once(request, work)
