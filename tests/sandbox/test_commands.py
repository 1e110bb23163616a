"""Commands: started once, their end and their output on the record, input by offset."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.sandbox.tppd import journal
from terminalpp.types.errors import (
    CommandFinished,
    CommandNotStarted,
    Conflict,
    DeadlineExceeded,
    Fenced,
    InvalidInput,
    NotFound,
    OffsetMismatch,
)
from terminalpp.types.ids import new_id
from terminalpp.types.states import ExecutionState
from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox


@pytest.mark.parametrize("code", [0, 1, 42, 255])
async def test_exit_codes(sandbox: Sandbox, code: int) -> None:
    result = await sandbox.sh(f"exit {code}")
    assert result.code == code
    assert result.status.record.state is ExecutionState.COMPLETED
    assert result.status.record.signal is None


async def test_output_streams_are_apart_or_merged(sandbox: Sandbox) -> None:
    result = await sandbox.sh("echo out; echo err >&2")
    assert (result.out, result.err) == (b"out\n", b"err\n")
    merged = await sandbox.sh("echo out; echo err >&2; echo more", merge=True)
    assert (merged.out, merged.err) == (b"out\nerr\nmore\n", b"")
    assert merged.status.record.out_bytes == 13


async def test_environment_and_directory(sandbox: Sandbox) -> None:
    result = await sandbox.sh('echo "$A|$HOME|$USER|$(pwd)"', env={"A": "x y\n'z"})
    assert result.out == b"x y\n'z|/home/user|user|/home/user\n"
    await sandbox.tppd.mkdir("deep/er", epoch=sandbox.epoch)
    assert (await sandbox.sh("pwd", cwd="deep/er")).text == "/home/user/deep/er"
    assert (await sandbox.sh("pwd", cwd="/tmp")).text == "/tmp"


async def test_a_signal_is_told_apart_from_an_exit_code(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("exec sleep 100")
    await sandbox.tppd.signal(exec_id, signal.SIGTERM, epoch=sandbox.epoch)
    record = (await sandbox.tppd.wait(exec_id, timeout_s=10)).record
    assert (record.signal, record.exit_code, record.state) == (15, None, ExecutionState.KILLED)
    trapped = await sandbox.begin("trap 'echo got; exit 3' INT; echo ready; while :; do sleep 0.05; done")
    await eventually(lambda: sandbox.output(trapped) == b"ready\n")
    await sandbox.tppd.signal(trapped, signal.SIGINT, epoch=sandbox.epoch)
    assert (await sandbox.tppd.wait(trapped, timeout_s=10)).record.exit_code == 3
    with pytest.raises(CommandFinished):
        await sandbox.tppd.signal(trapped, signal.SIGINT, epoch=sandbox.epoch)
    with pytest.raises(InvalidInput):
        await sandbox.tppd.signal(await sandbox.begin("sleep 1"), 99, epoch=sandbox.epoch)


async def test_the_same_id_starts_once(sandbox: Sandbox) -> None:
    exec_id, argv = new_id(), ["/bin/sh", "-c", "echo x >> /home/user/count; sleep 0.1"]
    first = await asyncio.gather(*(sandbox.tppd.start(exec_id, argv, epoch=sandbox.epoch) for _ in range(20)))
    assert [s.created for s in first].count(True) == 1
    await sandbox.tppd.wait(exec_id, timeout_s=10)
    again = await sandbox.tppd.start(exec_id, argv, epoch=sandbox.epoch)
    assert (again.state, again.created, again.record.exit_code) == ("ended", False, 0)
    assert await sandbox.tppd.read_file("count") == b"x\n"


async def test_the_same_id_for_something_else_is_a_conflict(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("sleep 0.3")
    with pytest.raises(Conflict):
        await sandbox.begin("sleep 0.4", exec_id)
    await sandbox.tppd.wait(exec_id, timeout_s=10)
    with pytest.raises(Conflict):
        await sandbox.begin("sleep 0.4", exec_id)


async def test_what_cannot_start_is_said_and_recorded(sandbox: Sandbox) -> None:
    exec_id = new_id()
    for _ in range(2):
        with pytest.raises(CommandNotStarted, match="No such file"):
            await sandbox.tppd.run(exec_id, ["no-such-program"], epoch=sandbox.epoch, wait_s=5)
        record = journal.exit_record(sandbox.run_dir, exec_id)
        assert record.reason == "not-started"
        assert record.state is ExecutionState.FAILED
    with pytest.raises(CommandNotStarted, match="directory"):
        await sandbox.tppd.start(new_id(), ["true"], epoch=sandbox.epoch, cwd="nowhere")
    with pytest.raises(CommandNotStarted, match="Permission denied"):
        await sandbox.tppd.start(new_id(), ["/etc/passwd"], epoch=sandbox.epoch)


async def test_unknown_and_malformed_ids(sandbox: Sandbox) -> None:
    with pytest.raises(NotFound):
        await sandbox.tppd.status(new_id())
    with pytest.raises(NotFound):
        await sandbox.tppd.kill_tree(new_id(), epoch=sandbox.epoch)
    for bad in ("", "../x", ".x", "a/b", "a" * 65, "é"):
        with pytest.raises(InvalidInput):
            await sandbox.tppd.status(bad)


async def test_output_is_binary_exact_by_offset(sandbox: Sandbox) -> None:
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 5000)"
    await sandbox.tppd.write_file("p.py", program.encode(), epoch=sandbox.epoch)
    result = await sandbox.sh("python3 p.py")
    whole = bytes(range(256)) * 5000
    assert result.out == whole
    for offset in (0, 1, 255, 100_000, len(whole) - 1, len(whole), len(whole) + 10):
        chunk = journal.read(sandbox.run_dir, result.status.exec_id, "stdout", offset, 1000)
        assert chunk.data == whole[offset : offset + 1000]
        assert chunk.next_offset == offset + len(chunk.data)


async def test_output_is_there_while_it_runs(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("read x; echo one; read x; echo two >&2; read x", stdin=True)
    access = sandbox.access()
    seen: list[tuple[str, bytes]] = []
    offset = 0

    async def follow() -> None:
        async for piece in access.follow(exec_id):
            seen.append((piece.stream, piece.chunk.data))

    following = asyncio.create_task(follow())
    for expected in (("stdout", b"one\n"), ("stderr", b"two\n")):
        offset = await sandbox.tppd.stdin(exec_id, offset, b"go\n", epoch=sandbox.epoch)
        await eventually(lambda e=expected: e in seen)
    assert not following.done()
    await sandbox.tppd.stdin(exec_id, offset, b"", epoch=sandbox.epoch, eof=True)
    async with asyncio.timeout(10):
        await following
    assert (await access.end(exec_id, 5)).exit_code == 1  # read at the end of its input
    await access.close()


async def test_input_is_taken_once_per_offset(sandbox: Sandbox) -> None:
    held = "cat; until [ -e go ]; do sleep 0.05; done"  # what has ended is known no more
    exec_id, send = await sandbox.begin(held, stdin=True), sandbox.tppd.stdin
    assert await send(exec_id, 0, b"hello ", epoch=sandbox.epoch) == 6
    assert await send(exec_id, 0, b"hello ", epoch=sandbox.epoch) == 6
    assert await send(exec_id, 3, b"lo world", epoch=sandbox.epoch) == 11
    with pytest.raises(OffsetMismatch) as raised:
        await send(exec_id, 20, b"beyond", epoch=sandbox.epoch)
    assert raised.value.extra["expected"] == 11
    for _ in range(2):
        assert await send(exec_id, 11, b"!", epoch=sandbox.epoch, eof=True) == 12
    await sandbox.tppd.write_file("go", b"", epoch=sandbox.epoch)
    assert (await sandbox.tppd.wait(exec_id, timeout_s=10)).record.exit_code == 0
    assert sandbox.output(exec_id) == b"hello world!"
    with pytest.raises(CommandFinished):
        await send(exec_id, 12, b"late", epoch=sandbox.epoch)


async def test_large_input_and_a_program_that_reads_none(sandbox: Sandbox) -> None:
    exec_id, data = await sandbox.begin("wc -c", stdin=True), bytes(5_000_000)
    await sandbox.tppd.stdin(exec_id, 0, data, epoch=sandbox.epoch, eof=True)
    await sandbox.tppd.wait(exec_id, timeout_s=10)
    assert sandbox.output(exec_id).strip() == b"5000000"
    idle = await sandbox.begin("sleep 60", stdin=True)
    with pytest.raises(DeadlineExceeded):
        await sandbox.tppd.stdin(idle, 0, data, epoch=sandbox.epoch, timeout_s=2)
    await sandbox.tppd.kill_tree(idle, epoch=sandbox.epoch)
    with pytest.raises(CommandFinished):
        await sandbox.tppd.stdin(await sandbox.begin("cat"), 0, b"x", epoch=sandbox.epoch)


async def test_without_input_there_is_none(sandbox: Sandbox) -> None:
    assert (await sandbox.sh("cat; echo end")).out == b"end\n"


async def test_waiting_ends_at_its_time(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("echo x; sleep 60")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    status = await sandbox.tppd.wait(exec_id, timeout_s=0.2)
    assert status.state == "running"
    assert 0.15 < loop.time() - begun < 5
    output = await sandbox.tppd.wait(exec_id, timeout_s=10, until="output")
    assert (output.state, output.out_end) == ("running", 2)
    await sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch)


async def test_an_older_owner_is_refused(sandbox: Sandbox) -> None:
    old, sandbox.epoch = sandbox.epoch, sandbox.epoch + 1
    exec_id = await sandbox.begin("sleep 60", stdin=True)
    tppd = sandbox.tppd
    with pytest.raises(Fenced):
        await tppd.start(new_id(), ["true"], epoch=old)
    with pytest.raises(Fenced):
        await tppd.stdin(exec_id, 0, b"x", epoch=old)
    with pytest.raises(Fenced):
        await tppd.signal(exec_id, 9, epoch=old)
    with pytest.raises(Fenced):
        await tppd.kill_tree(exec_id, epoch=old)
    with pytest.raises(Fenced):
        await tppd.write_file("f", b"x", epoch=old)
    with pytest.raises(Fenced):
        await tppd.hello(old)
    assert (await tppd.status(exec_id)).state == "running"
    await tppd.kill_tree(exec_id, epoch=sandbox.epoch)
    sandbox.epoch += 1  # a newer epoch in a file operation shuts the older out as well
    await tppd.write_file("f", b"x", epoch=sandbox.epoch)
    with pytest.raises(Fenced):
        await tppd.start(new_id(), ["true"], epoch=sandbox.epoch - 1)


async def test_a_background_job_does_not_hold_the_end(sandbox: Sandbox) -> None:
    result = await sandbox.sh("(sleep 0.6; echo later) & echo now")
    record = result.status.record
    assert record.streams_open
    assert record.out_bytes == 4
    await eventually(lambda: sandbox.output(result.status.exec_id) == b"now\nlater\n")
    assert journal.exit_record(sandbox.run_dir, result.status.exec_id) == record


async def shims_of(sandbox: Sandbox) -> Callable[[], int]:
    """What counts this sandbox's processes that stand between tppd and a command."""
    inside = (await sandbox.sh("readlink /proc/self/ns/pid")).text
    assert inside.startswith("pid:["), inside

    def shims() -> int:
        found = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "comm").read_bytes() == b"tppd-shim\n":
                    found += os.readlink(process / "ns/pid") == inside
        return found

    return shims


async def test_prepared_is_not_started(make: Make) -> None:
    sandbox = await make()
    tppd, exec_id = sandbox.tppd, new_id()
    shims = await shims_of(sandbox)
    fields = await tppd.prepare(exec_id, ["/bin/sh", "-c", "echo ran >> ran"], epoch=1)
    await eventually(lambda: shims() == 1)
    assert journal.outcome(sandbox.run_dir, exec_id) is journal.Outcome.NOT_STARTED
    assert await tppd.list() == []
    for refused in (tppd.status(exec_id), tppd.signal(exec_id, 9, epoch=1), tppd.kill_tree(exec_id, epoch=1)):
        with pytest.raises(NotFound):
            await refused
    status = await tppd.run_prepared(exec_id, fields, 10)
    assert status.record.exit_code == 0
    again = await tppd.run_prepared(exec_id, fields, 10)
    assert (again.record, await tppd.read_file("ran")) == (status.record, b"ran\n")
    await tppd.prepare(exec_id, ["/bin/sh", "-c", "echo ran >> ran"], epoch=1)
    await eventually(lambda: shims() == 0)  # what has run is not prepared again


async def test_what_is_prepared_goes_when_no_start_comes(make: Make) -> None:
    sandbox = await make()
    shims = await shims_of(sandbox)
    for _ in range(20):  # more than are held
        await sandbox.tppd.prepare(new_id(), ["true"], epoch=1)
    await eventually(lambda: shims() == 16)
    assert (await sandbox.sh("exit 3")).code == 3
    await eventually(lambda: shims() == 0, timeout_s=15)


async def test_prepared_for_another_command_or_killed(make: Make) -> None:
    sandbox = await make()
    exec_id = new_id()
    await sandbox.tppd.prepare(exec_id, ["/bin/sh", "-c", "exit 1"], epoch=1)
    await sandbox.begin("exit 7", exec_id)
    assert (await sandbox.tppd.wait(exec_id, timeout_s=10)).record.exit_code == 7
    fields = await sandbox.tppd.prepare(other := new_id(), ["/bin/sh", "-c", "exit 4"], epoch=1)
    await sandbox.sh("for p in /proc/[0-9]*; do grep -q tppd-shim $p/comm && kill -9 ${p#/proc/}; done; true")
    status = await sandbox.tppd.run_prepared(other, fields, 10)
    assert status.state == "ended"  # anew, or as killed where the account may kill shims
    assert (await sandbox.sh("echo alive")).text == "alive"


async def test_an_older_owner_prepares_nothing(make: Make) -> None:
    sandbox = await make()
    shims = await shims_of(sandbox)
    await sandbox.tppd.hello(5)
    fields = await sandbox.tppd.prepare(exec_id := new_id(), ["true"], epoch=4)
    with pytest.raises(Fenced):
        await sandbox.tppd.run_prepared(exec_id, fields, 10)
    await eventually(lambda: shims() == 0)
