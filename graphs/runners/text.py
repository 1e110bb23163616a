"""A terminal's output as the lines that a person saw."""

from __future__ import annotations

import re

MOST = 20_000  # lines; more than the tester ever shows of an output
LONGEST = 2000  # of a line; no summary is longer
_OSC = re.compile(r"\x1b[\]PX^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)")
_MOVES = re.compile(
    r"\x1b\[[0-9;?]*[A-HJfd]|\r+\n?"
)  # the cursor goes elsewhere: what follows is another line
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]|[\x00-\x08\x0e-\x1f\x7f]")


def plain(output: str) -> str:
    """`output` without colours, titles and control characters; a moved cursor begins a new line."""
    return _ESCAPES.sub("", _MOVES.sub("\n", _OSC.sub("", output)))


def lines(text: str) -> list[str]:
    """Lines end at a newline alone; a huge one keeps its two ends, and so does a text of very many."""
    pieces = text.split("\n")
    if len(pieces) > MOST:
        pieces = [*pieces[: MOST // 4], *pieces[-MOST * 3 // 4 :]]
    return [
        line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
        for line in (piece.rstrip() for piece in pieces)
    ]


def before(said: list[str], index: int, number: int) -> list[str]:
    """The last `number` lines before `index` that are not empty, the nearest first."""
    found: list[str] = []
    for at in range(index - 1, max(-1, index - 1 - 4 * number), -1):
        if said[at].strip():
            found.append(said[at])
            if len(found) == number:
                break
    return found


def after(said: list[str], index: int, number: int) -> list[str]:
    """The next `number` lines after `index` that are not empty."""
    found: list[str] = []
    for line in said[index + 1 : index + 1 + 4 * number]:
        if line.strip():
            found.append(line)
            if len(found) == number:
                break
    return found


def last(said: list[str], number: int) -> list[str]:
    """The last lines that are not empty, with what stands between them."""
    end = len(said)
    while end and not said[end - 1].strip():
        end -= 1
    return said[max(0, end - number) : end]
