"""/v1/sandboxes: make, start, stop, restart, pause, resume, delete; put a directory in.

State changes go through the sandbox entity; file bytes go straight between the client and tppd.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway import responses
from gateway.archive_upload import unpack
from gateway.decompress import inflated
from gateway.fast_route import FastRoute
from gateway.idempotency import id_for, once
from gateway.paging import Cursor, Limit, Since, moment_of, page
from gateway.paths import PathQuery, raw_path
from gateway.requests import SandboxCreate
from gateway.responses import Json
from gateway.routes import Route
from gateway.state import AppState, app_state, user_of
from schema import sandboxes
from schema.rows import Place
from terminalpp.types.errors import NotFound, TerminalError, from_json
from terminalpp.types.ids import Ref
from terminalpp.types.states import SandboxState

START_WAIT_S = 60.0
AGAIN_S = 0.1
HOLDS = ("pause", "resume")
ARCHIVES = ("application/x-tar", "application/gzip", "application/zstd")
BYTES = {"schema": {"type": "string", "format": "binary"}}  # in the document

router = APIRouter(prefix="/v1/sandboxes", tags=["sandboxes"], route_class=Route)
Wait = Annotated[bool, Query(description="Answer once it runs or has failed, at most 60 s later.")]


async def owned(request: Request, sandbox_id: UUID) -> str:
    """The id as text, if the caller owns that sandbox. One look-up per sandbox, then from memory: an
    owner never changes. Raises NotFound, also for what belongs to somebody else."""
    gateway, id = app_state(request), str(sandbox_id)
    owner = gateway.owners.get(id)
    if owner is None:
        owner = gateway.remember_owner(id, (await sandboxes.get(gateway.database, id)).user_id)
    if owner != user_of(request):
        raise NotFound(f"there is no sandbox {id}")
    return id


def told(row: sandboxes.Sandbox) -> dict[str, Any]:
    """The record shows what it was last started as; before that the image that was asked for, if one was."""
    made = row.started_as or {"image": None if row.image == sandboxes.SEED_IMAGE else row.image}
    given = {name: made.get(name) for name in ("image", "image_id", "image_base", "helper")}
    return responses.from_row(responses.Sandbox, row, limits=made.get("limits") or {}, **given)


async def shown(gateway: AppState, sandbox_id: str, status: int = 200) -> Response:
    """The fields of `responses.Sandbox`, with what keeps it aside."""
    row = await sandboxes.get(gateway.database, sandbox_id)
    headers = {"location": f"{router.prefix}/{sandbox_id}"} if status == 201 else None
    return Json(told(row), status, headers)


async def _at_rest(gateway: AppState, sandbox_id: str) -> dict[str, Any]:
    """What `status` answers once nothing is under way, or after START_WAIT_S, or when we must stop.

    The entity is asked: the row says `running` while the stop of a restart is under way."""
    deadline, now = time.monotonic() + START_WAIT_S, dict[str, Any]()
    while time.monotonic() < deadline and not gateway.draining.is_set():
        try:
            now = await gateway.runtime.call(Ref("sandbox", sandbox_id), "settled", {"timeout_ms": 1000})
        except TerminalError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(AGAIN_S)  # its cell died, say: another one goes on with it
            continue
        if now["at_rest"]:
            break
    return now


@router.post("", operation_id="createSandbox", status_code=201, response_model=responses.Sandbox)
async def create(request: Request, body: SandboxCreate, wait: Wait = False) -> Response:
    """Its record is there at once; it starts in the background. Its image may have to be built first:
    `status_detail` says how far that is."""
    gateway = app_state(request)

    async def work() -> Response:
        id = id_for(request, "sandbox")
        payload = {
            **body.model_dump(exclude_none=True),
            "user_id": user_of(request),
            "name": body.name or f"sandbox-{id[:8]}",
        }
        ref = Ref("sandbox", id)
        await gateway.runtime.send(ref, "create", payload, message_id=f"{id}:create")
        if wait:
            await _at_rest(gateway, id)
        return await shown(gateway, id, 201)

    return await once(request, work)


@router.get("", operation_id="listSandboxes", response_model=responses.SandboxPage)
async def list_all(
    request: Request,
    status: SandboxState | None = None,
    since: Since = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    gateway, user = app_state(request), user_of(request)
    made = moment_of(since)

    async def read(limit: int, after: Place | None) -> list[sandboxes.Sandbox]:
        return await sandboxes.list(
            gateway.database, user, status=status, since=made, after=after, limit=limit
        )

    return Json(await page(read, told, limit, cursor))


async def get(request: Request, sandbox_id: UUID) -> Response:
    """Its record."""
    return await shown(app_state(request), await owned(request, sandbox_id))


router.add_api_route(
    "/{sandbox_id}",
    get,
    methods=["GET"],
    operation_id="getSandbox",
    response_model=responses.Sandbox,
    route_class_override=FastRoute,
)


@router.post("/{sandbox_id}/start", operation_id="startSandbox", response_model=responses.Sandbox)
async def start(request: Request, sandbox_id: UUID, wait: Wait = False) -> Response:
    """Starts it if it is stopped or has failed."""
    return await _turn(request, sandbox_id, "start", wait=wait)


@router.post("/{sandbox_id}/stop", operation_id="stopSandbox", response_model=responses.Sandbox)
async def stop(request: Request, sandbox_id: UUID) -> Response:
    """Ends every process in it; its files stay. Running commands are recorded as failed, reason `lost`."""
    return await _turn(request, sandbox_id, "stop", wait=False)


@router.post("/{sandbox_id}/restart", operation_id="restartSandbox", response_model=responses.Sandbox)
async def restart(request: Request, sandbox_id: UUID, wait: Wait = False) -> Response:
    """Ends every process in it and starts it again; its files stay. Running commands are recorded as killed.
    One that does not run is started."""
    return await _turn(request, sandbox_id, "restart", wait=wait)


@router.post("/{sandbox_id}/pause", operation_id="pauseSandbox", response_model=responses.Sandbox)
async def pause(request: Request, sandbox_id: UUID) -> Response:
    """Freezes every process in it and answers once they stand still. Until it is resumed, commands, files and
    terminals in it are refused with `sandbox-paused`. Time limits of commands go on meanwhile. A conflict
    says why this machine cannot."""
    return await _turn(request, sandbox_id, "pause", wait=True)


@router.post("/{sandbox_id}/resume", operation_id="resumeSandbox", response_model=responses.Sandbox)
async def resume(request: Request, sandbox_id: UUID) -> Response:
    """Lets its processes go on; nothing happens to one that is not paused."""
    return await _turn(request, sandbox_id, "resume", wait=True)


async def _turn(request: Request, sandbox_id: UUID, verb: str, *, wait: bool) -> Response:
    """Once per key. Raises why a pause or its end could not be."""
    gateway, id = app_state(request), await owned(request, sandbox_id)

    async def work() -> Response:
        await gateway.runtime.send(Ref("sandbox", id), verb, {}, message_id=id_for(request, verb))
        now = await _at_rest(gateway, id) if wait else {}
        if verb in HOLDS and now.get("status") == "running" and now["error"]:
            raise from_json(now["error"])
        return await shown(gateway, id)

    return await once(request, work)


@router.delete("/{sandbox_id}", operation_id="deleteSandbox", status_code=204)
async def delete(request: Request, sandbox_id: UUID) -> Response:
    """Deletes it with all its files, commands and conversations. It cannot be undone."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    await gateway.runtime.send(Ref("sandbox", id), "destroy", {}, message_id=f"{id}:destroy")
    gateway.owners.pop(id, None)
    await gateway.connections.forget(id)
    return Response(status_code=204)


@router.put(
    "/{sandbox_id}/archive",
    operation_id="putArchive",
    response_model=responses.Uploaded,
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(ARCHIVES, BYTES)}},
)
async def put_archive(request: Request, sandbox_id: UUID, path: PathQuery) -> Response:
    """Unpacks the body, a tar or one in gzip or zstd (told by its first bytes), under `path` as it arrives.
    Modes and symlinks are kept; device nodes, absolute names, `..` and ways through the archive's own
    symlinks are refused. The limit is TPP_ARCHIVE_LIMIT_BYTES, of what came and of what came out of it."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    base = raw_path(request)

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            if chunk:
                gateway.metrics.uploaded.inc(len(chunk))
                yield chunk

    async with gateway.connections.to(id) as access:
        counts = await unpack(access, base, inflated(chunks(), gateway.settings.archive_limit_bytes))
    return Json(
        {
            "files": counts.files,
            "directories": counts.directories,
            "symlinks": counts.symlinks,
            "bytes": counts.bytes,
        }
    )
