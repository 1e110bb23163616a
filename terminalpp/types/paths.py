"""Paths of any bytes as text that a database and JSON can hold, and back.

A path that is text stands for itself, save that a backslash is doubled; a byte that is no UTF-8 becomes
`\\xNN`. So different paths give different texts.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def to_text(path: bytes) -> str:
    """The path as text."""
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def to_bytes(text: str) -> bytes:
    """The path that `to_text` made this text of."""

    def byte(found: re.Match[bytes]) -> bytes:
        word = found[1]
        return word if word == b"\\" else bytes([int(word[1:], 16)])

    return _ESCAPE.sub(byte, text.encode("utf-8", "surrogatepass"))
