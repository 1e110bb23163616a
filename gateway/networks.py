"""/v1/sandboxes/{id}/network: what a sandbox may reach, and what it was refused.

The entity changes it, the egress proxy enforces it; both are asked before a change is answered, so that it
holds when the answer is there.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from actors.egress.policy import Policy, presets
from actors.egress.refusal import Reason
from gateway.requests import SANDBOX_EXAMPLE, NetworkChange
from gateway.responses import Answer, Count, Json, Network, Time, example
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.state import AppState, app_state
from schema import network, sandboxes
from terminalpp.types.errors import SandboxNotRunning, TerminalError
from terminalpp.types.ids import Ref, new_id
from terminalpp.types.times import moment

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/network", tags=["sandboxes"], route_class=Route)
APPLY_S = 30.0


class Refusal(Answer):
    """What was asked for and refused, `count` times."""

    host: str
    port: Count
    reason: Reason
    detail: str
    count: Count
    first_at: Time
    last_at: Time


class SandboxNetwork(Answer):
    """What a sandbox may reach, and what it was refused."""

    sandbox_id: str
    network: Network
    allow: list[str] = Field(description="As it was written.")
    allow_private: list[str]
    rules: list[str] = Field(description="The same with each preset written out.")
    presets: list[str] = Field(description="The names that may stand for lists.")
    note: str | None = Field(description="Why it does not hold inside yet; null: it does.")
    refusals: list[Refusal] = Field(description="The last 200 targets, the latest first.")

    model_config = example(
        sandbox_id=SANDBOX_EXAMPLE, network="allowlist", allow=["pypi"], allow_private=[],
        rules=["pypi.org", "files.pythonhosted.org"], presets=["pypi", "npm", "debian", "github"], note=None,
        refusals=[],
    )  # fmt: skip


async def _shown(gateway: AppState, id: str, note: str | None = None) -> Response:
    row = await sandboxes.get(gateway.database, id)
    policy = Policy.from_json(row.network_policy)
    refused = await network.refusals(gateway.database, id)
    return Json({
        "sandbox_id": id, "network": row.network, **policy.to_json(), "rules": list(policy.lines()),
        "presets": list(presets()), "note": note, "refusals": [_told(one) for one in refused],
    })  # fmt: skip


def _told(refusal: network.Refusal) -> dict[str, Any]:
    return {
        "host": refusal.host, "port": refusal.port, "reason": refusal.reason, "detail": refusal.detail,
        "count": refusal.count, "first_at": moment(refusal.first_at), "last_at": moment(refusal.last_at),
    }  # fmt: skip


@router.get("", operation_id="getNetwork", response_model=SandboxNetwork)
async def get(request: Request, sandbox_id: UUID) -> Response:
    """What it may reach, and the last targets that it was refused."""
    return await _shown(app_state(request), await owned(request, sandbox_id))


@router.put("", operation_id="putNetwork", response_model=SandboxNetwork)
async def put(request: Request, sandbox_id: UUID, body: NetworkChange) -> Response:
    """Another network or list, which holds when this answers, also for what is open. To and from `open` only
    while the sandbox does not run (409)."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    ref, payload = Ref("sandbox", id), body.model_dump(exclude_none=True)
    await gateway.runtime.send(ref, "set_network", payload, message_id=new_id())
    await gateway.connections.forget(id)
    return await _shown(gateway, id, await _applied(gateway, ref))


async def _applied(gateway: AppState, ref: Ref) -> str | None:
    """Why the change does not hold inside yet, in words; None when it does. It is stored in any case."""
    try:
        if not await gateway.runtime.call(ref, "network_applied", {}, timeout_s=APPLY_S):
            return "the egress proxy does not answer: nothing gets out until it does"
    except SandboxNotRunning:
        return None
    except TerminalError as error:
        return f"it does not hold inside yet: {error.detail}"
    return None
