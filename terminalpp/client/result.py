"""What a command printed and how it ended, gathered from its events: no requests, the same for both faces."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from terminalpp.client.shapes import OutputEvent
from terminalpp.types.errors import CommandFailed

KEPT_BYTES = 64 * 1024 * 1024  # of each stream: as much as the server's journal keeps


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. `exit_code` as a shell says it (None where it is not known: `reason` says why);
    `status`: completed, failed or killed; `stdout`, `stderr`: what is no UTF-8 is U+FFFD; `gap_bytes`: so
    many bytes of both are not in them, because there was more than is kept."""

    id: str
    stdout: str
    stderr: str
    exit_code: int | None
    status: str
    reason: str | None
    duration_ms: int | None
    gap_bytes: int


@dataclass(slots=True)
class _Stream:
    kept: bytearray = field(default_factory=bytearray)
    missing: int = 0
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )

    def add(self, event: OutputEvent) -> str:
        self.missing += event.gap_bytes
        self.kept += event.data
        if (over := len(self.kept) - KEPT_BYTES) > 0:
            del self.kept[:over]
            self.missing += over
        return self.decoder.decode(event.data)


class Gathering:
    """Takes a command's events in order; `result` when they are all there."""

    def __init__(self, command_id: str) -> None:
        self._id = command_id
        self._streams = {"stdout": _Stream(), "stderr": _Stream()}
        self._record: dict[str, Any] = {}

    def feed(self, event: OutputEvent) -> Iterator[tuple[str, str]]:
        """The text that the event adds, by stream."""
        if event.stream:
            if text := self._streams[event.stream].add(event):
                yield event.stream, text
            return
        self._record = event.record or {}
        for name, stream in self._streams.items():
            if rest := stream.decoder.decode(b"", final=True):
                yield name, rest

    def result(self, check: bool) -> Result:
        """With `check` raises CommandFailed unless the command ended by itself with 0."""
        out, err = self._streams["stdout"], self._streams["stderr"]
        result = Result(
            id=self._id,
            stdout=out.kept.decode("utf-8", "replace"),
            stderr=err.kept.decode("utf-8", "replace"),
            exit_code=self._record.get("exit_code"),
            status=str(self._record.get("status")),
            reason=self._record.get("reason"),
            duration_ms=self._record.get("duration_ms"),
            gap_bytes=out.missing + err.missing,
        )
        if check and (result.status, result.exit_code) != ("completed", 0):
            how = f"exit code {result.exit_code}" + (f", {result.reason}" if result.reason else "")
            last = (result.stderr.strip() or result.stdout.strip())[-500:]
            words = f"the command ended with {how}" + (f": {last}" if last else "")
            raise CommandFailed(words, "", asdict(result))
        return result
