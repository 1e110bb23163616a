"""How commands end and what they leave: time limits, want of memory, open streams, leftovers, refusals."""

from __future__ import annotations

import asyncio
import os
import resource
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.protocol import Connection, Op
from terminalpp.types.errors import CommandFinished, CommandNotStarted, DiskFull, Fenced, Overloaded
from terminalpp.types.ids import new_id
from terminalpp.types.states import ExecutionState
from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox


@pytest.fixture
async def bare(tppd_binary: Path, tmp_path: Path) -> AsyncIterator[tuple[Tppd, int]]:
    """tppd without a sandbox around it, so that its limits can be changed; with its pid."""
    process = subprocess.Popen([tppd_binary, "--run", tmp_path, "--home", tmp_path, "--generation", "1"])
    await eventually(lambda: (tmp_path / "ctl.sock").exists())
    tppd = Tppd(tmp_path)
    yield tppd, process.pid
    await tppd.kill_all(epoch=99)
    await tppd.close()
    process.kill()
    process.wait()


# ---- time limits --------------------------------------------------------------------------------


async def test_time_is_up(sandbox: Sandbox) -> None:
    result = await sandbox.sh("sleep 300 & echo begun; sleep 300", timeout_ms=300)
    record = result.status.record
    assert (record.reason, record.signal, record.state) == ("timeout", 15, ExecutionState.KILLED)
    assert result.out == b"begun\n"
    await eventually(lambda: names(sandbox, result.status.exec_id, empty=True))  # nor what it left


async def test_what_ignores_the_first_signal_is_killed(sandbox: Sandbox) -> None:
    result = await sandbox.sh("trap '' TERM; setsid sleep 300 & while :; do sleep 1; done", timeout_ms=200)
    assert (result.status.record.reason, result.status.record.signal) == ("timeout", 9)
    await eventually(lambda: names(sandbox, result.status.exec_id, empty=True))


async def test_one_that_ends_by_itself_when_told(sandbox: Sandbox) -> None:
    result = await sandbox.sh("trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done", timeout_ms=300)
    record = result.status.record
    assert (record.reason, record.exit_code, record.state) == ("timeout", 0, ExecutionState.KILLED)
    assert result.out == b"bye\n"


async def test_who_is_in_time_is_left_alone(sandbox: Sandbox) -> None:
    result = await sandbox.sh("sleep 300 > /dev/null 2>&1 & exit 3", timeout_ms=400)
    assert (result.code, result.status.record.reason) == (3, "exited")
    await sandbox.sh("sleep 0.6")
    assert await names(sandbox, result.status.exec_id) == ["sleep"]
    await sandbox.tppd.kill_tree(result.status.exec_id, epoch=sandbox.epoch)


# ---- streams that stay open ---------------------------------------------------------------------


async def test_the_end_of_the_output_has_its_own_record(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("mkfifo gate; (read x < gate; echo late) & echo early")
    ended = (await sandbox.tppd.wait(exec_id, timeout_s=10)).record
    assert ended.streams_open
    assert not journal.closed(sandbox.run_dir, exec_id)
    assert not (await sandbox.tppd.status(exec_id)).closed
    waiting = asyncio.create_task(sandbox.tppd.wait(exec_id, timeout_s=10, until="closed"))
    await sandbox.sh("echo > gate")
    status = await waiting
    assert (status.closed, status.record) == (True, ended)
    assert journal.closed(sandbox.run_dir, exec_id)
    assert journal.exit_record(sandbox.run_dir, exec_id) == ended
    assert sandbox.output(exec_id) == b"early\nlate\n"
    assert (await sandbox.tppd.status(exec_id)).closed


async def test_following_goes_on_to_the_end_of_the_streams(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("(sleep 0.6; echo late) & echo early")
    access = sandbox.access()
    seen = [piece.chunk.data async for piece in access.follow(exec_id)]
    assert b"".join(seen) == b"early\nlate\n"
    await access.close()


# ---- what a command leaves behind ---------------------------------------------------------------


async def names(sandbox: Sandbox, exec_id: str, *, empty: bool = False) -> list[str] | bool:
    """Names of the processes that the command left."""
    found = [one.name for one in await sandbox.tppd.processes() if one.exec_id == exec_id]
    return not found if empty else found


async def test_leftovers_are_listed_with_their_command_and_can_be_ended(sandbox: Sandbox) -> None:
    first = await sandbox.sh("setsid nohup sleep 983 > /dev/null 2>&1 & sh -c 'sleep 984' > /dev/null 2>&1 &")
    exec_id = first.status.exec_id
    sleep = await eventually(lambda: listed(sandbox, ["sleep", "983"]))
    assert (sleep.exec_id, sleep.name) == (exec_id, "sleep")
    assert sleep.state in "SRD"
    assert sleep.memory_bytes > 0
    assert abs(sleep.started_at_ms - first.status.record.started_at_ms) < 5000
    await sandbox.tppd.signal(exec_id, signal.SIGTERM, epoch=sandbox.epoch, tree=True)
    await eventually(lambda: names(sandbox, exec_id, empty=True))
    with pytest.raises(CommandFinished):
        await sandbox.tppd.signal(exec_id, signal.SIGTERM, epoch=sandbox.epoch, tree=True)


async def listed(sandbox: Sandbox, argv: list[str]):
    return next((one for one in await sandbox.tppd.processes() if one.argv == argv), None)


async def test_processor_time_is_counted(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("while :; do :; done")

    async def busy():
        return [p for p in await sandbox.tppd.processes() if p.exec_id == exec_id and p.cpu_ms >= 100]

    assert (await eventually(busy))[0].state == "R"
    assert await sandbox.tppd.kill_all(epoch=sandbox.epoch) >= 1
    assert (await sandbox.tppd.wait(exec_id, timeout_s=10)).record.signal == 9


async def test_a_fork_bomb_is_ended_as_a_whole(make: Make) -> None:
    sandbox = await make(pids=100)
    bomb = "b() { sh -c 'sleep 500' & b & b; }; b"
    # One command for both, as the first bomb leaves no process to start the other.
    daemon = f"setsid sh -c {shlex.quote(bomb)}"
    await sandbox.begin(f"({bomb}) > said 2>&1 & {daemon} >> said 2>&1 & exit 0")
    names: list[str] = []

    async def many() -> bool:
        names[:] = [one.name for one in await sandbox.tppd.processes()]
        return len(names) > 20

    try:
        await eventually(many, 30)
    except AssertionError:
        said = (await sandbox.tppd.read_file("said"))[-500:]
        raise AssertionError(f"the bomb did not grow: {names}; it said {said!r}") from None
    with pytest.raises(Fenced):
        await sandbox.tppd.kill_all(epoch=0)
    assert await sandbox.tppd.kill_all(epoch=1) > 0
    assert await sandbox.tppd.processes() == []
    assert (await sandbox.sh("echo alive")).text == "alive"


async def test_many_leftovers_go_at_once(make: Make) -> None:
    sandbox = await make(pids=500)
    for _ in range(3):
        await sandbox.sh("i=0; while [ $i -lt 50 ]; do sleep 900 & i=$((i+1)); done > /dev/null 2>&1")
    assert await sandbox.tppd.kill_all(epoch=1) == 150
    assert await sandbox.tppd.processes() == []


# ---- memory -------------------------------------------------------------------------------------


async def test_a_kill_for_want_of_memory_is_named(make: Make) -> None:
    sandbox = await make(memory_bytes=64 << 20)
    if "cgroup" not in sandbox.started.limits["memory"] and sandbox.driver.name == "bubblewrap":
        pytest.skip("no group limits memory here, so the kernel kills nothing")
    eat = "exec python3 -c 'x = [bytearray(1 << 20) for _ in range(400)]'"
    result = await sandbox.sh(eat)
    record = result.status.record
    assert (record.reason, record.signal, record.state) == ("out-of-memory", 9, ExecutionState.KILLED)
    behind = await sandbox.sh(eat.removeprefix("exec ") + "; exit $?")
    assert (behind.status.record.reason, behind.code) == ("out-of-memory", 137)
    killed = await sandbox.sh("kill -9 $$")
    assert (killed.status.record.reason, killed.status.record.signal) == ("signalled", 9)


# ---- refusals -----------------------------------------------------------------------------------

REFUSED = (Overloaded, CommandNotStarted)  # no process for the shim, or none for the command


async def test_a_refused_start_is_final_although_it_was_prepared(make: Make) -> None:
    sandbox = await make(pids=24)
    while True:
        try:
            await sandbox.begin("exec sleep 500")
        except REFUSED:
            break
    argv = ["/bin/sh", "-c", "touch /home/user/ran"]
    fields = await sandbox.tppd.prepare(exec_id := new_id(), argv, epoch=1)
    with pytest.raises(REFUSED):
        await sandbox.tppd.run_prepared(exec_id, fields, 5)
    await sandbox.tppd.kill_all(epoch=1)
    record = journal.exit_record(sandbox.run_dir, exec_id)
    assert record is None or record.reason == "not-started"
    assert (await sandbox.sh("test -e /home/user/ran")).code == 1


async def test_a_full_disk_refuses_what_it_cannot_record_and_nothing_else(
    bare: tuple[Tppd, int], tmp_path: Path
) -> None:
    """Writes fail as on a full disk; an older owner stays shut out although that cannot be stored."""
    (tppd, pid), run_dir = bare, tmp_path
    running = new_id()
    await tppd.start(running, ["sh", "-c", "read x; echo got; exit 4"], epoch=1, stdin=True)
    whole = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, whole[1]))
    refused = new_id()
    for _ in range(2):
        with pytest.raises(DiskFull):
            await tppd.start(refused, ["true"], epoch=1)
    assert (await tppd.hello(2)).epoch == 2
    with pytest.raises(DiskFull):
        await tppd.start(refused, ["true"], epoch=2)
    with pytest.raises(Fenced):
        await tppd.signal(running, 9, epoch=1)
    assert await tppd.stdin(running, 0, b"\n", epoch=2) == 1
    status = await tppd.wait(running, timeout_s=10)
    assert (status.state, status.record.exit_code, status.closed) == ("ended", 4, True)
    assert journal.exit_record(run_dir, running) is None  # it waits for space
    resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)
    record = await eventually(lambda: journal.exit_record(run_dir, running))
    assert record == status.record
    assert (await tppd.run(refused, ["true"], epoch=2, wait_s=10)).record.exit_code == 0
    assert (run_dir / "epoch").read_text() == "2\n"


async def test_without_a_descriptor_for_a_client_it_waits_at_no_cost(
    bare: tuple[Tppd, int], tmp_path: Path
) -> None:
    (tppd, pid), run_dir = bare, tmp_path
    await tppd.hello()
    used = len(os.listdir(f"/proc/{pid}/fd"))
    whole = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, whole[1]))
    other = await Connection.to(run_dir)  # in the queue of the socket: nobody can take it
    before, loop = ticks(pid), asyncio.get_running_loop()
    until = loop.time() + 0.5
    await eventually(lambda: loop.time() > until)
    assert ticks(pid) - before < 20  # of 50: it spins at 100 %
    assert (await tppd.hello()).generation == 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, whole)
    assert (await other.request(Op.HELLO, [], 10)).status == 0
    other.close()


def ticks(pid: int) -> int:
    """Processor time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
