"""Frames between `tppd` and its clients, and one connection that speaks them.

    request: u32 length of the rest | u8 operation | u32 request id | fields
    reply:   u32 length of the rest | u8 status    | u32 request id | fields
    field:   u8 tag | u32 length | bytes

All numbers are little-endian; integer fields are 8 bytes, signed. Several requests may be under way
on one connection; replies come in any order. The same numbers stand in `tppd/tppd.h`; a test compares
the two.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

from runtime.framing import Requests
from terminalpp.types import errors

MAX_FRAME_BYTES = 16 * 1024 * 1024
SOCKET = "ctl.sock"
# Beside the run directory of a sandbox whose processes are frozen: tppd is one of them, and cannot answer.
PAUSED_MARK = "paused"


class Op(IntEnum):
    """What tppd is asked for; docs/tppd.md describes each."""

    HELLO = 1
    START = 2
    STATUS = 3
    WAIT = 4
    STDIN = 5
    SIGNAL = 6
    KILL_TREE = 7
    LIST = 8
    FILES = 9
    PREPARE = 10
    PROCESSES = 11
    KILL_ALL = 12
    RESIZE = 13
    MARK = 14
    STAT = 16
    READ = 17
    WRITE = 18
    MKDIR = 19
    SYMLINK = 20
    REMOVE = 21
    LISTDIR = 22
    SET = 23
    RENAME = 24
    COPY = 25
    LISTTREE = 26
    WALK = 27
    READ_FILES = 28
    WRITE_FILES = 29
    EGRESS = 30
    EGRESS_CLOSE = 31
    CONNECT = 34
    LISTEN = 35
    HOLDERS = 36


class Tag(IntEnum):
    """What a field of a request or a reply holds."""

    EXEC_ID = 1
    EPOCH = 2
    ARG = 3
    ENV = 4
    CWD = 5
    FLAGS = 6
    SPEC_HASH = 7
    OUT_OFFSET = 8
    ERR_OFFSET = 9
    UNTIL = 10
    TIMEOUT_MS = 11
    OFFSET = 12
    DATA = 13
    SIGNO = 14
    PATH = 15
    MODE = 16
    LIMIT = 17
    TARGET = 18
    WRITE_ID = 19
    LIMIT_MS = 20
    ROWS = 21
    COLS = 22
    WRITER = 23
    OWNER = 24
    MATCH = 26
    NONE_MATCH = 27
    DEPTH = 28
    AFTER = 29
    STATE = 32
    RECORD = 33
    OUT_END = 34
    ERR_END = 35
    CREATED = 36
    DETAIL = 37
    ERRNO = 38
    VERSION = 39
    GENERATION = 40
    STARTED_MS = 41
    SIZE = 42
    MTIME_NS = 43
    KIND = 44
    NAME = 45
    CLOSED = 46
    PROCESS = 47
    COUNT = 48
    STAMP = 60
    SETTLED = 61
    MORE = 62
    PORT = 63
    SOCKET = 71
    CHANGE = 72
    HOLDER = 73


class Status(IntEnum):
    """How tppd answers."""

    OK = 0
    NOT_FOUND = 1
    CONFLICT = 2
    FENCED = 3
    OFFSET = 4
    FINISHED = 5
    NOT_STARTED = 6
    INVALID = 7
    FILE = 8
    TOO_LARGE = 9
    OVERLOADED = 10
    DISK_FULL = 11
    INTERNAL = 12
    PRECONDITION = 20


_ERRORS: dict[int, type[errors.TerminalError]] = {
    Status.NOT_FOUND: errors.NotFound,
    Status.CONFLICT: errors.Conflict,
    Status.FENCED: errors.Fenced,
    Status.OFFSET: errors.OffsetMismatch,
    Status.FINISHED: errors.CommandFinished,
    Status.NOT_STARTED: errors.CommandNotStarted,
    Status.INVALID: errors.InvalidInput,
    Status.FILE: errors.FileProblem,
    Status.TOO_LARGE: errors.TooLarge,
    Status.OVERLOADED: errors.Overloaded,
    Status.DISK_FULL: errors.DiskFull,
    Status.PRECONDITION: errors.PreconditionFailed,
}

Fields = list[tuple[int, bytes]]


def number(value: int) -> bytes:
    """An integer as a field's bytes."""
    return struct.pack("<q", value)


def payload(kind: int, request_id: int, fields: Iterable[tuple[int, bytes]]) -> bytes:
    """A frame without its length. Raises TooLarge above 16 MiB."""
    parts = [struct.pack("<BI", kind, request_id)]
    for tag, data in fields:
        parts.append(struct.pack("<BI", tag, len(data)))
        parts.append(data)
    data = b"".join(parts)
    if len(data) > MAX_FRAME_BYTES:
        raise errors.TooLarge(f"a request of {len(data)} bytes; the limit is {MAX_FRAME_BYTES}")
    return data


class Reply:
    """The fields of a reply; integers and text by tag, repeated fields in order in `fields`."""

    __slots__ = ("fields", "status")

    def __init__(self, status: int, fields: Fields) -> None:
        self.status = status
        self.fields = fields

    @classmethod
    def decode(cls, frame: bytes) -> tuple[int, Reply]:
        """(request id, reply) of a frame without its length."""
        status, request_id = struct.unpack_from("<BI", frame)
        at, fields = 5, []
        while at < len(frame):
            tag, size = struct.unpack_from("<BI", frame, at)
            fields.append((tag, frame[at + 5 : at + 5 + size]))
            at += 5 + size
        return request_id, cls(status, fields)

    def bytes(self, tag: int, default: bytes = b"") -> bytes:
        """The first field with this tag."""
        return next((data for t, data in self.fields if t == tag), default)

    def number(self, tag: int, default: int = 0) -> int:
        """The first field with this tag, a number of 64 bits."""
        data = self.bytes(tag)
        return struct.unpack("<q", data)[0] if len(data) == 8 else default

    def text(self, tag: int) -> str:
        """The first field with this tag, a path or a name."""
        return os.fsdecode(self.bytes(tag))

    def checked(self) -> Reply:
        """Itself when the status is OK; raises the TerminalError it stands for otherwise."""
        if self.status == Status.OK:
            return self
        extra = {}
        if self.status == Status.OFFSET:
            extra["expected"] = self.number(Tag.OFFSET)
        if errno := self.number(Tag.ERRNO):
            extra["errno"] = errno
        detail = self.bytes(Tag.DETAIL).decode("utf-8", "replace")
        raise _ERRORS.get(self.status, errors.TerminalError)(detail, "", extra)


def raise_if_paused(mark: str) -> None:
    """Raises SandboxPaused: it would be waited for in vain. What was asked before is answered after it."""
    if mark and os.path.exists(mark):
        raise errors.SandboxPaused("the sandbox is paused: nothing in it can answer")


class Connection(Requests[Reply]):
    """One socket to tppd with any number of requests under way."""

    _paused_mark = ""

    @classmethod
    async def to(cls, run_dir: str | Path) -> Connection:
        """Connect. Raises SandboxNotRunning when nobody listens, SandboxPaused."""
        mark = str(Path(run_dir).parent / PAUSED_MARK)
        raise_if_paused(mark)
        try:
            made = await cls.open(run_dir, SOCKET)
            made._paused_mark = mark
            return made
        except OSError as error:
            raise errors.SandboxNotRunning(f"nobody answers in {run_dir}: {error.strerror}") from None

    def take(self, frame: bytes) -> None:
        """A frame has come: it settles the request it belongs to."""
        self.settle(*Reply.decode(frame))

    def tell(self, op: int, fields: Iterable[tuple[int, bytes]]) -> None:
        """Send what has no reply; it may be lost. Raises TooLarge."""
        self.send(payload(op, self.next_id(), fields))

    async def request(self, op: int, fields: Iterable[tuple[int, bytes]], timeout_s: float) -> Reply:
        """The reply, whatever its status. Raises ConnectionError, DeadlineExceeded or SandboxPaused."""
        raise_if_paused(self._paused_mark)
        id = self.next_id()
        data = payload(op, id, fields)
        try:
            async with asyncio.timeout(timeout_s):
                return await self.reply_to(id, data)
        except TimeoutError:
            raise errors.DeadlineExceeded(f"tppd did not answer within {timeout_s:g} s") from None
