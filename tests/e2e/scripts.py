"""Scripted models for the end-to-end tests: what the team will say, written to a file the model reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLAN = {
    "goal": "make the test pass",
    "acceptance": ["the test passes"],
    "files": ["add.py"],
    "steps": ["fix the sum"],
    "test_commands": ["python3 -m unittest"],
}
APPROVE = {"verdict": "approve", "issues": []}

BROKEN = "def add(a, b):\n    return a - b\n"
FIXED = "def add(a, b):\n    return a + b\n"
TEST = (
    "import unittest\nfrom add import add\n\n\nclass Add(unittest.TestCase):\n"
    "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n"
)


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return {"content": f"calling {name}", "tool_calls": [{"name": name, "arguments": arguments}]}


EDIT = tool("edit", path="add.py", old="return a - b", new="return a + b")


def marked(number: int, seconds: float) -> dict[str, Any]:
    """A command that leaves a line in ~/ran each time it is started, and takes a while."""
    return tool("bash", command=f"echo {number} >> /home/user/ran; sleep {seconds}; echo done {number}")


def script(folder: Path, coder: list[dict[str, Any]], *, name: str = "model", **roles: Any) -> str:
    """Write the script; returns the model string that uses it."""
    team = {
        "planner": [{"content": json.dumps(PLAN)}],
        "coder": coder,
        "critic": [{"content": json.dumps(APPROVE)}],
        "executor": [{"content": "add() adds now."}],
    } | roles
    scenes = {
        role: [{"replies": said, "then": "last"}] if isinstance(said, list) else [said]
        for role, said in team.items()
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"delay_ms": 5, "roles": scenes}))
    return f"scripted:{path}"


def archive() -> bytes:
    """The little repository with the bug, as a tar."""
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in {"add.py": BROKEN, "test_add.py": TEST}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()
