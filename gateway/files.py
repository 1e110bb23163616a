"""/v1/sandboxes/{id}/files: the bytes of one file, read and written as they flow.

Nothing is kept in memory but a piece of `files.PIECE_BYTES`, and nothing on this machine is touched by a
path: each operation is done inside, with the rights of the sandbox's user.

What is read is one state of the file, the one its ETag names. A file that grows while it is read (a log) is
delivered as long as it was at the beginning; one that is replaced, cut or written into meanwhile ends the
answer before its `Content-Length` is reached, which no client takes for the whole. Files of /proc, which have
bytes and no size, come without length, tag and ranges.
What is written appears when all of it is there (its length or its last chunk says so), or not at all.
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import contextmanager
from email.utils import formatdate
from errno import EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EXDEV
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from actors.sandbox.tppd import files
from actors.sandbox.tppd.files import State
from gateway import problems, responses
from gateway.paths import Octal, PathQuery, mode_of, nanoseconds, quoted, raw_path, shown
from gateway.preconditions import conditions_of, range_counts, span, tag_of, verdict
from gateway.requests import FileChange
from gateway.responses import Json
from gateway.routes import Route, refused
from gateway.sandboxes import BYTES, owned
from gateway.state import AppState, app_state
from terminalpp.types.errors import (
    BadRequest,
    Conflict,
    FileProblem,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    TerminalError,
)

log = logging.getLogger("gateway")

ATTEMPTS = 3
APPEND_S = 0.01  # in which an append has its size
OCTETS = "application/octet-stream"
_TYPES = mimetypes.MimeTypes()  # its own table, not this machine's
_READ_HEADERS = {
    name: {"description": about, "schema": {"type": "string"}}
    for name, about in {
        "ETag": "Of this state of the file; strong.",
        "Last-Modified": "When it was changed last.",
        "Accept-Ranges": "`bytes`.",
    }.items()
}
_TAG_REFUSED = {"description": "A condition cannot be read.", "content": problems.CONTENT}
READ: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes of the file.", "content": {"*/*": BYTES}, "headers": _READ_HEADERS},
    206: {
        "description": "The bytes of the range.",
        "content": {"*/*": BYTES},
        "headers": {**_READ_HEADERS, "Content-Range": {"schema": {"type": "string"}}},
    },
    400: _TAG_REFUSED,
    304: {"description": "It is as If-None-Match says."},
    412: {"description": "It is not as If-Match says.", "content": problems.CONTENT},
    416: {"description": "The range begins behind the end.", "content": problems.CONTENT},
}
MET: dict[int | str, dict[str, Any]] = {
    400: _TAG_REFUSED,
    412: {"description": "If-Match or If-None-Match does not hold.", "content": problems.CONTENT},
}

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/files", tags=["files"], route_class=Route)


@contextmanager
def clearly() -> Iterator[None]:
    """Turns the kernel's numbers into answers: what is in the way is a Conflict, and says so."""
    try:
        yield
    except FileProblem as error:
        match error.extra.get("errno"):
            case number if number in (EEXIST, ENOTEMPTY):
                raise Conflict(error.detail, "", error.extra) from None
            case number if number == EXDEV:
                hint = "Both must be on one file system: copy it there, then delete it."
                raise FileProblem(error.detail, hint, error.extra) from None
            case number if number in (EISDIR, ENOTDIR):
                hint = "Check the kinds: `GET …/files/stat` tells what is there."
                raise FileProblem(error.detail, hint, error.extra) from None
        raise


def regular(state: State) -> None:
    """Raises FileProblem."""
    if state.kind != "file":
        what = "something other" if state.kind == "other" else f"a {state.kind}"
        raise FileProblem(
            f"it is not a regular file but {what}",
            "`GET …/files/list` lists a directory, `GET …/archive` takes all of it.",
        )


def type_of(path: str) -> str:
    """By the name's ending; what is not known, or packed in another, is octets."""
    guessed, packed = _TYPES.guess_type("x/" + path.rpartition("/")[2])
    return OCTETS if guessed is None or packed else guessed


def plain(path: str) -> dict[str, str]:
    """Headers of a file that may do nothing where a browser shows it, whatever it is."""
    return {"content-type": type_of(path), "content-security-policy": "sandbox; default-src 'none'"}


def _headers(path: str, state: State) -> dict[str, str]:
    headers = {**plain(path), "cache-control": "private, no-cache"}
    if tag := tag_of(state):
        headers["etag"] = tag
        headers["accept-ranges"] = "bytes"
        headers["last-modified"] = formatdate(max(0, state.mtime_ns // 10**9), usegmt=True)
    return headers


# ---- reading ------------------------------------------------------------------------------------


@router.get("", operation_id="getFile", response_class=Response, responses=READ)
async def get(request: Request, sandbox_id: UUID, path: PathQuery) -> Response:
    """The bytes of a regular file of any size; symlinks are followed. One `Range` (206), `If-Range`,
    `If-Match` and `If-None-Match` are kept to."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name = raw_path(request)
    async with gateway.connections.to(id) as access:
        for _ in range(ATTEMPTS):
            state = await _settled(access, name)
            regular(state)
            headers = _headers(name, state)
            match verdict(conditions_of(request.headers), state):
                case 412:
                    raise PreconditionFailed
                case 304:
                    return Response(status_code=304, headers=headers)
            try:
                counts = not request.scope.get("head") and range_counts(request.headers, state)
                part = span(request.headers.get("range") if counts else None, state.size_bytes)
            except ValueError as error:
                return _unsatisfiable(request, state, str(error))
            first, behind = part or (0, state.size_bytes)
            limit = min(files.PIECE_BYTES, behind - first) if state.size_bytes else files.PIECE_BYTES
            now, data = await access.do(lambda t, _, at=first, n=limit: files.read(t, name, at, n))
            if now.stamp == state.stamp or not state.settled or not now.size_bytes:
                break
        else:
            raise Conflict("the file is being written to", "Read it again.")
    if not state.size_bytes and data:
        _without_size(headers)
        return StreamingResponse(_until_its_end(gateway, id, name, data), headers=headers)
    if part:
        headers["content-range"] = f"bytes {first}-{behind - 1}/{state.size_bytes}"
    headers["content-length"] = str(behind - first)
    status = 206 if part else 200
    if len(data) >= behind - first:
        return Response(data[: behind - first], status, headers)
    return StreamingResponse(_pieces(gateway, id, name, now, data, first, behind), status, headers)


def _without_size(headers: MutableMapping[str, str]) -> None:
    for name in ("etag", "accept-ranges", "last-modified", "content-length"):
        if name in headers:
            del headers[name]


async def _settled(access: Any, name: str) -> State:
    async def look(tppd: Any, _: int) -> State:
        return await files.settled(tppd, name, await files.state(tppd, name))

    with clearly():
        return await access.do(look)


def _unsatisfiable(request: Request, state: State, why: str) -> Response:
    detail = f"the file has {state.size_bytes} bytes; {why}"
    error = RangeNotSatisfiable(detail, "", {"size_bytes": state.size_bytes})
    response = problems.answer(error, request.scope.get("request_id", ""), request.url.path)
    response.headers["content-range"] = f"bytes */{state.size_bytes}"
    return response


async def _pieces(
    gateway: AppState, id: str, name: str, state: State, data: bytes, first: int, behind: int
) -> AsyncIterator[bytes]:
    """`data`, then the rest up to `behind`. Raises Conflict when the file is no longer what `state` says."""
    async with gateway.connections.to(id) as access:
        while True:
            yield data
            first += len(data)
            if first >= behind:
                return
            limit = min(files.PIECE_BYTES, behind - first)
            now, data = await access.do(lambda t, _, at=first, n=limit: files.read(t, name, at, n))
            now = await _appended(access, name, now, state)
            grown = now.size_bytes > state.size_bytes and _same_file(now, state)
            if len(data) < limit or (now.stamp != state.stamp and not grown):
                log.warning("an answer was cut: the file was changed while it was read")
                raise Conflict("the file was changed while it was read", "Read it again.")
            state = now


async def _appended(access: Any, name: str, now: State, before: State) -> State:
    """`now`, or what is there a moment later: the kernel notes the time of an append before the new size, and
    a look in between sees a file that was changed and has not grown."""
    for _ in range(ATTEMPTS):
        if now.stamp == before.stamp or now.size_bytes != before.size_bytes or not _same_file(now, before):
            break
        await asyncio.sleep(APPEND_S)
        now = await access.do(lambda tppd, _: files.state(tppd, name))
    return now


def _same_file(a: State, b: State) -> bool:
    """The inode stands first in a stamp."""
    return (a.stamp or "").partition("-")[0] == (b.stamp or "").partition("-")[0]


async def _until_its_end(gateway: AppState, id: str, name: str, data: bytes) -> AsyncIterator[bytes]:
    offset = 0
    async with gateway.connections.to(id) as access:
        while data:
            yield data
            offset += len(data)
            _, data = await access.do(lambda t, _, at=offset: files.read(t, name, at))


# ---- changing -----------------------------------------------------------------------------------


def found(path: str, state: State, status: int = 200, tag: bool = True) -> Response:
    """A state as an answer. Without `tag` it is known to be one that may not be the present one."""
    etag = tag_of(state) if tag and state.settled else None
    body = {**shown(path.encode("utf-8", "surrogateescape"), state), "etag": etag}
    return Json(body, status, {"etag": etag} if etag else None)


def located(sandbox_id: str, path: str, answer: Response) -> Response:
    """`answer`, which says where the file is when it was made."""
    if answer.status_code == 201:
        query = quoted(path.encode("utf-8", "surrogateescape"))
        answer.headers["location"] = f"/v1/sandboxes/{sandbox_id}/files?path={query}"
    return answer


@router.put(
    "",
    operation_id="putFile",
    response_model=responses.File,
    responses={201: {"model": responses.File, "description": "It was made."}, **MET},
    openapi_extra={"requestBody": {"content": {OCTETS: BYTES}}},
)
async def put(
    request: Request,
    sandbox_id: UUID,
    path: PathQuery,
    mode: Octal = None,
    parents: Annotated[bool, Query(description="Make the directories above it.")] = True,
) -> Response:
    """The body becomes the file, at once and as a whole, or nothing changes. A symlink stays and its target
    is replaced. `mode` left out: as it was, else 644. `If-Match` and `If-None-Match` are looked at before the
    body is taken and again when the file is put in its place. The limit is TPP_FILE_LIMIT_BYTES."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name, conditions = raw_path(request), conditions_of(request.headers)
    for header in ("content-range", "content-encoding"):
        if header in request.headers:
            raise BadRequest(f"{header}: the body must be the file as it is", "Send the whole, plain.")
    async with gateway.connections.to(id) as access:
        with clearly():
            if not conditions.met_by(await _state_or_none(access, name)):
                raise PreconditionFailed
            written = await files.write(
                access.tppd, name, _body(request, gateway), epoch=await access.epoch(), mode=mode_of(mode),
                parents=parents, conditions=conditions,
            )  # fmt: skip
        status = 201 if written.created else 200
        return located(id, name, await _as_written(access, name, written, status))


async def _as_written(access: Any, name: str, written: State, status: int) -> Response:
    """With its tag once that is settled, if it is still what was written."""
    if written.settled:
        return found(name, written, status)
    try:
        await asyncio.sleep(files.TICK_SECONDS)
        now = await access.do(lambda t, _: files.state(t, name))
    except TerminalError:
        return found(name, written, status, tag=False)
    return found(name, now if now.stamp == written.stamp else written, status)


async def _state_or_none(access: Any, name: str) -> State | None:
    try:
        return await access.do(lambda t, _: files.state(t, name))
    except (NotFound, FileProblem):
        return None  # writing says what is wrong


async def _body(request: Request, gateway: AppState) -> AsyncIterator[bytes]:
    """The request's body in larger pieces. Raises BadRequest when it ends early."""
    gathered = bytearray()
    try:
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= files.PIECE_BYTES:
                gateway.metrics.uploaded.inc(len(gathered))
                yield bytes(gathered)
                gathered.clear()
    except ClientDisconnect:
        raise BadRequest("the body ended early; nothing was written") from None
    if gathered:
        gateway.metrics.uploaded.inc(len(gathered))
        yield bytes(gathered)


@router.patch("", operation_id="changeFile", response_model=responses.File, responses={**MET})
async def change(request: Request, sandbox_id: UUID, path: PathQuery, body: FileChange) -> Response:
    """Changes mode, time of the last change, or both, of a file or directory; of a symlink's target."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name, conditions = raw_path(request), conditions_of(request.headers)
    mtime_ns = None if body.modified_at is None else nanoseconds(body.modified_at)
    mode = mode_of(body.mode)

    async def act(tppd: Any, epoch: int) -> State:
        return await files.change(
            tppd, name, epoch=epoch, mode=mode, mtime_ns=mtime_ns, conditions=conditions
        )

    async with gateway.connections.to(id) as access:
        with clearly():
            changed = await access.do(act)
        return await _as_written(access, name, changed, 200)


@router.delete("", operation_id="deleteFile", status_code=204, responses={**MET})
async def delete(
    request: Request,
    sandbox_id: UUID,
    path: PathQuery,
    recursive: Annotated[bool, Query(description="A directory with all that is in it.")] = False,
) -> Response:
    """Deletes a file, a symlink (not what it points to), or a directory; what is not there is fine."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name, conditions = raw_path(request), conditions_of(request.headers)
    if not name.strip("/"):
        raise refused("query.path", "`/` cannot be deleted")

    async def act(tppd: Any, epoch: int) -> None:
        await files.remove(tppd, name, epoch=epoch, recursive=recursive, conditions=conditions)

    async with gateway.connections.to(id) as access:
        with clearly():
            await access.do(act)
    return Response(status_code=204)
