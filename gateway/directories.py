"""/v1/sandboxes/{id}/files/…: what is there, page by page, and names: make, move, copy.

Every path stands in the query, so that its bytes can be any (`gateway.paths`); these routes take no body.
"""

from __future__ import annotations

import os
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from actors.sandbox.tppd import files
from actors.sandbox.tppd.files import Entry, State
from gateway import problems, responses
from gateway.files import clearly, found, located
from gateway.idempotency import once
from gateway.paging import Limit, PathCursor, decoded, encoded, odd_cursor
from gateway.paths import FromQuery, Octal, PathQuery, ToQuery, below, mode_of, raw_path, shown
from gateway.responses import Json
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.state import app_state
from terminalpp.types.errors import FileProblem, NotFound

DEPTH_MAX = 32

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/files", tags=["files"], route_class=Route)
Overwrite = Annotated[bool, Query(description="Replace a file that is there. Never what is in a directory.")]
Parents = Annotated[bool, Query(description="Make the directories above it.")]
BLOCKED = {409: {"description": "There is something already.", "content": problems.CONTENT}}


@router.get("/stat", operation_id="statFile", response_model=responses.File)
async def stat(
    request: Request,
    sandbox_id: UUID,
    path: PathQuery,
    follow: Annotated[bool, Query(description="Tell of a symlink's target.")] = False,
) -> Response:
    """The metadata of a file, directory or link."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name = raw_path(request)

    async def look(tppd: Any, _: int) -> State:
        seen = await files.state(tppd, name, follow=follow)
        return await files.settled(tppd, name, seen)

    async with gateway.connections.to(id) as access:
        with clearly():
            return found(name, await access.do(look))


@router.get("/list", operation_id="listFiles", response_model=responses.FilePage)
async def list_all(
    request: Request,
    sandbox_id: UUID,
    path: PathQuery,
    depth: Annotated[int, Query(ge=1, le=DEPTH_MAX, description="How many levels below `path`.")] = 1,
    limit: Limit = 100,
    cursor: PathCursor = None,
) -> Response:
    """The entries of a directory, in the order of the names' bytes, a directory before its own. Symlinks
    are not followed. Pages go on behind the last name: what is there all the time comes exactly once."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name, after = raw_path(request), _position(cursor)
    async with gateway.connections.to(id) as access:
        with clearly():
            page, more = await access.do(
                lambda t, _: files.tree(t, name, depth=depth, after=after, limit=limit)
            )
    following = encoded(page[-1].path) if more and page else None
    return Json({"items": [_listed(name, entry) for entry in page], "next_cursor": following})


def _position(cursor: str | None) -> bytes:
    if cursor is None:
        return b""
    found = decoded(cursor)
    if not found or b"\0" in found:
        raise odd_cursor()
    return found


def _listed(base: str, entry: Entry) -> dict[str, Any]:
    error = os.strerror(entry.errno) if entry.errno else None
    return {**shown(below(base, entry.path), entry.state), "error": error}


@router.post(
    "/mkdir",
    operation_id="makeDirectory",
    response_model=responses.File,
    responses={201: {"model": responses.File, "description": "It was made."}, **BLOCKED},
)
async def mkdir(
    request: Request, sandbox_id: UUID, path: PathQuery, mode: Octal = None, parents: Parents = True
) -> Response:
    """Makes a directory. With `parents` it may be there already (200). `mode` left out: 755."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name = raw_path(request)

    async def act(tppd: Any, epoch: int) -> tuple[State, bool]:
        made = False
        try:
            await files.state(tppd, name)
        except NotFound:
            made = True
        except FileProblem:
            pass  # making it says what is wrong
        wanted = mode_of(mode)
        await tppd.mkdir(name, epoch=epoch, parents=parents, mode=0o755 if wanted is None else wanted)
        return await files.state(tppd, name), made

    async def work() -> Response:
        async with gateway.connections.to(id) as access:
            with clearly():
                state, made = await access.do(act)
        return located(id, name, found(name, state, 201 if made else 200))

    return await once(request, work)


@router.post("/move", operation_id="moveFile", response_model=responses.File, responses={**BLOCKED})
async def move(
    request: Request,
    sandbox_id: UUID,
    source: FromQuery,
    to: ToQuery,
    overwrite: Overwrite = False,
    parents: Parents = True,
) -> Response:
    """Renames a file, symlink or directory, in one step, within one file system. `to`: the whole new name."""
    return await _two(request, sandbox_id, files.move, 200, overwrite=overwrite, parents=parents)


@router.post(
    "/copy",
    operation_id="copyFile",
    status_code=201,
    response_model=responses.File,
    responses={**BLOCKED},
)
async def copy(
    request: Request,
    sandbox_id: UUID,
    source: FromQuery,
    to: ToQuery,
    overwrite: Overwrite = False,
    parents: Parents = True,
) -> Response:
    """Copies a file, a symlink as such, or a directory with all that is in it. It appears at `to` as a whole.
    Modes are kept; sockets and devices are refused."""
    return await _two(request, sandbox_id, files.copy, 201, overwrite=overwrite, parents=parents)


async def _two(request: Request, sandbox_id: UUID, operation: Any, status: int, **options: bool) -> Response:
    gateway, id = app_state(request), await owned(request, sandbox_id)
    source, to = raw_path(request, "from"), raw_path(request, "to")

    async def look(tppd: Any, _: int) -> State:
        return await files.settled(tppd, to, await files.state(tppd, to, follow=False))

    async def work() -> Response:
        async with gateway.connections.to(id) as access:
            with clearly():
                await access.do(lambda t, epoch: operation(t, source, to, epoch=epoch, **options))
                return located(id, to, found(to, await access.do(look), status))

    return await once(request, work)
