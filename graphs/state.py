"""The graph's state: a few KB of JSON. No transcript, no output, no task text ever enters it.

`outgoing` holds the events of the step just done. The saver moves them from the checkpoint to the event
log in the transaction that stores the checkpoint, so a step's events exist exactly when its checkpoint
does; `rewind` likewise becomes a rewind point.
"""

from __future__ import annotations

from typing import Any, TypedDict

OUTGOING, REWIND = "outgoing", "rewind"


# What a new turn starts from: the thread is the conversation's, so everything of the turn before goes.
FRESH: dict[str, Any] = {
    "route": "", "plan": None, "command": None, "note": "", "baseline": None, "tests": None, "visits": {},
    "rounds": 0, "reviews": 0, "warned": 0, "feedback": None, "snapshot": "", "began": "", "kept": None,
    "kept_tests": None, "verdict": None, "stopped": None, "failed": None, "answer": "", "summary": "",
    "spent": {}, "outgoing": [], "rewind": None,
}  # fmt: skip


class State(TypedDict, total=False):
    """The state, all of whose fields may be missing."""

    turn_id: str  # the turn that this state belongs to
    route: str  # trivial | normal | single
    plan: dict[str, Any] | None
    command: str | None  # the test command in use; None: nothing runnable was found
    note: str  # what detection has to say: what is not run, what could not be read
    # A test report: digest.Report without its cases, `exec_id` and `exit_code` of the run, `setup` (what
    # would bring what is missing) and, after a change, `weakened` (see graphs/weakening.py).
    baseline: dict[str, Any] | None  # before the coder
    tests: dict[str, Any] | None  # the latest one that stands
    visits: dict[str, int]  # how often each node has been entered: part of every derived id
    rounds: int  # repair rounds used
    reviews: int  # times the critic has sent the work back
    warned: int  # times the gate has sent the coder back because tests were weakened
    feedback: dict[str, Any] | None  # {source: tests|weakened|critic, text} for the coder's next visit
    snapshot: str  # the work tree as it stands, with what a test run wrote into it
    began: str  # the work tree as the coder found it
    kept: str | None  # the work tree before the revision under way
    kept_tests: dict[str, Any] | None
    verdict: dict[str, Any] | None  # {verdict: approve|revise|none, issues}; none has its `reason`
    stopped: dict[str, Any] | None  # {limit, value}: no model may be asked any more
    failed: dict[str, Any] | None  # {role, code, detail, hint, retryable}: the model's trouble that ended it
    answer: str  # the coder's last words, bounded
    summary: str  # for the person
    spent: dict[str, Any]
    outgoing: list[list[Any]]  # [[type, actor, payload], …]
    rewind: dict[str, Any] | None  # {snapshot, label, kept}
