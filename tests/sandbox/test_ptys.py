"""Terminals as tppd holds them: both drivers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from actors.sandbox.tppd import journal, ptys
from terminalpp.types.errors import CommandFinished, Fenced, InvalidInput, OffsetMismatch
from terminalpp.types.ids import new_id

ENV = {"TERM": "xterm-256color", "PS1": "$ "}


class Pty:
    """A terminal of a sandbox, with what a test asks of it."""

    def __init__(self, sandbox) -> None:
        self.sandbox, self.id, self.sent = sandbox, new_id(), 0

    async def start(self, argv: list[str], cols: int = 80, rows: int = 24) -> None:
        await ptys.start(
            self.sandbox.tppd, self.id, argv, epoch=self.sandbox.epoch, cols=cols, rows=rows, env=ENV
        )

    async def type(self, text: str, writer: str = "w", offset: int | None = None, owner: int = 1) -> int:
        at = self.sent if offset is None else offset
        taken = await ptys.type_into(
            self.sandbox.tppd, self.id, writer, at, text.encode(), epoch=self.sandbox.epoch, owner=owner
        )
        if offset is None:
            self.sent = taken
        return taken

    def output(self) -> bytes:
        data, at = b"", 0
        while (chunk := journal.read(self.sandbox.run_dir, self.id, "stdout", at)).data:
            data, at = data + chunk.data, chunk.next_offset
        return data

    async def until(self, pattern: str) -> bytes:
        async with asyncio.timeout(20):
            while not re.search(pattern.encode(), self.output()):
                end = journal.end(self.sandbox.run_dir, self.id, "stdout")
                status = await self.sandbox.tppd.wait(
                    self.id, timeout_s=1, until="output", out_offset=end, err_offset=2**62
                )
                assert not status.closed or re.search(pattern.encode(), self.output()), self.output()
        return self.output()


@pytest.fixture
async def pty(sandbox) -> AsyncIterator[Pty]:
    pty = Pty(sandbox)
    yield pty
    if journal.outcome(sandbox.run_dir, pty.id) is journal.Outcome.RUNNING:
        await sandbox.tppd.kill_tree(pty.id, epoch=sandbox.epoch)


async def test_a_command_on_a_terminal_has_it_as_its_own(pty: Pty) -> None:
    await pty.start(["sh", "-c", "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; "
                     ": </dev/tty && echo open; : <$(tty) && echo named; echo $TERM; exit 7"], 100, 30)
    record = (await pty.sandbox.tppd.wait(pty.id, timeout_s=20, until="closed")).record
    assert record is not None
    assert (record.exit_code, record.streams_open) == (7, False)
    assert pty.output() == b"/dev/pts/0\r\n30 100\r\nall\r\nopen\r\nnamed\r\nxterm-256color\r\n"
    assert record.out_bytes == len(pty.output())
    assert record.err_bytes == 0


async def test_what_is_typed_is_echoed_read_and_can_interrupt(pty: Pty) -> None:
    await pty.start(
        ["sh", "-c", "read line; echo got:$line; trap 'echo stopped; exit 3' INT; sleep 60 & wait"]
    )
    await pty.type("grüße\x7f\r")
    assert "grüß\b \b" in (await pty.until("got:")).decode() or b"got:gr\xc3\xbc\xc3\x9f\r\n" in pty.output()
    await pty.until("got:gr\u00fc\u00df\r\n")
    await pty.type("\x03")
    await pty.until("stopped")
    record = (await pty.sandbox.tppd.wait(pty.id, timeout_s=20)).record
    assert record is not None
    assert record.exit_code == 3


async def test_input_is_taken_once_per_writer_and_offset(pty: Pty) -> None:
    await pty.start(["sh", "-c", "stty -echo raw; printf ready; head -c 12"])
    await pty.until("ready")
    assert await pty.type("abc", "anna", 0) == 3
    assert await pty.type("abc", "anna", 0) == 3          # again: recognised
    assert await pty.type("bcd", "anna", 1) == 4          # partly
    assert await pty.type("XYZ", "ben", 0) == 3           # another writer has offsets of his own
    with pytest.raises(OffsetMismatch) as error:
        await pty.type("far", "ben", 9)
    assert error.value.extra["expected"] == 3
    await pty.type("efghi", "anna", 4)
    await pty.until("readyabcdXYZefghi")
    await pty.sandbox.tppd.wait(pty.id, timeout_s=20)
    with pytest.raises(CommandFinished):
        await pty.type("more", "anna", 9)


async def test_an_older_owner_cannot_type_resize_or_mark(pty: Pty) -> None:
    await pty.start(["cat"])
    await pty.type("a", owner=5)
    tppd, epoch = pty.sandbox.tppd, pty.sandbox.epoch
    with pytest.raises(Fenced):
        await pty.type("b", owner=4)
    with pytest.raises(Fenced):
        await ptys.resize(tppd, pty.id, 10, 10, epoch=epoch, owner=4)
    with pytest.raises(Fenced):
        await ptys.mark(tppd, pty.id, "late", epoch=epoch, owner=4)
    await pty.type("c", owner=6)
    await pty.until("ac")


async def test_a_resize_reaches_the_program_and_is_on_record_where_it_happened(pty: Pty) -> None:
    await pty.start(["bash", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"])
    await pty.until("ready")
    tppd, epoch = pty.sandbox.tppd, pty.sandbox.epoch
    at = await ptys.resize(tppd, pty.id, 132, 43, epoch=epoch, owner=1)
    assert at == len(b"ready\r\n")
    await pty.until("43 132")
    marked = await ptys.mark(tppd, pty.id, "step 1\n\x1b[31m grün", epoch=epoch, owner=1)
    noted = list(ptys.marks(pty.sandbox.run_dir, pty.id))
    assert [(m.offset, m.cols, m.rows) for m in noted if m.kind == "r"] == [(0, 80, 24), (at, 132, 43)]
    assert [(m.offset, m.label) for m in noted if m.kind == "m"] == [(marked, "step 1  [31m grün")]
    assert [m.ms for m in noted] == sorted(m.ms for m in noted)
    assert next(m for m in noted if m.kind == "o").offset == 0
    for cols, rows in ((0, 24), (80, 1001), (-1, 5)):
        with pytest.raises(InvalidInput):
            await ptys.resize(tppd, pty.id, cols, rows, epoch=epoch, owner=1)


async def test_a_terminal_of_no_size_is_refused_and_leaves_the_id_free(pty: Pty) -> None:
    with pytest.raises(InvalidInput):
        await pty.start(["true"], cols=0)
    await pty.start(["cat"])
    with pytest.raises(InvalidInput, match="no end"):
        await pty.sandbox.tppd.stdin(pty.id, 0, b"", epoch=pty.sandbox.epoch, eof=True)
    other = new_id()
    await pty.sandbox.tppd.start(other, ["cat"], epoch=pty.sandbox.epoch, stdin=True)
    with pytest.raises(InvalidInput, match="no terminal"):
        await ptys.resize(pty.sandbox.tppd, other, 80, 24, epoch=pty.sandbox.epoch, owner=1)


async def test_a_program_may_close_its_terminal_and_open_it_again(pty: Pty) -> None:
    await pty.start(["sh", "-c", "exec <&- >&- 2>&-; sleep 0.3; exec >/dev/tty; echo back"])
    assert (await pty.sandbox.tppd.wait(pty.id, timeout_s=20, until="closed")).closed
    assert pty.output() == b"back\r\n"


async def test_a_process_left_behind_keeps_the_terminal_until_it_ends(pty: Pty) -> None:
    await pty.start(["sh", "-c", "trap '' HUP; (sleep 1; echo later) & echo now"])
    record = (await pty.sandbox.tppd.wait(pty.id, timeout_s=20)).record
    assert record is not None
    assert record.streams_open
    assert (await pty.sandbox.tppd.wait(pty.id, timeout_s=20, until="closed")).closed
    assert pty.output().startswith(b"now\r\n")


async def test_much_output_is_whole_and_its_marks_are_few(pty: Pty) -> None:
    await pty.start(["sh", "-c", "stty -opost; head -c 30000000 /dev/zero | tr '\\0' x"])
    await pty.sandbox.tppd.wait(pty.id, timeout_s=60, until="closed")
    assert journal.end(pty.sandbox.run_dir, pty.id, "stdout") == 30_000_000
    assert pty.output() == b"x" * 30_000_000
    noted = list(ptys.marks(pty.sandbox.run_dir, pty.id))
    assert 2 < len(noted) < 3000
    assert [m.offset for m in noted] == sorted(m.offset for m in noted)


async def test_a_killed_terminal_leaves_nothing(pty: Pty) -> None:
    await pty.start(["sh", "-c", "setsid sleep 600 & sleep 600 & wait"])
    await pty.sandbox.tppd.kill_tree(pty.id, epoch=pty.sandbox.epoch)
    assert pty.id not in await pty.sandbox.tppd.list()
    assert not [p for p in await pty.sandbox.tppd.processes() if p.name == "sleep"]
