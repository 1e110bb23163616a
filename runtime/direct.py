"""The short way to a cell on this machine: a Unix socket beside Ray's own channel.

A Ray call costs 3 to 5 ms of threads and gRPC here, a call over this socket 0.2 to 0.3 ms
(`bench/calls.py` measures both in turns). Ray still starts, names, restarts and ends the cells, and carries
every call for which there is no socket: to a cell that is still starting, and to another machine.

What a caller may rely on is the same on both ways. The kernel closes the socket with its process, so the
death of a cell is known at once. The newest incarnation of a cell owns the name: a connection to an
older one is given up by `Lines.renew` when that one refuses.

    request: u32 length of the rest | u32 request id | u8 method | data
    reply:   u32 length of the rest | u32 request id | data          (little-endian)
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

log = logging.getLogger("terminalpp.runtime")
METHODS = ("call", "deliver", "nudge", "locate")  # what goes this way: data in, data out
FOLDER = Path("run", "cells")
_HEAD = struct.Struct("<II")

Handler = Callable[[str, bytes], Awaitable[bytes]]


class NoLine(Exception):
    """Nobody listens there: nothing was sent."""


class LineBroke(Exception):
    """The cell's process ended, or it closed the line; whether it began the method is not known."""


def socket_name(cell: str) -> str:
    """The file name for `cell/<node>/<number>`; the number has no underscore, so it is unambiguous."""
    return cell.replace("/", "_")


class _Frames(asyncio.Protocol, abc.ABC):
    """Cuts the stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEAD.size:
            size, id = _HEAD.unpack_from(buffer, at)
            end = at + 4 + size
            if len(buffer) < end:
                break
            self.take(id, bytes(memoryview(buffer)[at + _HEAD.size : end]))
            at = end
        if at:
            del buffer[:at]

    @abc.abstractmethod
    def take(self, id: int, data: bytes) -> None:
        """One frame has arrived: its request id and the rest."""

    def send(self, id: int, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD.pack(4 + len(data), id) + data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


# ---- the cell's end ---------------------------------------------------------------------------------


class _Served(_Frames):
    """One caller's connection. A caller that goes away does not stop what it asked for."""

    def __init__(self, handler: Handler, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._handler = handler
        self._tasks = tasks

    def take(self, id: int, data: bytes) -> None:
        task = asyncio.create_task(self._answer(id, METHODS[data[0]], data[1:]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, id: int, method: str, data: bytes) -> None:
        try:
            self.send(id, await self._handler(method, data))
        except Exception:
            log.exception("a call of %s failed", method)
            self.close()  # the caller learns that its outcome is not known


async def serve(home: Path, cell: str, handler: Handler) -> asyncio.Server:
    """Listen for callers of `cell`; takes the name over from an older incarnation at once.

    `handler` gets a method of METHODS and the data. Raises OSError.
    """
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    aside = f".{socket_name(cell)}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        (folder / aside).unlink()
    with _opened(folder) as short:
        listener.bind(f"{short}/{aside}")
    (folder / aside).rename(folder / socket_name(cell))
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _Served(handler, tasks), sock=listener, backlog=1024)


# ---- the caller's end -------------------------------------------------------------------------------


class _Line(_Frames):
    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._last_id = 0
        self.lost = False
        self._retired = False

    def take(self, id: int, data: bytes) -> None:
        future = self._pending.pop(id, None)
        if future is not None and not future.done():
            future.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(LineBroke("the cell's process ended"))

    async def ask(self, method: str, data: bytes) -> bytes:
        self._last_id = id = (self._last_id + 1) & 0xFFFFFFFF
        future = self._pending[id] = asyncio.get_running_loop().create_future()
        self.send(id, bytes((METHODS.index(method),)) + data)
        try:
            return await future
        finally:
            self._pending.pop(id, None)
            if self._retired:
                self.retire()

    def retire(self) -> None:
        """Close once nothing is under way."""
        self._retired = True
        if not self._pending:
            self.close()


class Lines:
    """The lines of one process to the cells of its machine, opened when first used."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._lines: dict[str, _Line] = {}

    async def ask(self, cell: str, method: str, data: bytes) -> bytes:
        """The reply. Raises NoLine, LineBroke; sets no time limit."""
        line = self._lines.get(cell)
        if line is None or line.lost:
            opened = await self._open(cell)
            line = self._lines.get(cell)  # another call may have opened one meanwhile
            if line is None or line.lost:
                line = self._lines[cell] = opened
            else:
                opened.close()
        return await line.ask(method, data)

    def renew(self, cell: str) -> None:
        """Use a new connection from the next call on; calls under way keep theirs."""
        if line := self._lines.pop(cell, None):
            line.retire()

    def close(self) -> None:
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    async def _open(self, cell: str) -> _Line:
        try:
            with _opened(self._folder) as short:
                _, line = await asyncio.get_running_loop().create_unix_connection(
                    _Line, f"{short}/{socket_name(cell)}"
                )
        except OSError as error:
            raise NoLine(f"{cell}: {error.strerror}") from None
        return line


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[str]:
    """A name of `folder` that is short enough: a socket's may have 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
