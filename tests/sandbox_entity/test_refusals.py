"""What is wrong with a command ends that command; the sandbox around it goes on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess

import pytest

from actors.node.entity import make_drivers
from schema import entities, executions
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id
from terminalpp.types.states import ExecutionState
from tests.eventually import eventually

BAD = [
    {},
    {"command": "a", "argv": ["a"]},
    {"command": " "},
    {"command": {"a": 1}},
    {"command": "a\0b"},
    {"command": "\ud800"},
    {"command": "x" * 200_000},
    {"argv": []},
    {"argv": [1]},
    {"argv": [""]},
    {"argv": "ls"},
    {"argv": ["a"] * 4097},
    {"argv": ["echo", "\ud800"]},
    {"argv": ["echo", "a\0"]},
    {"argv": ["x" * 130_000]},
    {"command": "a", "cwd": "/\0"},
    {"command": "a", "cwd": "/\udc80"},
    {"command": "a", "cwd": 5},
    {"command": "a", "cwd": "/" * 513},
    {"command": "a", "env": {"A=": "b"}},
    {"command": "a", "env": {"": "b"}},
    {"command": "a", "env": {"A": "\udfff"}},
    {"command": "a", "env": {"\udfff": "b"}},
    {"command": "a", "env": {"A": "\0"}},
    {"command": "a", "env": {"A": 1}},
    {"command": "a", "env": [1]},
    {"command": "a", "env": {"A": "x" * 200_000}},
    {"command": "a", "env": {f"A{n}": "x" * 100_000 for n in range(12)}},
    {"command": "a", "timeout_ms": -1},
    {"command": "a", "timeout_ms": "soon"},
    {"command": "a", "timeout_ms": 10**12},
    {"command": "a", "wait_ms": "soon"},
    {"command": "a", "wait_ms": True},
    {"command": "a", "head_bytes": -1},
    {"command": "a", "merge": "no"},
    {"command": "a", "conversation_id": "x"},
    {"command": "a", "user_id": 5},
    {"command": "a", "agent": "a" * 21},
    {"command": "a", "agent": ["coder"]},
    {"command": "a", "mode": "sometimes"},
    {"command": "a", "idempotency_key": "k" * 256},
    {"command": "a", "typo": 1},
    {"command": "a", "exec_id": "no-uuid"},
    {"command": "a", "exec_id": 7},
    {"command": "a", "exec_id": "\ud800"},
]


async def counted(database, sandbox) -> int:
    """Defects on the entity's record."""
    return (await entities.load(database, Ref("sandbox", sandbox))).failures


async def test_bad_commands_are_refused_before_anything_happens(cell, sandbox, database):
    for payload in BAD:
        with pytest.raises(errors.InvalidInput):
            await cell.call(sandbox, "run", **{"exec_id": new_id(), **payload})
    for method, payload in [
        ("wait", {"exec_id": "x"}), ("wait", {"exec_id": new_id(), "timeout_ms": "x"}), ("kill", {}),
    ]:
        with pytest.raises(errors.InvalidInput):
            await cell.call(sandbox, method, **payload)
    for method in ("wait", "kill"):
        with pytest.raises(errors.NotFound):
            await cell.call(sandbox, method, exec_id=new_id())
    assert await executions.list(database, sandbox) == []
    assert (await cell.sh(sandbox, "echo fine"))["stdout"] == "fine\n"
    assert await counted(database, sandbox) == 0


async def test_rows_that_cannot_be_run_end_alone(cells, cell, sandbox, database, owner):
    """Whatever came into the table: after a crash it is tried, and its end says why it could not be."""
    await cell.kill()
    extra = ['{"argv": [""]}', "no json", '{"argv": 5}', json.dumps({"argv": ["a"] * 200_000}),
             '{"argv": ["true"], "timeout_ms": "soon"}']
    bad = []
    for value in [*extra, None]:
        env = {"A": "x" * 17_000_000} if value is None else {"=": value}
        bad.append(new_id())
        await executions.create(database, bad[-1], sandbox, owner, "x", "/home/user", env)
    good = new_id()
    await executions.create(database, good, sandbox, owner, "echo good", "/home/user", {})
    second = await cells()
    await second.activate(sandbox)

    async def ended():
        rows = [await executions.get(database, id) for id in [*bad, good]]
        return rows if all(ExecutionState(row.status).final for row in rows) else None

    *rows, last = await eventually(ended, 60)
    for row in rows:
        assert (row.status, row.reason.partition(":")[0]) == ("failed", "not-started"), row.reason
    assert (last.status, last.stdout) == ("completed", "good\n")
    assert await counted(database, sandbox) == 0
    assert (await second.sh(sandbox, "echo fine"))["stdout"] == "fine\n"


async def test_what_was_refused_for_want_of_processes_never_runs(cells, cell, database, owner):
    """Far more than there may be: each runs or has an end on record, and the sandbox goes on."""
    sandbox = new_id()
    await cell.send(sandbox, "create", user_id=owner, resource_limits={"pids": 24})
    await cell.call(sandbox, "attach")

    async def one(exec_id):
        try:
            return await cell.sh(sandbox, f"touch ran-{exec_id}; exec sleep 600", exec_id=exec_id, wait_ms=0)
        except errors.Overloaded as refused:
            return refused

    ids = [new_id() for _ in range(300)]
    answers = dict(zip(ids, await asyncio.gather(*map(one, ids)), strict=True))
    refused = {id for id, answer in answers.items() if isinstance(answer, errors.Overloaded)}
    rows = {row.id: row for row in await executions.list(database, sandbox, limit=500)}
    assert {answers[id].extra["command_id"] for id in refused if answers[id].extra} == refused & set(rows)
    assert refused & set(rows), "the sandbox's own limit was not met"
    for id in refused & set(rows):
        assert (rows[id].status, rows[id].reason.partition(":")[0]) == ("failed", "not-started"), rows[id]
    id = min(refused & set(rows))
    again = await cell.sh(sandbox, f"touch ran-{id}; exec sleep 600", exec_id=id)
    assert (again["status"], again["created"]) == ("failed", False)
    for id in set(ids) - refused:
        await cell.call(sandbox, "kill", exec_id=id)
    await cell.remind(database, sandbox, "tend")
    await cell.kill()
    second = await cells()  # whoever adopts now must not start them either
    await second.activate(sandbox)
    found = (await second.sh(sandbox, "ls"))["stdout"].split()
    assert not {f"ran-{id}" for id in refused} & set(found)
    assert await counted(database, sandbox) == 0

    async def settled():
        rows = await executions.list(database, sandbox, limit=500)
        return all(ExecutionState(row.status).final for row in rows)

    await eventually(settled, 20)


async def test_time_limit_outlives_the_cell(cells, cell, sandbox, database):
    exec_id, late = new_id(), new_id()
    await cell.sh(sandbox, "echo begun; sleep 600", exec_id=exec_id, wait_ms=0, timeout_ms=1500)
    in_time = await cell.sh(sandbox, "exit 3", timeout_ms=60_000)
    assert (in_time["exit_code"], in_time["reason"]) == (3, None)
    with pytest.raises(errors.IdempotencyMismatch):
        await cell.sh(sandbox, "echo begun; sleep 600", exec_id=exec_id, timeout_ms=2000)
    await cell.kill()
    await executions.create(database, late, sandbox, (await executions.get(database, exec_id)).user_id,
                            "sleep 600", "/home/user", {"=": json.dumps({"timeout_ms": 100})})
    second = await cells()
    await second.activate(sandbox)

    async def recorded():
        rows = [await executions.get(database, id) for id in (exec_id, late)]
        return rows if all(ExecutionState(row.status).final for row in rows) else None

    for row in await eventually(recorded, 20):
        assert (row.status, row.exit_code, row.reason) == ("killed", 124, "timeout")


async def test_the_row_gets_what_was_printed_after_the_end(cells, cell, sandbox, database):
    await cell.sh(sandbox, "mkfifo one two")
    first = await cell.sh(sandbox, "(read x < one; echo late) & echo early")
    second = await cell.sh(sandbox, "(read x < two; echo late) & echo early")
    assert (first["status"], first["stdout"], first["stdout_bytes"]) == ("completed", "early\n", 6)

    async def shows(ran, text):
        row = await executions.get(database, ran["id"])
        return (row.status, row.stdout, row.stdout_bytes) == ("completed", text, len(text))

    await eventually(lambda: shows(second, "early\n"))
    await cell.sh(sandbox, "echo > one")
    await eventually(lambda: shows(first, "early\nlate\n"))
    await cell.kill()  # the rest comes while nobody looks
    following = await cells()
    await following.sh(sandbox, "echo > two")
    await eventually(lambda: shows(second, "early\nlate\n"), 20)


@pytest.fixture
async def small(cell, owner, settings):
    """A sandbox whose records lie on a disk of 256 KiB (too little for output); its id and that folder."""
    if os.getuid():
        pytest.skip("only root can mount one")
    id = new_id()
    folder = settings.home / "sandboxes" / id / "run"
    folder.mkdir(parents=True, mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tpp-test", folder], check=True)
    try:
        await cell.send(id, "create", user_id=owner)
        await cell.call(id, "attach")
        yield id, folder
        await make_drivers(settings)[settings.sandbox_driver].stop(id)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_is_weather(cells, cell, small, database):
    sandbox, folder = small
    running, refused, once = new_id(), new_id(), "echo ran >> ran; exit $(wc -l < ran)"
    await cell.sh(sandbox, "read x; exit 4", exec_id=running, stdin=True, wait_ms=0)
    fill = folder / "fill"
    with pytest.raises(OSError, match="No space"):
        fill.write_bytes(bytes(1 << 20))
    for _ in range(3):
        with pytest.raises(errors.DiskFull):
            await cell.sh(sandbox, once, exec_id=refused)
    assert [row.id for row in await executions.list(database, sandbox)] == [running]
    access = cell.access(sandbox)
    await access.stdin(running, 0, b"\n")
    await access.close()

    async def ended():
        return (await executions.get(database, running)).exit_code == 4

    await eventually(ended)  # what ends is known although its record waits for room
    await cell.kill()
    second = await cells()  # a new owner, whose epoch cannot be stored
    waiting = new_id()
    await executions.create(database, waiting, sandbox, (await executions.get(database, running)).user_id,
                            "exit 7", "/home/user", {})
    await second.activate(sandbox)
    with pytest.raises(errors.DiskFull):
        await second.sh(sandbox, "true")
    fill.unlink()
    ran = await second.sh(sandbox, once, exec_id=refused)
    assert (ran["status"], ran["exit_code"], ran["created"]) == ("completed", 1, True)

    async def started():
        return (await executions.get(database, waiting)).exit_code == 7

    await eventually(started)  # accepted before, and nobody was told no
    assert await counted(database, sandbox) == 0
