"""What a person does first: the demo, then a run on their own repository through a model server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e import scripts
from tests.e2e.stack import Stack, collect, running_sandbox
from tests.model_server.server import ModelServer

ROLES = {"planner", "coder", "tester", "critic", "executor"}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def repository(folder: Path) -> Path:
    """A git repository outside ours with a bug, a staged change, a stash and an untracked file."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "add.py").write_text(scripts.BROKEN)
    (folder / "test_add.py").write_text(scripts.TEST)
    (folder / "notes.txt").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    (folder / "notes.txt").write_text("stashed\n")
    git(folder, "stash", "-q")
    (folder / "staged.txt").write_text("staged\n")
    git(folder, "add", "staged.txt")
    (folder / "untracked.txt").write_text("untracked\n")
    return folder


def test_demo_without_a_key_says_scripted_first_and_ends_green(stack):
    done = stack.tpp("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout.splitlines()[0].lower()
    assert "scripted" in first
    for word in ("plan", "python3 -m unittest", "counting.py", "approve"):
        assert word in done.stdout.lower(), f"{word!r} is not shown"
    assert "\x1b" not in done.stdout, "colours without a terminal"


@pytest.mark.docker
def test_demo_in_docker_builds_its_image_and_ends_green(tmp_path_factory):
    docker = Stack(tmp_path_factory.mktemp("docker") / "home", {"TPP_SANDBOX_DRIVER": "docker"})
    try:
        done = docker.tpp("demo", timeout_s=900)
    finally:
        docker.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "docker (runc)" in done.stdout
    assert "tests green" in done.stdout


def test_demo_as_json_holds_the_whole_story(stack):
    done = stack.tpp("demo", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    types = [event.get("type") for event in events]
    for expected in (
        "turn.started",
        "plan.made",
        "command.started",
        "tests.finished",
        "diff.made",
        "review.finished",
        "turn.finished",
    ):
        assert expected in types
    tests = [event["payload"] for event in events if event.get("type") == "tests.finished"]
    assert (tests[0]["passed"], tests[-1]["passed"]) == (False, True)
    assert {event["actor"] for event in events if event.get("actor") in ROLES} == ROLES


async def test_run_fixes_a_repository_through_a_model_server(stack, tmp_path):
    repo = repository(tmp_path / "my project")
    index, stash = git(repo, "ls-files", "--stage"), git(repo, "stash", "list")
    head = git(repo, "rev-parse", "HEAD")
    scenario = {
        "model": "recorded-1",
        "scenes": [
            {"system": "planner", "replies": [{"content": json.dumps(scripts.PLAN)}]},
            {
                "system": "coder",
                "replies": [scripts.EDIT, {"status": 429, "times": 1}, {"content": "Fixed."}],
            },
            {"system": "critic", "replies": [{"content": json.dumps(scripts.APPROVE)}]},
            {"system": "executor", "replies": [{"content": "add() adds now."}]},
        ],
    }
    server = await ModelServer(scenario, key="sk-test").start()
    try:
        environment = {"TPP_MODEL_BASE_URL": server.base_url, "TPP_MODEL_API_KEY": "sk-test"}
        own = Stack(tmp_path / "home", {"TPP_SANDBOX_DRIVER": "bubblewrap"} | environment)
        done = await asyncio.to_thread(
            own.tpp,
            "run",
            "--repo",
            str(repo),
            "--model",
            "recorded-1",
            "--apply",
            "add() returns a wrong result and its test fails. Find out why and make it pass.",
        )
        await asyncio.to_thread(own.stop)
    finally:
        await server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not server.unmatched
    assert (repo / "add.py").read_text() == scripts.FIXED
    assert git(repo, "ls-files", "--stage") == index
    assert git(repo, "stash", "list") == stash
    assert git(repo, "rev-parse", "HEAD") == head
    assert sorted(git(repo, "status", "--porcelain").splitlines()) == [
        " M add.py",
        "?? untracked.txt",
        "A  staged.txt",
    ]


async def test_ray_itself_shows_the_sandbox_and_the_five_agents(stack, client, tmp_path):
    sandbox = await running_sandbox(client)
    await client.upload_archive(sandbox["id"], "/home/user/work", scripts.archive())
    model = scripts.script(
        tmp_path,
        [scripts.EDIT, {"content": "Fixed."}],
        executor=[scripts.tool("bash", command="sleep 20"), {"content": "Done."}],
    )
    conversation = await client.create_conversation(sandbox["id"], "/home/user/work", model=model)
    await client.post_message(
        conversation["id"], "Make the failing test in test_add.py pass: add() is wrong."
    )
    async for event in client.events(conversation["id"]):
        if event["type"] == "command.started" and "sleep 20" in event["payload"]["command"]:
            break
    agents = await client.agents(conversation["id"])
    assert {agent["role"] for agent in agents} == ROLES
    cells = await asyncio.to_thread(stack.cells)
    entities = {ref for cell in cells for ref in cell["entities"]}
    assert f"sandbox/{sandbox['id']}" in entities
    assert {f"agent/{agent['id']}" for agent in agents} <= entities
    await client.cancel(conversation["id"])
    events = await collect(client, conversation["id"], until="turn.finished")
    assert events[-1]["payload"]["outcome"] == "cancelled"
