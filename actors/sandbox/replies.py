"""What tppd answers, as Python sees it; `tppd.py` asks the questions.

Plain frozen values with no connection behind them: whoever holds one may outlive the sandbox it tells of.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Literal

from actors.sandbox import journal
from actors.sandbox.wire import Reply, Tag
from terminalpp.types.errors import CommandNotStarted

State = Literal["running", "ended", "lost"]
_STATES: dict[int, State] = {1: "running", 2: "ended", 3: "lost"}
KINDS = {1: "file", 2: "directory", 3: "symlink", 4: "other"}


class StartFlag(IntFlag):
    MERGE = 1
    STDIN = 2
    PTRACE = 4


@dataclass(frozen=True, slots=True)
class Hello:
    version: int
    generation: int
    epoch: int
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Status:
    """A command as tppd knows it. `record` is there exactly when `state` is `ended`.

    `created` is true only in the answer to the one START that started it. `out_end` and `err_end`
    are the lengths of its streams so far, in bytes.
    """

    exec_id: str
    state: State
    created: bool
    out_end: int
    err_end: int
    record: journal.ExitRecord | None


@dataclass(frozen=True, slots=True)
class Stat:
    """`kind`: file, directory, symlink or other. `mode`: the permission bits. `target`: of a symlink."""

    name: str
    kind: str
    size_bytes: int
    mode: int
    mtime_ns: int
    target: str | None = None


def spec_hash(argv: Sequence[str], env: Mapping[str, str], cwd: str, flags: int) -> str:
    """SHA-256 of what is to be run: the same id with another hash is a Conflict."""
    spec = json.dumps([list(argv), sorted(env.items()), cwd, int(flags)])
    return hashlib.sha256(spec.encode()).hexdigest()


def status_of(exec_id: str, reply: Reply) -> Status:
    """Of START, STATUS and WAIT."""
    raw = reply.bytes(Tag.RECORD)
    return Status(
        exec_id,
        _STATES[reply.number(Tag.STATE)],
        bool(reply.number(Tag.CREATED)),
        reply.number(Tag.OUT_END),
        reply.number(Tag.ERR_END),
        journal.ExitRecord.parse(raw) if raw else None,
    )


def started(status: Status) -> Status:
    """Itself. Raises CommandNotStarted when the record says that it never ran."""
    if status.record is not None and status.record.reason == "not-started":
        raise CommandNotStarted(status.record.error)
    return status


def stat_of(path: str, reply: Reply) -> Stat:
    """Of STAT."""
    target = reply.text(Tag.TARGET) if any(t == Tag.TARGET for t, _ in reply.fields) else None
    return Stat(
        os.path.basename(path.rstrip("/")) or "/",
        KINDS[reply.number(Tag.KIND)],
        reply.number(Tag.SIZE),
        reply.number(Tag.MODE),
        reply.number(Tag.MTIME_NS),
        target,
    )


def entry_of(data: bytes) -> Stat:
    """u8 kind | i64 size | u32 mode | i64 mtime_ns | name."""
    kind, size, mode, mtime = struct.unpack_from("<BqIq", data)
    return Stat(os.fsdecode(data[21:]), KINDS[kind], size, mode, mtime)
