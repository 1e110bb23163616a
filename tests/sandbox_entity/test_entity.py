"""The sandbox entity on real Postgres and real sandboxes: what is accepted is done once."""

from __future__ import annotations

import asyncio
import os
import signal

import docker
import pytest

from actors.node.entity import make_drivers
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Tppd
from schema import executions, sandboxes
from terminalpp.types import errors
from terminalpp.types.commands import Command
from terminalpp.types.ids import new_id
from tests.eventually import eventually


async def test_a_sandbox_from_nothing(cell, database, owner):
    id = new_id()
    made = await cell.send(id, "create", user_id=owner, name="first", resource_limits={"memory": "128MB"})
    assert made["status"] == "starting"
    attached = await cell.call(id, "attach")
    assert (attached["sandbox_id"], attached["generation"], attached["network"]) == (id, 1, "none")
    row = await sandboxes.get(database, id)
    assert (row.status, row.generation, row.network) == ("running", 1, "none")
    assert row.driver in ("docker", "bubblewrap")
    assert row.isolation == attached["isolation"]
    assert row.resource_limits["memory"] == "128MB"
    status = await cell.call(id, "status")
    assert set(status["limits"]) >= {"cpu", "memory", "pids", "nofile", "network"}
    assert row.started_as is not None
    assert row.started_as["limits"] == status["limits"]
    assert row.started_as["limits"]["disk"].startswith("not enforced: ")
    assert row.started_as["helper"] == "another uid"
    made = [row.started_as[name] for name in ("image", "image_id", "image_base")]
    assert made == [None, None, None] if row.driver == "bubblewrap" else all(made)


async def test_run_answers_with_everything(cell, sandbox, database):
    ran = await cell.sh(sandbox, "echo out; echo err >&2; exit 3", cwd="/tmp", env={"A": "b"})
    assert (ran["status"], ran["exit_code"]) == ("completed", 3)
    assert (ran["stdout"], ran["stderr"]) == ("out\n", "err\n")
    assert (ran["stdout_bytes"], ran["stderr_bytes"], ran["truncated"], ran["reason"]) == (4, 4, False, None)

    async def recorded():
        row = await executions.get(database, ran["id"])
        return row if row.status == "completed" else None

    row = await eventually(recorded)
    assert (row.exit_code, row.stdout, row.stderr, row.stdout_bytes) == (3, "out\n", "err\n", 4)
    assert (row.working_directory, row.environment_vars) == ("/tmp", {"A": "b"})


async def test_environment_directory_and_shell(cell, sandbox):
    command = "pwd; echo $HOME $USER $LANG $X; [ -n \"$BASH_VERSION\" ] && echo bash"
    ran = await cell.sh(sandbox, command, env={"X": "y"})
    assert ran["stdout"] == "/home/user\n/home/user user C.UTF-8 y\nbash\n"
    argv = ["printf", "%s|", "a b", "$HOME"]
    ran = await cell.call(sandbox, "run", exec_id=new_id(), argv=argv, wait_ms=5000)
    assert ran["stdout"] == "a b|$HOME|"


async def test_the_same_id_runs_once(cell, sandbox):
    exec_id = new_id()
    answers = await asyncio.gather(*(cell.sh(sandbox, "echo x >> ran; sleep 0.3; cat ran", exec_id=exec_id)
                                     for _ in range(5)))
    assert {answer["stdout"] for answer in answers} == {"x\n"}
    again = await cell.sh(sandbox, "echo x >> ran; sleep 0.3; cat ran", exec_id=exec_id)
    assert again["stdout"] == "x\n"
    with pytest.raises(errors.IdempotencyMismatch):
        await cell.sh(sandbox, "echo other", exec_id=exec_id)


async def test_what_cannot_start_is_an_answer(cell, sandbox, database):
    ran = await cell.call(sandbox, "run", exec_id=new_id(), argv=["/no/such/program"], wait_ms=5000)
    assert (ran["status"], ran["exit_code"]) == ("failed", 127)
    assert ran["reason"].startswith("not-started: ")

    async def recorded():
        return (await executions.get(database, ran["id"])).status == "failed"

    await eventually(recorded)


async def test_long_output_keeps_both_ends_in_the_row(cell, sandbox, database):
    ran = await cell.sh(sandbox, "seq 1 100000", head_bytes=10)
    assert (ran["stdout"], ran["truncated"], ran["stdout_bytes"]) == ("1\n2\n3\n4\n5\n", True, 588895)

    async def recorded():
        row = await executions.get(database, ran["id"])
        return row if row.status == "completed" else None

    row = await eventually(recorded)
    assert row.truncated
    assert row.stdout.startswith("1\n2\n")
    assert row.stdout.endswith("99999\n100000\n")
    assert len(row.stdout) < 70_000


async def test_wait_signal_stdin_and_kill(cell, sandbox):
    exec_id = new_id()
    ran = await cell.sh(sandbox, "read a; echo got $a; sleep 100", exec_id=exec_id, stdin=True, wait_ms=0)
    assert ran["status"] == "running"
    access = cell.access(sandbox)
    assert await access.stdin(exec_id, 0, b"hi\n") == 3
    await access.close()

    async def printed():
        return (await cell.call(sandbox, "wait", exec_id=exec_id))["stdout"] == "got hi\n"

    await eventually(printed)
    await cell.call(sandbox, "kill", exec_id=exec_id)
    ended = await cell.call(sandbox, "wait", exec_id=exec_id, timeout_ms=5000)
    assert (ended["status"], ended["exit_code"], ended["reason"]) == ("killed", 137, "signal 9")
    with pytest.raises(errors.NotFound):
        await cell.call(sandbox, "wait", exec_id=new_id())


async def test_stop_keeps_the_workspace_and_ends_commands(cell, sandbox, database):
    await cell.sh(sandbox, "echo kept > file")
    exec_id = new_id()
    await cell.sh(sandbox, "sleep 1000", exec_id=exec_id, wait_ms=0)
    await cell.send(sandbox, "stop")
    assert (await cell.call(sandbox, "settled"))["status"] == "stopped"
    row = await executions.get(database, exec_id)
    assert (row.status, row.exit_code) == ("killed", 143)
    assert (await sandboxes.get(database, sandbox)).container_id is None
    with pytest.raises(errors.SandboxNotRunning):
        await cell.sh(sandbox, "true")
    await cell.send(sandbox, "start")
    assert (await cell.call(sandbox, "attach"))["generation"] == 2
    assert (await cell.sh(sandbox, "cat file"))["stdout"] == "kept\n"


async def test_restart_ends_commands_and_keeps_the_workspace_once_per_message(cell, sandbox, database):
    await cell.sh(sandbox, "echo kept > file")
    exec_id, message = new_id(), new_id()
    await cell.sh(sandbox, "sleep 1000", exec_id=exec_id, wait_ms=0)
    for _ in range(2):  # told twice, done once
        await cell.send(sandbox, "restart", message)
        now = await cell.call(sandbox, "settled")
        assert (now["status"], now["generation"], now["at_rest"]) == ("running", 2, True)
    row = await executions.get(database, exec_id)
    assert (row.status, row.exit_code) == ("killed", 143)
    assert (await cell.sh(sandbox, "cat file"))["stdout"] == "kept\n"
    await cell.send(sandbox, "stop")
    await cell.send(sandbox, "restart")  # while it stops
    assert (await cell.call(sandbox, "settled"))["generation"] == 3


async def test_destroy_removes_everything(cell, sandbox, database, settings):
    await cell.sh(sandbox, "echo x > file")
    await cell.send(sandbox, "destroy")
    with pytest.raises(errors.NotFound):
        await sandboxes.get(database, sandbox)
    with pytest.raises(errors.NotFound):
        await cell.sh(sandbox, "true")
    driver = make_drivers(settings)[settings.sandbox_driver]

    async def gone():  # processes and container first, then the folder
        folder = settings.home / "sandboxes" / sandbox
        return sandbox not in await driver.list() and not folder.exists()

    await eventually(gone, 20)
    await cell.send(sandbox, "destroy")


async def test_sleeps_by_reminder_and_wakes_by_use(cell, sandbox, database):
    await cell.sh(sandbox, "echo kept > file")
    long = new_id()
    await cell.sh(sandbox, "sleep 1000", exec_id=long, wait_ms=0)

    async def due():
        await database.execute(
            "UPDATE sandboxes SET last_activity_at = now() - interval '2 hours' WHERE id = $1", sandbox)
        await cell.remind(database, sandbox, "tend")

    await due()
    assert (await cell.call(sandbox, "status"))["status"] == "running"  # a running command is use
    await cell.call(sandbox, "kill", exec_id=long)
    await cell.call(sandbox, "wait", exec_id=long, timeout_ms=5000)

    async def asleep():
        await due()
        return (await cell.call(sandbox, "settled"))["status"] == "stopped"

    await eventually(asleep, 20)
    ran = await cell.sh(sandbox, "cat file")
    assert ran["stdout"] == "kept\n"
    assert (await cell.call(sandbox, "status"))["generation"] == 2


async def test_killed_cell_command_runs_once_and_is_recorded(cells, cell, sandbox, database):
    exec_id = new_id()
    await cell.sh(sandbox, "echo x >> ran; for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.25; done; cat ran",
                  exec_id=exec_id, wait_ms=300)
    await cell.kill()
    second = await cells()
    ended = await second.call(sandbox, "wait", exec_id=exec_id, timeout_ms=20_000)
    assert (ended["status"], ended["stdout"]) == ("completed", "1\n2\n3\n4\n5\n6\n7\n8\nx\n")

    async def recorded():
        row = await executions.get(database, exec_id)
        return row if row.status == "completed" else None

    row = await eventually(recorded)
    assert row.stdout == ended["stdout"]
    assert (await second.call(sandbox, "status"))["generation"] == 1


async def test_accepted_but_not_started_is_started_once_on_activation(cells, cell, sandbox, database, owner):
    """The cell dies between the insert and START: the row alone says what was wanted."""
    await cell.kill()
    exec_id, listed = new_id(), new_id()
    await executions.create(database, exec_id, sandbox, owner, "echo once >> ran; cat ran", "/home/user", {})
    wanted = Command.parse({"argv": ["sh", "-c", "echo a; echo b >&2"], "merge": True})
    env = wanted.row_environment()
    await executions.create(database, listed, sandbox, owner, wanted.text, wanted.cwd, env)
    second = await cells()
    await second.activate(sandbox)

    async def recorded():
        rows = [await executions.get(database, id) for id in (exec_id, listed)]
        return rows if all(row.status == "completed" for row in rows) else None

    rows = await eventually(recorded, 20)
    assert (rows[0].stdout, rows[1].stdout, rows[1].stderr) == ("once\n", "a\nb\n", "")
    await second.kill()
    third = await cells()
    assert (await third.sh(sandbox, "cat ran"))["stdout"] == "once\n"


async def test_accepted_by_an_owner_before_and_asked_for_again_it_runs_once(cell, sandbox, database, owner):
    """An activation leaves alone what somebody is just asking for: whoever asks has to start it then."""
    await cell.sh(sandbox, "true")
    exec_id, command = new_id(), "echo once >> asked; cat asked"
    await executions.create(database, exec_id, sandbox, owner, command, "/home/user", {})
    told = [cell.sh(sandbox, command, exec_id=exec_id, cwd="/home/user") for _ in range(5)]
    for ran in await asyncio.gather(*told):
        assert (ran["status"], ran["stdout"], ran["created"]) == ("completed", "once\n", False)
    assert (await cell.sh(sandbox, "cat asked"))["stdout"] == "once\n"


async def kill_sandbox(settings, sandbox):
    """End its tppd, and with it all of it, from outside."""
    driver = make_drivers(settings)[settings.sandbox_driver]
    started = await driver.inspect(sandbox)
    if settings.sandbox_driver == "docker":
        docker.from_env().containers.get(started.handle).kill()
    else:
        os.kill(int(started.handle), signal.SIGKILL)

    async def dead():
        return await driver.inspect(sandbox) is None

    await eventually(dead)


async def test_killed_sandbox_loses_its_commands_and_says_so(cell, sandbox, database, settings):
    exec_id = new_id()
    await cell.sh(sandbox, "echo kept > file; echo partial; sleep 1000", exec_id=exec_id, wait_ms=500)
    await kill_sandbox(settings, sandbox)

    async def recorded():
        row = await executions.get(database, exec_id)
        return row if row.status == "failed" else None

    row = await eventually(recorded, 20)
    assert (row.reason, row.stdout, row.exit_code) == ("lost", "partial\n", None)
    status = await cell.call(sandbox, "status")
    assert (status["status"], status["generation"]) == ("error", 1)
    assert "died" in (await sandboxes.get(database, sandbox)).status_detail
    ran = await cell.sh(sandbox, "cat file")
    assert ran["stdout"] == "kept\n"
    assert (await cell.call(sandbox, "status"))["generation"] == 2
    ended = await cell.call(sandbox, "wait", exec_id=exec_id)
    assert (ended["status"], ended["reason"]) == ("failed", "lost")


async def test_both_killed_at_once(cells, cell, sandbox, database, settings):
    """As a reboot does it: nobody is left to notice, and the next activation puts it right."""
    exec_id = new_id()
    await cell.sh(sandbox, "sleep 1000", exec_id=exec_id, wait_ms=0)
    await cell.kill()
    await kill_sandbox(settings, sandbox)
    second = await cells()
    await second.activate(sandbox)

    async def recorded():
        row = await executions.get(database, exec_id)
        return row if row.status == "failed" else None

    assert (await eventually(recorded, 20)).reason == "lost"


async def test_a_command_meets_a_sandbox_that_died_unnoticed(cell, sandbox, settings):
    """It was certainly not started, so it is started in the next generation, once."""
    await kill_sandbox(settings, sandbox)
    ran = await cell.sh(sandbox, "echo x >> ran; cat ran")
    assert (ran["status"], ran["stdout"]) == ("completed", "x\n")


async def test_an_older_owner_cannot_start_anything(cell, sandbox, database, settings):
    attached = await cell.call(sandbox, "attach")
    tppd = Tppd(attached["run_dir"])
    with pytest.raises(errors.Fenced):
        await tppd.start(new_id(), ["true"], epoch=attached["epoch"] - 1)
    await tppd.close()
    assert journal.generation(attached["run_dir"]) == 1


async def test_limits_that_make_no_sense_are_refused(cell, owner):
    with pytest.raises(errors.InvalidInput) as caught:
        await cell.send(new_id(), "create", user_id=owner, resource_limits={"memory": "lots"})
    assert "resource_limits.memory" in caught.value.detail
    with pytest.raises(errors.InvalidInput):
        await cell.send(new_id(), "create", user_id=owner, network="lan")


async def test_a_sandbox_that_was_never_made(cell):
    with pytest.raises(errors.NotFound):
        await cell.sh(new_id(), "true")
    with pytest.raises(errors.NotFound):
        await cell.send(new_id(), "stop")
