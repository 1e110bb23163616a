"""The tester: it asks no model. It finds the test command, runs it, and says what came out.

Everything carries ids derived from the task, so a tester that is killed and asked again joins the same run
and reads the same record. A run that does not end in time is killed with its whole process tree and reported
as hanging; of a run that prints without end the beginning and the end are read.

The command runs in the workspace as a person would run it there: with `.venv/bin` and `node_modules/.bin`
found first, and, where the shell can, with `pipefail`, so that `make test | tee log` ends as `make test` did.
Where its runner can write a report for machines, that goes into a folder outside the workspace (`reporting`).

After a change the tests are compared with those before it (`weakening`): the files, and what the two runs
report test by test. The run before is read again from its journal, so the state need not carry it.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from dataclasses import replace
from typing import Any

from actors.agent import changes
from actors.agent.sandbox_tools import AgentSandbox, finished
from graphs import detection, digest, probe, reporting, setup_suggestions, weakening
from graphs.detection import Choice
from graphs.ports import Observation
from graphs.probe import Found
from terminalpp.types.errors import NotFound, SandboxFailed
from terminalpp.types.ids import derived_id

PROBE_SECONDS = 60.0
REPORT_SECONDS = 60.0
EVIDENCE_SECONDS = 120.0
END_BYTES = 4 << 20  # of a run's output at its beginning and at its end; between them it is not read
# Test runs leave no caches in the workspace and believe that nobody watches.
ENVIRONMENT = {"CI": "1", "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
_REPORTS = "/home/user/.tpp/reports"
_FOUND_FIRST = """\
for d in node_modules/.bin .venv/bin; do [ -d "$d" ] && PATH="$PWD/$d:$PATH"; done"""
# `yes | command` ends with a broken pipe by design.
_PIPEFAIL = "(set -o pipefail) 2>/dev/null && set -o pipefail"


async def run_tests(task: dict[str, Any], sandbox: AgentSandbox) -> dict[str, Any]:
    """Run the given, the detected or the planned command. Returns `{status, command, report, exec_id, note}`.

    `report` is None when there is nothing to run, else `digest.Report` as JSON with `exec_id`, `exit_code`,
    `setup` and `weakened`; `note` says what was left out or could not be read.
    """
    found = await look(task, sandbox)
    choice = _choose(task, found)
    if choice.command is None:
        return {"status": "done", "command": None, "report": None, "exec_id": None, "note": choice.note}
    command, exec_id = choice.command, derived_id(task["task_id"], "tests")
    timeout_s = float(task["timeout_s"])
    seen = await _run(sandbox, exec_id, command, timeout_s, found)
    hung = seen.reason == "timeout"
    report = digest.read(
        _text(await _output(sandbox, exec_id, seen)),
        None if hung or seen.exit_code is None else seen.exit_code,
        command=command,
        reports=await _reports(sandbox, exec_id),
        timeout_s=timeout_s if hung else None,
        reason=seen.reason or seen.status,
    )
    told = _to_json(report, choice, found, exec_id, seen)
    told["weakened"] = await _weakened(task, sandbox, command, report)
    await sandbox.log.emit_once("tests.finished", sandbox.agent, _event(task, command, told, choice))
    return {"status": "done", "command": command, "report": told, "exec_id": exec_id, "note": choice.note}


def _choose(task: dict[str, Any], found: Found) -> Choice:
    if task.get("command"):
        return Choice(task["command"], note="; ".join(found.troubles))
    choice = detection.detect(found)
    if choice.command is None:
        planned = next((command for command in task.get("candidates") or [] if command.strip()), None)
        return Choice(planned, note=choice.note)
    return choice


def _to_json(
    report: digest.Report, choice: Choice, found: Found, exec_id: str, seen: Observation
) -> dict[str, Any]:
    told = {**report.to_json(), "exec_id": exec_id, "exit_code": seen.exit_code}
    if not report.ran and told["missing"] is None:
        told["missing"] = choice.missing
    told["setup"] = setup_suggestions.bringing(told["missing"], choice.command or "", found)
    if told["missing"] and not told["reason"]:
        told["reason"] = f"cannot run: {told['missing']} is missing"
    if setup_suggestions.image_lacks(told["missing"]):
        told["reason"] = f"{told['reason']} (the sandbox's image has to bring it: --image)"
    return told


def _event(task: dict[str, Any], command: str, told: dict[str, Any], choice: Choice) -> dict[str, Any]:
    """The payload of `tests.finished`."""
    about = {"command": command, "phase": task["phase"], "task_id": task["task_id"], "note": choice.note}
    return {**about, **told}


async def look(task: dict[str, Any], sandbox: AgentSandbox) -> Found:
    """What the workspace and the sandbox hold."""
    exec_id = derived_id(task["task_id"], "probe")
    script = f"cd {shlex.quote(sandbox.workspace)} || exit 0\n{probe.SCRIPT}"
    seen = await sandbox.plain(exec_id, script, PROBE_SECONDS)
    late = seen.running
    if late:
        seen = await sandbox.end(exec_id)
    found = probe.read(await _output(sandbox, exec_id, seen, probe.OUTPUT_BYTES))
    if not late:
        return found
    words = f"looking at the workspace took longer than {PROBE_SECONDS:.0f} s"
    return replace(found, troubles=(*found.troubles, words))


async def run_evidence(task: dict[str, Any], sandbox: AgentSandbox) -> dict[str, Any]:
    """Run the commands that a critic says will fail. Returns `{status, failed: [index, …]}`."""
    failed = []
    for index, command in enumerate(task["commands"]):
        seen = await _run(sandbox, derived_id(task["task_id"], "evidence", index), command, EVIDENCE_SECONDS)
        # 126 and 127: the command itself is broken, which proves nothing about the change.
        if seen.exit_code not in (0, 126, 127, None):
            failed.append(index)
    return {"status": "done", "failed": failed}


async def _run(
    sandbox: AgentSandbox, exec_id: str, command: str, timeout_s: float, found: Found | None = None
) -> Observation:
    lines = [f"cd {shlex.quote(sandbox.workspace)} || exit 126", _FOUND_FIRST]
    run = command
    if found is not None:
        folder = f"{_REPORTS}/{exec_id}"
        asks = reporting.environment(command, found, folder) or ":"
        lines.append(f"mkdir -p {folder} && : > {folder}.began && {{\n{asks}\n}}")
        run = reporting.flagged(command, folder)
    if not re.match(r"\s*yes\b", command):
        lines.append(_PIPEFAIL)
    script = "\n".join([*lines, run])
    seen = await sandbox.told(exec_id, command, script, timeout_s, ENVIRONMENT, limited=True)
    if not seen.running:
        return _as_timeout(seen) if seen.reason == "timeout" else seen
    ended = await sandbox.end(exec_id)
    await sandbox.log.emit_once("command.finished", sandbox.agent, finished(exec_id, ended))
    return _as_timeout(ended)


def _as_timeout(seen: Observation) -> Observation:
    return Observation(
        seen.status, None, seen.output, seen.output_bytes, seen.tail, "timeout", seen.duration_ms
    )


# ---- what a run left behind --------------------------------------------------------------------


async def _output(sandbox: AgentSandbox, exec_id: str, seen: Observation, most: int = 2 * END_BYTES) -> bytes:
    """The output whole, or both its ends; what the record holds where the journal is gone."""
    try:
        return await _journal(sandbox, exec_id, seen.output_bytes, most)
    except NotFound:
        return f"{seen.output}\n{seen.tail}".encode() if seen.tail else seen.output.encode()


async def _journal(sandbox: AgentSandbox, exec_id: str, size: int, most: int) -> bytes:
    if size <= most:
        return (await sandbox.output(exec_id, 0, size))[0]
    head, _ = await sandbox.output(exec_id, 0, most // 2)
    tail, _ = await sandbox.output(exec_id, size - most // 2, most // 2)
    return head + f"\n[… {size - most} bytes not read …]\n".encode() + tail


async def _reports(sandbox: AgentSandbox, exec_id: str) -> list[bytes]:
    """The reports of a run. What reads them has an id derived from the run's: its journal keeps them, and a
    later step reads the very same."""
    folder, id = f"{_REPORTS}/{exec_id}", derived_id(exec_id, "reports")
    script = reporting.collect(folder, shlex.quote(sandbox.workspace), f"{folder}.began")
    seen = await sandbox.plain(id, script, REPORT_SECONDS)
    if seen.running:
        await sandbox.end(id)
        return []
    return await _reports_again(sandbox, id, seen.output_bytes)


async def _reports_again(sandbox: AgentSandbox, id: str, size: int) -> list[bytes]:
    with contextlib.suppress(NotFound):
        return reporting.read((await sandbox.output(id, 0, min(size, reporting.MOST_BYTES)))[0])
    return []


async def _weakened(
    task: dict[str, Any], sandbox: AgentSandbox, command: str, report: digest.Report
) -> list[dict[str, Any]]:
    """What the change did to the tests; nothing before there is a change."""
    about = task.get("compare")
    if not about or about["base"] == about["to"]:
        return []
    try:
        files = await changes.between(sandbox, task["task_id"], about["base"], about["to"])
    except SandboxFailed as error:  # the tests' own result stands; what it is worth is told
        return [weakening.uncompared(error.detail)]
    # A run that failed may have stopped early: what it did not run is not gone.
    ended = report.passed or not (report.ran or report.hung)
    run = about.get("before") if ended else None
    counts = (run or {}).get("counts")
    return weakening.find(
        files,
        task.get("asked") or "",
        command=command,
        before=await _cases_before(sandbox, command, run),
        after=report.cases if ended else None,
        numbers=(_ran(counts), _ran(report.counts)) if counts and report.passed else None,
    )


def _ran(counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("passed", "failed", "errors"))


async def _cases_before(
    sandbox: AgentSandbox, command: str, run: dict[str, Any] | None
) -> dict[str, str] | None:
    """The results of the run before the change, test by test; None where its record is gone."""
    if not run or not run.get("exec_id") or run.get("exit_code") is None:
        return None
    try:
        output = await _journal(sandbox, run["exec_id"], 2 * END_BYTES, 2 * END_BYTES)
    except NotFound:
        return None
    reports = await _reports_again(sandbox, derived_id(run["exec_id"], "reports"), reporting.MOST_BYTES)
    return digest.read(_text(output), run["exit_code"], command=command, reports=reports).cases


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
