"""A screen that is only a ring of the last bytes, for a machine without the emulator."""

from __future__ import annotations

import re

from actors.terminal.screen import HARD_RESET, Text, gap_line

RING_BYTES = 1024 * 1024
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x08\x0b\x0c\x0e-\x1f]",
    re.DOTALL,
)


class RingScreen:
    """The last bytes that were printed, for a machine without the emulator: painting prints them again."""

    def __init__(self, cols: int, rows: int) -> None:
        self.offset, self.title, self._cols, self._rows = 0, "", cols, rows
        self._ring, self._cut = bytearray(), False

    def feed(self, data: bytes) -> bytes:
        """See Screen.feed. Nothing is answered."""
        self._ring += data
        if len(self._ring) > 2 * RING_BYTES:
            del self._ring[:-RING_BYTES]
            self._cut = True
        self.offset += len(data)
        return b""

    def skip(self, size: int) -> None:
        """See Screen.skip."""
        self._ring += gap_line(size)
        self.offset += size

    def resize(self, cols: int, rows: int) -> None:
        """See Screen.resize."""
        self._cols, self._rows = cols, rows

    def paint(self) -> bytes:
        """See Screen.paint. From the beginning of a line on."""
        kept = bytes(self._ring[-RING_BYTES:])
        if self._cut or len(self._ring) > RING_BYTES:
            kept = kept[kept.find(b"\n") + 1 :]
        return HARD_RESET + kept

    def text(self) -> Text:
        """See Screen.text. Escape sequences are left out, nothing is moved."""
        lines = self.history()
        shown = lines[-self._rows :]
        shown += [""] * (self._rows - len(shown))
        cursor = (min(len(lines[-1]) if lines else 0, self._cols - 1), min(len(lines), self._rows) - 1)
        return Text(
            shown, self._cols, self._rows, cursor, True, False, "", max(0, len(lines) - self._rows)
        )

    def history(self) -> list[str]:
        """See Screen.history."""
        plain = _ESCAPES.sub(b"", bytes(self._ring)).decode("utf-8", "replace")
        return [line.rpartition("\r")[2].rstrip() for line in plain.replace("\r\n", "\n").split("\n")]

    def close(self) -> None:
        """See Screen.close."""
        self._ring.clear()
