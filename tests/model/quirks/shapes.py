"""Where the text of a reply stands."""

from __future__ import annotations

from tests.model.quirks.row import DONE, PLAIN, Row, Want, delta, raw, said

ROWS: list[Row] = [
    said("plain text", "Hello there.", PLAIN),
    said(
        "a text that names the end mark",
        "It ends with [DONE] and goes on.",
        Want(content="It ends with [DONE] and goes on."),
    ),
    said("the same piece a hundred and fifty times", "-------" * 150, Want(content="-------" * 150)),
    Row(
        "content as parts",
        raw(
            delta(content=[{"type": "text", "text": "Hello "}]),
            delta(content=[{"type": "text", "text": "there."}]),
        ),
        PLAIN,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there."}],
        },
    ),
    Row(
        "content as one part",
        raw(delta(content={"type": "text", "text": "Hello there."})),
        PLAIN,
        {"content": {"type": "text", "text": "Hello there."}},
    ),
    Row(
        "thinking as parts",
        raw(
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta(content=[{"type": "text", "text": "Hello there."}]),
        ),
        Want(content="Hello there.", thoughts="hm"),
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "Hello there."},
            ]
        },
    ),
    Row(
        "a refusal field",
        raw(delta(refusal="I cannot do that.")),
        Want(content="I cannot do that."),
        {"content": None, "refusal": "I cannot do that."},
    ),
    Row(
        "text where a message should be",
        raw({"choices": [{"index": 0, "text": "Hello there.", "finish_reason": None}]}),
        PLAIN,
    ),
    Row(
        "a whole message in an event",
        ({"choices": [{"index": 0, "message": {"content": "Hello there."}, "finish_reason": "stop"}]}, DONE),
        PLAIN,
    ),
    Row(
        "a whole message without finish reason",
        ({"choices": [{"index": 0, "message": {"content": "Hello there."}}]},),
        PLAIN,
        {"content": "Hello there."},
        None,
    ),
    Row("role alone first", raw(delta(role="assistant"), delta(content="Hello there.")), PLAIN),
    Row(
        "empty choices between",
        raw({"choices": []}, delta(content="Hello "), {"choices": []}, delta(content="there.")),
        PLAIN,
    ),
    Row("choices null", raw({"choices": None}, delta(content="Hello there.")), PLAIN),
    Row("delta null", raw({"choices": [{"index": 0, "delta": None}]}, delta(content="Hello there.")), PLAIN),
    Row(
        "a second choice is ignored",
        raw(
            delta(content="Hello there."),
            {"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {"content": "x"}}]},
        ),
        PLAIN,
    ),
    Row(
        "an event without choices",
        raw(
            {"object": "chat.completion.chunk", "choices": [], "prompt_filter_results": []},
            delta(content="Hello there."),
        ),
        PLAIN,
    ),
    Row(
        "unknown fields everywhere",
        raw({**delta(content="Hello there.", citations=[1], foo={"a": 1}), "obfuscation": "x"}),
        PLAIN,
        {"content": "Hello there.", "annotations": [], "audio": None, "foo": 1},
    ),
]
