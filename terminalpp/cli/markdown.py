"""An agent's words laid out for a terminal with colour, block by block as they come.

`Blocks` cuts running text where one block of markdown surely ends (a blank line outside a fence, followed by
a line that is not indented), so that what is whole can be shown before the reply is. `rendered` lays one out.

The text is neutralised before it is laid out *and* after: markdown knows characters by number, so `&#x202e;`
is harmless text before and reorders a line after. Links are written out, never made into hidden targets; HTML
is shown as the text it is. A part of a reply that is left out is worse than one that looks odd: when a letter
or digit is missing from what the library makes (a deep quote, a narrow table), the text is shown as it came.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any

from terminalpp.cli.sanitize import clean

LONGEST = 20_000  # characters that are laid out at once: 0.7 s; more is shown as it is

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NO_TEXT = re.compile(r"^[ >]*(?:(?:`{3,}|~{3,}).*|\d+[.)](?=\s))", re.MULTILINE)  # fences, items' numbers
_PADDING = re.compile(r" +((?:\x1b\[0m)?)$", re.MULTILINE)
_PAINTED_PADDING = re.compile(r"\x1b\[[\d;]*m +\x1b\[0m$", re.MULTILINE)


class Blocks:
    """Feeds text through; `feed` returns the blocks that are whole now, `end` the rest."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._partial = ""
        self._fence = ""

    def feed(self, text: str) -> list[str]:
        """The blocks that are complete with this text."""
        *lines, self._partial = (self._partial + text).split("\n")
        return [block for line in lines if (block := self._line(line))]

    def end(self) -> str:
        """What is left, as the last block; empty when there is nothing."""
        rest = "\n".join([*self._lines, self._partial]).strip("\n")
        self._lines, self._partial, self._fence = [], "", ""
        return rest

    @property
    def latest(self) -> str:
        """The last line that is not yet shown."""
        return self._partial or next((line for line in reversed(self._lines) if line), "")

    def _line(self, line: str) -> str:
        """Take a whole line; the block that it shows to have ended, if any."""
        block = ""
        ended = not self._fence and self._lines and not self._lines[-1].strip()
        if ended and line.strip() and not line[0].isspace():
            block = "\n".join(self._lines).strip("\n")
            self._lines = []
        self._lines.append(line)
        if fence := _FENCE.match(line):
            mark = fence[1]
            if not self._fence:
                self._fence = mark
            elif mark.startswith(self._fence) and not line.strip().strip(mark[0]):
                self._fence = ""
        return block


def rendered(text: str, width: int) -> list[str]:
    """The lines of a piece of markdown with colours, at most `width` columns wide."""
    text = clean(text)
    if len(text) > LONGEST:
        return text.split("\n")
    try:
        return _laid_out(text, max(width, 20))
    except Exception:  # whatever a model can write that the library cannot lay out is still worth reading
        return text.split("\n")


def _laid_out(text: str, width: int) -> list[str]:
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, highlight=False, legacy_windows=False,
        theme=_theme(),
    )  # fmt: skip
    segments = [
        Segment(clean(segment.text), segment.style)
        for segment in console.render(_document(text))
        if not segment.control
    ]
    made = Counter("".join(segment.text for segment in segments))
    if any(made[char] < count for char, count in Counter(_NO_TEXT.sub("", text)).items() if char.isalnum()):
        return text.split("\n")
    console.print(Segments(segments), end="", soft_wrap=True)
    result = console.file.getvalue()  # type: ignore[attr-defined]
    return _PADDING.sub(r"\1", _PAINTED_PADDING.sub("", result)).strip("\n").split("\n")


def _theme() -> Any:
    """Inline code without a background, which no theme of terminals agrees with."""
    from rich.theme import Theme

    return Theme({"markdown.code": "cyan", "markdown.code_block": "cyan"})


def _document(text: str) -> Any:
    """rich's markdown with headings that stand where the text stands, not in the middle of a box."""
    from markdown_it import MarkdownIt
    from rich.markdown import Heading, Markdown
    from rich.text import Text

    class Plain(Heading):
        def __rich_console__(self, console: Any, options: Any) -> Any:
            self.text.justify = "left"
            yield Text("")
            yield self.text

    class Document(Markdown):
        elements = Markdown.elements | {"heading_open": Plain}

    document = Document("", code_theme="ansi_dark", hyperlinks=False)
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("image")
    document.markup, document.parsed = text, parser.parse(text)
    return document
