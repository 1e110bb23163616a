"""The tester: it asks no model. It finds the test command, runs it, and digests what came out.

Everything carries ids derived from the task, so a tester that is killed and asked again joins the same
run and reads the same record. A run that does not end in time is killed with its whole process tree and
reported as hanging; a run that prints without end is read at its beginning and its end only.
"""

from __future__ import annotations

import shlex
from typing import Any

from actors.agent.hands import SandboxHands, finished
from graphs import detection, digest
from graphs.ports import Observation
from terminalpp.types.ids import derived_id

PROBE_SECONDS = 60.0
EVIDENCE_SECONDS = 120.0
# Test runs leave no caches in the workspace and believe that nobody watches.
ENVIRONMENT = {"CI": "1", "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}


async def run_tests(task: dict[str, Any], hands: SandboxHands) -> dict[str, Any]:
    """Run the given, the detected or the planned command. Returns `{status, command, report, exec_id}`.

    `report` is None when there is nothing to run.
    """
    command = task.get("command") or await detect(task, hands)
    if command is None:
        return {"status": "done", "command": None, "report": None, "exec_id": None}
    exec_id = derived_id(task["task_id"], "tests")
    timeout_s = float(task["timeout_s"])
    seen = await _run(hands, exec_id, command, timeout_s)
    hung = seen.reason == "timeout"
    report = digest.read(
        f"{seen.output}\n{seen.tail}" if seen.tail else seen.output,
        None if hung or seen.exit_code is None else seen.exit_code,
        timeout_s=timeout_s if hung else None,
        reason=seen.reason or seen.status,
    ).to_json()
    await hands.log.emit_once(
        "tests.finished",
        hands.agent,
        {
            "command": command,
            "exec_id": exec_id,
            "passed": report["passed"],
            "exit_code": seen.exit_code,
            "counts": report["counts"],
            "digest": report["digest"],
            "phase": task["phase"],
            "ran": report["ran"],
            "hung": report["hung"],
            "task_id": task["task_id"],
        },
        "exec_id",
    )
    return {"status": "done", "command": command, "report": report, "exec_id": exec_id}


async def detect(task: dict[str, Any], hands: SandboxHands) -> str | None:
    """The repository's test command, else the first that the plan names."""
    script = f"cd {shlex.quote(hands.workspace)} || exit 0\n{detection.PROBE}"
    seen = await hands.plain(derived_id(task["task_id"], "probe"), script, PROBE_SECONDS)
    found = detection.detect(detection.parse_probe(seen.output + seen.tail))
    return found or next((command for command in task.get("candidates") or [] if command.strip()), None)


async def run_evidence(task: dict[str, Any], hands: SandboxHands) -> dict[str, Any]:
    """Run the commands that a critic says will fail. Returns `{status, failed: [index, …]}`."""
    failed = []
    for index, command in enumerate(task["commands"]):
        seen = await _run(hands, derived_id(task["task_id"], "evidence", index), command, EVIDENCE_SECONDS)
        # 126 and 127: the command itself is broken, which proves nothing about the change.
        if seen.exit_code not in (0, 126, 127, None):
            failed.append(index)
    return {"status": "done", "failed": failed}


async def _run(hands: SandboxHands, exec_id: str, command: str, timeout_s: float) -> Observation:
    script = f"cd {shlex.quote(hands.workspace)} || exit 126\n{command}"
    seen = await hands.told(exec_id, command, script, timeout_s, ENVIRONMENT)
    if not seen.running:
        killed = seen.status == "killed" and seen.duration_ms >= timeout_s * 1000
        return _as_timeout(seen) if killed else seen
    ended = await hands.end(exec_id)
    await hands.log.emit_once("command.finished", hands.agent, finished(exec_id, ended), "exec_id")
    return _as_timeout(ended)


def _as_timeout(seen: Observation) -> Observation:
    return Observation(
        seen.status, None, seen.output, seen.output_bytes, seen.tail, "timeout", seen.duration_ms
    )
