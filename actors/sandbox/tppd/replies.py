"""The replies of tppd as Python objects; `tppd.py` asks the questions.

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

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.protocol import Reply, Tag
from terminalpp.types.errors import CommandNotStarted

State = Literal["running", "ended", "lost"]
_STATES: dict[int, State] = {1: "running", 2: "ended", 3: "lost"}
KINDS = {1: "file", 2: "directory", 3: "symlink", 4: "other"}


class StartFlag(IntFlag):
    """How a command is started."""

    MERGE = 1
    STDIN = 2
    PTRACE = 4
    PTY = 8


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answers: tppd's version, and the generation and epoch it knows."""

    version: int
    generation: int
    epoch: int
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Status:
    """A command as tppd knows it. `record` is there exactly when `state` is `ended`.

    `created` is true only in the answer to the one START that started it. `out_end` and `err_end`
    are the lengths of its streams so far, in bytes; `closed`: it has ended and they will not grow.
    """

    exec_id: str
    state: State
    created: bool
    out_end: int
    err_end: int
    record: journal.ExitRecord | None
    closed: bool


@dataclass(frozen=True, slots=True)
class Process:
    """One process inside. `exec_id` None: it comes from no command that is known any more.

    `state` is the kernel's letter (R, S, D, T, …); `cpu_ms` its processor time, `memory_bytes` what it holds
    in memory; `argv` its first 4 KiB, empty for a process that has none.
    """

    pid: int
    parent: int
    exec_id: str | None
    name: str
    argv: list[str]
    state: str
    cpu_ms: int
    memory_bytes: int
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Stat:
    """`kind`: file, directory, symlink or other. `mode`: the permission bits. `target`: of a symlink."""

    name: str
    kind: str
    size_bytes: int
    mode: int
    mtime_ns: int
    target: str | None = None


def spec_hash(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, flags: int, timeout_ms: int = 0
) -> str:
    """SHA-256 of what is to be run: the same id with another hash is a Conflict."""
    spec = [list(argv), sorted(env.items()), cwd, int(flags), *([timeout_ms] if timeout_ms else [])]
    return hashlib.sha256(json.dumps(spec).encode()).hexdigest()


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
        bool(reply.number(Tag.CLOSED)),
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


def process_of(data: bytes) -> Process:
    """`pid parent state cpu_ms memory_bytes started_at_ms exec_id`, LF, its name, NUL, its arguments."""
    line, _, rest = data.partition(b"\n")
    pid, parent, state, cpu, memory, started, exec_id = line.decode().split(" ")
    name, _, words = rest.partition(b"\0")
    argv = words.removesuffix(b"\0").decode("utf-8", "replace").split("\0") if words else []
    return Process(
        int(pid), int(parent), None if exec_id == "-" else exec_id, name.decode("utf-8", "replace"), argv,
        state, int(cpu), int(memory), int(started),
    )  # fmt: skip


def entry_of(data: bytes) -> Stat:
    """u8 kind | i64 size | u32 mode | i64 mtime_ns | name."""
    kind, size, mode, mtime = struct.unpack_from("<BqIq", data)
    return Stat(os.fsdecode(data[21:]), KINDS[kind], size, mode, mtime)
