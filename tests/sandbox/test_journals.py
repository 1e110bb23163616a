"""What running commands print stays within bounds: all of them together, and what the disk has left."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from actors.sandbox.tppd import journal
from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox

MIB = 1 << 20
LINE = b"0123456789abcde\n"


def on_disk(sandbox: Sandbox) -> int:
    total = 0
    for path in (Path(sandbox.run_dir) / "output").iterdir():
        for entry in os.scandir(path):
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat().st_size
    return total


async def test_streams_that_run_share_one_bound(make: Make) -> None:
    sandbox = await make(pids=1024, journal_bytes=32 * MIB)
    running = [await sandbox.begin("exec yes 0123456789abcde") for _ in range(24)]
    most = 0

    async def enough() -> bool:
        nonlocal most
        most = max(most, await asyncio.to_thread(on_disk, sandbox))
        ends = [journal.end(sandbox.run_dir, exec_id, "stdout") for exec_id in running]
        return min(ends) > 3 * MIB and sum(ends) > 160 * MIB

    await eventually(enough, timeout_s=120)
    await asyncio.gather(*(sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch) for exec_id in running))
    assert 16 * MIB < most < 48 * MIB  # first and last segments stay, even of those that began when few ran
    for exec_id in running:
        at, gap = 0, 0
        while (chunk := journal.read(sandbox.run_dir, exec_id, "stdout", at, MIB)).data:
            whole = LINE * (len(chunk.data) // 16 + 2)
            assert chunk.data == whole[chunk.offset % 16 :][: len(chunk.data)]
            at, gap = chunk.next_offset, gap + chunk.gap_bytes
        assert gap > 0
        assert journal.read(sandbox.run_dir, exec_id, "stdout", 0, 16).data == LINE


async def test_output_that_would_take_the_last_room_is_a_gap(make: Make) -> None:
    sandbox = await make(journal_floor_bytes=1 << 62)  # no disk is that large
    exec_id = await sandbox.begin("echo out; echo err >&2; exit 3")
    record = (await sandbox.tppd.wait(exec_id, timeout_s=30)).record
    assert (record.exit_code, record.out_bytes, record.err_bytes) == (3, 4, 4)
    for stream in ("stdout", "stderr"):
        chunk = journal.read(sandbox.run_dir, exec_id, stream)
        assert (chunk.offset, chunk.data, chunk.gap_bytes, chunk.next_offset) == (4, b"", 4, 4)
        assert journal.read(sandbox.run_dir, exec_id, stream, 4).gap_bytes == 0
    assert not (Path(sandbox.run_dir) / "output" / exec_id).exists()


async def test_the_middle_of_what_runs_can_be_taken(make: Make) -> None:
    sandbox = await make()
    exec_id = await sandbox.begin("yes 0123456789abcde | head -c 41943040; read line", stdin=True)
    await eventually(lambda: journal.end(sandbox.run_dir, exec_id, "stdout") == 40 * MIB, timeout_s=60)
    assert journal.thin(sandbox.run_dir, exec_id) == 24 * MIB
    assert journal.thin(sandbox.run_dir, exec_id) == 0
    chunk = journal.read(sandbox.run_dir, exec_id, "stdout", 8 * MIB, 16)
    assert (chunk.offset, chunk.gap_bytes, chunk.data) == (32 * MIB, 24 * MIB, LINE)
    await sandbox.tppd.stdin(exec_id, 0, b"\n", epoch=sandbox.epoch)
    assert (await sandbox.tppd.wait(exec_id, timeout_s=30)).record.out_bytes == 40 * MIB
