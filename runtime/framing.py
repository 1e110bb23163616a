"""Frames over Unix sockets: what the way to a cell (`runtime.local_transport`) and into a sandbox share.

A frame is a u32, the length of the rest (little-endian), and the rest. `Frames` cuts the stream into
them; `Requests` is the asking end, with any number of requests under way, answered in any order. What
stands in a frame, the request's id included, is the business of whoever uses them.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Self, TypeVar

T = TypeVar("T")
_LENGTH = struct.Struct("<I")


@contextlib.contextmanager
def short_name(folder: str | Path) -> Iterator[str]:
    """A name of `folder` that a socket's path may begin with, which has 107 bytes at most. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Frames(asyncio.Protocol, abc.ABC):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is always one

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(buffer, at)[0]
            if len(buffer) < end:
                break
            self.take(bytes(memoryview(buffer)[at + _LENGTH.size : end]))
            at = end
        if at:
            del buffer[:at]

    @abc.abstractmethod
    def take(self, frame: bytes) -> None:
        """A frame has arrived; its length is cut off."""

    def send(self, *parts: bytes) -> None:
        """Send one frame made of `parts`; nothing is sent on a connection that is closing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join((_LENGTH.pack(sum(map(len, parts))), *parts)))

    def close(self) -> None:
        """Close the connection; what was written before is sent."""
        if self._transport is not None:
            self._transport.close()


class Requests(Frames, Generic[T]):
    """The asking end; T is what a reply is made into. `lost` is set once the connection is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[int, asyncio.Future[T]] = {}
        self._last_id = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = False

    @classmethod
    async def open(cls, folder: str | Path, name: str) -> Self:
        """Connect to the socket `name` in `folder`. Raises OSError when nobody listens."""
        with short_name(folder) as short:
            loop = asyncio.get_running_loop()
            return (await loop.create_unix_connection(cls, f"{short}/{name}"))[1]

    def next_id(self) -> int:
        """The id of the next request; it wraps around at 32 bits."""
        self._last_id = (self._last_id + 1) & 0xFFFFFFFF
        return self._last_id

    async def reply_to(self, id: int, *parts: bytes) -> T:
        """Send a request and wait for its reply, without a time limit.

        Raises ConnectionResetError when the connection is or goes away: whether the request arrived is
        not known. A peer that reads nothing stops the senders here.
        """
        await self._writable.wait()
        if self.lost:
            raise ConnectionResetError("the connection was closed")
        future = self._pending[id] = asyncio.get_running_loop().create_future()
        self.send(*parts)
        try:
            return await future
        finally:
            self._pending.pop(id, None)

    def settle(self, id: int, reply: T) -> None:
        """Hand the reply to whoever waits for it; nobody may."""
        future = self._pending.pop(id, None)
        if future is not None and not future.done():
            future.set_result(reply)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: senders wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol: senders go on."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all requests under way with ConnectionResetError."""
        self.lost = True
        self._writable.set()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the connection was closed"))
