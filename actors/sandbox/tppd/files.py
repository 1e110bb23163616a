"""Files of a sandbox as HTTP needs them: states with stamps, conditions, pages of a tree, moves and copies.

Functions over a `Tppd`; like all of its file operations they run inside, with the sandbox user's rights.

A *stamp* tells one state of a regular file from another. It is `settled` when no later change can have the
same (tppd/fileops.c says how); files that were changed within the last few milliseconds are not, so whoever
shows a stamp as a strong validator waits for that (`settled`). `Conditions` makes a change depend on
stamps: comparing and changing is one step among all file operations of the sandbox. A command inside that
writes in between, some microseconds, is not seen; that nothing is replaced which must be absent holds
against commands too. Bytes written through a shared memory map are seen when the kernel notes them.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.connection import path_field
from actors.sandbox.tppd.protocol import Fields, Op, Reply, Tag, number
from actors.sandbox.tppd.replies import KINDS

PIECE_BYTES = 1024 * 1024
PAGE_MAX = 1000
LONG_SECONDS = 3600.0
TICK_SECONDS = 0.011  # the kernel's clock of file times moves at least every 10 ms
_PARENTS, _OVERWRITE = 2, 16
_ENTRY = struct.Struct("<BqIqII")


@dataclass(frozen=True, slots=True)
class State:
    """The metadata of a path. `kind`: file, directory, symlink or other. `stamp`: of a regular file.

    `created`, in the answer to a write: nothing was there before."""

    kind: str
    size_bytes: int
    mode: int
    mtime_ns: int
    target: bytes | None = None
    stamp: str | None = None
    settled: bool = False
    created: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree: `path` is relative to its root. `errno`: why what is in it could not be listed."""

    path: bytes
    state: State
    errno: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """`match`: it must have one of these stamps; `none_match`: none of these. `*` is any that is there."""

    match: tuple[str, ...] = ()
    none_match: tuple[str, ...] = ()

    def met_by(self, state: State | None) -> bool:
        """Whether `state` (None: nothing is there) is as it is wanted."""
        def among(stamps: tuple[str, ...]) -> bool:
            return state is not None and ("*" in stamps or state.stamp in stamps)

        return (not self.match or among(self.match)) and not among(self.none_match)

    def fields(self) -> Fields:
        """The conditions as tppd takes them."""
        found: Fields = [(Tag.MATCH, stamp.encode()) for stamp in self.match]
        return found + [(Tag.NONE_MATCH, stamp.encode()) for stamp in self.none_match]


ALWAYS = Conditions()


def _state(reply: Reply) -> State:
    tags = {tag for tag, _ in reply.fields}
    return State(
        KINDS[reply.number(Tag.KIND)],
        reply.number(Tag.SIZE),
        reply.number(Tag.MODE),
        reply.number(Tag.MTIME_NS),
        reply.bytes(Tag.TARGET) if Tag.TARGET in tags else None,
        reply.bytes(Tag.STAMP).decode() if Tag.STAMP in tags else None,
        reply.number(Tag.SETTLED) == 1,
        reply.number(Tag.CREATED) == 1,
    )


async def state(tppd: Tppd, path: str, *, follow: bool = True) -> State:
    """Its metadata. Raises NotFound, FileProblem."""
    return _state(await tppd.file_request(Op.STAT, path, [(Tag.FLAGS, number(int(follow)))]))


async def settled(tppd: Tppd, path: str, found: State) -> State:
    """`found` once its stamp is settled; as it is when it has none, or the file is written to just now."""
    for _ in range(3):
        if found.settled or found.stamp is None:
            break
        await asyncio.sleep(TICK_SECONDS)
        found = await state(tppd, path)
    return found


async def read(tppd: Tppd, path: str, offset: int, limit: int = PIECE_BYTES) -> tuple[State, bytes]:
    """Up to `limit` (at most 4 MiB) bytes of a regular file, and what it was behind the reading.

    Raises NotFound, FileProblem."""
    fields = [(Tag.OFFSET, number(offset)), (Tag.LIMIT, number(limit))]
    reply = await tppd.file_request(Op.READ, path, fields)
    return _state(reply), reply.bytes(Tag.DATA)


async def write(
    tppd: Tppd, path: str, pieces: AsyncIterator[bytes], *, epoch: int, mode: int | None = None,
    parents: bool = True, conditions: Conditions = ALWAYS,
) -> State:  # fmt: skip
    """Replace the file, or make it, when the last piece is there; what it is then.

    See Tppd.write_stream. A symlink's target is replaced. `mode` None: as it was, else 0644.
    Raises PreconditionFailed, FileProblem, DiskFull, Fenced, Overloaded.
    """
    options = {"epoch": epoch, "parents": parents, "conditions": conditions.fields()}
    return _state(await tppd.write_stream(path, pieces, mode, **options))


async def change(
    tppd: Tppd, path: str, *, epoch: int, mode: int | None = None, mtime_ns: int | None = None,
    conditions: Conditions = ALWAYS,
) -> State:  # fmt: skip
    """Set the mode, the time of the last change, or both; of a symlink's target. What it is then."""
    fields: Fields = [(Tag.EPOCH, number(epoch)), *conditions.fields()]
    fields += [] if mode is None else [(Tag.MODE, number(mode))]
    fields += [] if mtime_ns is None else [(Tag.MTIME_NS, number(mtime_ns))]
    return _state(await tppd.file_request(Op.SET, path, fields))


async def remove(
    tppd: Tppd, path: str, *, epoch: int, recursive: bool = False, conditions: Conditions = ALWAYS
) -> None:
    """Remove a file, a symlink (not what it points to) or a directory; what is gone is fine."""
    fields: Fields = [(Tag.EPOCH, number(epoch)), (Tag.FLAGS, number(int(recursive))), *conditions.fields()]
    if recursive:
        await tppd.file_alone(Op.REMOVE, path, fields, LONG_SECONDS)
    else:
        await tppd.file_request(Op.REMOVE, path, fields, repeat=conditions == ALWAYS)


async def move(
    tppd: Tppd, path: str, to: str, *, epoch: int, overwrite: bool = False, parents: bool = True
) -> None:
    """Rename, in one step, within one file system. With `overwrite` a file (or an empty directory) at `to`
    is replaced in that step; without, nothing ever is. Not repeated. Raises NotFound, FileProblem."""
    await tppd.file_request(Op.RENAME, path, _two(to, epoch, overwrite, parents), repeat=False)


async def copy(
    tppd: Tppd, path: str, to: str, *, epoch: int, overwrite: bool = False, parents: bool = True
) -> None:
    """Copy a file, a symlink as such, or a directory with all in it: it appears at `to` as a whole.

    Modes are kept, times are not; hard links become files of their own. Not repeated.
    Raises NotFound, FileProblem (a socket or device in it too), DiskFull, Overloaded."""
    fields = [*_two(to, epoch, overwrite, parents), (Tag.WRITE_ID, number(random.getrandbits(62)))]
    await tppd.file_alone(Op.COPY, path, fields, LONG_SECONDS)


def _two(to: str, epoch: int, overwrite: bool, parents: bool) -> Fields:
    flags = _OVERWRITE * overwrite | _PARENTS * parents
    return [(Tag.TARGET, path_field(to)), (Tag.EPOCH, number(epoch)), (Tag.FLAGS, number(flags))]


async def tree(
    tppd: Tppd, path: str, *, depth: int = 1, after: bytes = b"", limit: int = PAGE_MAX
) -> tuple[list[Entry], bool]:
    """A page of what is in a directory, `depth` levels deep, behind the entry `after`; whether there is more.

    By the bytes of the names, a directory before what is in it. What is there all the time comes exactly
    once on one of the pages. Symlinks are not followed. Raises NotFound, FileProblem."""
    fields: Fields = [(Tag.DEPTH, number(depth)), (Tag.LIMIT, number(limit)), (Tag.AFTER, after)]
    reply = await tppd.file_request(Op.LISTTREE, path, fields, lane="trees")
    entries = [_entry(data) for tag, data in reply.fields if tag == Tag.NAME]
    return entries, reply.number(Tag.MORE) == 1


def _entry(data: bytes) -> Entry:
    kind, size, mode, mtime, errno, length = _ENTRY.unpack_from(data)
    at = _ENTRY.size + length
    target = data[_ENTRY.size : at] if KINDS[kind] == "symlink" else None
    return Entry(data[at:], State(KINDS[kind], size, mode, mtime, target), errno)


def path_of(raw: bytes) -> str:
    """Bytes as a path, as Python has it."""
    return os.fsdecode(raw)
