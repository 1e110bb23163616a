"""Watches one reply while it passes: its end, an error inside it, and what its shape holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.model.deltas import ERROR, Deltas

# The last event of a reply at Anthropic, Cohere and OpenAI's responses.
_ENDS = ("message_stop", "message-end", "response.completed", "response.incomplete", "response.done")
_TELLING = ("message", "detail", "msg", "error_message", "error_msg", "errors")


@dataclass
class Watch:
    """The observations about one reply."""

    deltas: Deltas | None = None  # of a reply in OpenAI's shape
    read: bool = False  # the body passes by here
    seen: bool = False  # any event at all
    status: int = 0  # of the HTTP response
    refusal: str = ""  # the words of an error status
    ended: bool = False  # a finish reason or an end mark came
    error: tuple[str, Any] | None = None  # words and code of an error inside the reply
    broken: str | None = None  # how the connection ended before the reply did
    foreign: str = ""  # the beginning of a body that is no reply

    def note(self, event: Mapping[str, Any]) -> None:
        """Take what one event says about the reply's end or failure."""
        self.seen = True
        self.error = self.error or _error(event)
        if self.deltas is not None:
            if self.deltas.finish == ERROR and self.error is None:
                self.error = ("the provider ended its reply with an error", None)
            whole = any(one.get("message") and not one.get("delta") for one in _dicts(event.get("choices")))
            self.ended = self.ended or bool(self.deltas.finish) or whole
            return
        gemini = any(one.get("finishReason") for one in _dicts(event.get("candidates")))
        self.ended = self.ended or gemini or event.get("type") in _ENDS or event.get("done") is True


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _error(event: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Words and code of the error that an event tells, wherever it is put."""
    places = [event]
    for choice in _dicts(event.get("choices")):
        places += [choice, *_dicts([choice.get("delta"), choice.get("message")])]
    if isinstance(event.get("response"), Mapping):  # OpenAI's responses
        places.append(event["response"])
    for place in places:
        if place.get("error"):
            return _words(place["error"])
    named = event.get("object") == "error" or event.get("type") == "error"
    # FastAPI's {"detail": …} and the like: nothing of a reply is in it.
    bare = not (event.keys() & {"choices", "candidates", "usage", "delta", "content_block", "response"})
    told = [event[key] for key in _TELLING if event.get(key)]
    if named or (bare and told and not isinstance(told[0], Mapping)):
        return _words(event)
    return None


def refusal(body: str) -> str:
    """The words of the body of an error status."""
    try:
        value = json.loads(body)
    except ValueError:
        return body[:2000]
    return _words(value)[0][:2000]


def _words(error: Any) -> tuple[str, Any]:
    """Words and code of an error, whatever its shape."""
    if not isinstance(error, Mapping):
        return str(error), None
    inner = error.get("error")
    if isinstance(inner, Mapping):
        return _words(inner)
    keys = (*_TELLING, "error", "type")
    words = next((error[key] for key in keys if error.get(key)), "an error without words")
    code = next((error[key] for key in ("code", "status", "status_code", "type") if error.get(key)), None)
    more = error.get("metadata")
    raw = f" ({more['raw']})" if isinstance(more, Mapping) and more.get("raw") else ""
    return f"{words if isinstance(words, str) else json.dumps(words)}{raw}", code
