"""An archive into a sandbox: entries go through `SandboxAccess` as they arrive, many at once, bounded.

At most `IN_FLIGHT` operations and `IN_FLIGHT_BYTES` of content are under way; a file larger than
`PIECE` is sent piece by piece. Operations on one path keep their order. Files replace what is there,
each at once; directories may exist. An error stops the upload, names the entry, and leaves what was
unpacked before: sending the archive again is safe.
Everything is done with the rights of the sandbox's user, inside the sandbox. Nothing is written through a
symlink that the archive itself brought, and none of them is what a hard link names: that must be a file that
is there. A later entry of its name replaces it. Directories keep their mode plus the owner's `rwx`, or
nothing could be put into a read-only one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

from actors.sandbox.access import SandboxAccess
from gateway.tar_reader import Entry, Reader, Source, shown
from terminalpp.types.errors import InvalidInput, NotFound, TerminalError

PIECE = 1024 * 1024
IN_FLIGHT = 64
IN_FLIGHT_BYTES = 8 * PIECE


@dataclass
class Counts:
    """What was unpacked."""

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    bytes: int = 0


@dataclass
class _Pipeline:
    """Operations under way, oldest first."""

    under_way: deque[tuple[str, int, asyncio.Task[Any]]] = field(default_factory=deque)
    paths: set[str] = field(default_factory=set)
    size: int = 0

    async def add(self, path: str, size: int, operation: Coroutine[Any, Any, Any]) -> None:
        self.under_way.append((path, size, asyncio.create_task(operation)))
        self.paths.add(path)
        self.size += size
        while len(self.under_way) > IN_FLIGHT or self.size > IN_FLIGHT_BYTES:
            await self._oldest()

    async def drain(self) -> None:
        while self.under_way:
            await self._oldest()

    async def _oldest(self) -> None:
        path, size, task = self.under_way[0]
        try:
            await task
        except TerminalError as error:
            raise type(error)(f"{shown(path)}: {error.detail}", error.next_step, error.extra) from error
        self.under_way.popleft()
        self.paths.discard(path)
        self.size -= size

    async def abandon(self) -> None:
        tasks = [task for _, _, task in self.under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unpack(access: SandboxAccess, base: str, chunks: AsyncIterator[bytes]) -> Counts:
    """Unpack the tar under the directory `base`. Raises InvalidInput, FileProblem, DiskFull, Unavailable."""
    counts, reader, pipeline = Counts(), Reader(Source(chunks)), _Pipeline()
    links: set[str] = set()
    # First and alone: it opens the connection, and an unusable base is reported before anything else.
    await access.mkdir(base)
    try:
        while (entry := await reader.next()) is not None:
            _refuse_through_links(entry, links)
            path = f"{base.rstrip('/')}/{entry.name}" if entry.name else base
            # What is under way below a name must not find a symlink in its place.
            below = entry.kind == "symlink" and any(one.startswith(f"{path}/") for one in pipeline.paths)
            if below or path in pipeline.paths:
                await pipeline.drain()
            if entry.kind == "symlink":
                links.add(entry.name)
            elif entry.name in links:  # a write would go to where it points
                await pipeline.drain()
                await access.remove(path)
                links.discard(entry.name)
            await _put(access, base, path, entry, reader, pipeline, counts)
        await pipeline.drain()
    finally:
        await pipeline.abandon()
    return counts


def _refuse_through_links(entry: Entry, links: set[str]) -> None:
    """Raises InvalidInput when the entry's own place, or what a hard link names, leads through `links`."""
    if not links:
        return
    if _through(entry.name, links):
        raise InvalidInput(f"{shown(entry.name)} would be written through the archive's own symlink")
    target = entry.target
    if entry.kind == "hardlink" and (target in links or _through(target, links)):
        raise InvalidInput(
            f"{shown(entry.name)} would be a hard link by way of the archive's own symlink {shown(target)}"
        )


def _through(name: str, links: set[str]) -> bool:
    """Whether a directory above `name` is one of `links`."""
    at = name.find("/")
    while at > 0:
        if name[:at] in links:
            return True
        at = name.find("/", at + 1)
    return False


async def _put(
    access: SandboxAccess,
    base: str,
    path: str,
    entry: Entry,
    reader: Reader,
    pipeline: _Pipeline,
    counts: Counts,
) -> None:
    match entry.kind:
        case "directory":
            if entry.name:
                await pipeline.add(path, 0, access.mkdir(path, mode=entry.mode | 0o700))
            counts.directories += 1
            return
        case "symlink":
            await pipeline.add(path, 0, access.symlink(path, entry.target))
            counts.symlinks += 1
            return
        case "hardlink":
            # The sandbox has no hard links over the wire: the content is copied.
            await pipeline.drain()
            source = f"{base.rstrip('/')}/{entry.target}"
            await pipeline.add(path, 0, _copy(access, source, path, entry.target))
        case "file" if entry.size <= PIECE:
            data = await reader.content(entry.size)
            await pipeline.add(path, entry.size, access.write_file(path, data, entry.mode))
        case _:
            await pipeline.add(path, PIECE, access.write_stream(path, _content(reader), entry.mode))
            await pipeline.drain()
    counts.files += 1
    counts.bytes += entry.size


async def _content(reader: Reader) -> AsyncIterator[bytes]:
    while data := await reader.content(PIECE):
        yield data


async def _copy(access: SandboxAccess, source: str, path: str, name: str) -> None:
    try:
        found = await access.stat(source, follow=False)
    except NotFound:
        raise InvalidInput(f"a hard link to {shown(name)}, which did not come before it") from None
    if found.kind != "file":
        raise InvalidInput(f"a hard link to {shown(name)}, which is no file")
    await access.write_stream(path, _pieces(access, source), found.mode)


async def _pieces(access: SandboxAccess, source: str) -> AsyncIterator[bytes]:
    offset = 0
    while data := await access.read_file(source, offset, PIECE):
        yield data
        offset += len(data)
