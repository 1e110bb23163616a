"""Killing is complete: every process a command left, proven from inside and by the kernel."""

from __future__ import annotations

import pytest

from actors.sandbox.tppd import journal
from terminalpp.types.errors import NotFound
from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox

DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        for fd in range(3): os.close(fd)
        open("/home/user/daemon", "w").write(str(os.getpid()))
        while True: time.sleep(0.01)
    os._exit(0)
os.wait()
"""


async def processes(sandbox: Sandbox, name: str) -> int:
    """How many processes with this word in their arguments live inside."""
    found = await sandbox.sh(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done", wait_s=60
    )
    return sum(name in line for line in found.out.decode(errors="replace").splitlines())


async def test_a_whole_tree_with_daemons(sandbox: Sandbox) -> None:
    await sandbox.tppd.write_file("d.py", DAEMON.encode(), epoch=sandbox.epoch)
    exec_id = await sandbox.begin("python3 d.py; python3 d.py; sleep 7777 & (sleep 7777 & setsid sleep 7777)")
    await eventually(lambda: _exists(sandbox, "daemon"))
    await eventually(lambda: processes(sandbox, "sleep 7777"))
    await sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch)
    assert await processes(sandbox, "sleep 7777") == 0
    assert await processes(sandbox, "d.py") == 0
    assert exec_id not in await sandbox.tppd.list()
    await sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch)  # again is fine


async def _exists(sandbox: Sandbox, path: str) -> bool:
    try:
        return (await sandbox.tppd.stat(path)).kind == "file"
    except NotFound:
        return False


async def test_daemons_of_an_ended_command(sandbox: Sandbox) -> None:
    await sandbox.tppd.write_file("d.py", DAEMON.encode(), epoch=sandbox.epoch)
    result = await sandbox.sh("python3 d.py")
    assert not result.status.record.streams_open
    assert result.status.exec_id in await sandbox.tppd.list()
    await eventually(lambda: _exists(sandbox, "daemon"))
    await sandbox.tppd.kill_tree(result.status.exec_id, epoch=sandbox.epoch)
    assert await processes(sandbox, "d.py") == 0
    assert journal.exit_record(sandbox.run_dir, result.status.exec_id).exit_code == 0


async def test_one_tree_does_not_touch_another(sandbox: Sandbox) -> None:
    keep, drop = await sandbox.begin("sleep 8881"), await sandbox.begin("sleep 8882 & sleep 8882")
    await sandbox.tppd.kill_tree(drop, epoch=sandbox.epoch)
    assert (await sandbox.tppd.status(keep)).state == "running"
    assert (await sandbox.tppd.status(drop)).record.signal == 9
    await sandbox.tppd.kill_tree(keep, epoch=sandbox.epoch)


async def test_a_signal_to_the_tree(sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("setsid sleep 6661 & sleep 6661 & wait; echo done")
    await eventually(lambda: processes(sandbox, "sleep 6661"))
    await sandbox.tppd.signal(exec_id, 15, epoch=sandbox.epoch, tree=True)
    assert (await sandbox.tppd.wait(exec_id, timeout_s=10)).record is not None
    assert await processes(sandbox, "sleep 6661") == 0


async def begin_when_told(sandbox: Sandbox, script: str) -> str:
    """A command that kills its supervisor before that has told its pid is killed itself: this one waits."""
    exec_id = await sandbox.begin("until [ -e go ]; do sleep 0.02; done; " + script)
    await sandbox.tppd.write_file("go", b"", epoch=sandbox.epoch)
    return exec_id


async def test_a_command_that_kills_its_parent_is_still_found(make: Make) -> None:
    sandbox = await make()
    exec_id = await begin_when_told(sandbox, "kill -9 $PPID; setsid sleep 5551 & sleep 5551")
    await eventually(lambda: processes(sandbox, "sleep 5551"))
    assert (await sandbox.tppd.status(exec_id)).state == "running"
    await sandbox.tppd.kill_tree(exec_id, epoch=1)
    assert await processes(sandbox, "sleep 5551") == 0
    assert (await sandbox.tppd.status(exec_id)).record.signal == 9


async def test_killing_everything_ends_only_commands(make: Make) -> None:
    sandbox = await make()
    other = await sandbox.begin("sleep 60")
    exec_id = await begin_when_told(sandbox, "kill -9 -1; kill -9 1; kill -TERM 1; sleep 0.2; exit 7")
    assert (await sandbox.tppd.wait(exec_id, timeout_s=10)).record.exit_code == 7
    assert (await sandbox.tppd.wait(other, timeout_s=10)).record.signal == 9
    assert (await sandbox.sh("echo alive")).text == "alive"


@pytest.mark.parametrize("bomb", [":(){ :|:& };:", "while :; do setsid sh -c 'sleep 0.01; sleep 99' & done"])
async def test_a_fork_bomb_is_held_and_killed(make: Make, bomb: str) -> None:
    sandbox = await make(pids=80)
    exec_id = await sandbox.tppd.start("bomb", ["bash", "-c", bomb + " ; wait"], epoch=1)
    assert exec_id.created

    async def full() -> bool:
        return b"fork" in sandbox.output("bomb", "stderr")

    await eventually(full, timeout_s=30)
    await sandbox.tppd.kill_tree("bomb", epoch=1, timeout_s=60)
    assert (await sandbox.sh("echo alive")).text == "alive"
    assert await processes(sandbox, "sleep 99") == 0
