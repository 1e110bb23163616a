"""What a terminal printed, as a recording: asciicast v3 (docs.asciinema.org/manual/asciicast/v3).

Made from the journal and the marks beside it whenever it is asked for, so that there is nothing to keep and
nothing to switch on. One JSON value a line: the head, then `[seconds since the line before, kind, data]` with
the kinds `o` (output), `r` (size, `80x24`), `m` (marker) and `x` (exit status). Bytes that are no UTF-8 stand
as U+FFFD, bytes that the journal's bound dropped as a marker that says how many.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncIterator
from typing import Any

from actors.sandbox.access import SandboxAccess
from actors.sandbox.tppd.ptys import Mark
from schema.terminals import TerminalRow

PIECE_BYTES = 256 * 1024
MEDIA_TYPE = "application/x-asciicast"


async def recording(access: SandboxAccess, row: TerminalRow) -> AsyncIterator[bytes]:
    """The lines, for a terminal that runs up to now."""
    marks = await access.marks(row.id)
    first = next((mark for mark in marks if mark.kind == "r"), Mark("r", 0, 0, row.cols, row.rows))
    began = row.started_at or row.created_at
    yield _line({
        "version": 3, "term": {"cols": first.cols, "rows": first.rows, "type": "xterm-256color"},
        "timestamp": int(began.timestamp()), "title": row.name, "command": row.command or "shell",
    })  # fmt: skip
    lines = _Lines(access, row.id)
    for mark in marks[1:] if marks and marks[0] is first else marks:
        async for line in lines.upto(mark.offset):
            yield line
        lines.ms = mark.ms
        if mark.kind == "r":
            yield lines.event("r", f"{mark.cols}x{mark.rows}")
        elif mark.kind == "m":
            yield lines.event("m", mark.label)
    async for line in lines.upto(await access.length(row.id, "stdout")):
        yield line
    if row.exit_code is not None and row.ended_at is not None:
        lines.ms = max(lines.ms, int((row.ended_at - began).total_seconds() * 1000))
        yield lines.event("x", str(row.exit_code))


class _Lines:
    """Where a recording has come to: `offset` in the output, `ms` since the start."""

    def __init__(self, access: SandboxAccess, id: str) -> None:
        self._access, self._id = access, id
        self._told_ms = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.offset, self.ms = 0, 0

    def event(self, kind: str, data: str) -> bytes:
        """A line, as long after the one before as it happened."""
        since, self._told_ms = max(0, self.ms - self._told_ms), max(self.ms, self._told_ms)
        return _line([round(since / 1000, 3), kind, data])

    async def upto(self, end: int) -> AsyncIterator[bytes]:
        """The output before `end`."""
        while self.offset < end:
            size = min(PIECE_BYTES, end - self.offset)
            chunk = await self._access.output(self._id, "stdout", self.offset, size)
            if chunk.gap_bytes:
                yield self.event("m", f"{chunk.gap_bytes} bytes of output are not kept")
            if chunk.next_offset <= self.offset:
                self.offset = end  # its journal is gone
            else:
                self.offset = chunk.next_offset
            if text := self._decoder.decode(chunk.data):
                yield self.event("o", text)


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
