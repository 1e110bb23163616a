"""Every decision of the graph, as pure functions of the state. Tested as tables.

Nothing here waits, calls or remembers: the same state always leads to the same next node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from graphs import digest
from graphs.limits import Limits
from graphs.state import State
from terminalpp.types.states import TurnOutcome

_TRIVIAL = re.compile(
    r"\b(typos?|spelling|misspell\w*|rename|reword|whitespace|format(ting)?|indent\w*|bump|comment|"
    r"docstring|readme|changelog|log message|error message|print)\b",
    re.IGNORECASE,
)
_LARGE = re.compile(
    r"\b(implement|refactor|design|architect\w*|migrat\w*|rewrite|add support|feature|endpoint|"
    r"all tests|every|bug|fix|fail\w*|test\w*|crash\w*|race|deadlock|optimi[sz]e|performance|security)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"^\s*(what|why|how|where|who|which|when|does|is|are|can|could|explain|describe|show|list|tell)\b",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"\b(fix|change|add|make|write|create|update|remove|delete|implement|run)\b", re.IGNORECASE
)
_GO_ON = re.compile(
    r"^\s*(?:please\s+)?(?:go\s+on|continue|proceed|carry\s+on|keep\s+going|resume)\b", re.IGNORECASE
)
TRIVIAL_CHARACTERS = 200
WORKERS = ("planner", "coder")  # without them there is no work; critic and executor come after it
# The model answered, and what it said could not be used: the work so far is judged by its tests.
UNUSABLE = ("model-reply-invalid", "model-reply-cut")


def route(task: str, mode: str) -> str:
    """single (the person asked for one agent), trivial (no planner, no critic) or normal (all five)."""
    if mode == "single":
        return "single"
    short = len(task) <= TRIVIAL_CHARACTERS and task.count("\n") < 3
    if question(task) or (short and _TRIVIAL.search(task) and not _LARGE.search(task)):
        return "trivial"
    return "normal"


def question(task: str) -> bool:
    """Whether the task only asks: nothing is to be changed, so no tests are run beforehand."""
    short = len(task) <= TRIVIAL_CHARACTERS and task.count("\n") < 3
    return short and bool(_QUESTION.search(task)) and not _ORDER.search(task)


def asked(task: str, earlier: Sequence[Mapping[str, Any]]) -> str:
    """What the person asks for: of a turn that only goes on, the words of the turns before it as well."""
    if not _GO_ON.match(task):
        return task
    return "\n".join([*(str(turn["task"]) for turn in earlier), task])


def after_route(state: State) -> str:
    """planner or baseline."""
    return "planner" if state["route"] == "normal" else "baseline"


def after_planner(state: State) -> str:
    """baseline, or executor when no model may be asked any more."""
    return "executor" if over(state) else "baseline"


def after_gate(state: State) -> str:
    """coder (the gate wrote what to repair), critic (nothing red, not yet reviewed) or executor.

    A revision that the critic asked for is not reviewed again: the critic speaks once.
    """
    if over(state):
        return "executor"
    if state.get("feedback"):
        return "coder"
    tests = state.get("tests")
    red = bool(tests and tests["ran"] and not tests["passed"])
    return "critic" if state["route"] == "normal" and not state.get("verdict") and not red else "executor"


def over(state: State) -> bool:
    """Whether no model may be asked any more: a limit was reached, or the model itself gave up."""
    return bool(state.get("stopped") or state.get("failed"))


def after_critic(state: State) -> str:
    """coder when the critic sent the work back, else executor."""
    return "coder" if state.get("feedback") and not over(state) else "executor"


def blocking(issues: list[dict[str, Any]], failed_evidence: set[int]) -> list[dict[str, Any]]:
    """The findings that may send the work back: severe ones, and those whose evidence really fails."""
    return [
        issue for index, issue in enumerate(issues) if issue["severity"] == "high" or index in failed_evidence
    ]


def repair_wanted(
    state: State, tests: dict[str, Any] | None, limits: Limits, *, unchanged: bool = False
) -> bool:
    """Whether the gate sends the coder back: tests not green, rounds left, the last round changed something.

    Tests that were not run are sent back only if they ran before the change: then it broke them. Where it
    skipped or emptied them, the coder has been told that already.
    """
    if tests is None or tests["passed"] or over(state) or unchanged:
        return False
    before = state.get("baseline")
    if not tests["ran"] and (weak(tests) or not (before and before["ran"])):
        return False
    if state.get("verdict"):  # what the critic asked for is tried once; the guard keeps the better tree
        return False
    return state.get("rounds", 0) < limits.repair_rounds


def lost_ground(after: dict[str, Any] | None, before: dict[str, Any] | None) -> bool:
    """Whether a revision is to be rolled back: its tests are worse. Fewer weakened tests are never worse."""
    return digest.worse(after, before) and len(weak(after)) >= len(weak(before))


def weak(tests: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The findings that forbid `passed`."""
    return [one for one in (tests or {}).get("weakened") or [] if one["blocks"]]


def outcome(state: State) -> TurnOutcome:
    """How the turn ended. PASSED only when tests ran, the standing report is green, no test lost force.

    A model that gave no usable answer leaves its work to be judged by the tests; one that could not be
    reached, or refused, before the work was done is an ERROR.
    """
    if state.get("stopped"):
        return TurnOutcome.STOPPED
    failed = state.get("failed")
    if failed and failed["role"] in WORKERS and failed["code"] not in UNUSABLE:
        return TurnOutcome.ERROR
    tests = state.get("tests")
    if not tests or not tests["ran"]:
        return TurnOutcome.UNVERIFIED
    if not tests["passed"]:
        return TurnOutcome.FAILED
    return TurnOutcome.UNVERIFIED if weak(tests) else TurnOutcome.PASSED


def turn_limit(limit: str | None) -> bool:
    """Whether a limit ends the whole turn, not only the agent that ran into it."""
    return limit in ("steps", "seconds", "tokens", "usd")
