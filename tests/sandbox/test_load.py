"""Much output, many commands, readers that do not read."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.protocol import Connection, Op, Tag, number, payload
from terminalpp.types.ids import new_id
from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox

BOUND = 64 << 20


async def test_a_gigabyte_stays_within_the_bound_and_the_gap_is_told(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("yes 0123456789abcde | head -c 1073741824")
    record = (await sandbox.tppd.wait(exec_id, timeout_s=180)).record
    assert record.out_bytes == 1 << 30
    folder = Path(sandbox.run_dir) / "output" / exec_id
    assert sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.startswith("out.")) <= BOUND
    line, at, gaps, seen = b"0123456789abcde\n", 0, [], 0
    while chunk := journal.read(sandbox.run_dir, exec_id, "stdout", at, 1 << 20):
        if not chunk.data:
            break
        if chunk.gap_bytes:
            gaps.append((at, chunk.gap_bytes))
        whole = line * (len(chunk.data) // 16 + 2)
        assert chunk.data == whole[chunk.offset % 16 :][: len(chunk.data)]
        seen, at = seen + len(chunk.data), chunk.next_offset
    assert at == 1 << 30
    assert gaps == [(16 << 20, (1 << 30) - BOUND)]
    assert seen == BOUND
    journal.forget(sandbox.run_dir, exec_id)


async def test_two_hundred_at_once(make: Make) -> None:
    sandbox = await make(pids=1024)  # each is three processes: its supervisor, the shell and the sleep

    async def one(n: int) -> bytes:
        result = await sandbox.sh(f"echo {n}; sleep 0.2; echo {n} >&2; exit {n % 7}", wait_s=60)
        assert result.code == n % 7
        return result.out + result.err

    outputs = await asyncio.gather(*(one(n) for n in range(200)))
    assert outputs == [b"%d\n%d\n" % (n, n) for n in range(200)]

    async def gone() -> bool:  # the last supervisor ends a moment after its command
        return await sandbox.tppd.list() == []

    await eventually(gone)


async def test_a_wedged_client_holds_up_nobody(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("yes | head -c 100000000")
    wedged = await Connection.to(sandbox.run_dir)
    wedged._transport.pause_reading()
    wait = payload(Op.WAIT, 2, [(Tag.EXEC_ID, exec_id.encode()), (Tag.TIMEOUT_MS, number(60000))])
    for _ in range(20000):
        wedged.send(payload(Op.LIST, 1, []))
        wedged.send(wait)
    wedged._transport.write(b"\xff\xff")  # and half a frame
    assert (await sandbox.tppd.wait(exec_id, timeout_s=60)).record.out_bytes == 100_000_000
    assert (await sandbox.sh("echo alive")).text == "alive"
    wedged.close()


async def test_nonsense_ends_one_connection_only(sandbox: Sandbox) -> None:
    for junk in (b"\0\0\0\0", b"\xff" * 64, b"\x06\0\0\0\x02\0\0\0\0\x01", b"\x05\0\0\0\x63\0\0\0\0" * 3):
        other = await Connection.to(sandbox.run_dir)
        other._transport.write(junk)
        assert (await sandbox.tppd.hello()).epoch >= 0
        other.close()


async def test_many_ids_leave_nothing_behind_in_memory(make: Make) -> None:
    sandbox = await make()
    for _ in range(10):
        await asyncio.gather(*(sandbox.tppd.run(new_id(), ["true"], epoch=1, wait_s=20) for _ in range(50)))

    async def empty() -> bool:  # a shim ends a moment after its command
        return await sandbox.tppd.list() == []

    await eventually(empty)
    assert len(journal.list_ids(sandbox.run_dir)) == 500
    fresh = Tppd(sandbox.run_dir)
    done = journal.list_ids(sandbox.run_dir)[0]
    assert (await fresh.status(done)).record.exit_code == 0
    await fresh.close()
