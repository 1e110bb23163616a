"""Paths of any bytes as text, and back."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from terminalpp.types import paths, text

NAMES = st.binary(max_size=30).map(lambda raw: raw.replace(b"\0", b""))


@given(NAMES)
@example(b"\\xff")
@example(b"\xff\\")
@example(b"\xed\xa0\x80")  # what would be a lone surrogate
def test_a_path_comes_back(path: bytes) -> None:
    written = paths.to_text(path)
    assert paths.to_bytes(written) == path
    assert text.clean(written) == written  # it can be stored


@given(NAMES, NAMES)
def test_different_paths_are_different_texts(one: bytes, other: bytes) -> None:
    assert (paths.to_text(one) == paths.to_text(other)) == (one == other)


def test_what_is_text_stands_for_itself() -> None:
    assert paths.to_text("/home/user/ä b\n".encode()) == "/home/user/ä b\n"
