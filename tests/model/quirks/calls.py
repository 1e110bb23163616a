"""How calls come: ids, indexes, names, pieces."""

from __future__ import annotations

from terminalpp.types import errors
from tests.model.quirks.row import (
    ASKED,
    CALLED,
    DONE,
    LS_TEXT,
    ONE_TEXT,
    PLAIN,
    TWO,
    TWO_TEXT,
    Row,
    Want,
    call,
    called,
    calls,
    delta,
    raw,
)

ROWS: list[Row] = [
    Row(
        "a call in pieces",
        raw(
            calls(call("", index=0, id="a1")),
            calls(call('{"comm', None, index=0)),
            calls(call('and": "ls"}', None, index=0)),
            end=CALLED,
        ),
        Want(calls=ASKED.calls, ids=("a1",)),
    ),
    Row(
        "calls without index",
        raw(calls(call(ONE_TEXT, id="a1")), calls(call(TWO_TEXT, id="a2")), end=CALLED),
        Want(calls=TWO, ids=("a1", "a2")),
        {"tool_calls": [call(ONE_TEXT, id="a1"), call(TWO_TEXT, id="a2")]},
        "tool_calls",
    ),
    Row(
        "calls without index, in pieces",
        raw(
            calls(call('{"command": ', id="a1")),
            calls(call('"one"}', None)),
            calls(call('{"command": ', id="a2")),
            calls(call('"two"}', None)),
            end=CALLED,
        ),
        Want(calls=TWO, ids=("a1", "a2")),
    ),
    Row(
        "calls without index, the id in every piece",
        raw(
            calls(call('{"command": ', id="a1")),
            calls(call('"one"}', None, id="a1")),
            calls(call('{"command": ', id="a2")),
            calls(call('"two"}', None, id="a2")),
            end=CALLED,
        ),
        Want(calls=TWO),
    ),
    Row(
        "two calls without index in one event",
        raw(calls(call(ONE_TEXT, id="a1"), call(TWO_TEXT, id="a2")), end=CALLED),
        Want(calls=TWO),
    ),
    Row(
        "neither index nor id",
        raw(calls(call(ONE_TEXT)), calls(call(TWO_TEXT)), end=CALLED),
        Want(calls=TWO, ids=("", "")),
        {"tool_calls": [call(ONE_TEXT), call(TWO_TEXT)]},
        "tool_calls",
    ),
    Row(
        "neither index nor id, no arguments",
        raw(calls(call("", "list"), call("", "list")), end=CALLED),
        Want(calls=(("list", {}), ("list", {}))),
    ),
    Row(
        "interleaved calls",
        raw(
            calls(call("", index=0, id="a1")),
            calls(call("", index=1, id="a2")),
            calls(call('{"command": ', None, index=0)),
            calls(call('{"command": ', None, index=1)),
            calls(call('"one"}', None, index=0)),
            calls(call('"two"}', None, index=1)),
            end=CALLED,
        ),
        Want(calls=TWO),
    ),
    Row(
        "interleaved by id",
        raw(
            calls(call("", id="a1")),
            calls(call("", id="a2")),
            calls(call('{"command": ', None, id="a1")),
            calls(call('{"command": ', None, id="a2")),
            calls(call('"one"}', None, id="a1")),
            calls(call('"two"}', None, id="a2")),
            end=CALLED,
        ),
        Want(calls=TWO),
    ),
    Row(
        "one index for two calls",
        raw(calls(call(ONE_TEXT, index=0, id="a1")), calls(call(TWO_TEXT, index=0, id="a2")), end=CALLED),
        Want(calls=TWO, ids=("a1", "a2")),
    ),
    Row(
        "one index for two calls in pieces",
        raw(
            calls(call("", index=0, id="a1")),
            calls(call(ONE_TEXT, None, index=0)),
            calls(call("", index=0, id="a2")),
            calls(call(TWO_TEXT, None, index=0)),
            end=CALLED,
        ),
        Want(calls=TWO),
    ),
    Row(
        "one index, no ids",
        raw(calls(call(ONE_TEXT, index=0)), calls(call(TWO_TEXT, index=0)), end=CALLED),
        Want(calls=TWO),
    ),
    Row(
        "one id for two calls",
        raw(calls(call(ONE_TEXT, index=0, id="x"), call(TWO_TEXT, index=1, id="x")), end=CALLED),
        Want(calls=TWO, ids=("x", "x")),
    ),
    Row(
        "empty ids",
        raw(calls(call(ONE_TEXT, index=0, id=""), call(TWO_TEXT, index=1, id="")), end=CALLED),
        Want(calls=TWO),
    ),
    Row(
        "index null",
        raw(
            calls(call(ONE_TEXT, index=None, id="a1")), calls(call(TWO_TEXT, index=None, id="a2")), end=CALLED
        ),
        Want(calls=TWO),
    ),
    Row(
        "index from one",
        raw(calls(call(ONE_TEXT, index=1, id="a1")), calls(call(TWO_TEXT, index=2, id="a2")), end=CALLED),
        Want(calls=TWO),
    ),
    Row(
        "index negative",
        raw(calls(call('{"command": ', index=-1, id="a1")), calls(call('"ls"}', None, index=-1)), end=CALLED),
        ASKED,
    ),
    Row(
        "index as text",
        raw(
            calls(call('{"command": ', index="0", id="a1")), calls(call('"ls"}', None, index="0")), end=CALLED
        ),
        ASKED,
    ),
    Row(
        "ids in later pieces are null",
        raw(
            calls(call('{"command": ', index=0, id="a1")),
            calls({"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": '"ls"}'}}),
            end=CALLED,
        ),
        ASKED,
    ),
    Row(
        "the id comes late",
        raw(calls(call("", index=0)), calls(call(LS_TEXT, None, index=0, id="a1")), end=CALLED),
        Want(calls=ASKED.calls, ids=("a1",)),
    ),
    Row(
        "a name in pieces",
        raw(calls(call("", "ba", index=0, id="a1")), calls(call(LS_TEXT, "sh", index=0)), end=CALLED),
        ASKED,
    ),
    Row(
        "the name in every piece",
        raw(
            calls(call('{"command"', index=0, id="a1")), calls(call(': "ls"}', index=0, id="a1")), end=CALLED
        ),
        ASKED,
    ),
    Row(
        "all so far in every piece",
        raw(
            calls(call('{"command"', index=0, id="a1")),
            calls(call('{"command": "l', index=0, id="a1")),
            calls(call(LS_TEXT, index=0, id="a1")),
            end=CALLED,
        ),
        ASKED,
    ),
    Row(
        "the last piece said twice",
        raw(calls(call(LS_TEXT, index=0, id="a1")), calls(call(LS_TEXT, index=0, id="a1")), end=CALLED),
        ASKED,
    ),
    Row(
        "a call without function",
        raw(calls({"index": 0, "id": "a1", "name": "bash", "arguments": LS_TEXT}), end=CALLED),
        ASKED,
    ),
    Row(
        "tool_calls as an object",
        raw(delta(tool_calls=call(index=0, id="a1")), end=CALLED),
        ASKED,
        {"tool_calls": call(id="a1")},
        "tool_calls",
    ),
    Row(
        "tool_calls null and empty",
        raw(delta(content="Hello ", tool_calls=None), delta(content="there.", tool_calls=[])),
        PLAIN,
        {"content": "Hello there.", "tool_calls": []},
    ),
    Row(
        "the older function_call",
        raw(
            delta(function_call={"name": "bash", "arguments": ""}),
            delta(function_call={"arguments": LS_TEXT}),
            end=(delta("function_call"), DONE),
        ),
        ASKED,
        {"content": None, "function_call": {"name": "bash", "arguments": LS_TEXT}},
        "function_call",
    ),
    Row(
        "text and calls",
        raw(delta(content="I look."), calls(call(index=0, id="a1")), end=CALLED),
        Want(content="I look.", calls=ASKED.calls),
        {"content": "I look.", "tool_calls": [call(id="a1")]},
        "tool_calls",
    ),
    Row("calls that end in stop", raw(calls(call(index=0, id="a1"))), ASKED, {"tool_calls": [call(id="a1")]}),
    Row(
        "pieces after the finish reason",
        (calls(call("", index=0, id="a1")), delta("tool_calls"), calls(call(LS_TEXT, None, index=0)), DONE),
        ASKED,
    ),
    Row(
        "a call without name",
        raw(calls(call(LS_TEXT, None, index=0, id="a1")), end=CALLED),
        Want(error=errors.ModelReplyInvalid, words="without naming it"),
    ),
    *(
        called(f"a tool named {name!r}", LS_TEXT, tool=name)
        for name in (
            "functions.bash",
            "default_api:bash",
            "Bash",
            "bash ",
            "functions::bash",
            "tools/bash",
            "bash<|channel|>commentary",
            "functions.bash:0",
            "default_api.bash",
            "mcp__sandbox__bash",
        )
    ),
    Row(
        "a tool that is not there",
        raw(calls(call("{}", "fly", index=0, id="a1")), end=CALLED),
        Want(calls=(("fly", {}),)),
    ),
]
