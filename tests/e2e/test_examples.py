"""The programs in `examples/` are run as a person runs them, against a real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from terminalpp.client import Client
from tests.e2e.stack import Stack
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))

ENDLESS = """
from terminalpp.client import Sandbox
sandbox = Sandbox.connect({id!r})
sandbox.commands.run("echo begun; sleep 600", on_stdout=lambda text: print(text, flush=True))
"""


def environ(stack: Stack) -> dict[str, str]:
    return stack.environ() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(stack: Stack, name: str) -> list[str]:
    words = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", str(ROOT / "examples" / name)]
    done = subprocess.run(words, env=environ(stack), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stderr, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout.splitlines()


async def test_a_command_is_streamed(stack: Stack, client: Client) -> None:
    said = run(stack, "run_command.py")
    assert said[:3] == ["step 1", "step 2", "step 3"]
    assert re.fullmatch(r"exit code 0 after \d+ ms", said[3])
    assert said[4].startswith("exit code 2: ls:")
    assert "example" not in [row["name"] for row in await client.sandboxes()]


def test_files_go_and_come_back(stack: Stack) -> None:
    assert run(stack, "files_round_trip.py") == [
        "file sorted.txt 18",
        "file sorted.txt.gz 49",
        "file words.txt 24",
        "apple",
        "pear",
        "quince",
        "gzip begins with 1f8b",
        "left: /home/user/work/done, /home/user/work/done/sorted.txt, /home/user/work/sorted.txt.gz",
    ]


def test_the_team_fixes_a_bug(stack: Stack) -> None:
    said = run(stack, "fix_a_bug.py")
    assert said.index("tests red") < said.index("tests green")
    assert any(line.startswith("coder $ python3 -m unittest") for line in said)
    assert any(line.startswith("passed: ") for line in said)
    assert "+    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))" in said


def test_each_example_is_tested() -> None:
    assert EXAMPLES == ["files_round_trip.py", "fix_a_bug.py", "run_command.py"]


async def test_ctrl_c_leaves_no_command_running(stack: Stack, client: Client) -> None:
    sandbox = await client.create_sandbox(wait=True)
    words = [sys.executable, "-c", ENDLESS.format(id=sandbox["id"])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, env=environ(stack), **pipes) as program:
        assert program.stdout
        assert program.stdout.readline() == b"begun\n"
        os.kill(program.pid, signal.SIGINT)
        program.communicate(timeout=30)
    assert program.returncode != 0

    async def ended() -> bool:
        return not await client.commands(sandbox["id"], status="running")

    await eventually(ended, 20)
    await client.delete_sandbox(sandbox["id"])
