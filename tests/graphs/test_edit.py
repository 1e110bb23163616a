"""Edits on bytes: what is replaced, in which line ends and encoding, and that nothing else changes."""

from __future__ import annotations

import codecs
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphs import edit
from graphs.textfile import NotText, Style, TextFile, lines, rewritten

TEXT = b"def a():\n    return 1\n\n\ndef b():\n    return 1\n"
LE, BE, MARK = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8


def test_edit_replaces_the_only_occurrence():
    done = edit.replace_once(TEXT, "def b():\n    return 1", "def b():\n    return 2\n    # two", "f.py")
    assert done.data == TEXT.replace(b"def b():\n    return 1", b"def b():\n    return 2\n    # two")
    assert (done.first_line, done.last_line) == (5, 7)


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ("", "use `write`"),
        ("    return 1", "occurs 2 times in f.py (lines 2, 6)"),
        ("def a():\n\treturn 1", "differs only in whitespace from lines 1–2"),
        ("def b():\n    return 3", "The closest is lines"),
        ("nothing of this kind anywhere", "Nothing similar"),
    ],
)
def test_edit_refuses_and_says_why(old, words):
    for data in (TEXT, TEXT.replace(b"\n", b"\r\n"), MARK + TEXT, LE + TEXT.decode().encode("utf-16-le")):
        with pytest.raises(edit.EditRefused, match=re.escape(words)):
            edit.replace_once(data, old, "x", "f.py")


EDITS = {
    # CRLF: matched with its own ends, and the replacement gets them
    "crlf, two lines": (b"a\r\nb\r\nc\r\n", "a\nb", "x\ny", b"x\r\ny\r\nc\r\n"),
    "crlf, one line becomes two": (b"a\r\nb\r\nc\r\n", "b", "x\ny", b"a\r\nx\r\ny\r\nc\r\n"),
    "crlf, two lines become one": (b"a\r\nb\r\nc\r\n", "a\nb\n", "x\n", b"x\r\nc\r\n"),
    "crlf, old spells the ends out": (b"a\r\nb\r\n", "a\r\nb", "x\ny", b"x\r\ny\r\n"),
    "crlf, new spells the ends out": (b"a\r\nb\r\n", "a\nb", "x\r\ny", b"x\r\ny\r\n"),
    "crlf, both do": (b"a\r\nb\r\n", "a\r\nb\r\n", "x\r\n", b"x\r\n"),
    "crlf, lines deleted": (b"a\r\nb\r\nc\r\n", "b\n", "", b"a\r\nc\r\n"),
    "crlf, old begins with an end": (b"a\r\nb\r\n", "\nb", "\nx\nb", b"a\r\nx\r\nb\r\n"),
    "crlf, empty lines": (b"a\r\n\r\n\r\nb\r\n", "a\n\n\nb", "a\n\nb", b"a\r\n\r\nb\r\n"),
    "crlf, last line has no end": (b"a\r\nb", "b", "x\ny", b"a\r\nx\r\ny"),
    "crlf, a lone CR is a character": (b"a\rb\r\nc\r\n", "a\rb", "x\ry\nz", b"x\ry\r\nz\r\nc\r\n"),
    "cr cr lf, as read shows it": (b"a\r\r\nb\r\n", "a\r\nb", "x\nb", b"x\r\nb\r\n"),
    # LF, with CRLF in the model's words
    "lf, old has crlf": (b"a\nb\nc\n", "a\r\nb", "x\r\ny", b"x\ny\nc\n"),
    "lf, new has crlf": (b"a\nb\nc\n", "b", "x\r\ny", b"a\nx\ny\nc\n"),
    "lf, a lone CR in a line": (b"a\rb\nc\n", "a\rb", "a\rx", b"a\rx\nc\n"),
    # CR alone
    "cr": (b"a\rb\rc\r", "a\nb", "x\ny\nz", b"x\ry\rz\rc\r"),
    "cr, spelled out": (b"a\rb\rc\r", "a\rb", "x\r\ny", b"x\ry\rc\r"),
    # mixed
    "mixed, lines that stay keep their ends": (
        b"a\r\nb\nc\r\nd\n", "a\nb\nc\nd", "a\nB\nc\nD", b"a\r\nB\nc\r\nD\n"),
    "mixed, a new line takes its neighbour's": (
        b"a\nb\r\nc\r\nd\n", "b\nc", "b\nnew\nc", b"a\nb\r\nnew\r\nc\r\nd\n"),
    "mixed, a new first line takes the end before": (
        b"a\nb\r\nc\n", "b\nc", "new\nb\nc", b"a\nnew\nb\r\nc\n"),
    "mixed, one line becomes two": (b"a\nb\r\nc\n", "b", "x\ny", b"a\nx\r\ny\r\nc\n"),
    "mixed, at the end without an end": (b"a\nb\r\nc", "c", "x\ny", b"a\nb\r\nx\r\ny"),
    "mixed, the ends tell places apart": (b"a\nb\na\r\nb\n", "a\r\nb", "x\ny", b"a\nb\nx\r\ny\n"),
    # the end of the file
    "no end there, old has none": (b"a\nb", "b", "c", b"a\nc"),
    "no end there, old and new have one": (b"a\nb", "b\n", "c\n", b"a\nc"),
    "no end there, old has one": (b"a\nb", "a\nb\n", "a\nc", b"a\nc"),
    "no end there, crlf": (b"a\r\nb", "a\nb\n", "c\nd\n", b"c\r\nd"),
    "no end there, new brings one": (b"a\nb", "b", "b\n", b"a\nb\n"),
    "an end there stays": (b"a\nb\n", "b", "c", b"a\nc\n"),
    "one line without an end": (b"a", "a", "b\nc", b"b\nc"),
    "one line without an end, crlf wanted": (b"a", "a", "b\r\nc", b"b\r\nc"),
    # a byte order mark is not part of line 1
    "utf-8 mark": (MARK + b"a\nb\n", "a\nb", "x\ny", MARK + b"x\ny\n"),
    "utf-8 mark and crlf": (MARK + b"a\r\nb\r\n", "a\nb", "x\ny", MARK + b"x\r\ny\r\n"),
    "utf-8 mark, seen by the model": (MARK + b"a\n", "\ufeffa", "\ufeffx", MARK + b"x\n"),
    "utf-8 mark, given by the model": (MARK + b"a\n", "a", "\ufeffx", MARK + b"x\n"),
    "utf-8 mark, line 1 deleted": (MARK + b"a\nb\n", "a\n", "", MARK + b"b\n"),
    # encodings
    "utf-16 le": (LE + "é\nb\n".encode("utf-16-le"), "é\nb", "ü𝄞", LE + "ü𝄞\n".encode("utf-16-le")),
    "utf-16 be, crlf": (
        BE + "a\r\nb\r\n".encode("utf-16-be"), "a\nb", "x\ny\nz", BE + "x\r\ny\r\nz\r\n".encode("utf-16-be")),
    "utf-16 with half a pair": (
        LE + b"a\0\x3d\xd8b\0\n\0c\0", "a\ufffdb", "x\ufffdb", LE + b"x\0\x3d\xd8b\0\n\0c\0"),
    "utf-32 le": (
        codecs.BOM_UTF32_LE + "aé\n".encode("utf-32-le"), "é", "𝄞",
        codecs.BOM_UTF32_LE + "a𝄞\n".encode("utf-32-le")),
    "latin-1, elsewhere": (b"caf\xe9\nx = 1\n", "x = 1", "x = 2", b"caf\xe9\nx = 2\n"),
    "latin-1, in the text": (b"caf\xe9 1\n", "café 1", "thé 2", b"th\xe9 2\n"),
    "latin-1, crlf": (b"caf\xe9\r\nb\r\n", "b", "é\nb", b"caf\xe9\r\n\xe9\r\nb\r\n"),
    "windows-1252": (b"\x80 1\xe9\n", "€ 1", "€ 2 “x”", b"\x80 2 \x93x\x94\xe9\n"),
    "bytes that no code page has": (b"\x81\x8d\xe9 a\n", " a", " b", b"\x81\x8d\xe9 b\n"),
    "shift-jis, an ascii line": (
        "日本\na\n".encode("shift-jis"), "\na", "\nb", "日本\nb\n".encode("shift-jis")),
    "stray bytes in utf-8": (
        "é日\n".encode() + b"x\xff\n1\n", "1", "ü", "é日\n".encode() + b"x\xff\n" + "ü\n".encode()),
    "stray bytes in the line": (
        "é日\n".encode() + b"x = '\xff' + 1\n", "x = 'ÿ' + 1", "xx = 'ÿ' + 12",
        "é日\n".encode() + b"xx = '\xff' + 12\n"),
    "stray bytes in a line that stays": (
        "é日\n".encode() + b"a\xff\nb\n", "aÿ\nb", "aÿ\nc\nd", "é日\n".encode() + b"a\xff\nc\nd\n"),
    # characters that are no line ends
    "form feed and separators": (
        "a\x0c\n\x0b\x1c\u2028\u2029\x85b\nc\n".encode(), "\u2029\x85b\nc", "\u2028\nd",
        "a\x0c\n\x0b\x1c\u2028\u2028\nd\n".encode()),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_adapts_to_the_file(name):
    data, old, new, expected = EDITS[name]
    assert edit.replace_once(data, old, new, "f").data == expected


@pytest.mark.parametrize(
    ("data", "old", "new", "words"),
    [
        (b"a\r\nb\r\n", "a\r\nb", "a\nb", "differ only in line ends"),
        (b"a\nb\n", "a\nb", "a\r\nb", "differ only in line ends"),
        (b"a\r\nb\na\nb\n", "a\nb", "x", "occurs 2 times in f (lines 1, 3)"),
        (b"a\nxxx\n", "xx", "y", "occurs 2 times in f (lines 2, 2)"),
        (b"a\0b", "a", "x", "f is a binary file of 3 bytes"),
        (LE + b"a\0\0\0", "a", "x", "binary"),
        (b"caf\xe9", "caf", "日", "Latin-1 text, which cannot hold '日' (U+65E5)"),
        (b"\x80\xe9", "€", "日", "Windows-1252"),
        (b"a\nb", "b\n", "b", "differ only"),
        (b"a\x0cb\n", "a\nb", "x", "not found"),
        ("a\u2028b\n".encode(), "a\nb", "x", "not found"),
        (b"a\rb\n", "a\nb", "x", "not found"),
        (b"", "a", "x", "The file is empty"),
        (MARK, "a", "x", "The file is empty"),
    ],
)
def test_an_edit_is_refused_in_words(data, old, new, words):
    with pytest.raises(edit.EditRefused, match=re.escape(words)):
        edit.replace_once(data, old, new, "f")


def test_the_lines_of_an_edit_are_those_of_grep():
    data = b"\x0c1\n2\x0b\n" + "3\u2028\n".encode() + b"4\x85\n5\n"
    done = edit.replace_once(data, "5", "five\nsix", "f")
    assert (done.first_line, done.last_line) == (5, 6)


# ---- laws ----------------------------------------------------------------------------------------

PARTS = [b"\r\n", b"\n", b"\r", b"\xff\xfe", MARK, "é日".encode()]
WITHOUT_NUL = st.lists(
    st.one_of(st.binary(max_size=6), st.sampled_from(PARTS)), max_size=8
).map(lambda parts: b"".join(parts).replace(b"\0", b""))
MARKED = st.text("@#\n", max_size=8).map(lambda text: f"@{text}@")
REPLACEMENT = st.text("ab@ \n\x0c\x1c", max_size=8)


@settings(max_examples=400, deadline=None)
@given(WITHOUT_NUL)
def test_reading_and_writing_back_changes_no_byte(data):
    assert TextFile.of(data).data == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_text_that_comes_back_or_are_refused(data):
    try:
        assert TextFile.of(data).data == data
    except NotText:
        assert b"\0" in data


@settings(max_examples=600, deadline=None)
@given(WITHOUT_NUL, MARKED, st.lists(st.booleans(), min_size=8, max_size=8), REPLACEMENT, WITHOUT_NUL)
def test_no_byte_outside_the_replaced_text_changes(before, old, ends, new, after):
    pieces = old.split("\n")
    middle = b"".join(
        piece.encode() + (b"\r\n" if crlf else b"\n") for piece, crlf in zip(pieces, ends, strict=False)
    ).removesuffix(b"\n").removesuffix(b"\r")  # fmt: skip
    data = before + middle + after
    assume(TextFile.of(data).style.encoding.startswith(("utf-8", "latin", "cp")))
    assume(old != new)
    flat = TextFile.of(data).shown.replace("\r\n", "\n")
    count = sum(flat.startswith(old, at) for at in range(len(flat)))
    try:
        done = edit.replace_once(data, old, new, "f").data
    except edit.EditRefused:
        assert count != 1 or "\n" not in flat
        return
    assert done.startswith(before)
    assert done.endswith(after)
    inside = done[len(before) : len(done) - len(after)]
    assert inside.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode() == new


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "latin-1"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.text("aé\x0c\x85ÿ", max_size=3), min_size=2, max_size=6),
    st.data(),
)
def test_every_style_keeps_itself(encoding, end, written, data):
    """A part of the text, as read shows it, is replaced as if the file were plain."""
    flat = "\n".join(written)
    # Without a letter beyond ASCII it would be UTF-8; 0x85 is an ellipsis in Windows-1252.
    assume(encoding != "latin-1" or ("é" in flat and "\x85" not in flat))
    start = data.draw(st.integers(0, len(flat) - 1))
    old = flat[start : data.draw(st.integers(start + 1, len(flat)))]
    new = data.draw(st.text("aé\nx", max_size=6))
    assume(sum(flat.startswith(old, at) for at in range(len(flat))) == 1 and old != new)
    mark = {"utf-16-le": LE, "utf-16-be": BE, "utf-32-le": codecs.BOM_UTF32_LE}.get(encoding, b"")

    def encoded(text: str) -> bytes:
        return mark + text.replace("\n", end).encode(encoding)

    done = edit.replace_once(encoded(flat), old, new, "f").data
    assert done == encoded(flat.replace(old, new))


@settings(max_examples=300, deadline=None)
@given(st.text("a\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", max_size=30))
def test_lines_end_at_line_feeds(text):
    """As sed and grep count: each line feed ends one, and a rest without one is a line."""
    found = lines(text)
    assert len(found) == text.count("\n") + bool(text and not text.endswith("\n"))
    assert not any("\n" in line for line in found)
    assert "".join(found).count("\r") + text.count("\r\n") == text.count("\r")


# ---- whole files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "content", "expected", "kept"),
    [
        (b"a\n", "x\ny\n", b"x\ny\n", []),
        (b"a\n", "x\r\ny\r\n", b"x\r\ny\r\n", []),
        (b"a\r\nb\r\n", "x\ny\n", b"x\r\ny\r\n", ["kept its CRLF line ends"]),
        (b"a\r\nb\r\n", "x\r\ny\n", b"x\r\ny\n", []),
        (b"a\r\nb\r\n", "x", b"x", []),
        (b"a\r\nb\n", "x\ny\n", b"x\ny\n", []),
        (b"a\rb\r", "x\ny\n", b"x\ry\r", ["kept its CR line ends"]),
        (MARK + b"a\n", "x\n", MARK + b"x\n", ["kept its encoding, UTF-8 with a byte order mark"]),
        (MARK + b"a\n", "\ufeffx\n", MARK + b"x\n", ["kept its encoding, UTF-8 with a byte order mark"]),
        (LE + b"a\0\r\0\n\0", "é\n", LE + b"\xe9\0\r\0\n\0",
         ["kept its CRLF line ends", "kept its encoding, UTF-16 LE"]),
        (b"caf\xe9\n", "th\xe9\n", b"th\xe9\n", ["kept its encoding, Latin-1"]),
        (b"caf\xe9\n", "tea\n", b"tea\n", []),
        (b"caf\xe9\n", "日\n", "日\n".encode(), ["it was Latin-1 and is UTF-8 now"]),
    ],
)  # fmt: skip
def test_a_whole_new_content_is_saved_as_an_editor_would(there, content, expected, kept):
    assert rewritten(TextFile.of(there).style, content) == (expected, kept)
    style = TextFile.of(there).style
    assert Style.from_json(style.to_json()) == style


@settings(max_examples=300, deadline=None)
@given(WITHOUT_NUL)
def test_what_read_showed_can_be_written_back(data):
    """`write` with the text of a file that has one kind of line end and no stray byte changes nothing."""
    file = TextFile.of(data)
    assume(file.style.end is not None and not file.stray and "\r" not in file.body.replace("\r\n", "\n"))
    content = file.shown.replace("\r\n", "\n")
    assume(not content.startswith("\ufeff"))  # it would be taken for the mark
    assert rewritten(file.style, content)[0] == data
