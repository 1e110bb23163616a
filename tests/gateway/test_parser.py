"""The client's parser of event streams: the standard's line ends, cut anywhere, and no others."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminalpp.client.events import Parser

ODD = "form \x0c feed \x0b \x1c\x1d\x1e next \x85 line \u2028 and \u2029 paragraph é𝄞"


def parsed(stream: bytes, cuts: list[int] | None = None) -> tuple[list[tuple[str, bytes]], bool]:
    parser, found, at = Parser(), [], 0
    for cut in [*sorted(cuts or []), len(stream)]:
        found += parser.feed(stream[at:cut])
        at = max(at, cut)
    return found, parser.done


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_the_standard_says(end):
    data = json.dumps(ODD, ensure_ascii=False).encode()
    first = [b": hello", b"id: 1", b"event: x", b"data: " + data, b""]
    stream = end.join([*first, b"data: a", b"data", b"data: b", b"", b": end", b""])
    expected = [("x", data), ("message", b"a\n\nb")]
    assert parsed(stream) == (expected, True)
    for cut in range(len(stream)):
        assert parsed(stream, [cut]) == (expected, True)
    assert parsed(b"\xef\xbb\xbf" + stream) == (expected, True)


LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(
    st.lists(LINE, min_size=1, max_size=5),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=5, max_size=5),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_any_text_comes_through_cut_anywhere(texts, ends, cuts):
    lines = [f"data: {text}".encode() for text in texts]
    stream = b"".join(line + end for line, end in zip(lines, ends, strict=False)) + b"\r\n"
    assert parsed(stream, cuts)[0] == [("message", "\n".join(texts).encode())]
