"""A tar read as it arrives: one pass, a few hundred kilobytes of memory, nothing touches the disk.

Understands ustar, GNU long names and pax headers (path, linkpath, size), which is what `tar`, git and
Python write. Names are text with bytes that are not UTF-8 as surrogates. It refuses by name and reason:
device nodes, fifos, sparse files, absolute names, `..`, and an archive that ends early: an upload that
was cut must never look like a whole one. Python's `tarfile` does the header; it cannot do the stream,
because it reads synchronously.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from terminalpp.types.errors import InvalidInput

BLOCK = 512
HEADER_LIMIT = 1024 * 1024
NAME_LIMIT = 4095  # bytes, of the kernel
_KEYS = ("path", "linkpath", "size")  # of extended headers; all others are forgotten
_SPARSE = "GNU.sparse"
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}
_REFUSED = {
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a fifo",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """`name`: relative, clean, `""` for the root. `target`: of a symlink as written, of a hard link clean.
    `size` is 0 unless it is a file; `mode` has permission bits only (no set-uid, set-gid, sticky)."""

    name: str
    kind: str
    size: int
    mode: int
    target: str


def shown(name: str) -> str:
    """A name that fits into a message."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:300]


class Source:
    """Bytes of an async iterator, taken in exact amounts."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self.taken = 0

    async def take(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises InvalidInput when the stream ends before."""
        while len(self._buffer) < size:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise InvalidInput(
                    f"the archive ends early, after {self.taken + len(self._buffer)} bytes",
                    "Send the whole archive again.",
                )
            self._buffer += chunk
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.taken += size
        return data

    async def drain(self) -> None:
        """Read to the end and forget it."""
        self._buffer.clear()
        async for _ in self._chunks:
            pass


@dataclass
class Reader:
    """Iterate with `next()`; the content of a file is read with `content()` before the next entry."""

    source: Source
    _left: int = 0
    _padding: int = 0
    _global: dict[str, str] = field(default_factory=dict)

    async def next(self) -> Entry | None:
        """The next entry, None behind the last. Raises InvalidInput."""
        await self._skip()
        pax: dict[str, str] = dict(self._global)
        while True:
            header = await self._header()
            if header is None:
                await self.source.drain()
                return None
            match header.type:
                case tarfile.XHDTYPE | tarfile.SOLARIS_XHDTYPE:
                    pax |= _pax(await self._extension(header))
                case tarfile.XGLTYPE:
                    self._global |= _pax(await self._extension(header))
                    pax = self._global | pax
                case tarfile.GNUTYPE_LONGNAME:
                    pax["path"] = _text(await self._extension(header))
                case tarfile.GNUTYPE_LONGLINK:
                    pax["linkpath"] = _text(await self._extension(header))
                case _:
                    return self._entry(header, pax)

    async def content(self, limit: int) -> bytes:
        """Up to `limit` further bytes of the present file; empty at its end."""
        size = min(limit, self._left)
        if size == 0:
            return b""
        data = await self.source.take(size)
        self._left -= size
        return data

    async def _skip(self) -> None:
        while self._left:
            await self.content(65536)
        await self.source.take(self._padding)
        self._padding = 0

    async def _header(self) -> tarfile.TarInfo | None:
        block = await self.source.take(BLOCK)
        if not block.strip(b"\0"):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise InvalidInput(
                f"not a tar archive at byte {self.source.taken - BLOCK}: {error}",
                "Send a tar, or one in gzip or zstd.",
            ) from None

    async def _extension(self, header: tarfile.TarInfo) -> bytes:
        if not 0 <= header.size <= HEADER_LIMIT:
            raise InvalidInput(f"an extended header of {header.size} bytes; the limit is {HEADER_LIMIT}")
        data = await self.source.take(header.size)
        await self.source.take(-header.size % BLOCK)
        return data

    def _entry(self, header: tarfile.TarInfo, pax: dict[str, str]) -> Entry:
        raw = pax.get("path", header.name)
        if header.type in _REFUSED or _SPARSE in pax:
            raise InvalidInput(f"{shown(raw)} is {_REFUSED.get(header.type, 'a sparse file')}: refused")
        kind = _KINDS.get(header.type)
        if kind is None:
            raise InvalidInput(f"{shown(raw)} is of an unknown kind {header.type!r}")
        name, target = clean(raw), pax.get("linkpath", header.linkname)
        size = header.size
        if "size" in pax:
            if not pax["size"].isdecimal() or len(pax["size"]) > 18:
                raise InvalidInput(f"{shown(raw)} has no valid size")
            size = int(pax["size"])
        if size < 0:
            raise InvalidInput(f"{shown(raw)} has a negative size")
        if not name and kind != "directory":
            raise InvalidInput(f"{shown(raw)!r} is no name for a {kind}")
        if kind == "symlink" and not target:
            raise InvalidInput(f"{shown(raw)} is a symlink to nothing")
        if kind == "symlink" and _too_long(target):
            raise InvalidInput(f"{shown(raw)} is a symlink to a name longer than {NAME_LIMIT} bytes")
        if kind == "hardlink":
            target = clean(target)
        # A link's size field is meaningless in old archives; only files are followed by content.
        self._left = size if kind == "file" else 0
        self._padding = -self._left % BLOCK
        return Entry(name, kind, self._left, header.mode & 0o777, target)


def clean(name: str) -> str:
    """A relative path without `.` and empty parts. Raises InvalidInput for what leads out."""
    if _too_long(name):
        raise InvalidInput(f"{shown(name)}… is longer than {NAME_LIMIT} bytes")
    if name.startswith("/"):
        raise InvalidInput(f"{shown(name)} is an absolute name", "Pack with names relative to the directory.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput(f"{shown(name)} leads out of the directory")
    if "\0" in name:
        raise InvalidInput(f"{shown(name)!r} contains a zero byte")
    return "/".join(parts)


def _too_long(name: str) -> bool:
    return len(name) > NAME_LIMIT or len(name.encode("utf-8", "surrogateescape")) > NAME_LIMIT


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str]:
    """Records of the form `<length> <key>=<value>\\n`, the length in decimal and counting itself."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        size = int(digits) if digits.isdigit() else 0
        record = data[space + 1 : at + size]
        key, equals, value = record.partition(b"=")
        if size < 5 or at + size > len(data) or not equals or not record.endswith(b"\n"):
            raise InvalidInput("an extended header is broken")
        name = key.decode("utf-8", "surrogateescape")
        if name in _KEYS:
            found[name] = value[:-1].decode("utf-8", "surrogateescape")
        elif name.startswith(_SPARSE):
            found[_SPARSE] = ""
        at += size
    return found
