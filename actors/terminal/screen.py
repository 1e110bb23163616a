"""What a terminal shows: the port, Ghostty's emulator behind it, and a ring of bytes where that is missing.

A `Screen` is fed every byte that the terminal's program prints, in order, and can at any moment say
what is on it: painted (bytes that bring any terminal emulator from its reset state to the same screen, with
what was scrolled away), as text, and searched. `offset` says how far it was fed: who paints it goes on from
that byte, nothing twice and nothing left out, also in the middle of an escape sequence.

It is the one who answers what programs ask their terminal (`replies`): a painted screen asks nothing, and
viewers' own terminals must not answer. While an old journal is fed again the caller throws answers away.

The bytes come from programs nobody vouches for. The emulator is native code in the process of one terminal's
cell, so what could bring it down takes that cell and no gateway; graphics (which may name files of the host)
and clipboards are off, what it keeps is bounded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

HARD_RESET = b"\x1bc"
TITLE_MAX = 200


@dataclass(frozen=True, slots=True)
class Text:
    """What stands on the screen, top line first, each without the blanks at its end. `cursor`: column and row
    from 0. `alternate`: a program has taken the whole screen. `above`: lines that were scrolled away."""

    lines: list[str]
    cols: int
    rows: int
    cursor: tuple[int, int]
    cursor_visible: bool
    alternate: bool
    title: str
    above: int

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "lines": self.lines, "cols": self.cols, "rows": self.rows, "alternate": self.alternate,
            "cursor": {"column": self.cursor[0], "row": self.cursor[1], "visible": self.cursor_visible},
            "title": self.title, "lines_above": self.above,
        }  # fmt: skip


class Screen(Protocol):
    """See the head of this file. Belongs to one thread; `close` it when done."""

    offset: int
    title: str

    def feed(self, data: bytes) -> bytes:
        """Take what was printed next; what the terminal answers to what was asked in there."""

    def skip(self, size: int) -> None:
        """These bytes are not to be had (a gap of the journal)."""

    def resize(self, cols: int, rows: int) -> None:
        """The terminal has this size from here on."""

    def paint(self) -> bytes:
        """The screen as bytes for a terminal of the same size that was reset."""

    def text(self) -> Text:
        """What stands on it."""

    def history(self) -> list[str]:
        """All lines there are, those that were scrolled away first; a line that was folded is one."""

    def close(self) -> None:
        """Let go of what it holds."""


def gap_line(size: int) -> bytes:
    """What stands where bytes of the journal are gone."""
    return b"\x18\r\n[... %d bytes of output are not kept ...]\r\n" % size


def find(lines: list[str], wanted: str, *, ignore_case: bool, limit: int) -> list[dict[str, Any]]:
    """The last `limit` lines that hold the text, the newest first: `line` (from 0, the oldest) and `text`."""
    key = wanted.casefold() if ignore_case else wanted
    numbered = ((number, lines[number]) for number in range(len(lines) - 1, -1, -1))
    hits = (
        {"line": number, "text": line}
        for number, line in numbered
        if key in (line.casefold() if ignore_case else line)
    )
    return list(itertools.islice(hits, limit))
