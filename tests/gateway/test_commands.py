"""Commands over HTTP in a real sandbox: start, output by offset, stdin, signals, waiting, repetition."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import pytest

from schema import Database, executions
from terminalpp.client import Client
from terminalpp.types import errors
from terminalpp.types.commands import MAX_COMMAND_BYTES
from terminalpp.types.ids import new_id
from tests.eventually import eventually
from tests.gateway.conftest import Served


async def test_run_answers_with_the_end(api: Client, box: str) -> None:
    text = "echo out$A; echo err >&2; exit 3"
    ran = await api.run_command(box, text, cwd="/tmp", env={"A": "1"}, wait_ms=10_000)
    assert (ran["status"], ran["exit_code"]) == ("completed", 3)
    assert (ran["stdout"], ran["stderr"]) == ("out1\n", "err\n")
    assert (ran["stdout_bytes"], ran["working_directory"], ran["sandbox_id"]) == (5, "/tmp", box)
    kept = await eventually(lambda: _final(api, box, ran["id"]))
    assert {name: kept[name] for name in ("id", "command", "exit_code", "stdout")} == {
        name: ran[name] for name in ("id", "command", "exit_code", "stdout")
    }
    assert set(kept) == set(ran)
    assert [row["id"] for row in await api.commands(box)] == [ran["id"]]


async def _final(api: Client, box: str, command: str):
    row = await api.command(box, command)
    return row if row["status"] in ("completed", "failed", "killed") else None


async def test_argv_is_not_seen_by_a_shell(api: Client, box: str) -> None:
    ran = await api.run_command(box, argv=["printf", "%s", "$HOME; *"], wait_ms=10_000)
    assert ran["stdout"] == "$HOME; *"
    assert ran["command"] == "printf %s '$HOME; *'"


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_a_command_has_one_limit_in_bytes_however_it_is_given(
    api: Client, box: str, letter: str
) -> None:
    most = letter * ((MAX_COMMAND_BYTES - len(": ")) // len(letter.encode()))
    ran = await api.run_command(box, f": {most}", wait_ms=10_000)
    assert (ran["status"], ran["exit_code"]) == ("completed", 0)
    for wrong in ({"command": f": {most}{letter}"}, {"argv": [":", f"{most}{letter}"]}):
        with pytest.raises(errors.InvalidInput, match="120000"):
            await api.run_command(box, wrong.get("command"), argv=wrong.get("argv"))
    assert [row["id"] for row in await api.commands(box)] == [ran["id"]]


async def test_output_is_followed_while_it_comes(api: Client, box: str) -> None:
    ran = await api.run_command(box, "for i in 1 2 3; do echo $i; sleep 0.2; done; echo end >&2")
    pieces = [piece async for piece in api.follow_output(box, ran["id"])]
    assert b"".join(piece.data for piece in pieces) == b"1\n2\n3\n"
    assert len(pieces) >= 3
    assert [piece.gap_bytes for piece in pieces] == [0] * len(pieces)
    errors_ = [piece async for piece in api.follow_output(box, ran["id"], stream="stderr")]
    assert b"".join(piece.data for piece in errors_) == b"end\n"


async def test_output_by_offset_keeps_every_byte(api: Client, box: str) -> None:
    ran = await api.run_command(box, "head -c 3000000 /dev/zero | tr '\\0' '\\377'", wait_ms=20_000)
    assert ran["truncated"]
    first = await api.output(box, ran["id"], limit=1000)
    assert (first.offset, first.next_offset, first.ended) == (0, 1000, False)
    rest = [piece async for piece in api.follow_output(box, ran["id"], offset=1000)]
    assert first.data + b"".join(piece.data for piece in rest) == b"\xff" * 3_000_000
    assert [(piece.exited, piece.ended) for piece in rest[-2:]] == [(True, False), (True, True)]
    end = await api.output(box, ran["id"], offset=3_000_000)
    assert (end.data, end.exited, end.ended) == (b"", True, True)


async def test_the_command_ends_before_its_output_does(api: Client, box: str) -> None:
    ran = await api.run_command(box, "mkfifo gate; (read x < gate; echo late) & echo early", wait_ms=10_000)
    assert (ran["status"], ran["stdout"]) == ("completed", "early\n")
    early = await api.output(box, ran["id"])
    assert (early.data, early.exited, early.ended) == (b"early\n", True, False)
    nothing = await api.output(box, ran["id"], offset=6, wait_ms=100)
    assert (nothing.data, nothing.exited, nothing.ended) == (b"", True, False)
    await api.run_command(box, "echo > gate", wait_ms=5000)
    pieces = [piece async for piece in api.follow_output(box, ran["id"])]
    assert b"".join(piece.data for piece in pieces) == b"early\nlate\n"

    async def whole() -> bool:
        row = await api.command(box, ran["id"])
        return (row["stdout"], row["stdout_bytes"]) == ("early\nlate\n", 11)

    await eventually(whole)
    last = await api.output(box, ran["id"])
    assert (last.data, last.ended) == (b"early\nlate\n", True)  # no request more to learn of the end


async def test_output_of_a_sandbox_that_went_ends(api: Client, box: str) -> None:
    ran = await api.run_command(box, "sleep 300 & echo early", wait_ms=10_000)
    await api.stop_sandbox(box)
    pieces = [piece async for piece in api.follow_output(box, ran["id"])]
    assert b"".join(piece.data for piece in pieces) == b"early\n"


async def test_output_of_a_command_whose_sandbox_was_killed_ends(
    api: Client, box: str, stack: Served
) -> None:
    """Neither its record nor a tppd says that it has ended: the row does."""
    ran = await api.run_command(box, "echo early; sleep 300")
    await eventually(lambda: _printed(api, box, ran["id"]))
    lines = (stack.home / "sandboxes" / box / "bwrap.json").read_text().splitlines()
    (pid,) = {json.loads(line)["child-pid"] for line in lines if "child-pid" in line}
    os.kill(pid, signal.SIGKILL)
    await api.stop_sandbox(box)
    await eventually(lambda: _final(api, box, ran["id"]))
    async with asyncio.timeout(10):
        pieces = [piece async for piece in api.follow_output(box, ran["id"])]
    assert b"".join(piece.data for piece in pieces) == b"early\n"
    assert (pieces[-1].exited, pieces[-1].ended) == (True, True)


async def _printed(api: Client, box: str, command: str) -> bool:
    return (await api.output(box, command)).data == b"early\n"


async def test_a_time_limit(api: Client, box: str) -> None:
    ran = await api.run_command(box, "echo begun; sleep 300", wait_ms=20_000, timeout_ms=300)
    assert (ran["status"], ran["exit_code"], ran["reason"]) == ("killed", 124, "timeout")
    assert ran["stdout"] == "begun\n"


async def test_what_a_command_left_is_listed_and_ended(api: Client, box: str) -> None:
    assert await api.processes(box) == []
    first = await api.run_command(box, "setsid nohup sleep 983 > /dev/null 2>&1 &", wait_ms=5000)
    second = await api.run_command(box, "setsid nohup sleep 984 > /dev/null 2>&1 &", wait_ms=5000)

    async def both() -> list:
        found = await api.processes(box)
        return found if {"sleep"} == {one["name"] for one in found} and len(found) == 2 else []

    found = await eventually(both)
    told = [(one["command_id"], one["argv"]) for one in found]
    assert told == [(first["id"], ["sleep", "983"]), (second["id"], ["sleep", "984"])]
    assert found[0]["memory_bytes"] > 0
    await api.signal(box, first["id"], "TERM", tree=True)

    async def one_left() -> bool:
        return [one["command_id"] for one in await api.processes(box)] == [second["id"]]

    await eventually(one_left)
    with pytest.raises(errors.CommandFinished):
        await api.signal(box, first["id"], "TERM", tree=True)
    with pytest.raises(errors.CommandFinished):
        await api.signal(box, second["id"], "KILL", tree=False)
    key = new_id()
    assert await api.kill_processes(box, key=key) == 1
    assert await api.processes(box) == []
    assert await api.kill_processes(box, key=key) == 1  # the same answer
    assert await api.kill_processes(box) == 0
    await api.stop_sandbox(box)
    assert (await api.kill_processes(box), await api.processes(box)) == (0, [])
    assert (await api.sandbox(box))["status"] != "starting"  # to look, or to end nothing, wakes nobody
    for ask in (api.processes, api.kill_processes):
        with pytest.raises(errors.NotFound):
            await ask(new_id())


async def test_waiting_for_output_costs_no_time_when_it_comes(api: Client, box: str) -> None:
    ran = await api.run_command(box, "sleep 0.5; echo now; sleep 30")
    started = time.monotonic()
    piece = await api.output(box, ran["id"], wait_ms=20_000)
    assert piece.data == b"now\n"
    assert time.monotonic() - started < 3
    quiet = await api.output(box, ran["id"], offset=4, wait_ms=300)
    assert (quiet.data, quiet.ended) == (b"", False)
    await api.signal(box, ran["id"], "KILL")


async def test_stdin_by_offset(api: Client, box: str) -> None:
    ran = await api.run_command(box, "cat", stdin=True)
    assert await api.write_stdin(box, ran["id"], b"one\n", offset=0) == {"offset": 4}
    assert await api.write_stdin(box, ran["id"], b"one\n", offset=0) == {"offset": 4}  # repeated
    with pytest.raises(errors.OffsetMismatch) as hole:
        await api.write_stdin(box, ran["id"], b"x", offset=99)
    assert hole.value.extra["expected"] == 4
    await api.write_stdin(box, ran["id"], b"two\n", offset=4, eof=True)
    done = await api.wait_command(box, ran["id"], timeout_ms=10_000)
    assert (done["status"], done["stdout"]) == ("completed", "one\ntwo\n")
    with pytest.raises(errors.CommandFinished):
        await api.write_stdin(box, ran["id"], b"late", offset=8)


async def test_signals_and_waiting(api: Client, box: str) -> None:
    ran = await api.run_command(box, "trap 'echo caught; exit 7' TERM; echo up; while :; do sleep 0.05; done")
    await api.output(box, ran["id"], wait_ms=10_000)
    running = await api.wait_command(box, ran["id"], timeout_ms=50)
    assert running["status"] == "running"
    waiting = asyncio.create_task(api.wait_command(box, ran["id"], timeout_ms=20_000))
    await api.signal(box, ran["id"], "TERM", tree=False)
    done = await waiting
    assert (done["status"], done["exit_code"]) == ("completed", 7)
    with pytest.raises(errors.CommandFinished):
        await api.signal(box, ran["id"], "TERM")


async def test_kill_takes_the_whole_tree(api: Client, box: str) -> None:
    ran = await api.run_command(box, "setsid sleep 300 & sleep 300")
    await api.signal(box, ran["id"], "KILL", tree=True)
    done = await api.wait_command(box, ran["id"], timeout_ms=10_000)
    assert done["status"] == "killed"
    left = await api.run_command(box, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", wait_ms=5000)
    assert "cat /proc" in left["stdout"]
    assert "sleep" not in left["stdout"]


async def test_the_same_key_starts_nothing_twice(api: Client, box: str, database: Database) -> None:
    key = new_id()
    text = "echo x >> /home/user/count; sleep 0.3"
    ran = await asyncio.gather(*(api.run_command(box, text, wait_ms=5000, key=key) for _ in range(5)))
    again = await api.run_command(box, text, wait_ms=5000, key=key)
    assert {one["id"] for one in ran} == {again["id"]}
    assert {one["exit_code"] for one in [*ran, again]} == {0}
    assert await api.read_file(box, "/home/user/count") == b"x\n"
    assert len(await executions.list(database, box)) == 1
    with pytest.raises(errors.IdempotencyMismatch):
        await api.run_command(box, "echo other", key=key)
    with pytest.raises(errors.IdempotencyMismatch):
        await api.run_command(box, text, cwd="/tmp", key=key)


async def test_the_same_key_in_a_sandbox_that_was_stopped(api: Client, box: str) -> None:
    key = new_id()
    ran = await api.run_command(box, "echo once", wait_ms=5000, key=key)
    shown = await api.command(box, ran["id"])  # at once: the row may not know of the end yet
    assert {name: shown[name] for name in ("status", "exit_code", "stdout")} == {
        "status": "completed", "exit_code": 0, "stdout": "once\n"}  # fmt: skip
    await api.stop_sandbox(box)
    again = await api.run_command(box, "echo once", wait_ms=5000, key=key)
    assert (again["id"], again["stdout"], again["exit_code"]) == (ran["id"], "once\n", 0)
    with pytest.raises(errors.IdempotencyMismatch):
        await api.run_command(box, "echo other", key=key)
    with pytest.raises(errors.SandboxNotRunning):
        await api.run_command(box, "echo new")

    async def stopped() -> bool:
        return (await api.sandbox(box))["status"] == "stopped"

    await eventually(stopped)


async def test_what_cannot_be_started_is_an_answer(api: Client, box: str) -> None:
    ran = await api.run_command(box, argv=["/no/such/program"], wait_ms=5000)
    assert (ran["status"], ran["exit_code"]) == ("failed", 127)
    assert "not-started" in ran["reason"]
    piece = await api.output(box, ran["id"], wait_ms=1000)
    assert piece.ended


async def test_commands_of_a_stopped_sandbox(api: Client, box: str) -> None:
    ran = await api.run_command(box, "echo before; sleep 300")
    await api.output(box, ran["id"], wait_ms=10_000)
    await api.stop_sandbox(box)
    pieces = [piece async for piece in api.follow_output(box, ran["id"])]  # ends, and nothing is lost
    assert b"".join(piece.data for piece in pieces) == b"before\n"
    done = await api.wait_command(box, ran["id"], timeout_ms=20_000)
    assert done["status"] in ("killed", "failed")
    with pytest.raises(errors.SandboxNotRunning):
        await api.run_command(box, "true")
    row = await api.start_sandbox(box)
    assert row["status"] == "running"
    assert (await api.run_command(box, "echo again", wait_ms=5000))["stdout"] == "again\n"


async def test_unknown_commands_and_foreign_sandboxes(api: Client, box: str) -> None:
    for ask in (api.command, api.output, api.wait_command, api.signal):
        with pytest.raises(errors.NotFound):
            await ask(box, new_id())
    with pytest.raises(errors.NotFound):
        await api.run_command(new_id(), "true")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": "a", "argv": ["a"]},
        {"argv": []},
        {"argv": [""]},
        {"command": "true", "timeout_ms": 0},
        {"command": "true", "cwd": "relative"},
        {"command": "true", "cwd": "/a/../b"},
        {"command": "true", "env": {"A=B": "c"}},
        {"command": "true", "wait_ms": 60_001},
        {"command": "true", "wait_ms": "soon"},
        {"command": "a\x00b"},
        {"command": "true", "shell": True},
    ],
)
async def test_bad_commands_are_refused(served: Served, talk, body: dict) -> None:
    async with served.http() as http:
        answer = await http.post(f"/v1/sandboxes/{talk.sandbox_id}/commands", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input"), answer.text


async def test_hot_path_needs_no_query_of_the_gateway(stack: Served, api: Client, box: str) -> None:
    """Token and owner are known after the first request; from then on the gateway asks the database
    nothing before it calls the entity, and nothing after."""
    await api.run_command(box, "true", wait_ms=5000)
    gateway = stack.app.gateway
    before, gateway.database = gateway.database, None
    try:
        async with stack.http() as http:
            ran = await http.post(f"/v1/sandboxes/{box}/commands", json={"command": "true", "wait_ms": 5000})
    finally:
        gateway.database = before
    assert (ran.status_code, ran.json()["exit_code"]) == (201, 0)
