"""How tokens are counted."""

from __future__ import annotations

from tests.model.quirks.row import DONE, PLAIN, USAGE, Row, Want, delta, raw

ROWS: list[Row] = [
    Row(
        "usage in the last event",
        raw(delta(content="Hello there.")),
        Want(content="Hello there.", tokens=(10, 5)),
        {"content": "Hello there."},
    ),
    Row(
        "usage with the finish reason",
        (delta(content="Hello there."), {**delta("stop"), "usage": USAGE["usage"]}, DONE),
        Want(content="Hello there.", tokens=(10, 5)),
    ),
    Row(
        "usage in every event",
        (
            {**delta(content="Hello there."), "usage": {"prompt_tokens": 10, "completion_tokens": 1}},
            {**delta("stop"), "usage": USAGE["usage"]},
            DONE,
        ),
        Want(content="Hello there.", tokens=(10, 5)),
    ),
    Row(
        "usage null until the end",
        ({**delta(content="Hello there."), "usage": None}, {**delta("stop"), "usage": None}, USAGE, DONE),
        Want(content="Hello there.", tokens=(10, 5)),
    ),
    Row(
        "usage in the choice",
        (
            delta(content="Hello there."),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE["usage"]}]},
            DONE,
        ),
        Want(content="Hello there.", tokens=(10, 5)),
    ),
    Row(
        "usage under other names",
        (
            delta(content="Hello there."),
            delta("stop"),
            {"choices": [], "usage": {"input_tokens": 10, "output_tokens": 5}},
            DONE,
        ),
        Want(content="Hello there.", tokens=(10, 5)),
    ),
    Row(
        "usage of odd types",
        (
            delta(content="Hello there."),
            delta("stop"),
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": "10",
                    "completion_tokens": 5.0,
                    "total_tokens": None,
                    "prompt_tokens_details": "none",
                    "queue_time": 0.1,
                },
            },
            DONE,
        ),
        Want(content="Hello there.", tokens=(10, 5)),
    ),
    Row("usage missing", (delta(content="Hello there."), delta("stop"), DONE), PLAIN),
    Row("usage null", (delta(content="Hello there."), {**delta("stop"), "usage": None}, DONE), PLAIN),
    Row(
        "usage of zeros",
        (
            delta(content="Hello there."),
            {**delta("stop"), "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
            DONE,
        ),
        PLAIN,
    ),
]
