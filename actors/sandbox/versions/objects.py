"""Where contents lie: objects in a folder, or in a bucket that speaks S3.

An object is written once, whole, under a name that is never used again; it is read in ranges and deleted when
nothing of it is needed. In a folder it is on the disk, not only in the kernel's memory, before `put` returns.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore, S3Store

from runtime.settings import Settings
from terminalpp.types.errors import DiskFull, InvalidInput, NotFound, Unavailable
from terminalpp.types.ids import new_id


class Objects:
    """`url`: `s3://bucket/prefix` (credentials and endpoint as the AWS variables name them), or None for the
    folder `folder`. Raises InvalidInput."""

    def __init__(self, folder: str | Path, url: str | None = None) -> None:
        self._folder: Path | None = None
        if url is None:
            self._folder = Path(folder)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store: Any = LocalStore(str(folder), automatic_cleanup=True)
        else:
            try:
                self._store = S3Store.from_url(url)
            except Exception as error:
                raise InvalidInput(f"TPP_OBJECTS_URL: {error}", "Give s3://BUCKET/PREFIX.") from error

    @classmethod
    def of(cls, settings: Settings) -> Objects:
        """Those of a home."""
        return cls(Path(settings.home) / "objects", settings.objects_url)

    @staticmethod
    def name() -> str:
        """A new one."""
        id = new_id()
        return f"{id[-2:]}/{id}"

    async def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Write an object whole. Raises DiskFull, Unavailable."""
        try:
            await obstore.put_async(self._store, name, data)
            await self._sync(name)
        except OSError as error:
            raise DiskFull(f"an object could not be written: {error.strerror or error}") from error
        except Exception as error:
            raise Unavailable(f"the object store did not take an object: {_words(error)}") from error

    async def put_pieces(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Write an object whose length is not known ahead. Raises what `put` raises, and what `pieces`
        does."""
        try:
            async with obstore.open_writer_async(self._store, name) as writer:
                async for piece in pieces:
                    await writer.write(piece)
            await self._sync(name)
        except OSError as error:
            raise DiskFull(f"an object could not be written: {error.strerror or error}") from error
        except obstore.exceptions.BaseError as error:
            raise Unavailable(f"the object store did not take an object: {_words(error)}") from error

    async def _sync(self, name: str) -> None:
        if self._folder is not None:
            await asyncio.to_thread(_on_disk, self._folder / name)

    async def read(self, name: str, start: int, length: int) -> bytes:
        """Bytes of an object. Raises NotFound, Unavailable."""
        if not length:
            return b""
        try:
            return bytes(await obstore.get_range_async(self._store, name, start=start, length=length))
        except FileNotFoundError:
            raise NotFound(f"the object {name} is gone") from None
        except Exception as error:
            raise Unavailable(f"the object {name} could not be read: {_words(error)}") from error

    async def delete(self, name: str) -> None:
        """What is not there is fine. Raises Unavailable."""
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except Exception as error:
            raise Unavailable(f"the object {name} could not be deleted: {_words(error)}") from error

    async def names(self) -> AsyncIterator[list[tuple[str, float]]]:
        """All objects with the time each was written (seconds since 1970), some hundred at a time."""
        pages = obstore.list(self._store, chunk_size=500)
        async for page in pages:
            yield [(entry["path"], entry["last_modified"].timestamp()) for entry in page]


def _on_disk(path: Path) -> None:
    for one in (path, path.parent):
        fd = os.open(one, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _words(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:300]
