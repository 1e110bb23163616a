"""A paused sandbox stands still and says so at once; nothing but a person or its end resumes it."""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.sandbox.tppd import journal
from schema import executions, sandboxes
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from tests.eventually import eventually

AT_ONCE_SECONDS = 5.0  # of a machine that others use too; without the refusal it is 30


async def paused(cell, sandbox):
    await cell.send(sandbox, "pause")
    now = await cell.call(sandbox, "settled")
    assert (now["status"], now["paused"], now["status_detail"]) == ("running", True, "paused")


async def test_everything_is_refused_at_once_and_goes_on_after_it(cell, sandbox, database):
    access, exec_id = cell.access(sandbox), new_id()
    await access.write_file("/home/user/before", b"x")
    await cell.sh(sandbox, "while :; do echo tick; sleep 0.01; done", exec_id=exec_id, wait_ms=0)
    await paused(cell, sandbox)
    assert (await sandboxes.get(database, sandbox)).paused
    run_dir = (await cell.call(sandbox, "status"))["run_dir"]
    ticks = journal.end(run_dir, exec_id, "stdout")
    begun = time.monotonic()
    new = {"exec_id": new_id(), "command": "true", "wait_ms": 0}
    for ask in (cell.call(sandbox, "run", **new), cell.call(sandbox, "attach"), cell.send(sandbox, "start"),
                cell.call(sandbox, "kill", exec_id=exec_id), access.read_file("/home/user/before"),
                access.write_file("/home/user/more", b"x"), access.processes(),
                access.stdin(exec_id, 0, b"x"),
                cell.call(sandbox, "snapshot", snapshot_id=new_id(), name="one")):
        with pytest.raises(errors.SandboxPaused) as refused:
            await ask
        assert "resume" in refused.value.next_step
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    await cell.remind(database, sandbox, "tend")  # it is not taken for dead, nor put to sleep
    assert (await cell.call(sandbox, "status"))["paused"]
    assert journal.end(run_dir, exec_id, "stdout") == ticks
    for _ in range(2):
        await cell.send(sandbox, "resume")
    assert not (await cell.call(sandbox, "settled"))["paused"]
    assert not (await sandboxes.get(database, sandbox)).paused
    assert await access.read_file("/home/user/before") == b"x"
    assert (await executions.get(database, exec_id)).status == "running"

    async def ticked():
        return journal.end(run_dir, exec_id, "stdout") > ticks

    await eventually(ticked)
    assert (await cell.sh(sandbox, "echo hello"))["stdout"] == "hello\n"
    await access.close()


@pytest.mark.parametrize("verb", ["stop", "restart", "destroy"])
async def test_what_ends_a_sandbox_ends_its_pause(cell, sandbox, database, verb):
    exec_id = new_id()
    await cell.sh(sandbox, "sleep 1000", exec_id=exec_id, wait_ms=0)
    await paused(cell, sandbox)
    await cell.send(sandbox, verb)
    if verb == "destroy":
        with pytest.raises(errors.NotFound):
            await sandboxes.get(database, sandbox)
        return
    now = await cell.call(sandbox, "settled")
    assert (now["status"], now["paused"]) == ("stopped" if verb == "stop" else "running", False)
    assert (await executions.get(database, exec_id)).status == "killed"
    await cell.send(sandbox, "start")
    assert (await cell.sh(sandbox, "echo hello"))["stdout"] == "hello\n"


async def test_a_pause_survives_its_cell(cells, cell, sandbox):
    exec_id = new_id()
    await cell.sh(sandbox, "sleep 2; echo done", exec_id=exec_id, wait_ms=0)
    await cell.send(sandbox, "pause")
    await cell.kill()  # anywhere between the commit and the report
    after = await cells()
    await after.activate(sandbox)
    now = await after.call(sandbox, "settled")
    assert now["paused"]
    with pytest.raises(errors.SandboxPaused):
        await after.sh(sandbox, "true")
    await after.send(sandbox, "resume")
    assert not (await after.call(sandbox, "settled"))["paused"]
    assert (await after.call(sandbox, "wait", exec_id=exec_id, timeout_ms=20_000))["stdout"] == "done\n"


async def test_the_last_word_counts(cell, sandbox):
    await asyncio.gather(*(cell.send(sandbox, verb) for verb in ("pause", "resume") * 3))
    await cell.send(sandbox, "resume")
    assert not (await cell.call(sandbox, "settled"))["paused"]
    assert (await cell.sh(sandbox, "echo hello"))["stdout"] == "hello\n"


async def test_one_that_does_not_run_cannot_be_paused(cell, sandbox):
    await cell.send(sandbox, "stop")
    await cell.call(sandbox, "settled")
    with pytest.raises(errors.Conflict):
        await cell.send(sandbox, "pause")
