"""Where a verb writes: whole lines, a stream of words, and on a terminal one passing status line.

Colour only on a terminal without NO_COLOR. The status line (what is going on right now) is drawn
over itself and removed before anything else is written; without a terminal it is not drawn at all,
so a log holds only lines that stay.
"""

from __future__ import annotations

import os
import shutil
import sys
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
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self.colour = (self.tty and not plain) if colour is None else colour
        self.width = width or (shutil.get_terminal_size().columns if self.tty else 100)
        self._status = ""
        self._open = False  # a stream of words stands in the middle of a line

    @classmethod
    def stdout(cls) -> Screen:
        return cls(sys.stdout)

    @classmethod
    def stderr(cls) -> Screen:
        return cls(sys.stderr)

    def paint(self, text: str, *styles: str) -> str:
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
        if text:
            self._unstatus()
            self._write(text)
            self._open = not text.endswith("\n")

    def end_words(self) -> None:
        if self._open:
            self._unstatus()
            self._write("\n")
            self._open = False

    def status(self, text: str) -> None:
        """What is going on; replaces the one before. Only on a terminal, only between lines."""
        if self.tty and not self._open:
            text = text[: self.width - 1]
            if text != self._status:
                self._unstatus()
                self._write(self.paint(text, "dim"))
                self._status = text

    def clear_status(self) -> None:
        self._unstatus()

    def _unstatus(self) -> None:
        if self._status:
            self._write("\r\x1b[K")
            self._status = ""

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
