"""Where a model's thoughts stand."""

from __future__ import annotations

from tests.model.quirks.row import ASKED, CALLED, LS_TEXT, PLAIN, Row, Want, call, calls, delta, raw, said

ROWS: list[Row] = [
    *(
        Row(
            f"thoughts in {name}",
            raw(delta(**{name: "hm "}), delta(**{name: "so"}), delta(content="Hello there.")),
            Want(content="Hello there.", thoughts="hm so", given={name: "hm so"}),
            {"content": "Hello there.", name: "hm so"},
        )
        for name in ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thoughts")
    ),
    Row(
        "thoughts alone",
        raw(delta(content=None, reasoning_content="The work is done."), delta(content="")),
        Want(thoughts="The work is done.", given={"reasoning_content": "The work is done."}),
        {"content": "", "reasoning_content": "The work is done."},
    ),
    Row(
        "thoughts and a call",
        raw(delta(reasoning_content="hm"), calls(call(index=0, id="a1")), end=CALLED),
        Want(calls=ASKED.calls, thoughts="hm", given={"reasoning_content": "hm"}),
        {"content": None, "reasoning_content": "hm", "tool_calls": [call(id="a1")]},
        "tool_calls",
    ),
    Row(
        "reasoning_details with a signature",
        raw(
            delta(
                reasoning="hm",
                reasoning_details=[{"type": "reasoning.text", "text": "h", "index": 0, "format": "x"}],
            ),
            delta(reasoning_details=[{"type": "reasoning.text", "text": "m", "index": 0, "format": "x"}]),
            delta(
                reasoning_details=[{"type": "reasoning.text", "signature": "S", "index": 0, "format": "x"}]
            ),
            delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "D", "index": 1}]),
            delta(content="Hello there."),
        ),
        Want(
            content="Hello there.",
            given={
                "reasoning": "hm",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "index": 0, "format": "x", "signature": "S"},
                    {"type": "reasoning.encrypted", "data": "D", "index": 1},
                ],
            },
        ),
    ),
    said(
        "a think block",
        "<think>\nhm\n</think>\n\nHello there.",
        Want(
            content="Hello there.", thoughts="hm", given={"content": "<think>\nhm\n</think>\n\nHello there."}
        ),
    ),
    said("a think block never closed", "<think>I should now", Want(thoughts="I should now")),
    said(
        "a think block opened by the prompt",
        "I should greet.\n</think>\n\nHello there.",
        Want(content="Hello there.", thoughts="I should greet."),
    ),
    said("an empty think block", "<think>\n\n</think>\n\nHello there.", PLAIN),
    said(
        "a second think block",
        "<think>a</think>Hello\n<think>b</think>\nthere.",
        Want(content="Hello\n\nthere.", thoughts="a\nb"),
    ),
    said(
        "Magistral's brackets", "[THINK]hm[/THINK]Hello there.", Want(content="Hello there.", thoughts="hm")
    ),
    said("Kimi's triangles", "◁think▷hm◁/think▷Hello there.", Want(content="Hello there.", thoughts="hm")),
    said(
        "gpt-oss' channels",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello there.",
        Want(content="Hello there.", thoughts="hm"),
    ),
    said(
        "a call within a thought",
        f'<think>\n<tool_call>{{"name": "bash", "arguments": {LS_TEXT}}}</tool_call>\n</think>\nHello there.',
        PLAIN,
    ),
    said(
        "a plan within a thought",
        '<think>{"goal": "no"}</think>{"goal": "yes"}',
        Want(content='{"goal": "yes"}'),
    ),
    said(
        "words about think tags",
        "Wrap it in `<think>` and `</think>`.",
        Want(content="Wrap it in `<think>` and `</think>`."),
    ),
    said(
        "think tags in code",
        "So:\n```xml\n<think>\nx\n</think>\n```\nDone.",
        Want(content="So:\n```xml\n<think>\nx\n</think>\n```\nDone."),
    ),
]
