"""A person takes a turn back, looks first, undoes it, and tries it another way: CLI, REST and the chat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from terminalpp.client import Client
from terminalpp.types.errors import Conflict, NotFound
from terminalpp.types.ids import new_id
from tests.e2e import scripts
from tests.e2e.stack import ROOT, Stack, collect


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "add.py").write_text(scripts.BROKEN)
    (folder / "test_add.py").write_text(scripts.TEST)
    return folder


@pytest.fixture
def ran(stack: Stack, project: Path, tmp_path: Path) -> str:
    """The id of a conversation that has fixed the project."""
    model = scripts.script(tmp_path, [scripts.EDIT, {"content": "Fixed."}])
    done = stack.tpp("run", "--repo", str(project), "--model", model, "--json", "Fix add")
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return next(one["payload"]["conversation_id"] for one in told if one.get("type") == "cli.started")


async def content(client: Client, id: str) -> str:
    row = await client.conversation(id)
    return (
        await client.read_file(row["sandbox_id"] or "", f"{row['workspace']}/add.py")
    ).decode()


async def test_a_turn_is_taken_back_by_the_command_line(stack: Stack, client: Client, ran: str) -> None:
    listed = stack.tpp("rewind", ran[:8], "--list")
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert "before: Fix add" in lines[1]
    assert "after turn 1: passed" in lines[-1]
    shown = stack.tpp("rewind", ran, "--preview")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("Going back to before: Fix add would change ")
    assert "add.py" in shown.stdout
    assert await content(client, ran) == scripts.FIXED
    back = stack.tpp("rewind", ran)
    assert back.returncode == 0, back.stderr
    assert await content(client, ran) == scripts.BROKEN
    undo = back.stdout.splitlines()[-1]
    assert undo.startswith("To undo it: ./tpp rewind ")
    nothing = stack.tpp("rewind", ran)
    assert nothing.returncode == 2, nothing.stdout
    assert "there is no turn to go back behind" in nothing.stderr
    log = stack.tpp("logs", ran)
    assert "Went back to before: Fix add" in log.stdout
    again = stack.tpp(*undo.removeprefix("To undo it: ./tpp ").split())
    assert again.returncode == 0, again.stderr
    assert await content(client, ran) == scripts.FIXED
    wrong = stack.tpp("rewind", ran, "--to", "no-such")
    assert wrong.returncode == 2
    assert "--list" in wrong.stderr


async def test_another_try_in_a_fork(stack: Stack, client: Client, ran: str) -> None:
    first = stack.tpp("rewind", ran, "--list", "--json")
    points = [json.loads(line) for line in first.stdout.splitlines()]
    made = stack.tpp("fork", ran, "--at", str(points[0]["number"]), "--message", "Fix it another way")
    assert made.returncode == 0, made.stderr
    fork = made.stdout.strip()
    told = await collect(client, fork, until="turn.finished")
    assert told[-1]["payload"]["outcome"] == "passed"
    assert "conversation.forked" in [one["type"] for one in told]
    assert (await client.conversation(fork))["sandbox_id"] != (await client.conversation(ran))["sandbox_id"]
    assert b"return a + b" in (await client.diff(fork)).patch
    with pytest.raises(NotFound):
        await client.fork(fork, points[0]["id"])  # a point of the other one


async def test_in_the_chat(stack: Stack, client: Client, project: Path, tmp_path: Path) -> None:
    model = scripts.script(tmp_path, [scripts.EDIT, {"content": "Fixed."}])
    typed = "Fix add\n/rewind\n/rewind 1 ?\n/rewind 1\n/fork\n/quit\n"
    done = subprocess.run(
        [sys.executable, "-m", "terminalpp.cli.main", "chat", "--repo", str(project), "--model", model],
        cwd=stack.home.parent,
        env={**stack.environ(), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        input=typed,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "before: Fix add" in done.stdout, done.stdout + done.stderr
    assert "would change" in done.stdout
    assert "Went back to before: Fix add" in done.stdout
    assert "goes on with it" in done.stdout


async def test_by_rest(client: Client, ran: str) -> None:
    points = await client.points(ran)
    assert [one["between_turns"] for one in points if one["label"].startswith(("before", "after"))] == [
        True,
        True,
    ]
    key = new_id()
    done = await client.rewind(ran, points[0]["id"], key=key)
    assert (done["status"], done["untouched"]) == ("done", [])
    assert (await client.rewind(ran, points[0]["id"], key=key)) == done
    assert (
        len([one async for one in client.events(ran, follow=False) if one["type"] == "conversation.rewound"])
        == 1
    )
    left = [one["present"] for one in await client.points(ran, all=True)]
    assert left.count(False) >= 1
    said = await client.messages(ran)
    assert said
    for call in (client.rewind, client.preview_rewind):
        with pytest.raises(NotFound):
            await call(ran, new_id())
    box = (await client.conversation(ran))["sandbox_id"]
    empty = await client.create_conversation(box or "", "/home/user")
    with pytest.raises(Conflict):
        await client.fork(empty["id"])
