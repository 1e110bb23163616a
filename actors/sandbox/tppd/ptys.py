"""Terminals of a sandbox as tppd holds them: a command whose three streams are one pseudo-terminal.

Functions over a `Tppd`. A terminal is started, read, waited for and killed as any command, by its exec id:
its output is the stream `stdout`. Further: `type_into`, by offsets of each writer's own, so that several
people can type and each can repeat what may have been lost; `resize`; `mark`. Each carries an `owner`, the
epoch of who looks after the terminal: tppd refuses an older one (Fenced), since nothing else could keep an
owner that was frozen and woke up late from typing.

`marks` reads what tppd noted beside the journal (tppd/ptys.c has the format): when which byte came, sizes,
labels. They are what a recording is made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import CHUNK_BYTES, Tppd
from actors.sandbox.tppd.protocol import Fields, Op, Tag, number
from actors.sandbox.tppd.replies import StartFlag, Status, started, status_of
from terminalpp.types.errors import DeadlineExceeded

PAUSE_SECONDS = 0.02  # between two tries to type to a program that does not read


@dataclass(frozen=True, slots=True)
class Mark:
    """What tppd noted at one place of the output. `kind`: `o` (the byte at `offset` came), `r` (the size
    changed: `cols`, `rows`) or `m` (a `label`). `ms`: since the start."""

    kind: str
    offset: int
    ms: int
    cols: int = 0
    rows: int = 0
    label: str = ""


async def start(
    tppd: Tppd, exec_id: str, argv: Sequence[str], *, epoch: int, cols: int, rows: int,
    env: Mapping[str, str], cwd: str = "",
) -> Status:  # fmt: skip
    """`Tppd.start` on a terminal of this size (1 to 1000 each). Raises what it raises."""
    fields = tppd.start_fields(exec_id, argv, epoch, env, cwd, StartFlag.PTY)
    fields += [(Tag.ROWS, number(rows)), (Tag.COLS, number(cols))]
    return started(status_of(exec_id, await tppd.ask(Op.START, fields)))


def _fields(exec_id: str, epoch: int, owner: int) -> Fields:
    id = journal.check_exec_id(exec_id).encode()
    return [(Tag.EXEC_ID, id), (Tag.EPOCH, number(epoch)), (Tag.OWNER, number(owner))]


async def type_into(
    tppd: Tppd, exec_id: str, writer: str, offset: int, data: bytes, *, epoch: int, owner: int,
    timeout_s: float = 30.0,
) -> int:  # fmt: skip
    """Type at `offset` of what this writer typed; the next offset once all of it was taken.

    Bytes below the offset that was taken already are recognised and not typed twice. Raises OffsetMismatch
    for a hole (extra.expected), CommandFinished, Fenced, DeadlineExceeded when its program does not read.
    """
    loop = asyncio.get_running_loop()
    deadline, stop = loop.time() + timeout_s, offset + len(data)
    while True:
        piece = data[len(data) - (stop - offset) :][:CHUNK_BYTES]
        fields = [*_fields(exec_id, epoch, owner), (Tag.WRITER, writer.encode())]
        fields += [(Tag.OFFSET, number(offset)), (Tag.DATA, piece)]
        taken = (await tppd.ask(Op.STDIN, fields)).number(Tag.OFFSET)
        if taken >= stop:
            return taken
        if taken <= offset:
            if loop.time() > deadline:
                raise DeadlineExceeded(f"{exec_id} does not read what is typed", "", {"expected": offset})
            await asyncio.sleep(PAUSE_SECONDS)
        offset = max(offset, taken)


async def resize(tppd: Tppd, exec_id: str, cols: int, rows: int, *, epoch: int, owner: int) -> int:
    """Give the terminal this size; the offset of its output at which that took effect.

    Raises CommandFinished, InvalidInput, Fenced."""
    fields = [*_fields(exec_id, epoch, owner), (Tag.ROWS, number(rows)), (Tag.COLS, number(cols))]
    return (await tppd.ask(Op.RESIZE, fields)).number(Tag.OUT_END)


async def mark(tppd: Tppd, exec_id: str, label: str, *, epoch: int, owner: int) -> int:
    """Note `label` (its first 200 bytes) at this place of the output; that place's offset.

    Raises CommandFinished, Fenced."""
    fields = [*_fields(exec_id, epoch, owner), (Tag.DATA, label.encode("utf-8", "replace"))]
    return (await tppd.ask(Op.MARK, fields)).number(Tag.OUT_END)


def marks(run_dir: str | Path, exec_id: str) -> Iterator[Mark]:
    """All marks in their order; none when there are none (yet). Half a line at the end is left out."""
    try:
        raw = (Path(run_dir) / "output" / journal.check_exec_id(exec_id) / "marks").read_bytes()
    except FileNotFoundError:
        return
    for line in raw.decode("utf-8", "replace").split("\n")[:-1]:
        kind, offset, ms, *rest = line.split(" ", 3)
        if kind == "r":
            cols, rows = rest[0].split(" ")
            yield Mark(kind, int(offset), int(ms), int(cols), int(rows))
        else:
            yield Mark(kind, int(offset), int(ms), label=rest[0] if kind == "m" and rest else "")
