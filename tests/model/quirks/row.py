"""One row of the quirk table, and the words to write one with.

A row is played over a socket through the real litellm. `events` are the stream; `message` is the same reply
as one whole message, which is played as the answer to a streamed request and to one that is not. `want` is
what the agent must come to see.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from terminalpp.types import errors

Json = dict[str, Any]
DONE = "data: [DONE]\n\n"
USAGE: Json = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}
LS = {"command": "ls"}
LS_TEXT = '{"command": "ls"}'


@dataclass(frozen=True)
class Want:
    """The outcome: an error of the tree, or the reply as the agent's transcript has it."""

    content: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    error: type[errors.TerminalError] | None = None
    words: str = ""  # in the error's detail
    thoughts: str = ""
    doubt: bool = False  # told to the model: text that looks like a call
    ids: tuple[str, ...] | None = None
    given: Json = field(default_factory=dict)
    tokens: tuple[int, int] | None = None


@dataclass(frozen=True)
class Row:
    name: str
    events: tuple[Any, ...]
    want: Want
    message: Json | None = None
    finish: Any = "stop"


def delta(finish: Any = None, **fields: Any) -> Json:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(arguments: Any = LS_TEXT, name: str | None = "bash", **more: Any) -> Json:
    function = {"name": name} if name is not None else {}
    return {"type": "function", "function": {**function, "arguments": arguments}, **more}


def calls(*given: Json) -> Json:
    return delta(role="assistant", tool_calls=list(given))


def said(name: str, text: str, want: Want) -> Row:
    """A row whose text comes in pieces of seven characters, or whole."""
    pieces = [delta(content=text[start : start + 7]) for start in range(0, len(text), 7)]
    return Row(name, (*pieces, delta("stop"), USAGE, DONE), want, {"role": "assistant", "content": text})


def called(name: str, arguments: Any, want: Any = LS, tool: str = "bash") -> Row:
    """A row with one native call whose arguments are odd; `want` None: they must stay unreadable."""
    given = call(arguments, name=tool, index=0, id="a1")
    calls_ = (("bash" if want is not None else tool, want),) if want is not None else ()
    outcome = Want(calls=calls_) if want is not None else Want(calls=(("bash", arguments),))
    return Row(
        name,
        (calls(given), delta("tool_calls"), USAGE, DONE),
        outcome,
        {"role": "assistant", "content": None, "tool_calls": [given]},
        "tool_calls",
    )


def raw(*events: Any, end: tuple[Any, ...] = (delta("stop"), USAGE, DONE)) -> tuple[Any, ...]:
    return (*events, *end)


CALLED = (delta("tool_calls"), USAGE, DONE)
TWO = (("bash", {"command": "one"}), ("bash", {"command": "two"}))
ONE_TEXT, TWO_TEXT = '{"command": "one"}', '{"command": "two"}'
PLAIN = Want(content="Hello there.")
ASKED = Want(calls=(("bash", LS),))
OVERLOADED, UNREACHABLE = errors.ModelOverloaded, errors.ModelUnreachable
