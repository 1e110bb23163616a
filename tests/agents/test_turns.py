"""Whole turns on real Postgres, Redis and a real sandbox; the provider alone is a stand-in."""

from __future__ import annotations

import asyncio
import base64
import time
from types import SimpleNamespace
from typing import Any

import pytest

from actors.agent.sandbox_tools import SandboxCommands
from terminalpp.types.errors import IdempotencyMismatch
from terminalpp.types.ids import new_id
from tests.agents.conftest import REPO
from tests.eventually import eventually

PLAN = {"content": '{"goal": "add adds", "acceptance": ["the test passes"], "steps": ["fix calc.py"]}'}
APPROVE = {"content": '{"verdict": "approve", "issues": []}'}


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "x", "name": tool, "arguments": arguments}]}


def team(coder: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "planner": [{"replies": [call("read", path="calc.py"), PLAN]}],
        "coder": [{"replies": coder}],
        "critic": [{"replies": [APPROVE]}],
        "executor": [{"replies": [{"content": "Fixed: add subtracted."}]}],
    }


FIX = [
    call("bash", command="cd tests && export GREETING=hello"),
    call("bash", command="pwd; echo $GREETING"),
    call("edit", path="calc.py", old="a - b", new="a + b"),
    {"content": "I turned - into +."},
]


async def stuck(chat) -> str:
    """What there is to know about a conversation that does not go on."""
    rows = await chat.database.fetch(
        "SELECT kind, owner, epoch, lease_expires_at < now() AS late, failures, last_error FROM entities"
    )
    actions = await chat.database.fetch("SELECT name, attempts, error, retry_at FROM outbox")
    mail = await chat.database.fetch("SELECT * FROM mailbox WHERE result IS NULL")
    told = [(e.seq, e.type, e.actor) for e in (await chat.events())[-12:]]
    return "\n".join(map(str, [*rows, *actions, *mail, *told]))


async def test_a_message_posted_again_when_its_answer_was_forgotten_starts_nothing(talk, script, database):
    """Answers are kept for a week; the message itself is kept for ever."""
    chat = await talk(script(team(FIX)))
    message = {"message_id": new_id(), "text": "Fix the failing test"}
    first = await chat.send("post", **message)
    assert first["queued"] is False
    await chat.finished()
    await database.execute("DELETE FROM mailbox WHERE message_id = $1", message["message_id"])
    assert await chat.send("post", **message) == first
    assert len(await chat.events("turn.started")) == 1


async def test_a_team_turns_red_tests_green(talk, script):
    chat = await talk(script(team(FIX)))
    await chat.post("Fix the failing test")
    end = await chat.finished()
    assert (end["outcome"], end["summary"]) == ("passed", "Fixed: add subtracted.")
    assert end["files"] == [{"path": "calc.py", "added": 1, "removed": 1}]
    assert end["usage"]["model_calls"] == 8
    assert end["cost_usd"] == pytest.approx(0.008)
    tests = [(e.payload["phase"], e.payload["passed"]) for e in await chat.events("tests.finished")]
    assert tests == [("before", False), ("after", True)]
    outputs = [e.payload["output"] for e in await chat.events("tool.finished")]
    assert f"{REPO}/tests\nhello" in outputs[2]
    assert "a + b" in await chat.read("calc.py")
    diff = await chat.call("diff")
    assert b"+    return a + b" in base64.b64decode(diff["patch"])
    started = [e.payload["exec_id"] for e in await chat.events("command.started")]
    assert started == [e.payload["exec_id"] for e in await chat.events("command.finished")]


@pytest.mark.chaos
async def test_a_killed_cell_goes_on_wherever_it_died(talk, script, settings):
    """SIGKILL after every few events: conversation, agents and sandbox actor die together, many times."""
    chat = await talk(script(team(FIX)))
    await chat.post("Fix the failing test")
    kills, seen, deadline = 0, 0, time.monotonic() + 240
    while not await chat.events("turn.finished"):
        now = len(await chat.events())
        assert time.monotonic() < deadline, await stuck(chat)
        if now >= seen + 4 and kills < 9:
            await chat.cell.kill()
            kills, seen = kills + 1, now
            await chat.cell.start()
            await chat.wake()
        await asyncio.sleep(0.05)
    end = await chat.finished()
    assert kills >= 6
    assert end["outcome"] == "passed"
    called = [e.payload["tool_call_id"] for e in await chat.events("tool.called")]
    assert len(called) == len(set(called)) == 4
    assert called == [e.payload["tool_call_id"] for e in await chat.events("tool.finished")]
    replies = [e.payload["call_id"] for e in await chat.events("model.finished")]
    assert len(replies) == len(set(replies)) == 8
    for type in ("command.started", "command.finished"):
        ids = [e.payload["exec_id"] for e in await chat.events(type)]
        assert len(ids) == len(set(ids)) == 4, type
    rows = await chat.database.fetch(
        "SELECT status, reason FROM command_executions WHERE conversation_id = $1 AND agent IS NOT NULL",
        chat.id,
    )
    assert {(row["status"], row["reason"]) for row in rows} == {("completed", None)}
    steps = [f"{e.payload['step']}{e.payload['visit']}" for e in await chat.events("step.finished")]
    assert steps == ["route1", "planner1", "baseline1", "coder1", "gate1", "critic1", "executor1"]


async def test_a_cell_killed_at_every_node_boundary_resumes(talk, script):
    """SIGKILL as soon as a node's step is committed, after each node of the graph in turn."""
    chat = await talk(script(team(FIX)))
    await chat.post("Fix the failing test")
    nodes = ["route", "planner", "baseline", "coder", "gate", "critic", "executor"]
    for number, node in enumerate(nodes, 1):

        async def committed(number: int = number) -> bool:
            await chat.sweep()
            return len(await chat.events("step.finished")) >= number

        await eventually(committed, timeout_s=60)
        await chat.cell.kill()
        assert [e.payload["step"] for e in await chat.events("step.finished")][number - 1] == node
        await chat.cell.start()
        await chat.wake()
    end = await chat.finished()
    assert end["outcome"] == "passed"
    assert [e.payload["step"] for e in await chat.events("step.finished")] == nodes
    for type, key, count in (
        ("tool.called", "tool_call_id", 4),
        ("tool.finished", "tool_call_id", 4),
        ("model.finished", "call_id", 8),
        ("command.started", "exec_id", 4),
        ("command.finished", "exec_id", 4),
    ):
        ids = [e.payload[key] for e in await chat.events(type)]
        assert len(ids) == len(set(ids)) == count, type


async def test_cancel_kills_the_command_closes_the_calls_and_keeps_the_work(talk, script):
    coder = [
        call("write", path="note.txt", content="kept"),
        call("bash", command="sleep 600 & sleep 600; echo no"),
    ]
    chat = await talk(
        script(
            team(coder)
            | {"coder": [{"when": "second", "replies": [{"content": "hello again"}]}, {"replies": coder}]}
        )
    )
    await chat.post("Fix the failing test")

    async def sleeping() -> bool:
        return any("sleep" in e.payload["command"] for e in await chat.events("command.started"))

    await eventually(sleeping, timeout_s=60)
    assert await chat.send("cancel") == {"cancelled": True}
    end = await chat.finished()
    assert (end["outcome"], end["files"][0]["path"]) == ("cancelled", "note.txt")
    assert await chat.read("note.txt") == "kept"
    opened = {e.payload["tool_call_id"] for e in await chat.events("tool.called")}
    assert opened == {e.payload["tool_call_id"] for e in await chat.events("tool.finished")}
    last = (await chat.events("command.finished"))[-1].payload
    assert last["status"] == "killed"
    left = await chat.cell.sh(chat.sandbox_id, "ps ax | grep -c '[s]leep 600'")
    assert left["stdout"].strip() == "0"
    assert (await chat.events())[-1].type == "turn.finished"
    await chat.post("What did you do before the second message?")
    assert (await chat.finished(turns=2))["outcome"] == "unverified"


async def test_a_cancellation_survives_the_death_of_the_cell(talk, script):
    chat = await talk(script(team([{"hang": True}])))
    await chat.post("Fix the failing test")

    async def asking() -> bool:
        return any(e.payload["agent"] == "coder" for e in await chat.events("model.started"))

    await eventually(asking, timeout_s=60)
    await chat.send("cancel")
    await chat.cell.kill()
    await chat.cell.start()
    await chat.wake()
    assert (await chat.finished())["outcome"] == "cancelled"


async def test_a_message_while_the_team_works_is_seen_at_the_next_step(talk, script):
    chat = await talk(script(team([call("bash", command="sleep 3"), {"content": "done"}])), mode="single")
    await chat.post("Fix the failing test")

    async def sleeping() -> bool:
        return any("sleep" in e.payload["command"] for e in await chat.events("command.started"))

    await eventually(sleeping, timeout_s=60)
    assert (await chat.post("and keep it short"))["queued"]
    await chat.finished()
    given = await chat.events("message.delivered")
    assert ["and keep it short" in e.payload["text"] for e in given] == [True]
    assert len(await chat.events("turn.started")) == 1
    state = await chat.call("describe")
    assert (state["queue"], state["turn"]) == ([], None)


async def test_a_models_error_ends_the_turn_with_its_words(talk, script):
    error = {"code": "model-key-rejected", "detail": "no such key", "hint": "set it"}
    chat = await talk(script({"coder": [{"replies": [{"error": error}]}]}), mode="single")
    await chat.post("Fix it")
    end = await chat.finished()
    assert (end["outcome"], end["reason"]) == ("error", "no such key")
    assert [e.payload["code"] for e in await chat.events("error.raised")] == ["model-key-rejected"]


async def test_tests_that_hang_are_killed_and_told(talk, script):
    chat = await talk(
        script({"coder": [{"replies": [{"content": "I looked."}]}]}),
        mode="single",
        test_command="echo begun; sleep 600",
        limits={"test_timeout_seconds": 2},
    )
    await chat.post("Fix it")
    end = await chat.finished()
    assert end["outcome"] == "failed"
    assert end["tests"]["hung"]
    assert "did not end within 2 s" in end["tests"]["digest"]


async def test_the_setup_runs_once_and_is_not_part_of_the_diff(talk, script):
    chat = await talk(
        script({"coder": [{"replies": [{"content": "ok"}]}]}),
        mode="single",
        setup_command="echo x >> setup.log",
    )
    await chat.post("Explain it")
    await chat.finished()
    await chat.post("Explain it again")
    end = await chat.finished(turns=2)
    assert await chat.read("setup.log") == "x\n"
    assert end["files"] == []
    assert (await chat.call("diff"))["files"] == []


async def test_ending_a_command_also_stops_one_that_is_still_on_its_way(talk, script, database, settings):
    """The request of an agent that was cancelled may reach the sandbox after the kill."""
    chat = await talk(script({}))

    class Calls:
        async def call(self, ref, method, payload, **_):
            return await chat.cell.call(ref.id, method, **payload)

    context = SimpleNamespace(database=database, runtime=Calls(), settings=settings)
    sandbox, late, early = SandboxCommands(context, chat.sandbox_id, chat.id, "coder"), new_id(), new_id()
    assert (await sandbox.end(late))["reason"] == "never started"
    with pytest.raises(IdempotencyMismatch):
        await sandbox.run(late, "touch /home/user/too-late", 5)
    assert (await sandbox.run(early, "sleep 600 & sleep 600", 0))["status"] == "running"
    assert (await sandbox.end(early))["status"] == "killed"
    left = await chat.cell.sh(chat.sandbox_id, "ps ax | grep -c '[s]leep 600'; ls /home/user/too-late")
    assert left["stdout"].split() == ["0"]
