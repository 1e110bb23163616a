"""Looking at a sandbox's tree: a walk, and the contents of what seems changed.

What changes while it is read is told by its stamp before and after: then it is read again the next time.
Nothing is held in memory but a few batches; the next one is read while the last one is stored."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Sequence

from actors.sandbox.tppd import bulk, files
from actors.sandbox.tppd.bulk import Found, Read
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.versions import rows
from actors.sandbox.versions.contents import Writer
from actors.sandbox.versions.tree import Entry, Left, Look, Tree, look
from terminalpp.types.errors import FileProblem, NotFound

FILE_BYTES = 256 << 20  # a longer file is known to be there, and not kept
BATCH_BYTES, BATCH_FILES = 8 << 20, 512
LONG_AT_ONCE = 3
SKIPPED = {b".tpp": ""}
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)


async def walked(tppd: Tppd, known: Tree) -> Look:
    """The tree as far as names, times and sizes tell. Raises what tppd raises."""
    seen = []
    async for page, clock in bulk.walk(tppd, rows.ROOT):
        seen += [(record, clock) for record in page]
    return look(known, seen, SKIPPED)


class Reader:
    """Reads what a look has left unread into `writer`, and keeps the first words of each file."""

    def __init__(self, tppd: Tppd, writer: Writer, seen: Look) -> None:
        self._tppd, self._writer, self._seen = tppd, writer, seen
        self.previews: dict[bytes, str | None] = {}

    async def read(self) -> Look:
        """The look, complete. Raises what tppd and the writer raise."""
        waiting = sorted(self._seen.unread)
        try:
            await self._all(waiting)
        except BaseException:
            await self._writer.give_up()
            raise
        self._seen.unread = []
        return self._seen

    async def _all(self, waiting: Sequence[tuple[bytes, Found]]) -> None:
        free = asyncio.Semaphore(LONG_AT_ONCE)

        async def long(path: bytes, found: Found) -> None:
            async with free:
                self._seen.settle(path, await self._long(path, found))

        async with asyncio.TaskGroup() as group:
            for path, found in waiting:
                if found.size > bulk.FILE_BYTES:
                    group.create_task(long(path, found))
        short = [one for one in waiting if one[1].size <= bulk.FILE_BYTES]
        ahead = asyncio.ensure_future(self._batch(short))  # the next one is read while this one is stored
        try:
            while short:
                found_now = await ahead
                batch, short = short[: len(found_now)], short[len(found_now) :]
                if short:
                    ahead = asyncio.ensure_future(self._batch(short))
                await self._take(batch, found_now)
        finally:
            ahead.cancel()

    async def _batch(self, waiting: Sequence[tuple[bytes, Found]]) -> list[Read]:
        size, number = 0, 0
        for _path, found in waiting[:BATCH_FILES]:
            number += 1
            size += found.size
            if size > BATCH_BYTES:
                break
        paths = [path for path, _ in waiting[:number]]
        return await bulk.read_files(self._tppd, rows.ROOT, paths) if paths else []

    async def _take(self, batch: Sequence[tuple[bytes, Found]], read: Sequence[Read]) -> None:
        hashes = iter(await self._writer.store([one.data for one in read if not one.errno]))
        for (path, before), one in zip(batch, read, strict=True):
            if one.errno == errno.EFBIG:  # it grew meanwhile
                self._seen.settle(path, await self._long(path, one.found))
            elif one.errno in _GONE:
                self._seen.settle(path, None)
            elif one.errno:
                self._seen.left.append(Left(path, f"it may not be read: {os.strerror(one.errno)}"))
                self._seen.settle(path, Entry(before.mode, before.size, None))
            else:
                stamp = one.found.stamp if one.settled else None
                self._seen.settle(path, Entry(one.found.mode, len(one.data), stamp, next(hashes)))
                self.previews[path] = rows.preview(path, one.data)

    async def _long(self, path: bytes, walked: Found) -> Entry | None:
        """A file that does not fit into one answer; None: it is gone."""
        if walked.size > FILE_BYTES:
            self._seen.left.append(
                Left(path, f"{walked.size:,} bytes: more than {FILE_BYTES:,} are not kept")
            )
            return Entry(walked.mode, walked.size, None)
        try:
            before = await bulk.read_numbers(self._tppd, rows.ROOT, path)
            if before is None:
                return None
            hash, length = await self._writer.store_stream(self._pieces(path))
            after = await bulk.read_numbers(self._tppd, rows.ROOT, path)
        except (NotFound, FileProblem) as trouble:
            self._seen.left.append(Left(path, f"it could not be read: {trouble.detail}"))
            return Entry(stat.S_IFREG | (walked.mode & 0o7777), walked.size, None)
        settled = before == after and length == before.size
        return Entry(before.mode, length, before.stamp if settled else None, hash)

    async def _pieces(self, path: bytes) -> AsyncIterator[bytes]:
        at, place = 0, f"{rows.ROOT}/{os.fsdecode(path)}"
        while at <= 2 * FILE_BYTES:  # one that grows for ever has an end here
            _, data = await files.read(self._tppd, place, at, bulk.FILE_BYTES)
            at += len(data)
            if data:
                yield data
            if len(data) < bulk.FILE_BYTES:
                return
