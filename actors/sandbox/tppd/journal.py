"""The output of commands and how they ended, read from the host side of the sandbox's run directory.

Any process of the host may read, at any time, as often as it likes, whether or not `tppd` is alive:
nothing here talks to it, so no reader can block a command or another reader.

    records/<exec_id>               lines of JSON: the start, written before the command's first
                                    instruction; the end, added after the output it speaks of; and, where a
                                    process it left still held a stream then, the end of its output
    output/<exec_id>/out.<offset>   standard output from that byte offset on (16 decimal digits)
    output/<exec_id>/err.<offset>   standard error
    generation                      the generation of the tppd that runs now (or ran last)

Offsets are logical: byte 0 is the first byte the command printed, whatever was deleted since. A stream
keeps its first 2 and last 6 segments of at most 8 MiB, fewer and smaller ones where many streams share the
room; what lies between, or was lost at the end, is a *gap*, which `read` reports with its size and never
hides. A line of a record counts once its line feed is there. `docs/tppd.md` holds the format.

The answer to "how is it with this command" is one of four (`outcome`), decided from the files alone:
no start: NOT_STARTED. An end: ENDED. A start alone, of the present generation: RUNNING. A start alone, of
an older one: LOST (its sandbox died under it; it is never run again).
A sandbox that died and was not started anew still reads RUNNING: ask the driver whether it is alive.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from terminalpp.types.errors import InvalidInput, NotFound
from terminalpp.types.states import ExecutionState

Stream = Literal["stdout", "stderr"]
_PREFIX = {"stdout": "out.", "stderr": "err."}
_RETRIES = 16
_EXEC_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class Outcome(StrEnum):
    """The state of a command by its records."""

    NOT_STARTED = "not_started"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one stream. `offset` is where `data` begins; `gap_bytes` lie lost just before it."""

    offset: int
    data: bytes
    gap_bytes: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Life:
    """Whether a command was started, its own process has exited, and its streams have closed."""

    started: bool
    exited: bool
    closed: bool


@dataclass(frozen=True, slots=True)
class StartRecord:
    """The record that tppd writes when it starts a command."""

    exec_id: str
    generation: int
    epoch: int
    spec_hash: str
    started_at_ms: int
    merged: bool

    @classmethod
    def parse(cls, raw: bytes) -> StartRecord:
        """The record in a file's bytes. Raises ValueError, KeyError."""
        v = json.loads(raw)
        return cls(v["exec_id"], v["generation"], v["epoch"], v["spec_hash"], v["started_at_ms"], v["merged"])


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a command ended. `reason`: `exited`, `signalled`, `timeout`, `out-of-memory`, `not-started` (see
    `error`) or `lost`. What ran has an `exit_code` or a `signal`.

    `streams_open`: a background process still held the pipes when this was written, so the journals
    may grow further. `out_bytes` and `err_bytes` count what was printed up to then.
    """

    exec_id: str
    reason: str
    exit_code: int | None
    signal: int | None
    error: str
    generation: int
    started_at_ms: int
    ended_at_ms: int
    duration_ms: float
    out_bytes: int
    err_bytes: int
    streams_open: bool
    cpu_ms: float
    max_rss_bytes: int

    @property
    def state(self) -> ExecutionState:
        """The state that its row gets."""
        if self.signal is not None or self.reason == "timeout":
            return ExecutionState.KILLED
        return ExecutionState.FAILED if self.exit_code is None else ExecutionState.COMPLETED

    @classmethod
    def parse(cls, raw: bytes) -> ExitRecord:
        """The record in a file's bytes. Raises ValueError, KeyError."""
        v = json.loads(raw)
        return cls(
            v["exec_id"], v["reason"], v["exit_code"], v["signal"], v["error"], v["generation"],
            v["started_at_ms"], v["ended_at_ms"], v["duration_ms"], v["out_bytes"], v["err_bytes"],
            v["streams_open"], v["cpu_ms"], v["max_rss_bytes"],
        )  # fmt: skip


def check_exec_id(exec_id: str) -> str:
    """The id itself. Raises InvalidInput unless it is 1 to 64 of `A-Z a-z 0-9 _ . -`, no dot first."""
    if not _EXEC_ID.fullmatch(exec_id):
        raise InvalidInput(f"not an execution id: {exec_id!r}")
    return exec_id


def _output(run_dir: str | Path, exec_id: str) -> Path:
    return Path(run_dir) / "output" / check_exec_id(exec_id)


def _record(run_dir: str | Path, exec_id: str) -> Path:
    return Path(run_dir) / "records" / check_exec_id(exec_id)


def _lines(run_dir: str | Path, exec_id: str) -> list[bytes]:
    """The whole lines of its record: none, the start, its end, the end of its output."""
    try:
        return _record(run_dir, exec_id).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def start_record(run_dir: str | Path, exec_id: str) -> StartRecord | None:
    """The record of its start, or None when this id never was started."""
    lines = _lines(run_dir, exec_id)
    return StartRecord.parse(lines[0]) if lines else None


def generation(run_dir: str | Path) -> int:
    """The generation that runs now, or ran last; 0 before the first."""
    try:
        return int((Path(run_dir) / "generation").read_text())
    except FileNotFoundError:
        return 0


def lost_record(run_dir: str | Path, start: StartRecord) -> ExitRecord:
    """The record of a command whose sandbox died under it: no code, no signal, the output that is there."""
    size = {s: end(run_dir, start.exec_id, s) for s in ("stdout", "stderr")}
    return ExitRecord(
        start.exec_id, "lost", None, None, "the sandbox died while it ran", start.generation,
        start.started_at_ms, start.started_at_ms, 0.0, size["stdout"], size["stderr"], False, 0.0, 0,
    )  # fmt: skip


def exit_record(run_dir: str | Path, exec_id: str) -> ExitRecord | None:
    """How it ended; None while it runs or when it never started. A lost command has a `lost` record."""
    lines = _lines(run_dir, exec_id)
    if len(lines) > 1:
        return ExitRecord.parse(lines[1])
    start = StartRecord.parse(lines[0]) if lines else None
    if start is None or start.generation >= generation(run_dir):
        return None
    return lost_record(run_dir, start)


def closed(run_dir: str | Path, exec_id: str) -> bool:
    """Whether it is on record that it ended and that its streams have too.

    False for one whose streams were open when its sandbox died, until the next generation has begun: ask
    whether it is alive.
    """
    lines = _lines(run_dir, exec_id)
    if len(lines) != 2:
        return len(lines) > 2 or exit_record(run_dir, exec_id) is not None
    record = ExitRecord.parse(lines[1])
    return not record.streams_open or record.generation < generation(run_dir)


def life(run_dir: str | Path, exec_id: str) -> Life:
    """What its record says. A sandbox that died and was not started anew has left commands unexited."""
    if closed(run_dir, exec_id):
        return Life(True, True, True)
    exited = exit_record(run_dir, exec_id) is not None
    return Life(exited or start_record(run_dir, exec_id) is not None, exited, False)


def outcome(run_dir: str | Path, exec_id: str) -> Outcome:
    """Which of the four it is (see the head of this file)."""
    record = exit_record(run_dir, exec_id)
    if record is not None:
        return Outcome.LOST if record.reason == "lost" else Outcome.ENDED
    return Outcome.RUNNING if _lines(run_dir, exec_id) else Outcome.NOT_STARTED


def _segments(folder: Path, stream: Stream) -> list[tuple[int, str]]:
    prefix = _PREFIX[stream]
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []  # it has printed nothing
    return sorted((int(n[len(prefix) :]), n) for n in names if n.startswith(prefix))


def end(run_dir: str | Path, exec_id: str, stream: Stream) -> int:
    """The stream's length so far in bytes, gaps counted."""
    folder = _output(run_dir, exec_id)
    for _ in range(_RETRIES):
        segments = _segments(folder, stream)
        if not segments:
            return 0
        start, name = segments[-1]
        try:
            return start + os.stat(folder / name).st_size
        except FileNotFoundError:
            continue  # the segment was dropped between the listing and here: list again
    return segments[-1][0]


def read(
    run_dir: str | Path, exec_id: str, stream: Stream = "stdout", offset: int = 0, limit: int = 65536
) -> Chunk:
    """Up to `limit` bytes from logical `offset`; an empty chunk at the end of what there is.

    Bytes come from one segment at most, so a chunk may be shorter than `limit` before the end: go on
    at `next_offset`. Raises NotFound for an id that never started, InvalidInput for a negative offset.
    """
    if offset < 0 or limit < 0:
        raise InvalidInput("offset and limit must not be negative")
    folder = _output(run_dir, exec_id)
    for _ in range(_RETRIES):
        segments = _segments(folder, stream)
        if not segments and not _lines(run_dir, exec_id):
            raise NotFound(f"no such execution: {exec_id}")
        chunk = _read_once(folder, segments, offset, limit)
        if chunk is None:
            continue
        if not chunk.data and limit and (size := _printed(run_dir, exec_id, stream)) > offset:
            # Its end is on record, and that is written behind the output: what is not there now was dropped.
            chunk = _read_once(folder, _segments(folder, stream), offset, limit)
            if chunk is None or chunk.data:
                return chunk or Chunk(offset, b"", 0, offset)
            return Chunk(size, b"", size - offset, size)
        return chunk
    return Chunk(offset, b"", 0, offset)


def _printed(run_dir: str | Path, exec_id: str, stream: Stream) -> int:
    """How much the record says was printed; 0 before its end."""
    lines = _lines(run_dir, exec_id)
    return int(json.loads(lines[-1])["out_bytes" if stream == "stdout" else "err_bytes"]) if lines[1:] else 0


def _read_once(folder: Path, segments: list[tuple[int, str]], offset: int, limit: int) -> Chunk | None:
    """None when a segment went away while it was being read (the writer keeps the last six only)."""
    for index, (start, name) in enumerate(segments):
        following = segments[index + 1][0] if index + 1 < len(segments) else None
        if following is not None and offset >= following:
            continue
        begin = max(offset, start)
        try:
            with open(folder / name, "rb") as file:
                file.seek(begin - start)
                data = file.read(limit)
        except FileNotFoundError:
            return None
        if not data and following is not None:  # the gap lies before the next segment
            continue
        return Chunk(begin, data, begin - offset, begin + len(data))
    return Chunk(offset, b"", 0, offset)


def list_ids(run_dir: str | Path) -> list[str]:
    """Every execution that has a record here, in no order."""
    try:
        return os.listdir(Path(run_dir) / "records")
    except FileNotFoundError:
        return []


def thin(run_dir: str | Path, exec_id: str) -> int:
    """Delete what lies between the first and the last segment of each stream; how many bytes that freed.

    Safe while it runs: the writer has only the last one open, and a reader sees the gap.
    """
    folder, freed = _output(run_dir, exec_id), 0
    for stream in _PREFIX:
        for _, name in _segments(folder, stream)[1:-1]:
            try:
                size = os.stat(folder / name).st_blocks * 512
                os.unlink(folder / name)
            except FileNotFoundError:
                continue
            freed += size
    return freed


def forget(run_dir: str | Path, exec_id: str) -> None:
    """Delete the journals of an ended command. Raises InvalidInput while it runs.

    Only for retention: once forgotten, the same id could be started again.
    """
    if outcome(run_dir, exec_id) is Outcome.RUNNING:
        raise InvalidInput(f"execution {exec_id} is still running")
    shutil.rmtree(_output(run_dir, exec_id), ignore_errors=True)
    _record(run_dir, exec_id).unlink(missing_ok=True)  # last: until then it is known as ended
