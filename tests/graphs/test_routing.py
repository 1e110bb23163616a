# ruff: noqa: E501 (a row of a table is one line)
"""Every decision of the graph as rows of a table: who comes next, how the turn ended, and why."""

from __future__ import annotations

from typing import Any

import pytest

from graphs import prompting, routing, turn_messages, weakening
from graphs.limits import Limits


@pytest.mark.parametrize(
    ("task", "mode", "way"),
    [
        ("Fix the failing test", "team", "normal"),
        ("Correct the typo in the README", "team", "trivial"),
        ("What does parse() return?", "team", "trivial"),
        ("Can you fix the parser?", "team", "normal"),
        ("Rename foo to bar", "team", "trivial"),
        ("Rename foo to bar and fix the crash", "team", "normal"),
        ("typo " + "x" * 300, "team", "normal"),
        ("typo", "single", "single"),
    ],
)
def test_route(task, mode, way):
    assert routing.route(task, mode) == way


def report(passed: bool = False, ran: bool = True, **more: Any) -> dict[str, Any]:
    about = {"counts": {}, "digest": "", "hung": False, "reason": None, "missing": None, "weakened": []}
    return {"passed": passed, "ran": ran, **about, **more}


def finding(
    blocks: bool = True, claim: str = "the test `a` was deleted", severity: str = "high"
) -> dict[str, Any]:
    about = {"kind": "deleted", "file": "t.py", "test": "a"}
    return {**about, "claim": claim, "severity": severity, "blocks": blocks}


def trouble(role: str, code: str) -> dict[str, Any]:
    return {"role": role, "code": code, "detail": "it is so", "hint": "", "retryable": False}


GREEN, RED = report(True), report()
SKIPPED = report(ran=False, reason="every test was skipped (1)")
LACKING = report(ran=False, reason="cannot run: jest is missing", missing="jest", setup="npm ci")
WEAK = report(True, weakened=[finding()])
NOTED = report(True, weakened=[finding(blocks=False)])


@pytest.mark.parametrize(
    ("state", "outcome", "why"),
    [
        ({"tests": GREEN}, "passed", "the tests pass"),
        ({"tests": RED}, "failed", "the tests do not pass"),
        ({"tests": None}, "unverified", "there were no tests to run"),
        ({"tests": None, "note": "package.json is no JSON that can be read"}, "unverified",
         "there were no tests to run (package.json is no JSON that can be read)"),
        ({"tests": SKIPPED}, "unverified", "the tests were not run: every test was skipped (1)"),
        ({"tests": LACKING}, "unverified", "the tests were not run: cannot run: jest is missing; to bring it: "
         '--setup-cmd "npm ci" --network open'),
        ({"tests": WEAK}, "unverified", "tests were weakened: the test `a` was deleted"),
        ({"tests": {**SKIPPED, "weakened": [finding()]}}, "unverified",
         "tests were weakened: the test `a` was deleted"),
        ({"tests": {**RED, "weakened": [finding()]}}, "failed",
         "the tests do not pass; tests were weakened as well"),
        ({"tests": report(True, weakened=[weakening.uncompared("the tests cannot be compared")])}, "unverified",
         "the tests cannot be compared"),
        ({"tests": NOTED}, "passed", "the tests pass"),
        ({"tests": GREEN, "stopped": {"limit": "usd", "value": 5}}, "stopped", "the limit on usd was reached"),
        ({"tests": GREEN, "verdict": {"verdict": "none", "issues": []}}, "passed", "the tests pass"),
        ({"tests": GREEN, "verdict": {"verdict": "none", "issues": [], "reason": "it was unreadable"}}, "passed",
         "the tests pass; not reviewed: it was unreadable"),
        ({"tests": GREEN, "failed": trouble("coder", "model-reply-invalid")}, "passed",
         "the tests pass; the coder's model gave no usable reply: it is so"),
        ({"tests": RED, "failed": trouble("coder", "model-reply-cut")}, "failed",
         "the tests do not pass; the coder's model gave no usable reply: it is so"),
        ({"tests": None, "failed": trouble("coder", "model-reply-cut")}, "unverified",
         "there were no tests to run; the coder's model gave no usable reply: it is so"),
        ({"tests": GREEN, "failed": trouble("coder", "model-unreachable")}, "error", "it is so"),
        ({"tests": GREEN, "failed": trouble("coder", "model-request-too-long")}, "error", "it is so"),
        ({"tests": None, "failed": trouble("planner", "model-key-rejected")}, "error", "it is so"),
        ({"tests": GREEN, "failed": trouble("critic", "model-overloaded"),
          "verdict": {"verdict": "none", "issues": [], "reason": "the critic's model failed"}}, "passed",
         "the tests pass; not reviewed: the critic's model failed"),
        ({"tests": GREEN, "failed": trouble("executor", "model-unreachable")}, "passed",
         "the tests pass; the executor's model gave no usable reply: it is so"),
    ],
)  # fmt: skip
def test_outcome_and_reason(state, outcome, why):
    assert (str(routing.outcome(state)), turn_messages.reason(state)) == (outcome, why)


@pytest.mark.parametrize(
    ("state", "tests", "unchanged", "wanted"),
    [
        ({}, RED, False, True),
        ({}, GREEN, False, False),
        ({}, None, False, False),
        ({}, SKIPPED, False, False),
        ({"baseline": RED}, SKIPPED, False, True),
        ({"baseline": GREEN}, LACKING, False, True),
        ({"baseline": RED}, {**SKIPPED, "weakened": [finding()]}, False, False),
        ({"baseline": SKIPPED}, SKIPPED, False, False),
        ({}, RED, True, False),
        ({"rounds": 3}, RED, False, False),
        ({"verdict": {"verdict": "revise"}}, RED, False, False),
        ({"stopped": {"limit": "usd", "value": 1}}, RED, False, False),
        ({"failed": trouble("coder", "model-reply-cut")}, RED, False, False),
    ],
)
def test_repair(state, tests, unchanged, wanted):
    assert routing.repair_wanted(state, tests, Limits(), unchanged=unchanged) is wanted


@pytest.mark.parametrize(
    ("after", "before", "lost"),
    [
        (RED, GREEN, True),
        (GREEN, RED, False),
        (RED, WEAK, False),  # a skip was taken away again: red, and nearer to the truth
        ({**RED, "weakened": [finding()]}, WEAK, True),
        (SKIPPED, RED, True),
        (RED, None, False),
    ],
)
def test_a_revision_that_gives_tests_back_has_lost_no_ground(after, before, lost):
    assert routing.lost_ground(after, before) is lost


@pytest.mark.parametrize(
    ("state", "next_"),
    [
        ({"route": "normal", "tests": GREEN}, "critic"),
        ({"route": "normal", "tests": RED}, "executor"),
        ({"route": "normal", "tests": SKIPPED}, "critic"),
        ({"route": "normal", "tests": GREEN, "verdict": {"verdict": "approve"}}, "executor"),
        ({"route": "single", "tests": GREEN}, "executor"),
        ({"route": "single", "tests": WEAK, "feedback": {"source": "weakened"}}, "coder"),
        ({"route": "normal", "feedback": {"source": "tests"}, "failed": trouble("coder", "x")}, "executor"),
    ],
)
def test_after_the_gate(state, next_):
    assert routing.after_gate(state) == next_


@pytest.mark.parametrize(
    ("task", "whole"),
    [
        ("Fix add", "Fix add"),
        ("Go on with the task where you left it.", "Skip the slow tests\nGo on with the task where you left it."),
        ("please continue", "Skip the slow tests\nplease continue"),
    ],
)
def test_who_goes_on_has_asked_before(task, whole):
    assert routing.asked(task, [{"task": "Skip the slow tests", "summary": ""}]) == whole


# ---- what the agents are told --------------------------------------------------------------------


def test_what_was_not_run_is_told_with_its_reason_and_the_way_out():
    said = prompting.report(LACKING, "npm test")
    assert "was not run" in said
    assert "jest is missing" in said
    assert "`npm ci`" in said
    assert "passed" not in prompting.report(SKIPPED, "make test")


def test_the_critic_gets_what_was_found_about_the_tests():
    said = prompting.task_text("review", {"tests": WEAK, "command": "pytest"}, "Fix it", ())
    assert "[high] t.py the test `a` was deleted" in said
    assert "Found by comparing" not in prompting.task_text(
        "review", {"tests": GREEN, "command": "p"}, "Fix it", ()
    )


def test_the_coder_is_told_to_put_the_tests_back():
    feedback = {"source": "weakened", "text": "- [high] t.py the test `a` was deleted"}
    said = prompting.task_text("code", {"feedback": feedback}, "Fix it", ())
    assert "Put the tests back" in said


def test_the_executor_is_told_that_nobody_reviewed():
    verdict = {"verdict": "none", "issues": [], "reason": "the critic's verdict could not be read"}
    said = prompting.task_text("close", {"verdict": verdict}, "Fix it", ())
    assert "the change was not reviewed: the critic's verdict could not be read" in said
