"""/v1/sandboxes/{id}/ports: which ports there are; /port-shares: links that open one of them to others.

The ports themselves are reached by `port_proxy`. Looking wakes no sandbox.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from actors.sandbox.tppd.ports import Listener
from gateway import field_errors, port_addresses, responses
from gateway.idempotency import id_for
from gateway.paging import Cursor, Limit, page
from gateway.port_access import PREFIX
from gateway.port_addresses import PORT_MAX, SECRET
from gateway.requests import WAIT_LIMIT_MS, Body, _example
from gateway.responses import _ID, _TIME, Answer, Id, Json, Time, example
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.state import AppState, app_state
from schema import port_shares, sandboxes
from schema.rows import Place
from terminalpp.types.errors import NotFound, SandboxNotRunning
from terminalpp.types.proof import digest

HOUR, MONTH = 3600, 30 * 86400
router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/ports", tags=["ports"], route_class=Route)
shares_router = APIRouter(
    prefix="/v1/sandboxes/{sandbox_id}/port-shares", tags=["ports"], route_class=Route
)
PortNumber = Annotated[int, Field(ge=1, le=PORT_MAX)]
Change = Annotated[
    int | None, Query(ge=0, le=2**53 - 1, description="`change` of the answer before: wait for another one.")
]
_SHARE: dict[str, Any] = {
    "id": _ID, "sandbox_id": _ID, "port": 8000, "name": "for Anna", "expired": False, "created_at": _TIME,
    "expires_at": _TIME,
}  # fmt: skip


class Port(Answer):
    """A port of a sandbox: one that is listened on, or one that was declared (`exposed_ports`)."""

    port: PortNumber
    name: str | None = Field(description="As it was declared.")
    declared: bool
    listening: bool
    reachable: bool = Field(description="It listens on 127.0.0.1, ::1 or all addresses; else not from here.")
    addresses: list[str]
    pid: int | None = Field(description="The process that listens, where the kernel tells.")
    argv: list[str] = Field(description="Its program and arguments, the first 256 bytes.")
    url: str = Field(description="For a browser, with a share link; a program may send its token there.")

    model_config = example(
        port=8000, name="web", declared=True, listening=True, reachable=True, addresses=["0.0.0.0"], pid=7,
        argv=["python3", "-m", "http.server"], url=f"http://8000-{_ID}.localhost:7438/",
    )  # fmt: skip


class PortList(Answer):
    """A sandbox's ports by number."""

    items: list[Port]
    running: bool = Field(description="Of a sandbox that does not run only declared ports are known.")
    change: int | None = Field(description="Another number after each change of what listens.")

    model_config = example(items=[], running=True, change=4711)


class ShareListed(Answer):
    """A share link, without its secret."""

    id: Id
    sandbox_id: Id
    port: PortNumber
    name: str
    expired: bool
    created_at: Time
    expires_at: Time

    model_config = example(**_SHARE)


class SharePage(Answer):
    """One page of shares."""

    items: list[ShareListed]
    next_cursor: str | None


class Share(ShareListed):
    """A share link. Its secret is shown this once."""

    url: str = Field(description="Opens the port in a browser, until it expires or is revoked.")
    token: str = Field(description="The same for programs: `Authorization: Bearer …`, for this port alone.")

    model_config = example(
        **_SHARE, url=f"http://8000-{_ID}.localhost:7438/?{SECRET}=tpps_Zm9v", token="tpps_Zm9v"
    )  # fmt: skip


class ShareCreate(Body):
    """A link to make."""

    model_config = _example(port=8000, expires_in_seconds=3600, name="for Anna")

    port: PortNumber
    expires_in_seconds: int = Field(HOUR, ge=1, le=MONTH)
    name: str | None = Field(None, min_length=1, max_length=255, pattern=field_errors.NOT_BLANK)


def _declared(row: sandboxes.Sandbox) -> dict[int, str | None]:
    """Declared ports with their names. What is no port in the record is left out."""
    found: dict[int, str | None] = {}
    for one in row.exposed_ports:
        port, name = (one.get("port"), one.get("name")) if isinstance(one, dict) else (one, None)
        if isinstance(port, int) and not isinstance(port, bool) and 0 < port <= PORT_MAX:
            found[port] = None if name is None else str(name)
    return found


def _shown(
    gateway: AppState, id: str, port: int, declared: dict[int, str | None], listens: Listener | None
) -> dict[str, Any]:
    return {
        "port": port, "name": declared.get(port), "declared": port in declared,
        "listening": listens is not None, "reachable": listens is not None and listens.reachable,
        "addresses": list(listens.addresses) if listens else [], "pid": listens.pid if listens else None,
        "argv": list(listens.argv) if listens else [], "url": _url(gateway, id, port),
    }  # fmt: skip


def _url(gateway: AppState, sandbox_id: str, port: int) -> str:
    return port_addresses.url(sandbox_id, port, gateway.guard.ports_domain, gateway.port)


@router.get("", operation_id="listPorts", response_model=PortList)
async def list_ports(
    request: Request,
    sandbox_id: UUID,
    change: Change = None,
    wait_ms: Annotated[int, Query(ge=0, le=WAIT_LIMIT_MS, description="How long to wait at most.")] = 0,
) -> Response:
    """The ports that are listened on, and those declared. With `change` and `wait_ms` it answers when
    something has changed, which is noticed within a second."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    found: list[Listener] = []
    now: int | None = None
    async with gateway.connections.to(id) as access:
        with contextlib.suppress(SandboxNotRunning):
            now, found = await access.listeners(change, wait_ms / 1000)
    declared = _declared(await sandboxes.get(gateway.database, id))
    by_port = {one.port: one for one in found}
    items = [
        _shown(gateway, id, port, declared, by_port.get(port)) for port in sorted({*declared, *by_port})
    ]
    return Json({"items": items, "running": now is not None, "change": now})


def _told(row: port_shares.PortShare) -> dict[str, Any]:
    return responses.from_row(ShareListed, row, expired=row.seconds_left <= 0)


@shares_router.post("", operation_id="sharePort", status_code=201, response_model=Share)
async def share(request: Request, sandbox_id: UUID, body: ShareCreate) -> Response:
    """A link that opens one port to whoever has it, until it expires. It starts no sandbox. Sent again with
    the same key, it is the same share with a new secret, since only its hash is kept."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    secret = PREFIX + secrets.token_urlsafe(32)
    made = await port_shares.create(
        gateway.database, id_for(request, "share"), id, body.port, secret_sha256=digest(secret),
        seconds=body.expires_in_seconds, name=body.name or "",
    )  # fmt: skip
    url = f"{_url(gateway, id, body.port)}?{SECRET}={secret}"
    told = {**_told(made), "expired": False, "url": url, "token": secret}
    return Json(told, 201, {"location": f"/v1/sandboxes/{id}/port-shares/{made.id}"})


@shares_router.get("", operation_id="listPortShares", response_model=SharePage)
async def list_shares(
    request: Request, sandbox_id: UUID, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Newest first; expired ones for seven days more."""
    gateway, id = app_state(request), await owned(request, sandbox_id)

    async def read(limit: int, after: Place | None) -> list[port_shares.PortShare]:
        return await port_shares.list(gateway.database, id, after=after, limit=limit)

    return Json(await page(read, _told, limit, cursor))


@shares_router.delete("/{share_id}", operation_id="unsharePort", status_code=204)
async def unshare(request: Request, sandbox_id: UUID, share_id: UUID) -> Response:
    """Ends a link and what is open by it."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    if not await port_shares.revoke(gateway.database, str(share_id), id):
        raise NotFound(f"sandbox {id} has no share {share_id}", "`./tpp ports` lists them.")
    gateway.shares.revoked(str(share_id))
    return Response(status_code=204)
