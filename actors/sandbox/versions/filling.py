"""Carrying a plan out: entries made and taken away by tppd, contents from the store to the files."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import Sequence

from actors.sandbox.tppd import bulk
from actors.sandbox.tppd.bulk import Item
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.versions import contents, rows
from actors.sandbox.versions.objects import Objects
from actors.sandbox.versions.plan import Plan
from actors.sandbox.versions.tree import Entry, joined
from runtime import Context

LANES = ("versions", "versions 2")  # processes inside that write at once
Filled = tuple[bytes, Entry, bytes | None]  # a file's path, what it becomes, what is expected there
AHEAD = 3  # writes under way or waiting, of some megabytes each


async def carry_out(steps: Plan, tppd: Tppd, context: Context, objects: Objects) -> list[tuple[bytes, int]]:
    """All stages in order; what could not be done, with the errno. Raises what tppd and the store raise."""
    epoch, failed = context.fence.epoch, []
    for stage in steps.stages:
        failed += await bulk.write_files(tppd, rows.ROOT, stage, epoch=epoch)
    failed += await _fill(tppd, epoch, steps.files, context, objects)
    failed += await bulk.write_files(tppd, rows.ROOT, steps.modes, epoch=epoch)
    return [(item.path, errno) for item, errno in failed]


async def _fill(
    tppd: Tppd, epoch: int, files: Sequence[Filled], context: Context, objects: Objects
) -> list[tuple[Item, int]]:
    """Write the files; a content that several have is read once."""
    places: dict[str, list[Filled]] = {}
    for one in files:
        assert one[1].hash is not None
        places.setdefault(one[1].hash, []).append(one)
    short = [hash for hash, at in places.items() if at[0][1].size <= contents.PIECE_BYTES]
    failed: list[tuple[Item, int]] = []
    lanes: asyncio.Queue[str] = asyncio.Queue()
    for name in LANES:
        lanes.put_nowait(name)

    async def write(items: list[Item]) -> None:
        lane = await lanes.get()
        try:
            failed.extend(await bulk.write_files(tppd, rows.ROOT, items, epoch=epoch, lane=lane))
        finally:
            lanes.put_nowait(lane)

    ahead = asyncio.Semaphore(AHEAD)
    async with asyncio.TaskGroup() as writing:
        async for some in contents.read(context.database, objects, short):
            await ahead.acquire()
            items = [
                Item(path, entry.mode, data, expects)
                for hash, data in some
                for path, entry, expects in places[hash]
            ]
            writing.create_task(write(items)).add_done_callback(lambda _: ahead.release())
    for hash, at in places.items():
        for path, entry, expects in at if at[0][1].size > contents.PIECE_BYTES else ():
            pieces = contents.stream(context.database, objects, hash)
            # Beside it first: only many files at once are made on a condition.
            aside = joined(path.rpartition(b"/")[0], bulk.ASIDE + secrets.token_hex(8).encode())
            place = f"{rows.ROOT}/{os.fsdecode(aside)}"
            await tppd.write_stream(place, pieces, entry.mode & 0o7777, epoch=epoch, parents=False)
            item = Item(path, stat.S_IFREG, aside, expects, moved=True)
            failed += await bulk.write_files(tppd, rows.ROOT, [item], epoch=epoch)
    return failed
