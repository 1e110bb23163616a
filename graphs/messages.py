"""A transcript as the messages of the next model call, in OpenAI shape.

What it guarantees
- What the provider gave is given back: the ids of its calls, its reasoning fields and signatures, in the
  places where litellm expects them, as long as the same model is asked. An id is replaced only where it
  could not name one call of the request (missing, or used before), and then by nine letters and digits,
  which every provider takes.
- Every call has exactly one result; calls that the model wrote as text get theirs as text.
- The oldest outputs are elided first until the rest fits. After the provider has said "too long"
  (`compactions` in the transcript), less is kept each time: fewer recent outputs, shorter ones, shorter
  arguments and thoughts of old steps, in the end a shorter task.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from graphs import observation, protocol
from graphs.transcript import Call, Step, Transcript

KEEP_RECENT = 8  # tool outputs that are never elided, newest first, until the provider says "too long"
ELIDED = "[an earlier output was left out to save room; run or read it again if you need it]"
NO_ANSWER = "[no answer]"  # stands for an empty reply: many providers refuse an empty message
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ID_LENGTH = 9  # Mistral's form, the strictest of all


def build(
    out: Transcript, system: str, task: str, budget_characters: int, model: str = ""
) -> list[dict[str, Any]]:
    """The messages for `model`, at most about `budget_characters` long."""
    budget = min([budget_characters, *(word["budget"] for word in out.compactions() if word.get("budget"))])
    hard = len(out.compactions())
    text = observation.cut_middle(task, budget // 2) if hard > 1 else task
    said: list[dict[str, Any]] = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    outputs: list[dict[str, Any]] = []
    used: set[str] = set()
    for words in out.before:
        said.append({"role": "user", "content": words["text"]})
    for number, step in enumerate(out.steps):
        ours = not model or step.reply.get("model") in (None, model)
        old = hard > 0 and number < len(out.steps) - max(0, 3 - hard)
        if step.written:
            said.extend(_text(step, outputs, ours))
        else:
            said.extend(_native(step, outputs, used, ours, old, hard))
        said.extend({"role": "user", "content": words["text"]} for words in step.words)
    _elide(said, outputs, budget, KEEP_RECENT >> hard)
    if hard:
        _shorten(said, outputs, budget, 8000 >> hard)
    return _merged(said)


def plain(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`said` for a model other than the one it was built for: no ids, signatures or thoughts of the first."""
    out: list[dict[str, Any]] = []
    ids: dict[str, str] = {}
    for message in said:
        kept = {name: message[name] for name in ("role", "content", "tool_calls") if name in message}
        if "tool_calls" in kept:
            ids |= {call["id"]: _nine(f"{len(out)} {call['id']}") for call in kept["tool_calls"]}
            kept["tool_calls"] = [
                {"id": ids[call["id"]], "type": "function", "function": call["function"]}
                for call in kept["tool_calls"]
            ]
        if "tool_call_id" in message:
            kept["tool_call_id"] = ids[message["tool_call_id"]]
        out.append(kept)
    return out


def size(said: list[dict[str, Any]]) -> int:
    """Characters of `said` that count for a model's context."""
    return sum(len(str(message.get("content") or "")) + _beside(message) for message in said)


def _beside(message: Mapping[str, Any]) -> int:
    """What a message holds beside its content: calls, reasoning."""
    more = {name: value for name, value in message.items() if name not in ("role", "content", "tool_call_id")}
    return len(json.dumps(more, ensure_ascii=False, default=str)) if more else 0


def _native(
    step: Step, outputs: list[dict[str, Any]], used: set[str], ours: bool, old: bool, hard: int
) -> list[dict[str, Any]]:
    message = _assistant(step, ours)
    if old and hard > 1:
        message = {name: _less(value) for name, value in message.items() if not isinstance(value, list)}
    if not step.calls:
        return [message]
    ids = [_id(call, used, ours) for call in step.calls]
    message["tool_calls"] = [
        {
            **(call.beside if ours else {}),
            "id": id,
            "type": "function",
            "function": {"name": _name(call), "arguments": _json(call.given, 400 if old else None)},
        }
        for id, call in zip(ids, step.calls, strict=True)
    ]
    results = [
        {"role": "tool", "tool_call_id": id, "content": _output(step, call)}
        for id, call in zip(ids, step.calls, strict=True)
    ]
    outputs.extend(results)
    return [message, *results]


def _assistant(step: Step, ours: bool) -> dict[str, Any]:
    content = str(step.reply.get("content") or "")
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if ours:
        message |= (step.reply.get("given") or {}) | {"role": "assistant"}
    if not step.calls and not message["content"]:
        message["content"] = NO_ANSWER
    return message


def _text(step: Step, outputs: list[dict[str, Any]], ours: bool) -> list[dict[str, Any]]:
    message = _assistant(step, ours)
    results = [
        {"role": "user", "content": protocol.result(call.name, _output(step, call))} for call in step.calls
    ]
    outputs.extend(results)
    return [message, *results]


def _id(call: Call, used: set[str], ours: bool) -> str:
    """The provider's own id of a call, while it names this call alone."""
    id = call.provider_id if ours else ""
    if not id.strip() or id in used:
        id = _nine(call.id)
    used.add(id)
    return id


def _nine(name: str) -> str:
    """Nine letters and digits that stand for `name`."""
    number = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest())
    return "".join(_LETTERS[number // 62**place % 62] for place in range(_ID_LENGTH))


def _name(call: Call) -> str:
    """The name as it was said, unless no provider would take it back (`functions.bash`, nothing at all)."""
    names = (call.said_name, call.name)
    return next((name for name in names if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)), "unknown")


def _output(step: Step, call: Call) -> str:
    done = step.results.get(call.id)
    return str(done["output"]) if done is not None else "[this call was interrupted]"


def _json(given: Any, longest: int | None) -> str:
    """Arguments as the JSON object that providers insist on, also when the model sent something else."""
    value = given if isinstance(given, dict) else {"unreadable": str(given)}
    if longest is not None:
        value = {key: _less(item, longest) for key, item in value.items()}
    return json.dumps(value)


def _less(value: Any, longest: int = 400) -> Any:
    return observation.cut_middle(value, longest) if isinstance(value, str) else value


def _elide(said: list[dict[str, Any]], outputs: list[dict[str, Any]], budget: int, keep: int) -> None:
    total = size(said)
    for message in outputs[: max(0, len(outputs) - max(1, keep))]:
        if total <= budget:
            return
        if len(message["content"]) > len(ELIDED):
            total -= len(message["content"]) - len(ELIDED)
            message["content"] = ELIDED


def _shorten(said: list[dict[str, Any]], outputs: list[dict[str, Any]], budget: int, longest: int) -> None:
    """Cut what is left of the outputs, then every long text but the first two, until it fits."""
    total = size(said)
    for message in [*outputs, *said[2:]]:
        if total <= budget:
            return
        before, after = message["content"], observation.cut_middle(message["content"], longest)
        total -= len(before) - len(after)
        message["content"] = after


def _merged(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring user messages as one: some providers refuse two in a row."""
    out: list[dict[str, Any]] = []
    for message in said:
        if out and message["role"] == out[-1]["role"] == "user":
            out[-1] = {"role": "user", "content": f"{out[-1]['content']}\n\n{message['content']}"}
        else:
            out.append(message)
    return out
