"""Exact, unique replacement of text, with errors that show the model where it nearly matched.

Pure. The replacement is refused rather than guessed: no whitespace is forgiven, no first match taken.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

_MAX_LINES_COMPARED = 4000  # difflib is quadratic; above this only the first line is looked for


@dataclass(frozen=True, slots=True)
class Edited:
    """The new text and the lines (first, last, counted from 1) that now hold the replacement."""

    text: str
    first_line: int
    last_line: int


class EditRefused(ValueError):
    """The text to replace was not found exactly once; the message says what to do."""


def replace_once(text: str, old: str, new: str, path: str) -> Edited:
    """`text` with its only occurrence of `old` replaced. Raises EditRefused."""
    if not old:
        raise EditRefused("`old` is empty: to make or overwrite a whole file use `write`")
    if old == new:
        raise EditRefused("`old` and `new` are equal: nothing to change")
    count = text.count(old)
    if count == 1:
        start = text.index(old)
        first = text.count("\n", 0, start) + 1
        return Edited(text[:start] + new + text[start + len(old) :], first, first + new.count("\n"))
    if count > 1:
        lines = ", ".join(str(text.count("\n", 0, at) + 1) for at in _starts(text, old)[:8])
        raise EditRefused(
            f"`old` occurs {count} times in {path} (lines {lines}): "
            "add neighbouring lines to `old` until it is unique"
        )
    if "\r\n" in text and old.replace("\r\n", "\n") in text.replace("\r\n", "\n"):
        raise EditRefused(f"{path} has CRLF line ends and `old` does not: use bash for this file")
    raise EditRefused(f"`old` was not found in {path}.{_closest(text, old)}")


def _starts(text: str, old: str) -> list[int]:
    out, at = [], text.find(old)
    while at >= 0:
        out.append(at)
        at = text.find(old, at + len(old))
    return out


def _closest(text: str, old: str) -> str:
    """The passage most like `old`, with its line numbers, or a hint to read the file."""
    lines, wanted = text.splitlines(), old.splitlines()
    if not lines or not wanted:
        return " The file is empty." if not lines else ""
    stripped = [line.strip() for line in wanted]
    for at in range(len(lines) - len(wanted) + 1):
        if [line.strip() for line in lines[at : at + len(wanted)]] == stripped:
            return _show(lines, at, len(wanted), "It differs only in whitespace from")
    if len(lines) > _MAX_LINES_COMPARED:
        near = difflib.get_close_matches(wanted[0], lines[:50_000], n=1, cutoff=0.8)
        return _show(lines, lines.index(near[0]), len(wanted), "The closest is") if near else _READ
    best, best_at = 0.0, -1
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2("\n".join(wanted))
    for at in range(max(1, len(lines) - len(wanted) + 1)):
        matcher.set_seq1("\n".join(lines[at : at + len(wanted)]))
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best:
            ratio = matcher.ratio()
            if ratio > best:
                best, best_at = ratio, at
    return _show(lines, best_at, len(wanted), "The closest is") if best >= 0.5 else _READ


_READ = " Nothing similar is in the file: read it again."


def _show(lines: list[str], at: int, count: int, words: str) -> str:
    count = min(count, 12)
    body = "\n".join(lines[at : at + count])
    return f" {words} lines {at + 1}–{at + count}:\n{body}\nCopy the text exactly as the file has it."
