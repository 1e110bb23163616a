"""/v1/sandboxes/{id}/files/versions: what one file was before, as the snapshots found it.

A version is made by the snapshot that finds the file changed; so its content is kept as a snapshot's is."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from actors.sandbox.versions import contents, rows
from gateway.files import plain
from gateway.paging import Limit, PathCursor
from gateway.paths import PathQuery, raw_path, text_of
from gateway.responses import Answer, Count, Json, Time
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.snapshots import BYTES, as_text, below_of, cursor_of, number_of
from gateway.state import app_state
from schema import file_entries
from terminalpp.types import paths
from terminalpp.types.errors import NotFound
from terminalpp.types.times import moment

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/files", tags=["files"], route_class=Route)


class Version(Answer):
    """A version of a file."""

    version: Count
    path: str
    change: Literal["created", "modified", "deleted", "renamed"]
    size: Count
    sha256: str | None = Field(description="Null: it was deleted, or its content is not kept.")
    preview: str | None = Field(
        description="Its first 1000 characters, of a text that is no secret by its name."
    )
    message: str | None
    created_at: Time


class VersionPage(Answer):
    """A page of a file's versions, the newest first."""

    items: list[Version]
    next_cursor: str | None


@router.get("/versions", operation_id="listFileVersions", response_model=VersionPage)
async def versions(
    request: Request, sandbox_id: UUID, path: PathQuery, limit: Limit = 50, cursor: PathCursor = None
) -> Response:
    """The versions of one file, the newest first: what each snapshot found changed. The last 50 are kept;
    files of dependencies, caches and `.git` have none."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    before, place = number_of(cursor, file_entries.LAST), rows.text(below_of(raw_path(request)))
    found = await file_entries.versions(
        gateway.database, id, place, before=min(before, file_entries.LAST), limit=limit + 1
    )
    following = cursor_of(str(found[limit - 1].version_number)) if len(found) > limit else None
    return Json({"items": [_version(one) for one in found[:limit]], "next_cursor": following})


def _version(one: file_entries.Version) -> dict[str, Any]:
    return {
        "version": one.version_number,
        "path": text_of(paths.to_bytes(one.path or "")),
        "change": one.change_type,
        "size": one.size_bytes,
        "sha256": one.content_hash,
        "preview": one.content_preview,
        "message": one.commit_message,
        "created_at": moment(one.created_at),
    }


@router.get(
    "/version",
    operation_id="getFileVersion",
    response_class=Response,
    responses={200: {"description": "The bytes of the file.", "content": BYTES}},
)
async def version(
    request: Request,
    sandbox_id: UUID,
    path: PathQuery,
    number: Annotated[int, Query(ge=1, le=file_entries.LAST - 1)],
) -> Response:
    """A file as it was in one of its versions; `PUT …/files` with it restores it."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name = raw_path(request)
    found = await file_entries.versions(
        gateway.database, id, rows.text(below_of(name)), before=number + 1, limit=1
    )
    if not found or found[0].version_number != number:
        raise NotFound(f"there is no version {number} of {text_of(paths.to_bytes(as_text(name)))}")
    if found[0].content_hash is None:
        raise NotFound("this version has no content", "It tells that the file was deleted, or was not kept.")
    pieces = contents.stream(gateway.database, gateway.objects, found[0].content_hash)
    return StreamingResponse(pieces, headers={"content-length": str(found[0].size_bytes), **plain(name)})
