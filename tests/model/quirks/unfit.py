"""Characters that no log can hold."""

from __future__ import annotations

from tests.model.quirks.row import ASKED, CALLED, DONE, LS, LS_TEXT, PLAIN, Row, Want, call, calls, delta, raw

ROWS: list[Row] = [
    Row(
        "half a surrogate pair and NUL in the text",
        (
            'data: {"choices":[{"index":0,"delta":{"content":"half \\ud83d, nul \\u0000."}}]}\n\n',
            delta("stop"),
            DONE,
        ),
        Want(content="half \N{REPLACEMENT CHARACTER}, nul \N{REPLACEMENT CHARACTER}."),
        {"content": "half \ud83d, nul \0."},
    ),
    Row(
        "half a pair in the thoughts",
        raw(delta(reasoning_content="x \udc00"), delta(content="Hello there.")),
        Want(content="Hello there.", thoughts="x \N{REPLACEMENT CHARACTER}"),
        {"content": "Hello there.", "reasoning_content": "x \udc00"},
    ),
    Row(
        "NUL in a name",
        raw(calls(call(LS_TEXT, "ba\0sh", index=0, id="a1")), end=CALLED),
        Want(calls=(("ba\N{REPLACEMENT CHARACTER}sh", LS),)),
    ),
    Row(
        "half a pair in an id",
        raw(calls(call(index=0, id="a\ud83d")), end=CALLED),
        Want(calls=ASKED.calls, ids=("a\N{REPLACEMENT CHARACTER}",)),
    ),
    Row(
        "a raw NUL in arguments",
        raw(calls(call('{"command": "a\0b"}', index=0, id="a1")), end=CALLED),
        Want(calls=(("bash", {"command": "a\N{REPLACEMENT CHARACTER}b"}),)),
    ),
    Row("bytes that are no UTF-8", (delta(content="Hello there."), delta("stop"), DONE), PLAIN),
]
