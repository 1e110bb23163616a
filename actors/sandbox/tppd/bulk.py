"""A whole tree at once over the file connection: walking it, reading many files, making many entries.

For whoever keeps versions of a tree. A walk gives each directory as one record of bytes, the same bytes
again as long as nothing in it changes; `entries_of` reads one. Nothing is kept between calls.
"""

from __future__ import annotations

import errno as errno_of
import stat
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.protocol import Fields, Op, Tag, number

LANE = "versions"
FILE_BYTES = 4 << 20  # the longest file of READ_FILES
WRITE_BYTES = 8 << 20  # of one WRITE_FILES
LONG_SECONDS = 600.0
STAMP = struct.Struct("<qqQ")  # mtime_ns, ctime_ns, inode
_HEAD = struct.Struct("<II")
_NUMBERS = struct.Struct("<Iq24s")
_ENTRY = struct.Struct("<Iq24sHH")
_ITEM = struct.Struct("<IHB")
ASIDE = b".tpp-aside-"  # what begins so was in the place of an item, and is kept beside it
MEANWHILE = errno_of.ECANCELED  # something else is there than the item expects
# What an item expects at its path, beside a stamp.
ANYTHING: None = None
NOTHING = b""
SET_ASIDE = b"aside"  # anything: it stays beside it, under a name that begins with ASIDE
_FROM = 4


class Found(NamedTuple):
    """An entry as it was seen: `mode` with the kind, `stamp` as STAMP has it, `target` of a symlink."""

    mode: int
    size: int
    stamp: bytes
    target: bytes


class Directory(NamedTuple):
    """One record of a walk: a directory's relative path (the root's is empty), `errno` of opening it, and its
    entries as bytes."""

    path: bytes
    errno: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """A file's content and what it was behind the reading; `settled`: no later change can look the same.
    `errno` not 0: why there is no content (EFBIG: longer than asked for)."""

    errno: int
    found: Found
    settled: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be at a path: a file with `data`, a symlink to it, a directory; `mode` 0: nothing.

    `expects`: what must be there right before, else the item fails with MEANWHILE and nothing is lost:
    ANYTHING, NOTHING, SET_ASIDE, or the stamp of a file or symlink (a directory goes only when it is empty).
    `moved`: `data` names the file that comes to the path, relative to the root."""

    path: bytes
    mode: int
    data: bytes = b""
    expects: bytes | None = ANYTHING
    moved: bool = False

    def packed(self) -> bytes:
        """As WRITE_FILES takes it."""
        named = {ANYTHING: 0, NOTHING: 1, SET_ASIDE: 3}
        when = named.get(self.expects, 2)
        stamp = self.expects if when == 2 and self.expects else b""
        head = _ITEM.pack(self.mode, len(self.path), when | _FROM * self.moved)
        return b"".join((head, stamp, self.path, self.data))


async def walk(
    tppd: Tppd, root: str, page_bytes: int | None = None
) -> AsyncIterator[tuple[list[Directory], int]]:
    """The tree in pages, a directory before those in it, and the files' clock (ns) before each page was
    taken: an entry that changed no earlier than that may change again without a trace. Raises NotFound,
    FileProblem."""
    after: bytes | None = None
    while True:
        fields: Fields = [] if after is None else [(Tag.AFTER, after)]
        fields += [] if page_bytes is None else [(Tag.LIMIT, number(page_bytes))]
        reply = await tppd.file_request(Op.WALK, root, fields, lane=LANE, timeout_s=LONG_SECONDS)
        page = [_directory(data) for tag, data in reply.fields if tag == Tag.NAME]
        yield page, reply.number(Tag.MTIME_NS)
        if not reply.number(Tag.MORE) or not page:
            return
        after = page[-1].path


def _directory(data: bytes) -> Directory:
    errno, length = _HEAD.unpack_from(data)
    at = _HEAD.size + length
    return Directory(data[_HEAD.size : at], errno, data[at:])


def entries_of(raw: bytes) -> dict[bytes, Found]:
    """The entries of a directory's record by name."""
    found, at, end = {}, 0, len(raw)
    while at < end:
        mode, size, stamp, name, target = _ENTRY.unpack_from(raw, at)
        at += _ENTRY.size
        found[raw[at : at + name]] = Found(mode, size, stamp, raw[at + name : at + name + target])
        at += name + target
    return found


async def read_files(
    tppd: Tppd, root: str, paths: Sequence[bytes], *, longest: int = FILE_BYTES
) -> list[Read]:
    """The first of these files, as many as fit into an answer, at least one. Raises NotFound (no root)."""
    fields: Fields = [(Tag.LIMIT, number(longest)), *((Tag.NAME, path) for path in paths)]
    reply = await tppd.file_request(Op.READ_FILES, root, fields, lane=LANE, timeout_s=LONG_SECONDS)
    found = []
    for tag, data in reply.fields:
        if tag == Tag.NAME:
            (errno,) = struct.unpack_from("<I", data)
            mode, size, stamp = _NUMBERS.unpack_from(data, 4)
            at = 4 + _NUMBERS.size
            found.append(Read(errno, Found(mode, size, stamp, b""), data[at] == 1, data[at + 1 :]))
    return found


async def read_numbers(tppd: Tppd, root: str, path: bytes) -> Found | None:
    """What a regular file is now; None when there is none."""
    (one,) = await read_files(tppd, root, [path], longest=0)
    return one.found if one.errno in (0, errno_of.EFBIG) else None


async def write_files(
    tppd: Tppd, root: str, items: Iterable[Item], *, epoch: int, lane: str = LANE
) -> list[tuple[Item, int]]:
    """Make these in order, in place of what is there; those that could not be made, with the errno
    (MEANWHILE: something else is there than was expected).

    Raises NotFound (no root), Fenced. Safe to repeat.
    """
    batch, size, failed = [], 0, []
    for item in items:
        if batch and size + len(item.data) + len(item.path) > WRITE_BYTES:
            failed += await _write(tppd, root, batch, epoch, lane)
            batch, size = [], 0
        batch.append(item)
        size += len(item.data) + len(item.path) + 48
    return failed + (await _write(tppd, root, batch, epoch, lane) if batch else [])


async def _write(
    tppd: Tppd, root: str, items: Sequence[Item], epoch: int, lane: str
) -> list[tuple[Item, int]]:
    fields: Fields = [(Tag.EPOCH, number(epoch))]
    fields += [(Tag.NAME, item.packed()) for item in items]
    reply = await tppd.file_request(Op.WRITE_FILES, root, fields, lane=lane, timeout_s=LONG_SECONDS)
    failures = [struct.unpack("<II", data) for tag, data in reply.fields if tag == Tag.NAME]
    return [(items[index], errno) for index, errno in failures]


def kind_of(mode: int) -> str:
    """file, directory, symlink; else what it is: socket, pipe, device."""
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return "file"
        case stat.S_IFDIR:
            return "directory"
        case stat.S_IFLNK:
            return "symlink"
        case stat.S_IFSOCK:
            return "socket"
        case stat.S_IFIFO:
            return "pipe"
        case _:
            return "device"
