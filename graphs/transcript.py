"""An agent's conversation with its model, folded from the event log and from nothing else.

A task's events in order: `model.finished` is what the agent said; `tool.called` and `tool.finished`
are what it did and saw; `nudge.given` and `message.delivered` are words to it; `limit.reached` ends it.
The fold ignores every other type. It is total: any prefix of a task's events (the log after a kill at
any moment) folds to a transcript that a model accepts once the loop has closed its open calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs import arguments, inline_calls, protocol
from graphs.limits import Spent
from graphs.ports import Event
from graphs.stuck import Deed
from terminalpp.types.ids import derived_id


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a reply, as it is run, and as the provider gave it and gets it back.

    `id` is derived from the task and the call's place; it names the call on the log, for ever.
    """

    id: str
    name: str
    arguments: Any  # fitted to the tool's schema
    given: Any = None  # as they were read
    said_name: str = ""
    provider_id: str = ""
    beside: dict[str, Any] = field(default_factory=dict)  # signatures and the like


@dataclass
class Step:
    """One model reply with its calls and, by call id, their `tool.finished` payloads."""

    reply: dict[str, Any]
    calls: list[Call]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    called: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: list[dict[str, Any]] = field(default_factory=list)  # nudges and messages after this reply
    written: bool = False  # the calls stood in the text
    problem: str | None = None
    doubt: str | None = None  # what to say of text that looks like a call and was not run

    @property
    def open_calls(self) -> list[Call]:
        """The calls that have no result yet."""
        return [call for call in self.calls if call.id not in self.results]


@dataclass
class Transcript:
    """Everything the loop knows about its task."""

    task_id: str
    native: bool
    tools: tuple[str, ...] = ()  # the agent's own; none: all that there are schemas for
    steps: list[Step] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)  # words given before the first reply
    spent: Spent = field(default_factory=Spent)
    stopped: dict[str, Any] | None = None  # the limit that ended the task, if one did

    def nudges(self, reason: str) -> int:
        """How many nudges of this kind the agent has had in the whole task."""
        words = [*self.before, *(word for step in self.steps for word in step.words)]
        return sum(1 for word in words if word.get("reason") == reason)

    def compactions(self) -> list[dict[str, Any]]:
        """The nudges that followed a provider's "too long", each with its `budget` in characters."""
        words = [*self.before, *(word for step in self.steps for word in step.words)]
        return [word for word in words if word.get("reason") == "compact"]

    def last_words(self) -> list[dict[str, Any]]:
        """The list that words go to that come now."""
        return self.steps[-1].words if self.steps else self.before


def fold(
    task_id: str,
    events: Sequence[Event],
    *,
    native: bool,
    schemas: dict[str, Any],
    tools: tuple[str, ...] = (),
) -> Transcript:
    """The transcript of `task_id` from its events in order of seq."""
    out = Transcript(task_id, native, tools)
    for event in events:
        add(out, event.type, event.payload, schemas)
    return out


def add(out: Transcript, type: str, payload: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Fold one more event in."""
    step = out.steps[-1] if out.steps else None
    match type:
        case "model.finished":
            # A model's actor and its successor may both have recorded the same call: the first counts.
            if any(step.reply.get("call_id") == payload.get("call_id") for step in out.steps):
                return
            out.steps.append(_step(out, payload, schemas))
            out.spent = out.spent.plus(payload)
        case "tool.called" if step is not None:
            step.called[payload["tool_call_id"]] = payload
        case "tool.finished" if step is not None:
            step.results.setdefault(payload["tool_call_id"], payload)
        case "limit.reached":
            out.stopped = payload
        case "nudge.given" | "message.delivered":
            (step.words if step is not None else out.before).append(payload)


def call_id(task_id: str, step: int, index: int) -> str:
    """The id of call `index` in reply `step`: the same after every crash."""
    return derived_id(task_id, "tool", step, index)


def _step(out: Transcript, payload: dict[str, Any], schemas: dict[str, Any]) -> Step:
    number, content = len(out.steps), str(payload.get("content") or "")
    raw, problem, doubt = list(payload.get("tool_calls") or []) if out.native else [], None, None
    native = bool(raw)
    if not out.native:
        parsed = protocol.parse(content, schemas)
        raw, problem = parsed.calls, parsed.problem
    if not raw and problem is None:
        found = inline_calls.read(content, out.tools or tuple(schemas), schemas)
        raw, doubt = found.calls, found.doubt
    calls = [_call(out, number, index, item, schemas) for index, item in enumerate(raw)]
    return Step(payload, calls, written=bool(calls) and not native, problem=problem, doubt=doubt)


def _call(out: Transcript, number: int, index: int, item: dict[str, Any], schemas: dict[str, Any]) -> Call:
    said_name = str(item.get("name") or "")
    name = arguments.tool(said_name, out.tools or tuple(schemas))
    given = arguments.read(item.get("arguments"))
    return Call(
        id=call_id(out.task_id, number, index),
        name=name,
        arguments=arguments.fit(given, schemas[name]) if name in schemas else given,
        given=given,
        said_name=said_name,
        provider_id=str(item.get("id") or ""),
        beside=dict(item.get("given") or {}),
    )


def deeds(out: Transcript) -> list[Deed]:
    """The agent's calls since it was last told that it runs in circles."""
    done: list[Deed] = []
    for step in out.steps:
        for call in step.calls:
            result = step.results.get(call.id)
            if result is not None and not result.get("malformed"):
                done.append(Deed.of(call.name, call.arguments, result["output"], bool(result["ok"])))
        if any(word.get("reason") == "stuck" for word in step.words):
            done = []
    return done


def malformed_in_a_row(out: Transcript) -> int:
    """How many replies at the end could not be used: no valid call in them, or no reply at all."""
    row = 0
    for step in reversed(out.steps):
        row += sum(1 for word in step.words if word.get("reason") in ("malformed", "reply"))
        if any(word.get("reason") == "malformed" for word in step.words):
            continue
        results = [step.results[call.id] for call in step.calls if call.id in step.results]
        if results and all(result.get("malformed") for result in results):
            row += 1
            continue
        return row
    return row + sum(1 for word in out.before if word.get("reason") == "reply")
