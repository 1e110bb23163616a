"""Making text from the sandbox and from models safe to print on a terminal.

A program's output may hold sequences that move the cursor, rewrite what was shown, set the title,
or answer queries by typing on the person's behalf. Everything of that kind is removed: whole
escape sequences, the other C0 and C1 control characters, and the Unicode marks that reorder text.
Newline and tab stay. The removal keeps its place between pieces, so a sequence that is cut in two
by a network read is removed all the same; it always ends at a newline, so nothing can hide the
lines that follow it.
"""

from __future__ import annotations

import codecs

_BIDI = {0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_STRING_OPENERS = {"]", "P", "X", "^", "_"}
_C1_STRINGS = {"\x90", "\x98", "\x9d", "\x9e", "\x9f"}


class Sanitizer:
    """Feeds text through; `feed` returns what may be printed."""

    def __init__(self) -> None:
        self._state = "text"
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed_bytes(self, data: bytes, final: bool = False) -> str:
        """The printable part of UTF-8 bytes that may be cut anywhere."""
        return self.feed(self._decoder.decode(data, final))

    def feed(self, text: str) -> str:
        """The printable part of `text`."""
        if self._state == "text" and text.isascii() and text.isprintable():
            return text
        kept: list[str] = []
        for char in text:
            if char == "\n":
                self._state = "text"
                kept.append(char)
            elif self._state == "text":
                self._plain(char, kept)
            else:
                self._inside(char, kept)
        return "".join(kept)

    def _plain(self, char: str, kept: list[str]) -> None:
        code = ord(char)
        if char == "\x1b":
            self._state = "escape"
        elif char == "\x9b":
            self._state = "csi"
        elif char in _C1_STRINGS:
            self._state = "string"
        elif char in "\t\r":
            kept.append(char)
        elif code < 0x20 or 0x7F <= code <= 0x9F or code in _BIDI:
            pass
        elif 0xD800 <= code <= 0xDFFF:
            kept.append("\ufffd")
        else:
            kept.append(char)

    def _inside(self, char: str, kept: list[str]) -> None:
        if self._state == "escape":
            if char == "[":
                self._state = "csi"
            elif char in _STRING_OPENERS:
                self._state = "string"
            elif not 0x20 <= ord(char) <= 0x2F:  # intermediates go on, anything else ends it
                self._state = "text"
        elif self._state == "csi":
            if not 0x20 <= ord(char) <= 0x3F:
                self._state = "text"
                if ord(char) < 0x40 or ord(char) > 0x7E:  # not a final byte: an aborted sequence
                    self._plain(char, kept)
        elif char == "\x1b":
            self._state = "escape"
        elif char in "\x07\x9c":
            self._state = "text"


def clean(text: str, one_line: bool = False) -> str:
    """`text` without anything that a terminal would obey; with `one_line` newlines become spaces."""
    result = Sanitizer().feed(text).replace("\r\n", "\n").replace("\r", "\n")
    return " ".join(result.split()) if one_line else result


def overwritten(line: str) -> str:
    """What a line with carriage returns shows at its end (progress bars write over themselves)."""
    return line.rstrip("\r").rpartition("\r")[2]
