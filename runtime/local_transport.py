"""The short way to a cell on this machine: a Unix socket beside Ray's own channel.

A Ray call costs 3 to 5 ms of threads and gRPC here, a call over this socket 0.2 to 0.3 ms
(`bench/calls.py` measures both in turns). Ray still starts, names, restarts and ends the cells, and carries
every call for which there is no socket: to a cell that is still starting, and to another machine.

What a caller may rely on is the same on both ways. The kernel closes the socket with its process, so the
death of a cell is known at once. The newest incarnation of a cell owns the name: a connection to an
older one is given up by `Lines.renew` when that one refuses.

    request: u32 request id | u8 method | data
    reply:   u32 request id | data          (frames of `runtime.framing`, little-endian)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from runtime.framing import Frames, Requests, short_name

log = logging.getLogger("terminalpp.runtime")
METHODS = ("call", "deliver", "nudge", "locate", "whoami")  # what goes this way: data in, data out
FOLDER = Path("run", "cells")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)

Handler = Callable[[str, bytes], Awaitable[bytes]]


class NoLine(Exception):
    """Nobody listens there: nothing was sent.

    `dead`: a cell's process did listen under the name and has ended, for the kernel refuses its socket. A
    frozen one's still accepts; a missing file says nothing.
    """

    def __init__(self, words: str, dead: bool = False) -> None:
        super().__init__(words)
        self.dead = dead


class LineBroke(Exception):
    """The cell's process ended, or it closed the line; whether it began the method is not known."""


def socket_name(cell: str) -> str:
    """The file name for `cell/<node>/<number>`; the number has no underscore, so it is unambiguous."""
    return cell.replace("/", "_")


# ---- the cell's end ---------------------------------------------------------------------------------


class _Served(Frames):
    """One caller's connection. A caller that goes away does not stop what it asked for."""

    def __init__(self, handler: Handler, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._handler = handler
        self._tasks = tasks

    def take(self, frame: bytes) -> None:
        task = asyncio.create_task(self._answer(frame[:4], METHODS[frame[4]], frame[5:]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, id: bytes, method: str, data: bytes) -> None:
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
    with short_name(folder) as short:
        listener.bind(f"{short}/{aside}")
    listener.listen(1024)  # before it has the name: who finds the name refused may know that nobody has it
    (folder / aside).rename(folder / socket_name(cell))
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _Served(handler, tasks), sock=listener, backlog=1024)


# ---- the caller's end -------------------------------------------------------------------------------


class _Line(Requests[bytes]):
    def __init__(self) -> None:
        super().__init__()
        self._retired = False

    def take(self, frame: bytes) -> None:
        self.settle(int.from_bytes(frame[:4], "little"), frame[4:])

    async def ask(self, method: str, data: bytes) -> bytes:
        id = self.next_id()
        try:
            return await self.reply_to(id, id.to_bytes(4, "little"), bytes((METHODS.index(method),)), data)
        except ConnectionResetError:
            raise LineBroke("the cell's process ended") from None
        finally:
            if self._retired:
                self.retire()

    @property
    def peer(self) -> int:
        """The process that listens at the other end."""
        assert self._transport is not None
        end: socket.socket = self._transport.get_extra_info("socket")
        found = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return _CREDENTIALS.unpack(found)[0]

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
        return await (await self._line(cell)).ask(method, data)

    async def kill(self, cell: str) -> None:
        """SIGKILL for the process that listens there: the kernel knows which, and a frozen one hears it too.
        Raises NoLine."""
        line = await self._line(cell)
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(line.peer)
            try:
                await asyncio.sleep(0)  # had it ended, and its number been given away, the line would be lost
                if not line.lost:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)

    async def _line(self, cell: str) -> _Line:
        line = self._lines.get(cell)
        if line is None or line.lost:
            opened = await self._open(cell)
            line = self._lines.get(cell)  # another call may have opened one meanwhile
            if line is None or line.lost:
                line = self._lines[cell] = opened
            else:
                opened.close()
        return line

    def renew(self, cell: str) -> None:
        """Use a new connection from the next call on; calls under way keep theirs."""
        if line := self._lines.pop(cell, None):
            line.retire()

    def close(self) -> None:
        """Close all lines; the cells stay."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    async def _open(self, cell: str) -> _Line:
        try:
            return await _Line.open(self._folder, socket_name(cell))
        except OSError as error:
            raise NoLine(f"{cell}: {error.strerror}", isinstance(error, ConnectionRefusedError)) from None
