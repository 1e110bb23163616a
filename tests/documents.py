"""The documentation as the tests see it: its files, and the fenced blocks in them.

The convention: every block says what it is. `sh` holds commands and is run (`tests/e2e/test_docs.py`); the
other languages of `LANGUAGES` are read and never typed. Indented code blocks are not used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHELL = "sh"
LANGUAGES = {SHELL, "text", "json", "diff"}
_FENCE = re.compile(r"^(?P<indent>[ \t>]*)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Block:
    """`line`: where its fence stands, from 1. `language`: the first word behind the fence, or ""."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document.name}:{self.line}"


def documents() -> list[Path]:
    """What a person reads, in the order in which they would."""
    top = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    rest = [path for path in sorted(ROOT.glob("*.md")) if path not in top]
    return [*top, *sorted(ROOT.glob("docs/**/*.md")), *rest, *sorted(ROOT.glob("examples/**/*.md"))]


def split(document: Path, text: str) -> tuple[list[Block], list[tuple[int, str]]]:
    """The fenced blocks, and the numbered lines between them. Raises ValueError for a fence left open."""
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    lines = iter(enumerate(text.split("\n"), 1))
    for number, line in lines:
        opening = _FENCE.match(line)
        if not opening:
            prose.append((number, line))
            continue
        held: list[str] = []
        for _, inner in lines:
            if _closes(inner, opening):
                break
            held.append(inner.removeprefix(opening["indent"]))
        else:
            raise ValueError(f"{document.name}:{number}: this fence is never closed")
        words = opening["info"].split()
        blocks.append(Block(document, number, words[0] if words else "", "\n".join(held)))
    return blocks, prose


def _closes(line: str, opening: re.Match[str]) -> bool:
    found = _FENCE.match(line)
    return bool(found) and found["fence"].startswith(opening["fence"]) and not found["info"].strip()


def blocks(document: Path) -> list[Block]:
    return split(document, document.read_text())[0]


def shell_blocks(document: Path) -> list[Block]:
    return [block for block in blocks(document) if block.language == SHELL]


def hidden(document: Path, text: str) -> list[str]:
    """Places in `text` where a block of commands could stand and never be run: a block that is not marked,
    or marked as what is not known; commands in a block that is marked as none; indented and HTML blocks."""
    fenced, prose = split(document, text)
    found = [
        f"{block.place}: a block of {block.language or 'no language'}"
        for block in fenced
        if block.language not in LANGUAGES
    ]
    found += [
        f"{block.place}: commands marked as text"
        for block in fenced
        if block.language == "text" and _typed(block.text)
    ]
    before = ""
    for number, line in prose:
        if re.match(r" {4}|\t", line) and line.strip() and not before.strip():
            found.append(f"{document.name}:{number}: an indented block")
        if re.search(r"<(pre|code)\b", line):
            found.append(f"{document.name}:{number}: an HTML block")
        before = line
    return found


_COMMAND = re.compile(r"[$#%>] |\./|(sudo|curl|export|git|pip|python3?|docker|apt|sh|cd) ")


def _typed(text: str) -> bool:
    """Whether a block begins as something to type. A synopsis (`./tpp run [--repo DIR]`) is none."""
    first = text.strip("\n").partition("\n")[0]
    return bool(_COMMAND.match(first)) and "[" not in first
