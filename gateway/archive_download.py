"""A directory of a sandbox as an archive, made as it flows: `GET /v1/sandboxes/{id}/archive`.

The tree is walked page by page and each file is read as it is reached, some small ones ahead, so memory
stays bounded however large the whole is. It is no snapshot: what is removed before it is reached is not
there, and a file of more than one piece that is written to meanwhile may be of two states. What cannot be
read ends the answer without the archive's end, which no reader takes for the whole; the log says what it was.
Fifos, sockets and devices are left out; a file with several names comes once for each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tarfile
import zlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

import zstandard
from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from actors.sandbox.access import SandboxAccess
from actors.sandbox.tppd import files
from actors.sandbox.tppd.files import Entry, State
from gateway.files import clearly
from gateway.paths import PathQuery, raw_path, text_of
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.state import AppState, app_state
from terminalpp.types.errors import FileProblem, NotFound, TerminalError

log = logging.getLogger("gateway")

AHEAD = 32
AHEAD_BYTES = 8 * files.PIECE_BYTES
DEPTH = 4096
GZIP_LEVEL, ZSTD_LEVEL = 6, 3
Format = Literal["tar", "gzip", "zstd"]
TYPES: dict[Format, str] = {
    "tar": "application/x-tar",
    "gzip": "application/gzip",
    "zstd": "application/zstd",
}
_TAR_TYPES = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}", tags=["files"], route_class=Route)


@router.get(
    "/archive",
    operation_id="getArchive",
    response_class=Response,
    responses={
        200: {
            "description": "The archive.",
            "content": {type: {"schema": {"type": "string", "format": "binary"}} for type in TYPES.values()},
        }
    },
)
async def get_archive(
    request: Request,
    sandbox_id: UUID,
    path: PathQuery,
    format: Annotated[Format | None, Query(description="Left out: by `Accept`, else tar.")] = None,
) -> Response:
    """A file or a directory with all that is in it, as a tar whose names are relative to `path`. It flows as
    it is made and is no snapshot. Fifos, sockets and devices are left out."""
    gateway, id = app_state(request), await owned(request, sandbox_id)
    name, form = raw_path(request), format or wanted(request.headers.get("accept", ""))
    async with gateway.connections.to(id) as access:
        with clearly():  # what is wrong from the start is said before the answer begins
            root = await access.do(lambda t, _: files.state(t, name))
            if root.kind == "other":
                raise FileProblem("it is neither a file nor a directory")
            if root.kind == "directory":
                await access.do(lambda t, _: files.tree(t, name, limit=1))
            else:
                await access.do(lambda t, _: files.read(t, name, 0, 1))
    body = _flowing(gateway, id, name, root, packer(form))
    return StreamingResponse(body, headers={"content-type": TYPES[form], "vary": "accept"})


def wanted(accept: str) -> Format:
    """By the first media type of Accept that is one of ours."""
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        for form, known in TYPES.items():
            if kind == known:
                return form
    return "tar"


class Packer(Protocol):
    """What compresses a stream piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """As much as can be given for `data`."""

    def flush(self) -> bytes:
        """The rest."""


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def packer(form: Format) -> Packer:
    """The packer of a form of archive."""
    match form:
        case "gzip":
            return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
        case "zstd":
            return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
    return _Plain()


async def _flowing(gateway: AppState, id: str, name: str, root: State, pack: Packer) -> AsyncIterator[bytes]:
    plain = isinstance(pack, _Plain)
    try:
        async with gateway.connections.to(id) as access, aclosing(_archive(access, name, root)) as parts:
            gathered = bytearray()
            async for part in parts:
                gathered += part
                if len(gathered) >= files.PIECE_BYTES // 4:
                    data = bytes(gathered)
                    gathered.clear()
                    # Compressing takes longer than everything else here: not on the loop.
                    packed = data if plain else await asyncio.to_thread(pack.compress, data)
                    if packed:
                        yield packed
            yield pack.compress(bytes(gathered)) + pack.flush()
    except TerminalError as error:
        log.warning("an archive of %s was cut: %s", id, error.detail)
        raise


async def _archive(access: SandboxAccess, name: str, root: State) -> AsyncIterator[bytes]:
    written = 0
    entries = _tree(access, name) if root.kind == "directory" else _single(name, root)
    base = name if root.kind == "directory" else os.path.dirname(name)
    async with aclosing(entries), aclosing(_members(access, base, entries)) as members:
        async for part in members:
            written += len(part)
            yield part
    # Two blocks of nothing, up to a whole record.
    yield bytes(1024 + -(written + 1024) % tarfile.RECORDSIZE)


async def _single(name: str, root: State) -> AsyncIterator[Entry]:
    yield Entry(os.fsencode(os.path.basename(name)), root, 0)


async def _tree(access: SandboxAccess, name: str) -> AsyncIterator[Entry]:
    after, more = b"", True
    while more:
        page, more = await access.do(lambda t, _, at=after: files.tree(t, name, depth=DEPTH, after=at))
        for entry in page:
            after = entry.path
            if entry.errno:
                raise FileProblem(f"{text_of(entry.path)}: {os.strerror(entry.errno)}")
            yield entry


async def _members(access: SandboxAccess, base: str, entries: AsyncIterator[Entry]) -> AsyncIterator[bytes]:
    """Headers and contents, in the order of `entries`; the next small files are read meanwhile."""
    waiting: deque[tuple[Entry, asyncio.Task[bytes | None] | None]] = deque()
    held, over = 0, False
    try:
        while waiting or not over:
            while not over and len(waiting) < AHEAD and held < AHEAD_BYTES:
                entry = await anext(entries, None)
                if entry is None:
                    over = True
                elif entry.state.kind in _TAR_TYPES:
                    small = entry.state.kind == "file" and entry.state.size_bytes <= files.PIECE_BYTES
                    held += entry.state.size_bytes if small else 0
                    task = asyncio.create_task(_whole(access, base, entry)) if small else None
                    waiting.append((entry, task))
            if waiting:
                entry, task = waiting.popleft()
                async for part in _member(access, base, entry, task):
                    yield part
                held -= entry.state.size_bytes if task else 0
    finally:
        tasks = [task for _, task in waiting if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _whole(access: SandboxAccess, base: str, entry: Entry) -> bytes | None:
    """Up to a piece of the file: what it is now, whatever it was when it was listed; None: it is gone."""
    try:
        _, data = await access.do(lambda t, _: files.read(t, _path(base, entry), 0))
    except NotFound:
        return None
    return data


async def _member(
    access: SandboxAccess, base: str, entry: Entry, task: asyncio.Task[bytes | None] | None
) -> AsyncIterator[bytes]:
    if entry.state.kind != "file":
        yield _header(entry, 0)
    elif task is not None:
        data = await task
        if data is not None:
            yield _header(entry, len(data)) + data + bytes(-len(data) % 512)
    else:
        async for part in _large(access, base, entry):
            yield part


async def _large(access: SandboxAccess, base: str, entry: Entry) -> AsyncIterator[bytes]:
    """As many bytes as it had when it was first read. Raises FileProblem when they are no longer there."""
    try:
        state, data = await access.do(lambda t, _: files.read(t, _path(base, entry), 0))
    except NotFound:
        return
    size, sent = max(state.size_bytes, len(data)), 0
    yield _header(entry, size)
    while sent < size:
        if not data:
            raise FileProblem(f"{text_of(entry.path)}: it became shorter while it was read")
        yield data[: size - sent]
        sent += len(data)
        if sent < size:
            _, data = await access.do(lambda t, _, at=sent: files.read(t, _path(base, entry), at))
    yield bytes(-size % 512)


def _path(base: str, entry: Entry) -> str:
    return f"{base.rstrip('/')}/{os.fsdecode(entry.path)}"


def _header(entry: Entry, size: int) -> bytes:
    """Of the GNU format: it takes names and sizes of any length, and names of any bytes as they are."""
    info: Any = tarfile.TarInfo(os.fsdecode(entry.path))
    info.type, info.size, info.mode = _TAR_TYPES[entry.state.kind], size, entry.state.mode
    info.mtime = entry.state.mtime_ns // 10**9
    info.linkname = os.fsdecode(entry.state.target or b"")
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
