"""The graph's nodes: thin coroutines that hand work to agents and write down what came of it.

Each node may run again from its top after a crash. So it changes nothing by itself: agents recognise
their task by its id, snapshots are named by content, and the step's events leave through the state
(`outgoing`), committed with the checkpoint. Only `step.started` is written at once, with its attempt.

Whatever goes wrong with a model, the work done so far is kept and judged by its tests: the trouble is put
down in the state (`failed`), no model is asked any more, and the turn ends by itself. Trouble of the
machinery is raised: the step runs again later, under the same ids.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from graphs import digest, routing, turn_messages, weakening
from graphs.limits import Spent
from graphs.ports import Services
from graphs.state import State
from terminalpp.types.errors import ModelReplyInvalid, TerminalError
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

    async def ask(self, role: str, kind: str, **task: Any) -> dict[str, Any]:
        """As `work`, for an agent with a model. The model's trouble is a result: `{status: failed, trouble}`.

        Raises everything else, which the caller of the graph waits out or tells.
        """
        try:
            return await self.work(role, kind, **task)
        except TerminalError as error:
            # A provider's "bad request" reaches us as invalid input: nothing of ours is checked behind here.
            if not error.code.startswith("model-") and error.code != "invalid-input":
                raise
            return {"status": "failed", "content": "", "trouble": _trouble(role, error)}

    @property
    def spent(self) -> Spent:
        """What the turn has spent so far."""
        return Spent.from_json(self.state.get("spent"))

    def event(self, type: str, actor: str, payload: dict[str, Any]) -> None:
        """Tell an event with the step's end."""
        self.events.append([type, actor, payload])

    def stopped(self, result: dict[str, Any]) -> dict[str, Any] | None:
        """The limit that ends the whole turn, if the agent ran into one."""
        if result["status"] == "stopped" and routing.turn_limit(result.get("limit")):
            return {"limit": result["limit"], "value": result["value"]}
        return None


def _trouble(role: str, error: TerminalError) -> dict[str, Any]:
    about = {"detail": error.detail, "hint": error.next_step, "retryable": error.retryable}
    return {"role": role, "code": error.code, **about}


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
    changed, label = update.get("snapshot") not in (None, state.get("snapshot")), f"{step} {number}"
    kept = await services.workspace.keep(label) if changed else None
    return {
        **update,
        "spent": place.spent.to_json(),
        "visits": {**state.get("visits", {}), step: number},
        "outgoing": place.events,
        "rewind": {"snapshot": update["snapshot"], "label": label, "kept": kept} if changed else None,
    }


async def route(at: Visit) -> dict[str, Any]:
    """Which way the task goes."""
    turn = at.services.turn
    return {"route": routing.route(turn.task, turn.mode), "snapshot": turn.baseline}


async def planner(at: Visit) -> dict[str, Any]:
    """A plan, or none: a bad plan is worse than no plan, so an unreadable one is dropped."""
    result = await at.ask("planner", "plan")
    trouble = result.get("trouble")
    if trouble and trouble["code"] not in (*routing.UNUSABLE, "model-request-too-long"):
        return {"plan": None, "failed": trouble}  # the coder would meet the same
    plan = result.get("answer") if result["status"] == "done" else None
    if plan is not None:
        at.event("plan.made", "planner", plan)
    else:
        why = f" ({trouble['detail']})" if trouble else ""
        at.event(
            "nudge.given",
            "system",
            {
                "agent": "planner",
                "reason": "no-plan",
                "text": f"The planner gave no usable plan{why}; the coder goes on without.",
            },
        )
    return {"plan": plan, "stopped": at.stopped(result)}


async def baseline(at: Visit) -> dict[str, Any]:
    """The tests before any change, so that red → green can be told from green → green.

    What they write into the work tree is there before the coder begins, and is not the coder's doing.
    """
    if at.state["route"] == "trivial" and routing.question(at.services.turn.task):
        return {"command": None, "baseline": None, "began": at.state["snapshot"]}
    update = await _tests(at, "before", "baseline")
    if update["baseline"] is None:
        return {**update, "began": at.state["snapshot"]}
    after = await at.services.workspace.snapshot(derived_id(at.key, "tested"))
    return {**update, "snapshot": after, "began": after}


async def coder(at: Visit) -> dict[str, Any]:
    """The only writer. A visit with feedback is a revision: what stood before it is kept."""
    state, feedback = at.state, at.state.get("feedback")
    so_far = None
    if feedback:
        so_far = await at.services.workspace.diff(at.key, at.services.turn.baseline, state["snapshot"])
    result = await at.ask(
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
    trouble = result.get("trouble")
    if result["status"] == "malformed":  # it worked, and then said nothing that could be used
        trouble = _trouble("coder", ModelReplyInvalid("its last replies could not be used."))
    return {
        "snapshot": after,
        "kept": state["snapshot"] if feedback else None,
        "kept_tests": state.get("tests") if feedback else None,
        "answer": result["content"][:ANSWER_CHARACTERS] or state.get("answer", ""),
        "feedback": None,
        "stopped": at.stopped(result),
        "failed": trouble,
    }


async def gate(at: Visit) -> dict[str, Any]:
    """Run the tests; roll a revision back that lost ground; decide whether the coder goes again.

    What the run itself wrote into the work tree belongs to the change: the tree is recorded after it.
    """
    state, turn = at.state, at.services.turn
    before, kept = state.get("baseline"), state.get("kept")
    untouched = state["snapshot"] == state.get("began")
    if untouched and (before is None or before["passed"]):
        return {"tests": before, "feedback": None}
    unchanged = kept is not None and kept == state["snapshot"]
    update = await _tests(at, "after", "tests", again=state.get("command"))
    tests = update["tests"]
    if tests is not None:
        update["snapshot"] = await at.services.workspace.snapshot(derived_id(at.key, "tested"))
    if kept is not None and not unchanged and routing.lost_ground(tests, state.get("kept_tests")):
        await at.services.workspace.restore(at.key, kept)
        at.event(
            "revision.rolled_back",
            "system",
            {"reason": "the tests were worse after this revision than before it", "snapshot": kept},
        )
        tests = state.get("kept_tests")
        update = {**update, "tests": tests, "snapshot": kept, "kept": None}
    now = State(**{**state, **update})
    if _to_mend(now, tests):
        update["warned"] = state.get("warned", 0) + 1
        red = f"\n\nThe tests:\n{tests['digest']}" if tests and not tests["passed"] else ""
        update["feedback"] = {"source": "weakened", "text": weakening.words(_high(tests)) + red}
    elif routing.repair_wanted(now, tests, turn.limits, unchanged=unchanged):
        update["rounds"] = state.get("rounds", 0) + 1
        update["feedback"] = {
            "source": "tests",
            "text": tests["digest"],
            "same_as_before": bool(
                before and before["ran"] and not before["passed"] and not digest.worse(before, tests)
            ),
        }
    return update


def _to_mend(state: State, tests: dict[str, Any] | None) -> bool:
    """Whether the coder is told, once, that tests lost force: also while they are green, then above all."""
    return bool(_high(tests)) and not state.get("warned") and not routing.over(state)


def _high(tests: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [one for one in (tests or {}).get("weakened") or [] if one["severity"] == "high"]


async def critic(at: Visit) -> dict[str, Any]:
    """A reviewer that sees task, criteria, diff and test report. Severe or proven findings go back, once.

    No verdict that can be read is no approval: the turn then says "not reviewed". What the gate found about
    the tests stands among the issues as severe, whatever the critic thinks of it.
    """
    state, turn, workspace = at.state, at.services.turn, at.services.workspace
    diff = await workspace.diff(at.key, turn.baseline, state["snapshot"])
    if not diff["files"]:
        return {"verdict": {"verdict": "none", "issues": []}}
    found = _high(state.get("tests"))
    result = await at.ask(
        "critic",
        "review",
        acceptance=(state.get("plan") or {}).get("acceptance", []),
        diff=diff["text"],
        tests=state.get("tests"),
        command=state.get("command"),
    )
    if result["status"] != "done":
        verdict = {"verdict": "none", "issues": [_as_issue(one) for one in found], "reason": _why(result)}
        at.event("review.finished", "critic", verdict)
        return {"verdict": verdict, "stopped": at.stopped(result), "failed": result.get("trouble")}
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
    if found:
        issues = [*(_as_issue(one) for one in found), *verdict["issues"]]
        verdict = {**verdict, "verdict": "revise", "issues": issues}
    at.event("review.finished", "critic", {**verdict, "sent_back": len(grave)})
    update: dict[str, Any] = {"verdict": verdict}
    if grave and not state.get("reviews"):
        update["reviews"] = 1
        update["feedback"] = {"source": "critic", "text": _issues(grave)}
    return update


def _why(result: dict[str, Any]) -> str:
    """Why a review did not come about."""
    if result["status"] == "failed":
        return f"the critic's model failed: {result['trouble']['detail']}"
    if result["status"] == "malformed":
        return "the critic's verdict could not be read"
    return f"the limit on {result.get('limit')} ended the review"


def _as_issue(finding: dict[str, Any]) -> dict[str, Any]:
    about = {"severity": "high", "file": finding["file"], "line": None, "claim": finding["claim"]}
    return {**about, "evidence_command": None, "by": "gate"}


async def executor(at: Visit) -> dict[str, Any]:
    """Finish: closing commands and the words for the person. It is no writer; what it changes is undone."""
    state, turn, workspace = at.state, at.services.turn, at.services.workspace
    if (
        routing.over(state)
        or state["route"] == "single"
        or (state["route"] == "trivial" and state["snapshot"] == state.get("began"))
    ):
        return {"summary": turn_messages.summary(state)}
    diff = await workspace.diff(at.key, turn.baseline, state["snapshot"])
    result = await at.ask(
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
            {
                "reason": "the executor changed files after the tests had run; that was undone",
                "snapshot": state["snapshot"],
            },
        )
    ended = State(**{**state, "failed": result.get("trouble"), "stopped": at.stopped(result)})
    done = result["status"] == "done" and result["content"].strip()
    answer = result["content"][:ANSWER_CHARACTERS]
    summary = turn_messages.with_notes(answer, ended) if done else turn_messages.summary(ended)
    return {"summary": summary, "stopped": ended["stopped"], "failed": ended["failed"]}


async def _tests(at: Visit, phase: str, name: str, *, again: str | None = None) -> dict[str, Any]:
    """Have the tester run the tests; `name` is where the report goes in the state."""
    turn, plan, before = at.services.turn, at.state.get("plan") or {}, at.state.get("baseline")
    compare = None
    if phase == "after":
        compare = {"base": turn.baseline, "to": at.state["snapshot"], "before": _run_of(before)}
    result = await at.work(
        "tester",
        "tests",
        phase=phase,
        command=turn.test_command or again,
        candidates=plan.get("test_commands", []),
        timeout_s=turn.limits.test_timeout_seconds,
        compare=compare,
        asked=routing.asked(turn.task, turn.earlier),
    )
    note = result.get("note") or at.state.get("note") or ""
    return {"command": result["command"], "note": note, name: result["report"]}


def _run_of(report: dict[str, Any] | None) -> dict[str, Any] | None:
    """Where the run before the change can be read again."""
    return {name: report.get(name) for name in ("exec_id", "exit_code", "hung", "counts")} if report else None


def _issues(issues: list[dict[str, Any]]) -> str:
    lines = []
    for issue in issues:
        where = issue["file"] + (f":{issue['line']}" if issue["line"] else "")
        proof = f"\n  check: {issue['evidence_command']}" if issue["evidence_command"] else ""
        lines.append(f"- [{issue['severity']}] {where} {issue['claim']}{proof}")
    return "\n".join(lines)
