"""Sandboxes: they outlive whoever started them, start once per generation, and their death is told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from actors.node import bubblewrap
from actors.node.driver import Driver, SandboxSpec, Started
from actors.sandbox.access import SandboxAccess
from actors.sandbox.link import LocalLink
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Tppd
from terminalpp.types.errors import Conflict, DeadlineExceeded, SandboxNotRunning
from terminalpp.types.ids import new_id
from terminalpp.types.states import ExecutionState
from tests.eventually import eventually
from tests.sandbox.conftest import ROOT, Make

CLIENT = """
import asyncio, sys
from actors.sandbox.tppd.client import Tppd
async def main():
    tppd = Tppd(sys.argv[1])
    await tppd.start("job", ["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"],
                     epoch=1)
    print("started", flush=True)
    await tppd.wait("job", timeout_s=60)
asyncio.run(main())
"""


async def test_started_twice_it_is_the_same(make: Make, driver: Driver) -> None:
    sandbox = await make()
    again = await asyncio.gather(*(driver.start(sandbox.spec) for _ in range(3)))
    assert {one.handle for one in again} == {sandbox.started.handle}
    assert await driver.inspect(sandbox.spec.sandbox_id) == sandbox.started
    assert Started.from_json(sandbox.started.to_json()) == sandbox.started
    assert sandbox.spec.sandbox_id in await driver.list()


async def test_a_frozen_sandbox_stands_still_is_found_and_goes_on(make: Make, driver: Driver) -> None:
    sandbox = await make()
    exec_id, id = await sandbox.begin("while :; do echo tick; sleep 0.01; done"), sandbox.spec.sandbox_id
    for _ in range(2):  # to freeze again is fine
        await driver.freeze(id, True)
    ticks = len(sandbox.output(exec_id))
    with pytest.raises(DeadlineExceeded):
        await sandbox.tppd.hello(timeout_s=0.3)
    assert len(sandbox.output(exec_id)) == ticks
    assert await driver.inspect(id) == sandbox.started
    for _ in range(2):
        await driver.freeze(id, False)

    async def ticked() -> bool:
        return len(sandbox.output(exec_id)) > ticks

    await eventually(ticked)
    await driver.freeze(id, True)
    await driver.stop(id)
    assert await driver.inspect(id) is None


async def test_the_log_of_many_starts_is_bounded(make: Make) -> None:
    sandbox = await make()
    if sandbox.driver.name != "bubblewrap":
        return  # the daemon keeps those of its containers
    log = Path(sandbox.started.run_dir).parent / "log"
    assert log.stat().st_size < bubblewrap.LOG_MAX_BYTES
    log.write_bytes(b"x" * bubblewrap.LOG_MAX_BYTES + b"y")
    await sandbox.driver.stop(sandbox.spec.sandbox_id)
    await sandbox.driver.start(replace(sandbox.spec, generation=sandbox.spec.generation + 1))
    assert b"x" not in log.read_bytes()


async def test_started_at_the_same_time_it_is_one(driver: Driver) -> None:
    spec = SandboxSpec(new_id())
    started = await asyncio.gather(*(driver.start(spec) for _ in range(4)))
    assert len({one.handle for one in started}) == 1
    await driver.remove(spec.sandbox_id)


async def test_a_command_survives_the_death_of_its_client(make: Make) -> None:
    sandbox = await make()
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, sandbox.run_dir], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert await asyncio.to_thread(client.stdout.readline) == b"started\n"
    client.kill()
    client.wait()
    record = (await sandbox.tppd.wait("job", timeout_s=20)).record
    assert record.exit_code == 0
    assert sandbox.output("job").split() == [b"%d" % i for i in range(1, 9)]


async def test_a_new_generation_tells_what_was_lost(make: Make, driver: Driver) -> None:
    sandbox = await make()
    done, lost = (
        await sandbox.begin("echo done"),
        await sandbox.begin("echo x >> ran; echo before; sleep 100"),
    )
    await sandbox.tppd.wait(done, timeout_s=10)
    await eventually(lambda: sandbox.output(lost) == b"before\n")
    await kill_hard(driver, sandbox.started)
    await eventually(lambda: driver_sees_nothing(driver, sandbox.spec.sandbox_id))
    with pytest.raises(SandboxNotRunning):
        await sandbox.tppd.status(lost)
    await driver.start(replace(sandbox.spec, generation=2))
    assert journal.outcome(sandbox.run_dir, done) is journal.Outcome.ENDED
    assert journal.outcome(sandbox.run_dir, lost) is journal.Outcome.LOST
    record = journal.exit_record(sandbox.run_dir, lost)
    assert (record.reason, record.state, record.out_bytes) == ("lost", ExecutionState.FAILED, 7)
    assert sandbox.output(lost) == b"before\n"
    assert (await sandbox.tppd.hello()).generation == 2
    again = await sandbox.begin("echo x >> ran; echo before; sleep 100", lost)
    assert again == lost
    assert (await sandbox.tppd.status(lost)).state == "lost"  # never run again
    assert await sandbox.tppd.read_file("ran") == b"x\n"  # the workspace is still there
    with pytest.raises(Conflict):
        await driver.start(sandbox.spec)


async def driver_sees_nothing(driver: Driver, sandbox_id: str) -> bool:
    return await driver.inspect(sandbox_id) is None


async def kill_hard(driver: Driver, started: Started) -> None:
    """End it from outside, as the kernel does when memory is short."""
    if started.handle.isdigit():
        os.kill(int(started.handle), signal.SIGKILL)
    else:
        subprocess.run(["docker", "kill", started.handle], check=True, stdout=subprocess.DEVNULL)


async def test_stop_keeps_and_remove_deletes(make: Make, driver: Driver) -> None:
    sandbox = await make()
    await sandbox.tppd.write_file("kept", b"1", epoch=1)
    exec_id = await sandbox.begin("sleep 100")
    await driver.stop(sandbox.spec.sandbox_id)
    await driver.stop(sandbox.spec.sandbox_id)
    assert await driver.inspect(sandbox.spec.sandbox_id) is None
    with pytest.raises(SandboxNotRunning):
        await sandbox.tppd.hello()
    await driver.start(replace(sandbox.spec, generation=2))
    assert journal.exit_record(sandbox.run_dir, exec_id).state in (
        ExecutionState.KILLED,
        ExecutionState.FAILED,
    )
    assert await sandbox.tppd.read_file("kept") == b"1"
    await sandbox.sh("mkdir -p ro/deep && touch ro/deep/f && chmod -R 500 ro")
    await driver.remove(sandbox.spec.sandbox_id)
    await driver.remove(sandbox.spec.sandbox_id)
    assert sandbox.spec.sandbox_id not in await driver.list()
    assert not Path(sandbox.run_dir).exists()
    assert await driver.inspect(new_id()) is None


async def test_an_access_asks_for_its_epoch_once_and_again_after_a_change(make: Make, driver: Driver) -> None:
    sandbox = await make()
    epochs = iter((1, 7, 7))
    asked = 0

    async def attach() -> dict[str, object]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return {"epoch": next(epochs)}

    access = SandboxAccess(LocalLink(sandbox.run_dir), attach)
    exec_id = await sandbox.begin("echo looked at")
    assert (await access.end(exec_id, 10)).exit_code == 0
    assert (await access.output(exec_id)).data == b"looked at\n"
    assert asked == 0, "looking needs no leave"
    await asyncio.gather(*(access.write_file(f"f{i}", b"x") for i in range(5)))
    assert asked == 1
    await sandbox.tppd.hello(7)  # another owner
    await asyncio.gather(*(access.write_file(f"g{i}", b"x") for i in range(5)))
    assert asked == 2
    assert len(await access.listdir(".")) == 10
    await driver.stop(sandbox.spec.sandbox_id)
    with pytest.raises(SandboxNotRunning):
        await access.listdir(".")
    assert asked == 3, "whoever attaches may start it; here nobody did"
    assert await access.processes() == []
    await access.close()


async def test_a_run_directory_of_an_earlier_version_is_taken_over(make: Make, driver: Driver) -> None:
    """There it belonged to the user's own account."""
    if driver.name != "bubblewrap" or os.getuid() != 0:
        return
    sandbox = await make()
    before = (await sandbox.sh("echo before > kept; echo before")).status.exec_id
    await driver.stop(sandbox.spec.sandbox_id)
    folder = Path(sandbox.run_dir).parent
    user = (folder / "home").stat().st_uid
    for path in (folder / "run", *(folder / "run").rglob("*")):
        os.chown(path, user, user)
    await driver.start(replace(sandbox.spec, generation=2))
    assert sandbox.output(before) == b"before\n"
    assert (await sandbox.tppd.status(before)).record.exit_code == 0
    assert (await sandbox.sh("cat kept; stat -c %u kept")).text == "before\n1000"
    assert (folder / "home" / "kept").stat().st_uid == user
    assert {path.stat().st_uid for path in (folder / "run").rglob("*")}.isdisjoint({user})


async def test_long_and_odd_homes(tppd_binary: Path, driver: Driver, tmp_path: Path) -> None:
    if driver.name != "bubblewrap":
        return
    home = tmp_path / ("a long name with spaces, 'quotes' and ünï " * 4).strip()
    other = type(driver)(home, tppd_binary)
    spec = SandboxSpec(new_id())
    started = await other.start(spec)
    tppd = Tppd(started.run_dir)
    assert len(started.run_dir) > 107
    assert (await tppd.hello()).generation == 1
    await tppd.close()
    await other.remove(spec.sandbox_id)
