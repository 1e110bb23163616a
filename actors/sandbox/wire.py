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

from terminalpp.types import errors

MAX_FRAME_BYTES = 16 * 1024 * 1024
SOCKET = "ctl.sock"


class Op(IntEnum):
    HELLO = 1
    START = 2
    STATUS = 3
    WAIT = 4
    STDIN = 5
    SIGNAL = 6
    KILL_TREE = 7
    LIST = 8
    FILES = 9
    STAT = 16
    READ = 17
    WRITE = 18
    MKDIR = 19
    SYMLINK = 20
    REMOVE = 21
    LISTDIR = 22


class Tag(IntEnum):
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


class Status(IntEnum):
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
}

Fields = list[tuple[int, bytes]]


def number(value: int) -> bytes:
    """An integer as a field's bytes."""
    return struct.pack("<q", value)


def encode(kind: int, request_id: int, fields: Iterable[tuple[int, bytes]]) -> bytes:
    """One frame. Raises TooLarge above 16 MiB."""
    parts = [struct.pack("<BI", kind, request_id)]
    for tag, data in fields:
        parts.append(struct.pack("<BI", tag, len(data)))
        parts.append(data)
    size = sum(map(len, parts))
    if size > MAX_FRAME_BYTES:
        raise errors.TooLarge(f"a request of {size} bytes; the limit is {MAX_FRAME_BYTES}")
    return b"".join([struct.pack("<I", size), *parts])


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
        return next((data for t, data in self.fields if t == tag), default)

    def number(self, tag: int, default: int = 0) -> int:
        data = self.bytes(tag)
        return struct.unpack("<q", data)[0] if len(data) == 8 else default

    def text(self, tag: int) -> str:
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


class Connection(asyncio.Protocol):
    """One socket to tppd with any number of requests under way. `lost` is set once it is gone."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._next_id = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = False

    @classmethod
    async def open(cls, run_dir: str | Path) -> Connection:
        """Connect. Raises SandboxNotRunning when nobody listens.

        The path goes through /proc/self/fd because a socket's name may have 107 bytes only.
        """
        try:
            folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise errors.SandboxNotRunning(f"{run_dir}: {error.strerror}") from None
        try:
            path = f"/proc/self/fd/{folder}/{SOCKET}"
            _, protocol = await asyncio.get_running_loop().create_unix_connection(cls, path)
            return protocol
        except OSError as error:
            raise errors.SandboxNotRunning(f"nobody answers in {run_dir}: {error.strerror}") from None
        finally:
            os.close(folder)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            (size,) = struct.unpack_from("<I", buffer, at)
            if len(buffer) - at - 4 < size:
                break
            request_id, reply = Reply.decode(bytes(memoryview(buffer)[at + 4 : at + 4 + size]))
            at += 4 + size
            future = self._pending.pop(request_id, None)
            if future is not None and not future.done():
                future.set_result(reply)
        if at:
            del buffer[:at]

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._writable.set()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(ConnectionResetError("tppd closed the connection"))

    async def request(self, op: int, fields: Iterable[tuple[int, bytes]], timeout_s: float) -> Reply:
        """The reply, whatever its status. Raises ConnectionError or DeadlineExceeded."""
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        request_id = self._next_id
        frame = encode(op, request_id, fields)
        await self._writable.wait()
        if self.lost or self._transport is None:
            raise ConnectionResetError("tppd closed the connection")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        self._transport.write(frame)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise errors.DeadlineExceeded(f"tppd did not answer within {timeout_s:g} s") from None
        finally:
            self._pending.pop(request_id, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
