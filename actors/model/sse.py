"""Server-sent events as servers write them, to the plain stream in OpenAI's form that litellm reads.

Lines end at LF, CR LF or CR; `data:` may lack its space, an event its empty line, and one event may be a
line of JSON. Comments are dropped. Every string is cleaned of unfit characters. A reply in OpenAI's shape
leaves as text while it comes and then, at its end, thoughts, calls, finish reason and usage; a reply that has
not come to its end gets no end. Events of other shapes keep theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from actors.model.deltas import Deltas
from actors.model.watch import Watch
from terminalpp.types.text import clean

LONGEST_FOREIGN = 400  # characters of a body that is no reply, kept for the error's words
_ERROR_WORDS = re.compile(
    r"\W*(error\b|exception\b|[45]\d\d\b|internal server error|service unavailable|bad gateway|gateway time"
    r"|too many requests|rate limit|upstream|overloaded)",
    re.IGNORECASE,
)
_CHUNK = {"id": "chatcmpl-tpp", "created": 0, "model": "reply"}


class Lines:
    """Text in pieces to lines; a line ends at LF, CR LF or CR."""

    def __init__(self) -> None:
        self._rest = ""

    def add(self, text: str) -> Iterator[str]:
        """The lines that are whole with this piece."""
        text = self._rest + text
        held = "\r" if text.endswith("\r") else ""  # it may be half of CR LF
        *lines, self._rest = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest += held
        yield from lines

    def rest(self) -> Iterator[str]:
        """What is left at the end, then an empty line."""
        if self._rest:
            yield self._rest.removesuffix("\r")
        yield ""


class Events:
    """Lines of server-sent events (or of JSON, one a line) to the bytes that litellm gets."""

    def __init__(self, seen: Watch) -> None:
        self._seen, self._data, self._name, self.done = seen, [], "", False

    def line(self, line: str) -> Iterator[bytes]:
        """The bytes that this line completes."""
        if self.done:
            return
        if not line.strip():
            yield from self._event()
        elif line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
            # A server that forgets the empty line between events begins the next one instead.
            if _isto_bytes("\n".join(self._data)) or line[5:].strip() == "[DONE]":
                yield from self._event()
        elif line.startswith("event:"):
            self._name = line[6:].strip()
        elif line.lstrip().startswith("{"):
            yield from self._take(line, plain=True)
        elif not line.startswith((":", "id:", "retry:")) and not self._seen.seen:
            self._seen.foreign = f"{self._seen.foreign}{line}\n"[:LONGEST_FOREIGN]

    def _event(self) -> Iterator[bytes]:
        data, self._data = "\n".join(self._data), []
        if data.strip() == "[DONE]":
            self._seen.ended = self.done = True
            self._seen.seen = True
            yield from self.end()
        elif data.strip():
            yield from self._take(data)
        self._name = ""

    def _take(self, data: str, plain: bool = False) -> Iterator[bytes]:
        try:
            event = clean(json.loads(data, strict=False))
        except (ValueError, RecursionError):
            event = data.strip()
        if isinstance(event, str):
            self._words(event)
        if not isinstance(event, dict):
            return
        if self._name == "error" and "error" not in event:
            event = {"error": event}
        if is_openais(event) or self._seen.deltas is not None:
            self._seen.deltas = self._seen.deltas or Deltas()
            added = self._seen.deltas.add(event)
            self._seen.note(event)
            if added:
                yield _data(_chunk({"content": added}))
            return
        self._seen.note(event)
        if self._seen.error is None:
            name = f"event: {self._name}\n".encode() if self._name else b""
            yield to_bytes(event) + b"\n" if plain else name + _data(event)

    def _words(self, words: str) -> None:
        """Take data that is no object: an end mark in quotes, an error in plain words, or rubbish."""
        if words == "[DONE]":
            self._seen.ended = self._seen.seen = True
        elif self._name == "error" or _ERROR_WORDS.match(words):
            self._seen.error = (words[:LONGEST_FOREIGN], None)
        elif not self._seen.seen:
            self._seen.foreign = f"{self._seen.foreign}{words}\n"[:LONGEST_FOREIGN]

    def end(self) -> Iterator[bytes]:
        """The last events of a reply in OpenAI's shape, once it has come to its end."""
        if self._seen.deltas is not None and self._seen.ended and not self._seen.error:
            yield from closing(self._seen.deltas)
            self.done = True
        elif self.done:
            yield b"data: [DONE]\n\n"


def is_openais(event: Mapping[str, Any]) -> bool:
    """Whether an event has the shape of OpenAI's chat completions."""
    return "choices" in event or str(event.get("object")).startswith("chat.completion")


def closing(deltas: Deltas) -> Iterator[bytes]:
    """What follows the text: thoughts and calls, finish reason, usage, end mark."""
    message = completion(deltas)["choices"][0]["message"]
    more = {name: message[name] for name in ("reasoning_content", "tool_calls") if message.get(name)}
    if more:
        calls = [{"index": place, **call} for place, call in enumerate(more.get("tool_calls") or [])]
        yield _data(_chunk(more | ({"tool_calls": calls} if calls else {})))
    yield _data(_chunk({}, _finish(deltas)))
    if deltas.usage is not None:
        yield _data({**_CHUNK, "object": "chat.completion.chunk", "choices": [], "usage": _usage(deltas)})
    yield b"data: [DONE]\n\n"


def whole(deltas: Deltas) -> Iterator[bytes]:
    """All of a reply as a stream."""
    yield _data(_chunk({"content": deltas.content}))
    yield from closing(deltas)


def completion(deltas: Deltas) -> dict[str, Any]:
    """The reply as a whole completion in OpenAI's form."""
    message: dict[str, Any] = {"role": "assistant", "content": deltas.content}
    if deltas.thoughts:
        message["reasoning_content"] = next(iter(deltas.thoughts.values()))
    if deltas.calls:
        message["tool_calls"] = [
            {"id": call.id or f"call_{place}", "type": "function",
             "function": {"name": call.name, "arguments": call.arguments}}
            for place, call in enumerate(deltas.calls)
        ]  # fmt: skip
    out = {**_CHUNK, "object": "chat.completion"}
    out["choices"] = [{"index": 0, "message": message, "finish_reason": _finish(deltas)}]
    return out | ({"usage": _usage(deltas)} if deltas.usage is not None else {})


def _finish(deltas: Deltas) -> str:
    return deltas.finish or ("tool_calls" if deltas.calls else "stop")


def _usage(deltas: Deltas) -> dict[str, Any]:
    usage = dict(deltas.usage or {})
    cached = usage.pop("cached_tokens", 0)
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    return usage | {"total_tokens": total, "prompt_tokens_details": {"cached_tokens": cached}}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": finish}
    return {**_CHUNK, "object": "chat.completion.chunk", "choices": [choice]}


def _data(event: Any) -> bytes:
    return b"data: " + to_bytes(event) + b"\n\n"


def to_bytes(event: Any) -> bytes:
    """`event` as JSON that litellm reads to its end."""
    # litellm ends a stream at any line that holds this mark, in the middle of a text too.
    return json.dumps(event).replace("[DONE]", "\\u005bDONE]").encode()


def _isto_bytes(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except ValueError:
        return False
    return True
