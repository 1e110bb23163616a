"""Words for the person: why a turn ended as it did, and what nobody may leave unsaid about it.

Pure. An agent's own summary comes first where there is one; what weighs against it is put under it by us, so
that no model can leave it out.
"""

from __future__ import annotations

from typing import Any

from graphs import routing, weakening
from graphs.state import State
from terminalpp.types.states import TurnOutcome


def reason(state: State) -> str:
    """The outcome's reason in words, for `turn.finished`."""
    tests, failed, verdict = state.get("tests"), state.get("failed"), state.get("verdict") or {}
    ended = routing.outcome(state)
    if ended is TurnOutcome.STOPPED:
        return f"the limit on {(state.get('stopped') or {}).get('limit')} was reached"
    if ended is TurnOutcome.ERROR:
        return str((failed or {}).get("detail", ""))
    if ended is TurnOutcome.PASSED:
        words = ["the tests pass"]
    elif ended is TurnOutcome.FAILED:
        words = ["the tests do not pass"]
    elif routing.weak(tests):
        words = [_weak(tests)]
    else:
        words = [not_run(tests, state.get("note") or "")]
    if routing.weak(tests) and ended is TurnOutcome.FAILED:
        words.append("tests were weakened as well")
    if verdict.get("verdict") == "none" and verdict.get("reason"):
        words.append(f"not reviewed: {verdict['reason']}")
    if failed and failed["role"] == "coder" and state.get("route") == "normal":
        words.append("not reviewed")
    if failed and failed["role"] in (*routing.WORKERS, "executor"):
        words.append(f"the {failed['role']}'s model gave no usable reply: {failed['detail'].rstrip('.')}")
    return "; ".join(words)


def _weak(tests: dict[str, Any] | None) -> str:
    found = routing.weak(tests)
    claims = "; ".join(one["claim"] for one in found[:3])
    return claims if found[0]["kind"] == "uncompared" else f"tests were weakened: {claims}"


def not_run(tests: dict[str, Any] | None, note: str = "") -> str:
    """Why there is no result, and what would bring what is missing."""
    if tests is None:
        return f"there were no tests to run{f' ({note})' if note else ''}"
    why = tests.get("reason")
    if not why:
        why = f"cannot run: {tests['missing']} is missing" if tests.get("missing") else "no test ran"
    words = f"the tests were not run: {why}"
    return f"{words}; {offer(tests['setup'])}" if tests.get("setup") else words


def offer(setup: str) -> str:
    """How a person brings what the sandbox lacks."""
    return f'to bring it: --setup-cmd "{setup}" --network open'


def summary(state: State) -> str:
    """Words for the person when no model may be asked, or none is needed."""
    parts = []
    if stopped := state.get("stopped"):
        limit = f"the limit on {stopped['limit']} ({stopped['value']})"
        parts.append(f"Stopped by {limit}. What was done is kept.")
    elif failed := state.get("failed"):
        tests = state.get("tests")
        green = (
            f"; its tests {'pass' if tests['passed'] else 'do not pass'}" if tests and tests["ran"] else ""
        )
        parts.append(
            f"The {failed['role']}'s model failed: {failed['detail']}\nWhat was done is kept{green}."
        )
    if state.get("answer"):
        parts.append(state["answer"])
    return with_notes("\n\n".join(parts), state)


def with_notes(words: str, state: State) -> str:
    """The words, and under them what nobody may leave unsaid."""
    tests, verdict = state.get("tests"), state.get("verdict") or {}
    notes = []
    if weak := routing.weak(tests):
        head = "Not compared" if weak[0]["kind"] == "uncompared" else "Tests were weakened"
        notes.append(f"{head}:\n{weakening.words(weak)}")
    if tests and not tests["ran"]:
        notes.append(f"{not_run(tests)[0].upper()}{not_run(tests)[1:]}.")
    if verdict.get("verdict") == "none" and verdict.get("reason"):
        notes.append(f"Not reviewed: {verdict['reason']}.")
    return "\n\n".join(part for part in (words, *notes) if part)
