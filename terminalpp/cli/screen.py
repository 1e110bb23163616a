"""Where a verb writes: whole lines, a stream of words, and on a terminal one passing status line.

Colour only on a terminal without NO_COLOR. The status line (what is going on right now) is drawn
over itself and removed before anything else is written; without a terminal it is not drawn at all,
so a log holds only lines that stay. Beside a prompt (`beside`) only whole lines are written, above it;
the line in the making and the status are handed to the prompt, which shows them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34",
          "magenta": "35", "cyan": "36"}


class Screen:
    """`tty` and `colour` are found out from the stream unless given."""

    def __init__(
        self, stream: TextIO, *, tty: bool | None = None, colour: bool | None = None, width: int | None = None
    ) -> None:
        self.stream = stream
        self.tty = stream.isatty() if tty is None else tty
        dumb = os.environ.get("TERM") == "dumb"
        plain = bool(os.environ.get("NO_COLOR")) or dumb
        self._redraws = self.tty and not dumb  # else a status could not be taken away again
        self.colour = (self.tty and not plain) if colour is None else colour
        self._width = width
        self._status = ""
        self._open = False  # a stream of words stands in the middle of a line
        self._passing: Callable[[str], None] | None = None  # shows what does not stay, beside a prompt
        self._held = ""  # the line in the making, beside a prompt

    @classmethod
    def stdout(cls) -> Screen:
        """A screen on standard output."""
        return cls(sys.stdout)

    @classmethod
    def stderr(cls) -> Screen:
        """A screen on standard error."""
        return cls(sys.stderr)

    @property
    def width(self) -> int:
        """Columns, as of now: a window is resized at any time."""
        return self._width or (shutil.get_terminal_size().columns if self.tty else 100)

    @contextlib.contextmanager
    def beside(self, stream: TextIO, passing: Callable[[str], None]) -> Iterator[None]:
        """Write to `stream`, which keeps a prompt below it; what does not stay goes to `passing`."""
        before, self.stream, self._passing = self.stream, stream, passing
        try:
            yield
        finally:
            self.end_words()
            self.stream, self._passing = before, None

    def paint(self, text: str, *styles: str) -> str:
        """The text in these styles where the screen has colour, else as it is."""
        if not (self.colour and styles and text):
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"

    def line(self, text: str = "", *styles: str) -> None:
        """A line that stays. `text` must be clean."""
        self._unstatus()
        if self._open:
            self._write("\n")
            self._open = False
        self._write(self.paint(text, *styles) + "\n")

    def words(self, text: str) -> None:
        """A piece of running text that stays; the next `line` begins on a new line."""
        if text and self._passing:
            whole, newline, self._held = (self._held + text).rpartition("\n")
            self._write(whole + newline)
            self._passing(self._held)
        elif text:
            self._unstatus()
            self._write(text)
            self._open = not text.endswith("\n")

    def end_words(self) -> None:
        """End a stream of words with a line feed where one is missing."""
        if self._held:
            self._unstatus()
        elif self._open:
            self._unstatus()
            self._write("\n")
            self._open = False

    def status(self, text: str) -> None:
        """What is going on; replaces the one before. Only on a terminal, only between lines."""
        if self._passing:
            if not self._held:
                self._passing(text)
        elif self._redraws and not self._open:
            text = fitting(text, self.width - 1)
            if text != self._status:
                self._unstatus()
                self._write(self.paint(text, "dim"))
                self._status = text

    def clear_status(self) -> None:
        """Take the passing line away."""
        self._unstatus()

    def _unstatus(self) -> None:
        if self._passing:
            held, self._held = self._held, ""
            self._write(held + "\n" if held else "")
            self._passing("")
        elif self._status:
            self._write("\r\x1b[K")
            self._status = ""

    def _write(self, text: str) -> None:
        if text:
            self.stream.write(text)
            self.stream.flush()


def fitting(text: str, columns: int) -> str:
    """The beginning of `text` that fits into so many columns; wide characters take two, marks none."""
    if text.isascii():
        return text[:columns]
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= columns else set_cell_size(text, max(columns, 0))
