"""Kill any process while a run is going: the run ends right, each command started once, no event lost."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.e2e import scripts
from tests.e2e.stack import collect, ready, running_sandbox

WORK = [
    scripts.marked(1, 0.5),
    scripts.marked(2, 2.5),
    scripts.EDIT,
    scripts.marked(3, 0.2),
    {"content": "It adds now."},
]


async def start_run(client, tmp_path, coder=None):
    """A conversation whose team is at work; returns (sandbox id, conversation id)."""
    sandbox = await running_sandbox(client, name="failures")
    await client.upload_archive(sandbox["id"], "/home/user/work", scripts.archive())
    model = scripts.script(tmp_path, coder or WORK)
    conversation = await client.create_conversation(
        sandbox["id"], "/home/user/work", model=model, test_command="python3 -m unittest"
    )
    await client.post_message(
        conversation["id"], "Make the failing test in test_add.py pass, please: add() is wrong."
    )
    return sandbox["id"], conversation["id"]


async def second_command(client, conversation_id):
    """Until the coder's second marked command is under way."""
    commands = 0
    async for event in client.events(conversation_id):
        commands += event["type"] == "command.started" and "/home/user/ran" in event["payload"]["command"]
        if commands == 2:
            return
        assert event["type"] != "turn.finished", event


async def check(client, sandbox_id, conversation_id):
    """The turn passed, every marked command was started once, and the log has no gap."""
    events = await collect(client, conversation_id, until="turn.finished", timeout_s=120)
    finished = events[-1]["payload"]
    assert finished["outcome"] == "passed", finished
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (await client.read_file(sandbox_id, "/home/user/ran")).split() == [b"1", b"2", b"3"]
    started = [e["payload"]["exec_id"] for e in events if e["type"] == "command.started"]
    commands = await client.commands(sandbox_id, limit=1000)
    assert set(started) <= {command["id"] for command in commands}
    assert {command["status"] for command in commands} <= {"completed"}, commands
    called = [e["payload"]["tool_call_id"] for e in events if e["type"] == "tool.called"]
    finished_calls = [e["payload"]["tool_call_id"] for e in events if e["type"] == "tool.finished"]
    asked = sum(len(e["payload"]["tool_calls"]) for e in events if e["type"] == "model.finished")
    assert sorted(called) == sorted(finished_calls), "a tool call without its one result"
    assert len(set(called)) == asked


VICTIMS = {
    "gateway": lambda stack: stack.processes("-m gateway"),
    "conversation cell": lambda stack: stack.hosts_of("conversation"),
    "agent cells": lambda stack: stack.hosts_of("agent"),
    "sandbox cell": lambda stack: stack.hosts_of("sandbox"),
    "model cell": lambda stack: stack.hosts_of("model"),
    "node actor": lambda stack: stack.hosts_of("node"),
    "Ray's GCS": lambda stack: stack.processes("gcs_server"),
    "Ray's raylet": lambda stack: stack.processes("/raylet/raylet"),
    "Postgres": lambda stack: stack.processes("bin/postgres", "-D"),
    "Redis": lambda stack: stack.processes("-server 127.0.0.1:"),
}


# The rest are run by `./tpp test -m chaos`.
BY_DEFAULT = {"gateway", "conversation cell", "node actor", "Ray's GCS", "Ray's raylet", "Postgres", "Redis"}


@pytest.mark.parametrize(
    "victim", [pytest.param(name, marks=[] if name in BY_DEFAULT else pytest.mark.chaos) for name in VICTIMS]
)
async def test_kill(stack, client, tmp_path, victim):
    sandbox_id, conversation_id = await start_run(client, tmp_path)
    await second_command(client, conversation_id)
    pids = VICTIMS[victim](stack)
    stack.kill(*pids)
    await check(client, sandbox_id, conversation_id)
    await ready(client)


@pytest.mark.chaos
async def test_a_frozen_conversation_cell_cannot_write_when_it_wakes(stack, client, tmp_path):
    sandbox_id, conversation_id = await start_run(client, tmp_path)
    await second_command(client, conversation_id)
    (pid,) = stack.hosts_of("conversation")[:1]
    os.kill(pid, signal.SIGSTOP)
    try:
        await check(client, sandbox_id, conversation_id)
    finally:
        os.kill(pid, signal.SIGCONT)
    before = [event["seq"] async for event in client.events(conversation_id, follow=False)]
    await asyncio.sleep(2)  # the zombie has the time to do damage
    after = [event["seq"] async for event in client.events(conversation_id, follow=False)]
    assert before == after


async def run_until_asleep(client, tmp_path, seconds):
    """A run that has made its edit and is in the middle of a command that sleeps."""
    asleep = scripts.tool("bash", command=f"sleep {seconds}")
    coder = [scripts.marked(1, 0.1), scripts.EDIT, asleep, {"content": "Done."}]
    _, conversation_id = await start_run(client, tmp_path, coder)
    async for event in client.events(conversation_id):
        if event["type"] == "command.started" and f"sleep {seconds}" in event["payload"]["command"]:
            break
    return conversation_id


async def test_down_in_the_middle_and_up_again_goes_on(stack, client, tmp_path):
    conversation_id = await run_until_asleep(client, tmp_path, 3)
    await asyncio.to_thread(stack.stop)
    await asyncio.to_thread(stack.start)
    async with stack.client() as again:
        events = await collect(again, conversation_id, until="turn.finished", timeout_s=120)
    assert events[-1]["payload"]["outcome"] == "passed"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_everything_killed_at_once_as_by_a_power_cut(stack, client, tmp_path):
    conversation_id = await run_until_asleep(client, tmp_path, 4)
    stack.kill(*(pid for pid in stack.processes() if pid != os.getpid()))
    await asyncio.to_thread(stack.start)
    async with stack.client() as again:
        events = await collect(again, conversation_id, until="turn.finished", timeout_s=120)
    assert events[-1]["payload"]["outcome"] == "passed"
