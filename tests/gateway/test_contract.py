"""The OpenAPI document against the real application: schemathesis with every check it has, and no failure.

It sends what the document allows, and what it forbids, to every operation, and holds each answer to the
document: status, media type, headers, body. The ids are mostly those of a sandbox, a command and a
conversation that exist. The seed is fixed: the same failures come again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from terminalpp.client import Client
from tests.gateway.conftest import Served

ROOT = Path(__file__).parents[2]
SEED = 8
HOOKS = "tests.gateway.schemathesis_hooks"
# What the document cannot say: that an image exists, that a path is a directory, that a cursor was given, and
# that there is no 31 February.
MAY_REFUSE = (
    "createSandbox", "putArchive", "getArchive", "getFile", "putFile", "changeFile", "deleteFile", "statFile",
    "listFiles", "makeDirectory", "moveFile", "copyFile", "createConversation", "setModel",
    "listSandboxes", "listCommands", "listConversations", "listAgents",
)  # fmt: skip
REFUSED = ["401", "403", "404", "405", "409", "412", "415", "416", "422", "429", "5xx"]
TAKEN = ["2xx", "3xx", "401", "403", "404", "409", "412", "416", "429", "5xx"]


def config(ids: dict[str, str], token: str, examples: int, stateful: bool) -> str:
    """The configuration in TOML."""
    lines = [
        f"seed = {SEED}",
        f'hooks = "{HOOKS}"',
        "continue-on-failure = true",
        "request-timeout = 100",
        "workers = 1",
        f'auth.openapi.token.bearer = "{token}"',
        "[generation]",
        "deterministic = true",
        "no-shrink = true",
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
    lines += ["[checks]"]
    # The hook sends messages to a conversation that does not exist, so the one just made is not found there.
    lines += ["ensure_resource_availability.enabled = false"]
    lines += [f"negative_data_rejection.expected-statuses = {['400', '413', *REFUSED]}"]
    lines += [f"positive_data_acceptance.expected-statuses = {TAKEN}"]
    for operation in MAY_REFUSE:
        lines += ["[[operations]]", f'include-operation-id = "{operation}"']
        lines += [f"checks.positive_data_acceptance.expected-statuses = {[*TAKEN, '422']}"]
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
async def ids(api: Client, box: str) -> dict[str, str]:
    command = (await api.run_command(box, "cat", stdin=True))["id"]
    talk = await api.create_conversation(box, "/home/user", model="scripted:demo")
    return {"sandbox_id": box, "command_id": command, "conversation_id": talk["id"]}


@pytest.mark.timeout(300)
async def test_every_answer_is_as_the_document_says(stack: Served, ids: dict[str, str], tmp_path: Path):
    phases = ("--phases", "coverage,fuzzing")
    said = await run(stack, ids, tmp_path, *phases, examples=3, stateful=False)
    assert re.search(r"[0-9]{4} generated, [0-9]{3,4} passed", said), said


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_every_answer_of_a_long_run_too(stack: Served, ids: dict[str, str], tmp_path: Path):
    await run(stack, ids, tmp_path, "--max-time", "900", examples=60, stateful=True)
