"""A patch on the screen: coloured, harmless, bounded."""

from __future__ import annotations

import re

from terminalpp.cli.sanitize import Sanitizer
from terminalpp.cli.screen import Screen
from terminalpp.types.patch import EMPTY_FOLDER

MAX_LINES = 400
MAX_COLUMNS = 400
_READ_BYTES = 2_000_000
_FOLDER = re.compile(
    rb'^diff --git [^\n]*?"?b/([^\n]*)/' + re.escape(EMPTY_FOLDER.encode()) + rb'"?\n'
    rb"(new|deleted) file[^\n]*\n[^\n]*\n",
    re.MULTILINE,
)
_MINOR = ("index ", "new file", "deleted file", "similarity", "rename", "old mode", "new mode")


def show(screen: Screen, patch: bytes, max_lines: int = MAX_LINES) -> None:
    """Print the patch; past `max_lines` only how much more there is."""
    neutral = Sanitizer()
    text = neutral.feed_bytes(_FOLDER.sub(_folder, patch[:_READ_BYTES]), final=True)
    lines = text.replace("\r", "").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    for line in lines[:max_lines]:
        cut = line if len(line) <= MAX_COLUMNS else line[: MAX_COLUMNS - 1] + "…"
        screen.line(cut, *_style(line))
    hidden = len(lines) - max_lines
    if hidden > 0 or len(patch) > _READ_BYTES:
        more = f"{hidden:,} more lines" if len(patch) <= _READ_BYTES else f"{len(patch):,} bytes in all"
        screen.line(f"… {more}", "dim")


def _folder(section: re.Match[bytes]) -> bytes:
    return b"diff: empty folder %s/ %s\n" % (section[1], b"made" if section[2] == b"new" else b"removed")


def _style(line: str) -> tuple[str, ...]:
    if line.startswith(("diff ", "diff: ", "--- ", "+++ ")):
        return ("bold",)
    if line.startswith("@@"):
        return ("cyan",)
    if line.startswith("+"):
        return ("green",)
    if line.startswith("-"):
        return ("red",)
    if line.startswith(_MINOR):
        return ("dim",)
    return ()
