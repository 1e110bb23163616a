"""A tar as it came or out of gzip or zstd, told by its first bytes, bounded by what comes out.

A few kilobytes can hold gigabytes: it is taken apart in steps of about a megabyte, in a thread, and ends with
TooLarge once more came out than an archive may have. A stream that ends early, or has something else behind
it, is an error.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import zstandard

from terminalpp.types.errors import InvalidInput, TooLarge

STEP = 1024 * 1024
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_WINDOW = 128 * 1024 * 1024  # what `zstd -d` takes without being asked to
_SLICE = 1024  # of input to zstd at a time: at most 256 blocks of 128 KiB come out of it


class _Inflater:
    """`feed`, then `step` until it gives nothing more; a further member or frame is begun by itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = self._new()
        self._left = bytearray()
        self._held = False  # zlib has taken all input and not given all of what it made of it
        self.between = False  # at the end of a member: the whole may end here

    def _new(self) -> Any:
        if self._name == "gzip":
            return zlib.decompressobj(31)
        return zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()

    def feed(self, data: bytes) -> None:
        self._left += data

    def step(self) -> bytes:
        """Some more of what is inside; empty when the input is used up. Raises InvalidInput."""
        out = bytearray()
        while (self._left or self._held) and len(out) < STEP:
            if self.between:
                if not self._left.strip(b"\0"):  # padding of a tape or a disk
                    self._left.clear()
                    break
                self._stream, self.between = self._new(), False
            out += self._some()
        return bytes(out)

    def _some(self) -> bytes:
        stream, rest = self._stream, b""
        try:
            if self._name == "gzip":
                out = stream.decompress(bytes(self._left), STEP)
                rest, self._left = stream.unconsumed_tail, bytearray()
            else:
                out = stream.decompress(bytes(self._left[:_SLICE]))
                del self._left[:_SLICE]
        except (zlib.error, zstandard.ZstdError) as error:
            raise InvalidInput(f"the archive is no {self._name}: {error}", "Pack it again.") from None
        self.between = stream.eof
        self._held = len(out) == STEP and not rest and not self.between
        self._left = bytearray(rest or stream.unused_data) + self._left
        return out


async def inflated(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The bytes of the tar. Raises TooLarge beyond `limit` bytes of it, InvalidInput."""
    head = bytearray()
    async for chunk in chunks:
        head += chunk
        if len(head) >= len(ZSTD):
            break
    name = "gzip" if head.startswith(GZIP) else "zstd" if head.startswith(ZSTD) else ""
    if not name:
        yield bytes(head)
        async for chunk in chunks:
            yield chunk
        return
    stream, total = _Inflater(name), 0
    more: bytes | None = bytes(head)
    while more is not None:
        stream.feed(more)
        while out := await asyncio.to_thread(stream.step):
            total += len(out)
            if total > limit:
                raise TooLarge(
                    f"more than {limit} bytes are in the archive",
                    "Raise TPP_ARCHIVE_LIMIT_BYTES, or send less.",
                )
            yield out
        more = await anext(chunks, None)
    if not stream.between:
        raise InvalidInput("the archive ends early", "Send the whole archive again.")
