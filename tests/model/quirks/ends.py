"""How a reply ends: whole, cut, or with an error."""

from __future__ import annotations

from terminalpp.types import errors
from tests.model.quirks.row import (
    ASKED,
    DONE,
    OVERLOADED,
    PLAIN,
    UNREACHABLE,
    USAGE,
    Row,
    Want,
    call,
    calls,
    delta,
    raw,
)

_ERROR = {"error": {"message": "Provider returned error: overloaded", "code": 502}}
ROWS: list[Row] = [
    Row(
        "cut in the text",
        (delta(content="I will now fix the bug by"),),
        Want(error=UNREACHABLE, words="broke off"),
    ),
    Row(
        "cut in the arguments",
        (calls(call('{"command": "rm -rf /tmp', index=0, id="a1")),),
        Want(error=UNREACHABLE),
    ),
    Row("cut after a whole call", (calls(call(index=0, id="a1")),), Want(error=UNREACHABLE)),
    Row(
        "cut in an event",
        (delta(content="Hello"), 'data: {"choices": [{"index": 0, "del'),
        Want(error=UNREACHABLE),
    ),
    Row("cut in the thoughts", (delta(reasoning_content="hm"),), Want(error=UNREACHABLE)),
    Row("cut before anything", (": hello\n\n",), Want(error=UNREACHABLE)),
    Row("cut after the usage", (delta(content="Hello"), USAGE), Want(error=UNREACHABLE)),
    Row(
        "an error in the stream",
        (delta(content="Let me"), _ERROR, DONE),
        Want(error=OVERLOADED, words="overloaded"),
    ),
    Row("an error first", (_ERROR, DONE), Want(error=OVERLOADED), None),
    Row(
        "an error as text",
        ({"error": "upstream timed out"}, DONE),
        Want(error=OVERLOADED, words="upstream timed out"),
    ),
    Row(
        "an error event",
        (delta(content="Let"), 'event: error\ndata: {"message": "boom", "code": 500}\n\n'),
        Want(error=OVERLOADED, words="boom"),
    ),
    Row(
        "a 429 in the stream",
        ({"error": {"message": "Rate limit exceeded, 429 Too Many Requests", "code": 429}},),
        Want(error=OVERLOADED),
    ),
    Row("an error beside choices", ({**delta("error", content=""), **_ERROR}, DONE), Want(error=OVERLOADED)),
    Row(
        "an error in a choice",
        (
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {},
                        "finish_reason": "error",
                        "error": {"message": "boom", "code": 502},
                    }
                ]
            },
            DONE,
        ),
        Want(error=OVERLOADED, words="boom"),
    ),
    Row(
        "an error object by name",
        ({"object": "error", "message": "worker died", "code": 500},),
        Want(error=OVERLOADED),
    ),
    Row(
        "a detail and nothing else",
        ('data: {"detail": "internal error"}\n\n',),
        Want(error=OVERLOADED, words="internal error"),
    ),
    Row("error null is none", raw({**delta(content="Hello there."), "error": None}), PLAIN),
    Row(
        "a key refused in the stream",
        ({"error": {"message": "no such key", "code": 401}},),
        Want(error=errors.ModelKeyRejected),
    ),
    Row(
        "too long, told in the stream",
        ({"error": {"message": "This model's maximum context length is 8192 tokens", "code": 400}},),
        Want(error=errors.ModelRequestTooLong),
    ),
    Row(
        "a call the server could not parse",
        ({"error": {"message": "Failed to call a function.", "code": "tool_use_failed"}},),
        Want(error=errors.ModelReplyInvalid),
    ),
    Row(
        "finish reason error",
        raw(delta(content="Let me"), end=(delta("error"), DONE)),
        Want(error=OVERLOADED),
    ),
    *(
        Row(
            f"finish reason {word!r}",
            raw(delta(content="Hello there."), end=(delta(word), DONE)),
            PLAIN,
            {"content": "Hello there."},
            word,
        )
        for word in ("eos", "end_turn", "STOP", "stop_sequence", "", "complete", "whatever")
    ),
    *(
        Row(
            f"finish reason {word!r} with a call",
            raw(calls(call(index=0, id="a1")), end=(delta(word), DONE)),
            ASKED,
            {"tool_calls": [call(id="a1")]},
            word,
        )
        for word in ("tool_call", "function_call", "tool_use", "TOOL_CALLS", "eos")
    ),
    *(
        Row(
            f"finish reason {word!r}",
            raw(delta(content="Hello"), end=(delta(word), DONE)),
            Want(error=errors.ModelReplyCut),
            {"content": "Hello"},
            word,
        )
        for word in ("length", "max_tokens", "MAX_TOKENS", "model_length")
    ),
    *(
        Row(
            f"finish reason {word!r}",
            raw(delta(content="Hello"), end=(delta(word), DONE)),
            Want(error=errors.ModelReplyInvalid, words="content filter"),
            {"content": "Hello"},
            word,
        )
        for word in ("content_filter", "SAFETY", "sensitive")
    ),
    Row(
        "finish reason insufficient_system_resource",
        raw(delta(content="He"), end=(delta("insufficient_system_resource"), DONE)),
        Want(error=OVERLOADED),
    ),
    Row(
        "an empty reply",
        raw(delta(role="assistant")),
        Want(error=errors.ModelReplyInvalid, words="empty"),
        {"content": ""},
    ),
    Row(
        "white space alone",
        raw(delta(content=" \n")),
        Want(error=errors.ModelReplyInvalid, words="empty"),
        {"content": " \n"},
    ),
    Row("no choice at all", ({"choices": []}, DONE), Want(error=errors.ModelReplyInvalid, words="empty")),
    Row(
        "an error event in plain words",
        (delta(content="Let"), "event: error\ndata: out of memory\n\n", DONE),
        Want(error=OVERLOADED, words="out of memory"),
    ),
    Row(
        "plain words of an error",
        (delta(content="Let"), "data: 429 Too Many Requests\n\n", DONE),
        Want(error=OVERLOADED),
    ),
    Row(
        "an error marked in brackets",
        (delta(content="Let"), "data: [ERROR] upstream failed\n\n", DONE),
        Want(error=OVERLOADED),
    ),
    Row(
        "an error as a JSON string",
        (delta(content="Let"), 'data: "Internal Server Error"\n\n', DONE),
        Want(error=OVERLOADED),
    ),
    Row(
        "an error in msg",
        ('data: {"code": 500, "msg": "busy"}\n\n', DONE),
        Want(error=OVERLOADED, words="busy"),
    ),
    Row(
        "an error with metadata",
        (
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 502,
                    "metadata": {"raw": "slow down", "provider_name": "x"},
                }
            },
        ),
        Want(error=OVERLOADED, words="slow down"),
    ),
    Row("the end mark in quotes", (delta(content="Hello there."), 'data: "[DONE]"\n\n'), PLAIN),
]
