"""Contents by their SHA-256: stored once, packed with zstd where that saves, small ones together in one
object.

A `Writer` takes the contents of one snapshot. What is stored already is recognised and not written again;
the rest is gathered into objects of some megabytes, so thousands of small files cost few writes. Its rows
are there before anything refers to them; when the process dies in between, the collector finds what is in
vain. `read` gives contents back in the order in which they lie, each checked against its hash. Memory is
bounded by a few objects, whatever is read or written.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass

import zstandard

from actors.sandbox.versions.objects import Objects
from schema import Database, blobs
from schema.blobs import Blob
from terminalpp.types.errors import SandboxFailed

OBJECT_BYTES = 16 << 20
AHEAD = 3  # objects on their way to the disk while more is read
ROWS = 10_000  # in one statement
PIECE_BYTES = 4 << 20
TOGETHER = 1000  # small contents that are read at once
_SAMPLE = 64 << 10
_LEVEL = 3
_SAVES = 0.95  # packed when it becomes at least this much smaller


def packed(data: bytes, packer: zstandard.ZstdCompressor) -> tuple[bytes, str]:
    """`data` as it is stored, and by which codec."""
    if len(data) > 2 * _SAMPLE and len(packer.compress(data[:_SAMPLE])) > _SAMPLE * _SAVES:
        return data, "raw"
    if len(data) > 128 and len(smaller := packer.compress(data)) <= len(data) * _SAVES:
        return smaller, "zstd"
    return data, "raw"


class Writer:
    """See the head of this file. One task at a time."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects
        self._name, self._filling = objects.name(), bytearray()
        self._here: set[str] = set()
        self._puts: set[asyncio.Task[None]] = set()
        self.blobs: list[Blob] = []  # what was written, for the rows

    async def store(self, contents: Sequence[bytes]) -> list[str]:
        """Their hashes, in order. Raises DiskFull, Unavailable."""
        hashes = await asyncio.to_thread(_hashes, contents)
        new = {hash: data for hash, data in zip(hashes, contents, strict=True) if hash not in self._here}
        if new:
            stored = await blobs.known(self._database, new)
            self._here |= new.keys()
            fresh = [(hash, data) for hash, data in new.items() if hash not in stored]
            for made in await asyncio.to_thread(_pack, fresh):
                await self._append(*made)
        return hashes

    async def _append(self, hash: str, size: int, data: bytes, codec: str) -> None:
        if self._filling and len(self._filling) + len(data) > OBJECT_BYTES:
            await self._flush()
        name = self._name if data else ""  # nothing needs no object, and holds none
        self.blobs.append(Blob(hash, size, len(data), codec, name, len(self._filling) if data else 0))
        self._filling += data

    async def record(self) -> None:
        """Write what was gathered, and the rows that say where all of it is. Raises as `store` does."""
        await self._flush()
        await self._written(0)
        for at in range(0, len(self.blobs), ROWS):
            await blobs.add(self._database, self.blobs[at : at + ROWS])

    async def _flush(self) -> None:
        if self._filling:
            name, filling = self._name, self._filling
            self._name, self._filling = self._objects.name(), bytearray()
            await self._written(AHEAD - 1)
            self._puts.add(asyncio.create_task(self._objects.put(name, filling)))

    async def _written(self, ahead: int) -> None:
        """Wait until no more than `ahead` objects are still on their way to the disk."""
        while len(self._puts) > ahead:
            done, self._puts = await asyncio.wait(self._puts, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()

    async def give_up(self) -> None:
        """End what is under way; what was written is nobody's, and the collector's."""
        for one in self._puts:
            one.cancel()
        await asyncio.gather(*self._puts, return_exceptions=True)

    async def store_stream(self, pieces: AsyncIterator[bytes]) -> tuple[str, int]:
        """The hash and the size of a long content, in an object of its own. Raises DiskFull, Unavailable."""
        name, one = self._objects.name(), _Passing(pieces)
        await self._objects.put_pieces(name, one.packed())
        hash = one.hash.hexdigest()
        if hash in self._here or await blobs.known(self._database, [hash]):
            await self._objects.delete(name)
        else:
            self.blobs.append(Blob(hash, one.size, one.stored, one.codec, name, 0))
        self._here.add(hash)
        return hash, one.size


class _Passing:
    """Pieces on their way into an object: hashed, and packed if the first one says that it saves."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.hash, self.size, self.stored, self.codec = hashlib.sha256(), 0, 0, "raw"

    async def packed(self) -> AsyncIterator[bytes]:
        packer = None
        async for piece in self._pieces:
            if (
                not self.size
                and len(await asyncio.to_thread(_sample, piece)) <= len(piece[:_SAMPLE]) * _SAVES
            ):
                self.codec, packer = "zstd", zstandard.ZstdCompressor(_LEVEL).compressobj()
            self.size += len(piece)
            made = await asyncio.to_thread(_pass, self.hash, packer, piece)
            self.stored += len(made)
            if made:
                yield made
        if packer is not None:
            made = packer.flush()
            self.stored += len(made)
            yield made


def _sample(piece: bytes) -> bytes:
    return zstandard.ZstdCompressor(_LEVEL).compress(piece[:_SAMPLE])


def _pass(hash: hashlib._Hash, packer: zstandard.ZstdCompressionObj | None, piece: bytes) -> bytes:
    hash.update(piece)
    return piece if packer is None else packer.compress(piece)


def _hashes(contents: Sequence[bytes]) -> list[str]:
    return [hashlib.sha256(data).hexdigest() for data in contents]


def _pack(fresh: Sequence[tuple[str, bytes]]) -> list[tuple[str, int, bytes, str]]:
    packer = zstandard.ZstdCompressor(_LEVEL)
    return [(hash, len(data), *packed(data, packer)) for hash, data in fresh]


# ---- reading ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Range:
    """Neighbours in one object, read at once."""

    url: str
    start: int
    end: int
    blobs: list[Blob]


async def read(
    database: Database, objects: Objects, hashes: Collection[str], *, longest: int = PIECE_BYTES
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """The contents of at most `longest` bytes among these, some at a time; longer ones are left out (see
    `stream`). Raises NotFound, Unavailable, SandboxFailed (not what was stored)."""
    found = await _places(database, hashes)
    for span in _spans(blob for blob in found.values() if blob.size_bytes <= longest):
        data = await objects.read(span.url, span.start, span.end - span.start)
        yield await asyncio.to_thread(_unpack, span, data)


async def stream(database: Database, objects: Objects, hash: str) -> AsyncIterator[bytes]:
    """One content in pieces. Raises as `read` does; a wrong content is found at its end."""
    blob = (await _places(database, [hash]))[hash]
    check, at = hashlib.sha256(), 0
    unpacker = zstandard.ZstdDecompressor().decompressobj() if blob.codec == "zstd" else None
    while at < blob.stored_bytes:
        length = min(PIECE_BYTES, blob.stored_bytes - at)
        data = await objects.read(blob.url, blob.position + at, length)
        at += length
        try:
            piece = data if unpacker is None else await asyncio.to_thread(unpacker.decompress, data)
        except zstandard.ZstdError as error:
            raise SandboxFailed(f"the content {hash} is damaged: {error}") from None
        await asyncio.to_thread(check.update, piece)
        for start in range(0, len(piece), PIECE_BYTES):  # what was packed well comes out long
            yield piece[start : start + PIECE_BYTES]
    _agrees(hash, check.hexdigest())


async def _places(database: Database, hashes: Collection[str]) -> dict[str, Blob]:
    found = await blobs.get(database, hashes)
    if missing := set(hashes) - found.keys():
        raise SandboxFailed(f"{len(missing)} contents are not in the store, such as {min(missing)}")
    return found


def _spans(found: Iterable[Blob]) -> list[_Range]:
    spans: list[_Range] = []
    for blob in sorted(found, key=lambda b: (b.url, b.position)):
        end, last = blob.position + blob.stored_bytes, spans[-1] if spans else None
        near = last is not None and last.url == blob.url and blob.position - last.end < _SAMPLE
        room = last is not None and end - last.start <= 2 * PIECE_BYTES and len(last.blobs) < TOGETHER
        if last is not None and near and room:
            last.end = end
            last.blobs.append(blob)
        else:
            spans.append(_Range(blob.url, blob.position, end, [blob]))
    return spans


def _unpack(span: _Range, data: bytes) -> list[tuple[str, bytes]]:
    unpacker, out = zstandard.ZstdDecompressor(), []
    for blob in span.blobs:
        at = blob.position - span.start
        content = data[at : at + blob.stored_bytes]
        if blob.codec == "zstd":
            try:
                content = unpacker.decompress(content, max_output_size=blob.size_bytes)
            except zstandard.ZstdError as error:
                raise SandboxFailed(f"the content {blob.content_hash} is damaged: {error}") from None
        _agrees(blob.content_hash, hashlib.sha256(content).hexdigest())
        out.append((blob.content_hash, content))
    return out


def _agrees(wanted: str, found: str) -> None:
    if wanted != found:
        raise SandboxFailed(f"the content {wanted} is damaged in the store: it is {found}")
