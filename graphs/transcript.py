"""An agent's conversation with its model, folded from the event log and from nothing else.

A task's events in order: `model.finished` is what the agent said; `tool.called` and `tool.finished`
are what it did and saw; `nudge.given` and `message.delivered` are words to it; `limit.reached` ends it.
The fold ignores every other type. It is total: any prefix of a task's events (the log after a kill at
any moment) folds to a transcript that a model accepts once the loop has closed its open calls.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs import protocol
from graphs.limits import Spent
from graphs.ports import Event
from graphs.stuck import Deed
from terminalpp.types.ids import derived_id

KEEP_RECENT = 8  # tool outputs that are never elided, newest first
ELIDED = "[an earlier output was left out to save room; run or read it again if you need it]"


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a reply. Its id is derived from the task and its place, not the provider's."""

    id: str
    name: str
    arguments: Any


@dataclass
class Step:
    """One model reply with its calls and, by call id, their `tool.finished` payloads."""

    reply: dict[str, Any]
    calls: list[Call]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    called: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: list[dict[str, Any]] = field(default_factory=list)  # nudges and messages after this reply
    problem: str | None = None

    @property
    def open_calls(self) -> list[Call]:
        return [call for call in self.calls if call.id not in self.results]


@dataclass
class Transcript:
    """Everything the loop knows about its task."""

    task_id: str
    native: bool
    steps: list[Step] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)  # words given before the first reply
    spent: Spent = field(default_factory=Spent)
    stopped: dict[str, Any] | None = None  # the limit that ended the task, if one did

    def nudges(self, reason: str) -> int:
        """How many nudges of this kind the agent has had in the whole task."""
        words = [*self.before, *(word for step in self.steps for word in step.words)]
        return sum(1 for word in words if word.get("reason") == reason)

    def last_words(self) -> list[dict[str, Any]]:
        return self.steps[-1].words if self.steps else self.before


def fold(task_id: str, events: Sequence[Event], *, native: bool, schemas: dict[str, Any]) -> Transcript:
    """The transcript of `task_id` from its events in order of seq."""
    out = Transcript(task_id, native)
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
    number, problem = len(out.steps), None
    if out.native:
        raw = payload.get("tool_calls") or []
    else:
        parsed = protocol.parse(payload.get("content") or "", schemas)
        raw, problem = parsed.calls, parsed.problem
    calls = [
        Call(call_id(out.task_id, number, index), str(item.get("name") or ""), _object(item.get("arguments")))
        for index, item in enumerate(raw)
    ]
    return Step(payload, calls, problem=problem)


def _object(arguments: Any) -> Any:
    """Providers give arguments as an object or as JSON text; text that is no JSON stays text."""
    if isinstance(arguments, str):
        try:
            return json.loads(arguments or "{}")
        except ValueError:
            return arguments
    return {} if arguments is None else arguments


def messages(out: Transcript, system: str, task: str, budget_characters: int) -> list[dict[str, Any]]:
    """The messages of the next model call, in OpenAI shape, with the oldest outputs elided to fit."""
    said: list[dict[str, Any]] = [{"role": "system", "content": system}, {"role": "user", "content": task}]
    outputs: list[dict[str, Any]] = []
    for words in out.before:
        said.append({"role": "user", "content": words["text"]})
    for step in out.steps:
        said.extend(_native(step, outputs) if out.native else _text(step, outputs))
        said.extend({"role": "user", "content": words["text"]} for words in step.words)
    _elide(said, outputs, budget_characters)
    return _merged(said)


def _native(step: Step, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant", "content": step.reply.get("content") or ""}
    if not step.calls:
        return [message]
    message["tool_calls"] = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": _json(call.arguments)},
        }
        for call in step.calls
    ]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": _output(step, call)} for call in step.calls
    ]
    outputs.extend(results)
    return [message, *results]


def _text(step: Step, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    message = {"role": "assistant", "content": step.reply.get("content") or ""}
    if not step.calls:
        return [message]
    results = [
        {"role": "user", "content": protocol.result(call.name, _output(step, call))} for call in step.calls
    ]
    outputs.extend(results)
    return [message, *results]


def _output(step: Step, call: Call) -> str:
    done = step.results.get(call.id)
    return str(done["output"]) if done is not None else "[this call was interrupted]"


def _json(arguments: Any) -> str:
    """Arguments as the JSON object that providers insist on, also when the model sent something else."""
    return json.dumps(arguments if isinstance(arguments, dict) else {"unreadable": str(arguments)})


def _elide(said: list[dict[str, Any]], outputs: list[dict[str, Any]], budget: int) -> None:
    size = sum(len(str(message.get("content") or "")) for message in said)
    for message in outputs[:-KEEP_RECENT]:
        if size <= budget:
            return
        if len(message["content"]) > len(ELIDED):
            size -= len(message["content"]) - len(ELIDED)
            message["content"] = ELIDED


def _merged(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring user messages as one: some providers refuse two in a row."""
    out: list[dict[str, Any]] = []
    for message in said:
        if out and message["role"] == out[-1]["role"] == "user":
            out[-1] = {"role": "user", "content": f"{out[-1]['content']}\n\n{message['content']}"}
        else:
            out.append(message)
    return out


def deeds(out: Transcript) -> list[Deed]:
    """What the agent did since it was last told that it runs in circles."""
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
