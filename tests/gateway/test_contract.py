"""The OpenAPI document against the real application: schemathesis with every check it has, and no failure.

It sends what the document allows, and what it forbids, to every operation, and holds each answer to the
document: status, media type, headers, body. The ids are mostly those of a sandbox, a command and a
conversation that exist. The seed is fixed: the same failures come again.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from schema import Database, Live
from terminalpp.client import Client
from tests.gateway.conftest import Served, make_talk

ROOT = Path(__file__).parents[2]
SEED = 8
HOOKS = "tests.gateway.schemathesis_hooks"
# What the document cannot say: that an image exists, that a place in the sandbox is a directory.
SEMANTIC = ["2xx", "401", "403", "404", "409", "429"]


def config(ids: dict[str, str], token: str, examples: int, stateful: bool) -> str:
    """The configuration in TOML."""
    lines = [
        f"seed = {SEED}",
        f'hooks = "{HOOKS}"',
        "continue-on-failure = true",
        "request-timeout = 30",
        f'headers = {{ Authorization = "Bearer {token}" }}',
        "[generation]",
        "deterministic = true",
        "allow-x00 = false",
        'database = "none"',
        f"max-examples = {examples}",
        "[phases.stateful]",
        f"enabled = {str(stateful).lower()}",
        "[phases.coverage]",
        'unexpected-methods = ["PATCH", "TRACE", "QUERY"]',
        "[warnings]",
        "enabled = false",
    ]
    for name, id in ids.items():
        lines += [f"[dictionaries.{name}]", f'values = ["{id}"]']
    lines += ["[parameters]"]
    lines += [f'"path.{name}" = {{ dictionary = "{name}", probability = 0.8 }}' for name in ids]
    return "\n".join(lines) + "\n"


async def run(served: Served, ids: dict[str, str], folder: Path, *options: str, **how: Any) -> str:
    """What schemathesis says, after the words that came before its end. Fails unless it found nothing."""
    (folder / "schemathesis.toml").write_text(config(ids, served.token, **how))
    (folder / "openapi.json").write_text(json.dumps(served.app.openapi()))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "run",
        "openapi.json", "--url", served.url, "--no-color", *options,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said[-20_000:]
    return said


@pytest.fixture
async def ids(stack: Served, api: Client, box: str, database: Database, live: Live) -> dict[str, str]:
    command = (await api.run_command(box, "cat", stdin=True))["id"]
    talk = await make_talk(database, live)
    await talk.say(3)
    return {"sandbox_id": box, "command_id": command, "conversation_id": talk.id}


async def test_every_answer_is_as_the_document_says(stack: Served, ids: dict[str, str], tmp_path: Path):
    said = await run(stack, ids, tmp_path, examples=8, stateful=False)
    assert "No issues found" in said
