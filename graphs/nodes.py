"""The graph's nodes: thin coroutines that hand work to agents and write down what came of it.

Each node may run again from its top after a crash. So it changes nothing by itself: agents recognise
their task by its id, snapshots are named by content, and the step's events leave through the state
(`outgoing`), committed with the checkpoint. Only `step.started` is written at once, with its attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from graphs import digest, routing
from graphs.limits import Spent
from graphs.ports import Services
from graphs.state import State
from terminalpp.types.ids import derived_id

ANSWER_CHARACTERS = 4000


@dataclass
class Visit:
    """One visit of one node: its services, its place in the turn, and what it will write down."""

    services: Services
    state: State
    step: str
    number: int

    def __post_init__(self) -> None:
        self.events: list[list[Any]] = []

    @property
    def key(self) -> str:
        """The id that everything done in this visit derives from."""
        turn = self.services.turn
        return derived_id(turn.conversation_id, turn.turn_id, self.step, self.number)

    async def work(self, role: str, kind: str, **task: Any) -> dict[str, Any]:
        """Have an agent do this visit's task of `kind`. Adds what it spent to `self.spent`."""
        result = await self.services.agents.work(
            role,
            {
                "task_id": derived_id(self.key, role, kind),
                "turn_id": self.services.turn.turn_id,
                "kind": kind,
                "spent": self.spent.to_json(),
                **task,
            },
        )
        used = Spent.from_json(result.get("spent"))
        now = self.spent
        costs = [cost for cost in (now.cost_usd, used.cost_usd) if cost is not None]
        self.state["spent"] = Spent(
            now.steps + used.steps,
            now.input_tokens + used.input_tokens,
            now.output_tokens + used.output_tokens,
            now.cached_tokens + used.cached_tokens,
            sum(costs) if costs else None,
        ).to_json()
        return result

    @property
    def spent(self) -> Spent:
        return Spent.from_json(self.state.get("spent"))

    def event(self, type: str, actor: str, payload: dict[str, Any]) -> None:
        self.events.append([type, actor, payload])

    def stopped(self, result: dict[str, Any]) -> dict[str, Any] | None:
        """The limit that ends the whole turn, if the agent ran into one."""
        if result["status"] == "stopped" and routing.turn_limit(result.get("limit")):
            return {"limit": result["limit"], "value": result["value"]}
        return None


Body = Callable[[Visit], Awaitable[dict[str, Any]]]


async def visit(step: str, body: Body, state: State, services: Services) -> dict[str, Any]:
    """Run one node: `step.started` at once, its work, then its update with the step's events."""
    number = state.get("visits", {}).get(step, 0) + 1
    place = Visit(services, State(**state), step, number)
    about = {
        "turn_id": services.turn.turn_id,
        "step": step,
        "visit": number,
        "attempt": await services.log.attempt(step, number),
    }
    began = services.clock()
    await services.log.emit("step.started", "system", about)
    update = await body(place)
    took_ms = int((services.clock() - began) * 1000)
    place.event("step.finished", "system", {**about, "duration_ms": took_ms})
    changed = update.get("snapshot") not in (None, state.get("snapshot"))
    return {
        **update,
        "spent": place.spent.to_json(),
        "visits": {**state.get("visits", {}), step: number},
        "outgoing": place.events,
        "rewind": {"snapshot": update["snapshot"], "label": f"{step} {number}"} if changed else None,
    }


async def route(at: Visit) -> dict[str, Any]:
    turn = at.services.turn
    return {"route": routing.route(turn.task, turn.mode), "snapshot": turn.baseline}


async def planner(at: Visit) -> dict[str, Any]:
    """A plan, or none: a bad plan is worse than no plan, so an unreadable one is dropped."""
    result = await at.work("planner", "plan")
    plan = result.get("answer") if result["status"] == "done" else None
    if plan is not None:
        at.event("plan.made", "planner", plan)
    else:
        at.event(
            "nudge.given",
            "system",
            {
                "agent": "planner",
                "reason": "no-plan",
                "text": "The planner gave no usable plan; the coder goes on without.",
            },
        )
    return {"plan": plan, "stopped": at.stopped(result)}


async def baseline(at: Visit) -> dict[str, Any]:
    """The tests before any change, so that red → green can be told from green → green."""
    if at.state["route"] == "trivial" and routing.question(at.services.turn.task):
        return {"command": None, "baseline": None}
    return await _tests(at, "before", "baseline")


async def coder(at: Visit) -> dict[str, Any]:
    """The only writer. A visit with feedback is a revision: what stood before it is kept."""
    state, feedback = at.state, at.state.get("feedback")
    so_far = None
    if feedback:
        so_far = await at.services.workspace.diff(at.key, at.services.turn.baseline, state["snapshot"])
    result = await at.work(
        "coder",
        "code",
        plan=state.get("plan"),
        baseline=state.get("baseline"),
        command=state.get("command"),
        feedback=feedback,
        said=state.get("answer"),
        diff=so_far["text"] if so_far else None,
    )
    after = await at.services.workspace.snapshot(at.key)
    return {
        "snapshot": after,
        "kept": state["snapshot"] if feedback else None,
        "kept_tests": state.get("tests") if feedback else None,
        "answer": result["content"][:ANSWER_CHARACTERS],
        "feedback": None,
        "stopped": at.stopped(result),
    }


async def gate(at: Visit) -> dict[str, Any]:
    """Run the tests; roll a revision back that lost ground; decide whether the coder goes again."""
    state, turn = at.state, at.services.turn
    before = state.get("baseline")
    untouched = state["snapshot"] == turn.baseline
    if untouched and (before is None or before["passed"]):
        return {"tests": before, "feedback": None}
    update = await _tests(at, "after", "tests", again=state.get("command"))
    tests, kept = update["tests"], state.get("kept")
    if kept is not None and kept != state["snapshot"] and digest.worse(tests, state.get("kept_tests")):
        await at.services.workspace.restore(at.key, kept)
        at.event(
            "revision.rolled_back",
            "system",
            {"reason": "the tests were worse after this revision than before it", "snapshot": kept},
        )
        tests = state.get("kept_tests")
        update = {**update, "tests": tests, "snapshot": kept, "kept": None}
    if routing.repair_wanted(State(**{**state, **update}), tests, turn.limits):
        update["rounds"] = state.get("rounds", 0) + 1
        update["feedback"] = {
            "source": "tests",
            "text": tests["digest"],
            "same_as_before": bool(
                before and before["ran"] and not before["passed"] and not digest.worse(before, tests)
            ),
        }
    return update


async def critic(at: Visit) -> dict[str, Any]:
    """A reviewer that sees task, criteria, diff and test report. Severe or proven findings go back, once."""
    state, turn, workspace = at.state, at.services.turn, at.services.workspace
    diff = await workspace.diff(at.key, turn.baseline, state["snapshot"])
    if not diff["files"]:
        return {"verdict": {"verdict": "none", "issues": []}}
    result = await at.work(
        "critic",
        "review",
        acceptance=(state.get("plan") or {}).get("acceptance", []),
        diff=diff["text"],
        tests=state.get("tests"),
        command=state.get("command"),
    )
    if result["status"] != "done":
        verdict: dict[str, Any] = {"verdict": "none", "issues": []}
        at.event("review.finished", "critic", verdict)
        return {"verdict": verdict, "stopped": at.stopped(result)}
    verdict = result["answer"]
    asked = [
        (index, issue["evidence_command"])
        for index, issue in enumerate(verdict["issues"])
        if issue["evidence_command"] and issue["severity"] != "high"
    ]
    failed: set[int] = set()
    if asked and verdict["verdict"] == "revise":
        ran = await at.work("tester", "evidence", commands=[command for _, command in asked])
        failed = {asked[place][0] for place in ran["failed"]}
        if await workspace.snapshot(at.key) != state["snapshot"]:  # evidence may not leave traces
            await workspace.restore(at.key, state["snapshot"])
    grave = routing.blocking(verdict["issues"], failed) if verdict["verdict"] == "revise" else []
    at.event("review.finished", "critic", {**verdict, "sent_back": len(grave)})
    update: dict[str, Any] = {"verdict": verdict}
    if grave and not state.get("reviews"):
        update["reviews"] = 1
        update["feedback"] = {"source": "critic", "text": _issues(grave)}
    return update


async def executor(at: Visit) -> dict[str, Any]:
    """Finish: closing commands and the words for the person. It is no writer; what it changes is undone."""
    state, turn, workspace = at.state, at.services.turn, at.services.workspace
    if (
        state.get("stopped")
        or state["route"] == "single"
        or (state["route"] == "trivial" and state["snapshot"] == turn.baseline)
    ):
        return {"summary": _summary(state)}
    diff = await workspace.diff(at.key, turn.baseline, state["snapshot"])
    result = await at.work(
        "executor",
        "close",
        diff=diff["text"],
        files=[f["path"] for f in diff["files"]],
        tests=state.get("tests"),
        baseline=state.get("baseline"),
        command=state.get("command"),
        verdict=state.get("verdict"),
        said=state.get("answer"),
    )
    if await workspace.snapshot(at.key) != state["snapshot"]:
        await workspace.restore(at.key, state["snapshot"])
        at.event(
            "revision.rolled_back",
            "system",
            {"reason": "the executor changed files after the tests had run", "snapshot": state["snapshot"]},
        )
    done = result["status"] == "done"
    return {
        "summary": result["content"][:ANSWER_CHARACTERS] if done else _summary(state),
        "stopped": at.stopped(result),
    }


async def _tests(at: Visit, phase: str, name: str, *, again: str | None = None) -> dict[str, Any]:
    """Have the tester run the tests; `name` is where the report goes in the state."""
    turn, plan = at.services.turn, at.state.get("plan") or {}
    result = await at.work(
        "tester",
        "tests",
        phase=phase,
        command=turn.test_command or again,
        candidates=plan.get("test_commands", []),
        timeout_s=turn.limits.test_timeout_seconds,
    )
    return {"command": result["command"], name: result["report"]}


def _issues(issues: list[dict[str, Any]]) -> str:
    lines = []
    for issue in issues:
        where = issue["file"] + (f":{issue['line']}" if issue["line"] else "")
        proof = f"\n  check: {issue['evidence_command']}" if issue["evidence_command"] else ""
        lines.append(f"- [{issue['severity']}] {where} {issue['claim']}{proof}")
    return "\n".join(lines)


def _summary(state: State) -> str:
    """Words for the person when no model may be asked, or none is needed."""
    if stopped := state.get("stopped"):
        words = f"Stopped by the limit on {stopped['limit']} ({stopped['value']}). What was done is kept."
        return f"{words}\n\n{state['answer']}" if state.get("answer") else words
    return state.get("answer", "")
