"""The pieces of an OpenAI-shaped reply, whatever a server makes of that shape, put together.

OpenAI's chat completions are spoken by everyone and by hardly anyone to the letter: calls without `index`,
one index for two calls, names in pieces or in every piece, arguments as an object, content as parts,
thoughts under five names, finish reasons of one's own. `Deltas` takes events as they come, streamed or
whole, and holds what they say. It is pure, refuses nothing, and knows neither litellm nor the network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

STOP, CALLS, LENGTH, FILTER, ERROR = "stop", "tool_calls", "length", "content_filter", "error"
_FINISH = {
    CALLS: "tool_calls tool_call function_call function_calls tool_use tools",
    LENGTH: "length max_tokens max_output_tokens max_length model_length token_limit "
    "max_tokens_exceeded model_context_window_exceeded context_length incomplete",
    FILTER: "content_filter content_filtered safety recitation sensitive prohibited_content blocklist "
    "refusal spii guardrail_intervened content-filter",
    ERROR: "error failed failure network_error server_error internal_error abort aborted cancelled canceled "
    "insufficient_system_resource timeout overloaded other_error",
}
_MEANING = {word: meaning for meaning, words in _FINISH.items() for word in words.split()}
PARTS = "content"  # where thoughts were that came as parts of the content
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thoughts")
_KEPT = ("reasoning_details", "thinking_blocks", "provider_specific_fields", "extra_content")
_CALL_KNOWN = frozenset({"id", "index", "type", "function", "name", "arguments", "custom"})


def finish(word: Any) -> str:
    """One of the five meanings of a finish reason; "" for none yet. A word that nobody knows is a stop."""
    text = str(word or "").strip().lower()
    return "" if text in ("", "null", "none") else _MEANING.get(text, STOP)


@dataclass
class Call:
    """One tool call as far as it has come. `beside`: fields that the provider wants back with it."""

    index: Any = None
    id: str = ""
    name: str = ""
    arguments: str = ""
    beside: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        try:
            return isinstance(json.loads(self.arguments, strict=False), dict)
        except ValueError:
            return False

    def take(self, name: str, arguments: str) -> None:
        """One more piece of the call."""
        if name and name != self.name:
            # In pieces, or as much of it as there is so far in every piece.
            self.name = name if name.startswith(self.name) else self.name + name
        # All of the arguments so far in every piece: no piece of JSON can begin like its own beginning.
        again = '"' in self.arguments and arguments.startswith(self.arguments)
        self.arguments = arguments if again else self.arguments + arguments


@dataclass
class Deltas:
    """A reply as far as it has come."""

    content: str = ""
    thoughts: dict[str, str] = field(default_factory=dict)  # by the name the provider has for them
    kept: dict[str, Any] = field(default_factory=dict)  # other fields that it wants back
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    usage: dict[str, Any] | None = None

    def add(self, event: Mapping[str, Any]) -> str:
        """Take one event; returns the text that it added to the answer."""
        self._take_usage(event.get("usage"))
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, Mapping):
            return ""
        self._take_usage(choice.get("usage"))
        self.finish = finish(choice.get("finish_reason")) or self.finish
        before = len(self.content)
        delta = next((choice[name] for name in ("delta", "message") if choice.get(name)), None)
        if isinstance(delta, Mapping):
            self._take(delta)
        elif isinstance(choice.get("text"), str):  # the older completions
            self.content += choice["text"]
        return self.content[before:]

    def _take(self, delta: Mapping[str, Any]) -> None:
        for kind, text in _parts(delta.get("content")):
            if kind == "thought":
                self._think(PARTS, text)
            else:
                self.content += text
        if isinstance(delta.get("refusal"), str):
            self.content += delta["refusal"]
        for name in _THOUGHTS:
            for _, text in _parts(delta.get(name)):
                self._think(name, text)
        for name in _KEPT:
            if delta.get(name):
                self.kept[name] = _joined(self.kept.get(name), delta[name])
        given = delta.get("tool_calls")
        for position, part in enumerate(given if isinstance(given, list) else [given]):
            if isinstance(part, Mapping):
                self._take_call(part, position)
        if isinstance(delta.get("function_call"), Mapping):
            self._take_call({"index": "function_call", "function": delta["function_call"]}, 0)

    def _think(self, name: str, text: str) -> None:
        self.thoughts[name] = self.thoughts.get(name, "") + text

    def _take_usage(self, usage: Any) -> None:
        if not isinstance(usage, Mapping):
            return
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
        counts = {
            "prompt_tokens": _count(usage.get("prompt_tokens") or usage.get("input_tokens")),
            "completion_tokens": _count(usage.get("completion_tokens") or usage.get("output_tokens")),
            "cached_tokens": _count(cached or usage.get("prompt_cache_hit_tokens")),
        }
        if self.usage is None or any(counts.values()):
            self.usage = counts

    def _take_call(self, part: Mapping[str, Any], position: int) -> None:
        function = part.get("function") if isinstance(part.get("function"), Mapping) else part
        name = function.get("name") if isinstance(function.get("name"), str) else ""
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        arguments = arguments or ""
        id = str(part.get("id") or "")
        call = self._call(part.get("index"), id, name.strip(), arguments, position)
        if call is None:
            return
        call.id = call.id or id
        call.take(name.strip(), arguments)
        more = {key: value for key, value in part.items() if key not in _CALL_KNOWN and value}
        if isinstance(function.get("thought_signature"), str):
            more["thought_signature"] = function["thought_signature"]
        for key, value in more.items():
            call.beside[key] = _joined(call.beside.get(key), value)

    def _call(self, index: Any, id: str, name: str, arguments: str, position: int) -> Call | None:
        """The call that a piece belongs to: one that is open, or a new one; None for a piece said twice.

        A new id begins a new call, whatever its index. Without an id the index tells; without both, a name
        begins a new call once the one before it has what it needs.
        """
        call = self._open(index, id, name, position)
        if call is not None and call.whole and name and arguments.startswith("{"):
            if call.arguments == arguments:
                return None
            call = None  # the id or index was used for two calls
        if call is None:
            self.calls.append(call := Call(index))
        return call

    def _open(self, index: Any, id: str, name: str, position: int) -> Call | None:
        same = [call for call in self.calls if index is not None and call.index == index]
        last = self.calls[-1] if self.calls else None
        if id:
            among = self.calls if index is None else same or [c for c in self.calls if c.index is None]
            if known := [call for call in among if call.id == id]:
                return known[-1]
            late = same[-1] if same else last if index is None and not name else None
            return late if late and not late.id and not late.whole else None
        if index is not None:
            return same[-1] if same else (last if not name and last and last.index is None else None)
        if last is None or (name and position):
            return None
        another = name and last.name and (last.whole or (last.arguments and name != last.name))
        return None if another else last


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """`("text" | "thought", words)` of content that is a string, a part or a list of parts."""
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, list):
        for part in content:
            yield from _parts(part)
    elif isinstance(content, Mapping):
        thought = any(word in str(content.get("type")) for word in ("think", "reason", "thought"))
        for name in ("text", "thinking", "reasoning", "content", "refusal", "summary"):
            if content.get(name):
                for kind, text in _parts(content[name]):
                    yield ("thought" if thought else kind), text
                return


def _joined(before: Any, new: Any) -> Any:
    """Two pieces of one field: lists by their parts' `index` or kind, objects by key, texts end to end."""
    if isinstance(before, list) and isinstance(new, list):
        out = list(before)
        for part in new:
            last = out[-1] if out else None
            # A signature ends a block; one of another index or kind is another one.
            if (
                isinstance(part, dict)
                and isinstance(last, dict)
                and all(last.get(key) == part.get(key) for key in ("type", "index") if key in part)
                and not (last.get("signature") and not part.get("signature"))
                and (not part.get("id") or part.get("id") == last.get("id"))
            ):
                out[-1] = _joined(last, part)
            else:
                out.append(part)
        return out
    if isinstance(before, dict) and isinstance(new, dict):
        fixed = ("type", "index", "id", "format")
        return before | {
            key: value if key in fixed else _joined(before.get(key), value) for key, value in new.items()
        }
    if isinstance(before, str) and isinstance(new, str):
        return before + new
    return before if new is None else new


def _count(value: Any) -> int:
    try:
        return max(0, int(value or 0))
    except (TypeError, ValueError, OverflowError):
        return 0
