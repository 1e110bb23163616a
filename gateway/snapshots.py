"""/v1/sandboxes/{id}/snapshots: take, list, compare, restore, fork.

Looking is done from the database and the store of contents, whether the sandbox runs or not; taking and
restoring goes through its entity. Paths are below /home/user, where versions are kept.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from actors.sandbox.versions import comparing, rows
from actors.sandbox.versions.entity import relative
from actors.sandbox.versions.plan import within
from gateway import field_errors, responses
from gateway.files import plain
from gateway.idempotency import id_for, once
from gateway.paging import Limit, PathCursor, decoded, encoded, odd_cursor
from gateway.paths import PathQuery, raw_path, text_of
from gateway.requests import Body, _example
from gateway.responses import Json
from gateway.routes import Route
from gateway.sandboxes import owned, shown
from gateway.snapshot_answers import (
    ChangePage,
    EntryPage,
    Kind,
    Preview,
    Restore,
    SnapshotListed,
    SnapshotPage,
    changed,
    difference,
    listed,
    previewed,
    restored,
)
from gateway.state import AppState, app_state, user_of
from schema import sandboxes, snapshots
from schema.snapshots import Snapshot
from terminalpp.types import paths
from terminalpp.types.errors import InvalidInput, NotFound
from terminalpp.types.ids import Ref, new_id

TAKE_S, WAIT_MS = 600.0, 60_000
router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/snapshots", tags=["snapshots"], route_class=Route)
restores_router = APIRouter(
    prefix="/v1/sandboxes/{sandbox_id}/restores", tags=["snapshots"], route_class=Route
)
# Files have versions in the workspace alone.
WorkspacePath = Annotated[str, Field(max_length=512, pattern=field_errors.WORKSPACE)]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=field_errors.NOT_BLANK)]
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


class SnapshotCreate(Body):
    """A snapshot to take."""

    model_config = _example(name="before the upgrade")

    name: Name | None = None
    description: str | None = Field(None, max_length=10_000)


class RestoreCreate(Body):
    """What is to be restored."""

    model_config = _example(paths=["/home/user/project"])

    paths: list[WorkspacePath] | None = Field(
        None, min_length=1, max_length=100, description="Files and directories; null: everything."
    )


class Fork(Body):
    """A sandbox to make of a snapshot."""

    model_config = _example(name="another try")

    name: Name | None = None


async def _snapshot(gateway: AppState, sandbox_id: str, snapshot_id: UUID) -> Snapshot:
    """Raises NotFound, also for one of another sandbox."""
    found = await snapshots.get(gateway.database, str(snapshot_id))
    if found.sandbox_id != sandbox_id:
        raise NotFound(f"sandbox {sandbox_id} has no snapshot {snapshot_id}")
    return found


def below_of(path: str) -> bytes:
    """A path of a query below the workspace's root. Raises NotFound: elsewhere there are no versions."""
    try:
        return relative(as_text(path))
    except InvalidInput as error:
        raise NotFound(error.detail, error.hint) from None


def as_text(path: str) -> str:
    """A path of a request as it is kept."""
    return paths.to_text(path.encode("utf-8", "surrogateescape"))


def cursor_of(place: str) -> str:
    """What to send for the next page."""
    return encoded(place.encode())


def _place(cursor: str | None) -> str:
    """Raises InvalidInput."""
    if cursor is None:
        return ""
    try:
        return decoded(cursor).decode()
    except UnicodeDecodeError:
        raise odd_cursor() from None


def number_of(cursor: str | None, otherwise: int) -> int:
    """The number in a cursor. Raises InvalidInput."""
    place = _place(cursor)
    if place and not (place.isascii() and place.isdigit() and len(place) < 19):
        raise odd_cursor()
    return int(place) if place else otherwise


# ---- snapshots ------------------------------------------------------------------------------------------


@router.post("", operation_id="createSnapshot", status_code=201, response_model=SnapshotListed)
async def create(request: Request, sandbox_id: UUID, body: SnapshotCreate) -> Response:
    """Keeps all files below /home/user as they are now, whoever changed them. A sandbox that does not run is
    started. What cannot be kept is told in `left`."""
    gateway, id = app_state(request), await owned(request, sandbox_id)

    async def work() -> Response:
        snapshot_id = id_for(request, "snapshot")
        payload = {
            "snapshot_id": snapshot_id,
            "name": body.name or "snapshot",
            "created_by": user_of(request),
        }
        payload |= {"description": body.description} if body.description else {}
        await gateway.runtime.call(Ref("sandbox", id), "snapshot", payload, timeout_s=TAKE_S)
        found = await snapshots.get(gateway.database, snapshot_id)
        return Json(listed(found), 201, {"location": f"{request.url.path}/{snapshot_id}"})

    return await once(request, work)


@router.get("", operation_id="listSnapshots", response_model=SnapshotPage)
async def list_all(
    request: Request,
    sandbox_id: UUID,
    type: Kind | None = None,
    limit: Limit = 100,
    cursor: PathCursor = None,
) -> Response:
    """Newest first. The automatic ones are taken at the steps of conversations, and before a restore."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    before = number_of(cursor, snapshots.LAST)
    found = await snapshots.list(gateway.database, id, before=before, type=type, limit=limit + 1)
    following = cursor_of(str(found[limit - 1].seq)) if len(found) > limit else None
    return Json({"items": [listed(one) for one in found[:limit]], "next_cursor": following})


@router.get("/{snapshot_id}", operation_id="getSnapshot", response_model=SnapshotListed)
async def get(request: Request, sandbox_id: UUID, snapshot_id: UUID) -> Response:
    """Its record."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    return Json(listed(await _snapshot(gateway, id, snapshot_id)))


@router.delete("/{snapshot_id}", operation_id="deleteSnapshot", status_code=204)
async def delete(request: Request, sandbox_id: UUID, snapshot_id: UUID) -> Response:
    """Deletes it; what other snapshots hold stays. The newest one of a sandbox cannot be deleted (409)."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    found = await _snapshot(gateway, id, snapshot_id)
    async with gateway.database.transaction() as connection:
        await snapshots.delete(connection, found.id)
    return Response(status_code=204)


@router.get("/{snapshot_id}/entries", operation_id="listSnapshotEntries", response_model=EntryPage)
async def entries(
    request: Request,
    sandbox_id: UUID,
    snapshot_id: UUID,
    path: PathQuery,
    limit: Limit = 100,
    cursor: PathCursor = None,
) -> Response:
    """What it holds at or below a path, by path."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    below, after = below_of(raw_path(request)), _place(cursor)
    found = await snapshots.tree(
        gateway.database, await _snapshot(gateway, id, snapshot_id), rows.text(below)
    )
    left = sorted((one for one in found if one.path > after), key=lambda one: one.path)
    items = [
        changed(
            one.path,
            type=one.type,
            mode=one.permissions,
            size=one.size_bytes,
            sha256=one.content_hash,
            target=None if one.symlink_target is None else text_of(paths.to_bytes(one.symlink_target)),
            kept=one.type != "file" or one.content_hash is not None,
        )
        for one in left[:limit]
    ]
    return Json(
        {"items": items, "next_cursor": cursor_of(left[limit - 1].path) if len(left) > limit else None}
    )


@router.get(
    "/{snapshot_id}/file",
    operation_id="getSnapshotFile",
    response_class=Response,
    responses={200: {"description": "The bytes of the file.", "content": BYTES}},
)
async def file(request: Request, sandbox_id: UUID, snapshot_id: UUID, path: PathQuery) -> Response:
    """A file as it was."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name, snapshot = raw_path(request), await _snapshot(gateway, id, snapshot_id)
    size, pieces = await comparing.file(gateway.database, gateway.objects, snapshot, below_of(name))
    return StreamingResponse(pieces, headers={"content-length": str(size), **plain(name)})


@router.get("/{snapshot_id}/diff", operation_id="diffSnapshots", response_model=ChangePage)
async def diff(
    request: Request,
    sandbox_id: UUID,
    snapshot_id: UUID,
    path: PathQuery = "/home/user",
    until: Annotated[UUID | None, Query(description="The later snapshot. Unset: the newest one.")] = None,
    limit: Limit = 100,
    cursor: PathCursor = None,
) -> Response:
    """What has changed since this snapshot, by path."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    old = await _snapshot(gateway, id, snapshot_id)
    new = await snapshots.head(gateway.database, id) if until is None else await _snapshot(gateway, id, until)
    below = below_of(raw_path(request)) if "path" in request.query_params else b""
    found = await comparing.between(gateway.database, old, new or old, below)
    after = _place(cursor)
    left = [one for one in found if rows.text(one.path) > after] if after else found
    following = cursor_of(rows.text(left[limit - 1].path)) if len(left) > limit else None
    return Json(
        {"items": [difference(one) for one in left[:limit]], "total": len(found), "next_cursor": following}
    )


@router.post("/{snapshot_id}/preview", operation_id="previewRestore", response_model=Preview)
async def preview(request: Request, sandbox_id: UUID, snapshot_id: UUID, body: RestoreCreate) -> Response:
    """What a restore would change, were it done now: looks at the files, and changes none."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    found, scope = await _snapshot(gateway, id, snapshot_id), _scope(body)
    now = await looked_at(gateway, id)
    changes = await comparing.between(gateway.database, now, found)
    inside = [one for one in changes if within(one.path, [relative(path) for path in scope] or [b""])]
    return Json(previewed(inside))


async def looked_at(gateway: AppState, sandbox_id: str) -> Snapshot:
    """The sandbox's files as they are at this moment: the newest snapshot, or a new one."""
    payload = {"snapshot_id": new_id(), "name": "looked at", "type": "auto", "always": False}
    seen = await gateway.runtime.call(Ref("sandbox", sandbox_id), "snapshot", payload, timeout_s=TAKE_S)
    return await snapshots.get(gateway.database, seen["snapshot"]["id"])


def _scope(body: RestoreCreate) -> list[str]:
    """Raises InvalidInput."""
    scope = [as_text(path) for path in body.paths or []]
    for path in scope:
        relative(path)
    return scope


@router.post("/{snapshot_id}/restore", operation_id="restoreSnapshot", response_model=Restore)
async def restore(request: Request, sandbox_id: UUID, snapshot_id: UUID, body: RestoreCreate) -> Response:
    """Makes the files as the snapshot has them, all or those at and below `paths`. Whatever dies meanwhile,
    it goes on until it is done; waits for that at most 60 s. The files of before are a snapshot too: `undo`.
    Commands go on; they are told in `running`."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    await _snapshot(gateway, id, snapshot_id)
    scope = _scope(body)

    async def work() -> Response:
        restore_id, ref = id_for(request, "restore"), Ref("sandbox", id)
        payload = {
            "restore_id": restore_id,
            "snapshot_id": str(snapshot_id),
            "paths": scope,
            "created_by": user_of(request),
        }
        await gateway.runtime.send(ref, "restore", payload, message_id=restore_id)
        return Json(restored(await _restored(gateway, id, restore_id, WAIT_MS)))

    return await once(request, work)


async def _restored(gateway: AppState, sandbox_id: str, restore_id: str, wait_ms: int) -> dict[str, Any]:
    asked = {"restore_id": restore_id, "timeout_ms": wait_ms}
    return await gateway.runtime.call(
        Ref("sandbox", sandbox_id), "restored", asked, timeout_s=wait_ms / 1000 + 30
    )


@restores_router.get("/{restore_id}", operation_id="getRestore", response_model=Restore)
async def get_restore(request: Request, sandbox_id: UUID, restore_id: UUID) -> Response:
    """How far a restore is; the last 20 of a sandbox are remembered."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    return Json(restored(await _restored(gateway, id, str(restore_id), 0)))


@router.post(
    "/{snapshot_id}/fork", operation_id="forkSnapshot", status_code=201, response_model=responses.Sandbox
)
async def fork(request: Request, sandbox_id: UUID, snapshot_id: UUID, body: Fork) -> Response:
    """A new sandbox that begins with these files, with the image, limits, network and environment of the one
    that they are from. It starts in the background, as any other."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    found = await _snapshot(gateway, id, snapshot_id)

    async def work() -> Response:
        made = id_for(request, "fork")
        await sandbox_fork(gateway, id, found.id, made, user_of(request), body.name)
        return await shown(gateway, made, 201)

    return await once(request, work)


async def sandbox_fork(
    gateway: AppState, sandbox_id: str, snapshot_id: str, made: str, user: str, name: str | None = None
) -> str:
    """A sandbox `made` as the one of that id is, with a snapshot's files; its id."""
    row = await sandboxes.get(gateway.database, sandbox_id)
    payload = {
        "user_id": user,
        "name": name or f"fork of {row.name}"[:255],
        "from_snapshot": snapshot_id,
        "image": None if row.image == sandboxes.SEED_IMAGE else row.image,
        "network": row.network,
        **((row.network_policy or {}) if row.network == "allowlist" else {}),
        "resource_limits": row.resource_limits or None,
        "environment": row.environment_vars or None,
        "auto_sleep_after_minutes": row.auto_sleep_after_minutes,
    }
    given = {name: value for name, value in payload.items() if value is not None}
    await gateway.runtime.send(Ref("sandbox", made), "create", given, message_id=f"{made}:create")
    return made
