"""Where contents are: one row for each, named by its SHA-256.

An object (`url`) is written once and never again under the same name, so a row that was forgotten and made
anew never points at what a collector is about to delete.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from schema import rows
from schema.database import Executor
from schema.sql import Queries

_Q = Queries("blobs")


@dataclass(frozen=True, slots=True)
class Blob:
    """`stored_bytes` from `position` of the object `url`, packed by `codec` (raw or zstd)."""

    content_hash: str
    size_bytes: int
    stored_bytes: int
    codec: str
    url: str
    position: int


async def known(c: Executor, hashes: Collection[str]) -> set[str]:
    """Those that are stored. They count as used now, so none of them is collected before the caller refers
    to it."""
    await c.execute(_Q.seen, [*hashes])
    return {record["content_hash"] for record in await c.fetch(_Q.known, [*hashes])}


async def get(c: Executor, hashes: Collection[str]) -> dict[str, Blob]:
    """By hash; what is not stored is left out."""
    found = rows.many(Blob, await c.fetch(_Q.get, [*hashes]))
    return {blob.content_hash: blob for blob in found}


async def add(c: Executor, blobs: Sequence[Blob]) -> None:
    """Contents that were stored."""
    if blobs:
        columns = ("content_hash", "size_bytes", "stored_bytes", "codec", "url", "position")
        await c.execute(_Q.add, *([getattr(blob, name) for blob in blobs] for name in columns))


async def collect(c: Executor, unused_seconds: float, limit: int = 5000) -> int:
    """Forgets contents that nothing refers to and nobody has used for so long; how many."""
    return len(await c.fetch(_Q.collect, unused_seconds, limit))


async def urls(c: Executor, among: Collection[str]) -> set[str]:
    """Those of these objects that hold something."""
    return {record["url"] for record in await c.fetch(_Q.urls, [*among])}
