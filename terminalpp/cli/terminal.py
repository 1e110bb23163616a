"""`tpp sh` and `tpp term attach`: the person's terminal becomes one of a sandbox's.

The person's terminal is in raw mode meanwhile and is given back as it was, whatever ends this. What is typed
goes out as it comes; `ctrl-p ctrl-q` detaches (the program goes on), `ctrl-p ctrl-t` takes control from
whoever types. The exit status is the program's. Output is shown as it comes; what was missed while the
connection was away, or because this terminal is slow, is made good by the painted screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from terminalpp.cli.exits import Exit
from terminalpp.cli.queries import Questions
from terminalpp.cli.sanitize import clean
from terminalpp.client.terminal import Ended, Notice, Output, Shown, State, TerminalConnection
from terminalpp.types.errors import InvalidInput

if TYPE_CHECKING:
    from terminalpp.cli.screen import Screen
    from terminalpp.client import Client

PREFIX, DETACH, TAKE = 0x10, 0x11, 0x14  # ctrl-p, then ctrl-q or ctrl-t
READ_BYTES = 65_536
# Back to what a shell expects: no mouse, bracketed paste, margins, colours; a cursor.
_RESET = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[<u"
    b"\x1b7\x1b[?6l\x1b[r\x1b8\x1b[?7h\x1b[4l\x1b[?25h\x1b[0 q\x1b(B\x1b[0m"  # margins move the cursor
)
_CLEAR = b"\x1b[H\x1b[2J"
_ALTERNATE = re.compile(rb"\x1b\[\?(?:1049|1047|47)([hl])")
_LEAVE = (
    b"\x1b[?1049l"  # not for nothing: it also moves the cursor to where it was when that screen was entered
)


class Typed:
    """What a person types, without the two-key commands in it."""

    def __init__(self) -> None:
        self._prefixed = False

    def feed(self, data: bytes) -> Iterator[bytes | str]:
        """Bytes to type, and `detach` or `take` where they were asked for. Ctrl-P waits for the key behind
        it, and is typed with it where that is neither."""
        at = 0
        for index, byte in enumerate(data):
            if self._prefixed:
                self._prefixed = False
                if byte in (DETACH, TAKE):
                    at = index + 1
                    yield "detach" if byte == DETACH else "take"
                elif byte == PREFIX:
                    yield bytes([PREFIX])
                    self._prefixed, at = True, index + 1
                else:
                    yield bytes([PREFIX])
                    at = index
            elif byte == PREFIX:
                if at < index:
                    yield data[at:index]
                self._prefixed, at = True, index + 1
        if at < len(data):
            yield data[at:]


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """The terminal sends every key as it is, until the end of the block."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def require_terminal() -> None:
    """Raises InvalidInput unless a person sits in front of both ends."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInput("this needs a terminal on both ends", "For programs there is `./tpp exec`.")


def size() -> tuple[int, int]:
    """Columns and rows of the person's terminal."""
    found = shutil.get_terminal_size()
    return max(1, found.columns), max(1, found.lines)


async def attach(
    client: Client, sandbox: str, terminal: str, screen: Screen, *, role: str = "writer", fresh: bool = False,
    as_json: bool = False,
) -> int:
    """Be in that terminal until its program ends (its exit status) or the person detaches (0).

    `fresh`: it was just made, so what it prints goes on below what is there."""
    cols, rows = size()
    line = client.connect_terminal(
        sandbox, terminal, role=role, name=_name(), cols=cols, rows=rows, since=0 if fresh else None
    )
    async with line:
        ended = await Attached(line, role).run()
    if as_json:
        screen.line(json.dumps(await client.terminal(sandbox, terminal)))
    elif ended is None:
        screen.line(f"detached; it goes on. Again: ./tpp term attach {terminal[:8]}")
    return int(Exit.OK) if ended is None else status_of(ended, screen)


def status_of(ended: Ended, screen: Screen) -> int:
    """The exit status that stands for an end, which is told where it is not the program's own."""
    if ended.exit_code is not None:
        return ended.exit_code
    if ended.signal is not None and not ended.reason:
        return 128 + ended.signal
    screen.line(
        f"the terminal is over ({ended.status}): {clean(ended.reason or 'no reason is known')}", "yellow"
    )
    return 128 + ended.signal if ended.signal is not None else int(Exit.ENVIRONMENT)


class Attached:
    """One attachment: keys out, output in."""

    def __init__(self, line: TerminalConnection, role: str) -> None:
        self._line, self._role = line, role
        self._typed, self._questions = Typed(), Questions()
        self._keys: asyncio.Queue[bytes] = asyncio.Queue(64)
        self._detached = asyncio.Event()
        self._alternate = False  # a program has taken the whole screen

    async def run(self) -> Ended | None:
        """How it ended; None: the person detached."""
        loop = asyncio.get_running_loop()
        with raw(0):
            loop.add_reader(0, self._read)
            loop.add_signal_handler(signal.SIGWINCH, self._resized)
            works = [
                asyncio.ensure_future(work) for work in (self._show(), self._send(), self._detached.wait())
            ]
            try:
                await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
                shown, sent, _ = works
                for task in (shown, sent):
                    if task.done():
                        return task.result()
                return None
            finally:
                loop.remove_reader(0)
                loop.remove_signal_handler(signal.SIGWINCH)
                for task in works:
                    task.cancel()
                await asyncio.gather(*works, return_exceptions=True)
                await self._write(self._restored() + b"\r\n")

    # ---- keys -----------------------------------------------------------------------------------

    def _read(self) -> None:
        """Keys are there; while many wait nothing more is read, and the kernel keeps them."""
        if self._keys.full():
            asyncio.get_running_loop().remove_reader(0)
            return
        data = os.read(0, READ_BYTES)
        if data:
            self._keys.put_nowait(data)
        else:
            self._detached.set()

    async def _send(self) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            data = await self._keys.get()
            if self._keys.qsize() < 2:
                loop.add_reader(0, self._read)
            for piece in self._typed.feed(data):
                if piece == "detach":
                    self._detached.set()
                elif piece == "take":
                    await self._line.take()
                elif isinstance(piece, bytes) and self._role != "viewer":
                    await self._line.type(piece)

    def _resized(self) -> None:
        task = asyncio.ensure_future(self._line.resize(*size()))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    # ---- output ---------------------------------------------------------------------------------

    async def _show(self) -> Ended | None:
        async for message in self._line:
            match message:
                case Output(_, data):
                    await self._write(self._questions.feed(data))
                case Shown(_, data):
                    self._questions = Questions()
                    await self._write(self._restored() + _CLEAR + data.removeprefix(b"\x1bc"))
                case State(value):
                    await self._state(value)
                case Notice("offline", _, _):
                    await self._say("the server does not answer; trying again")
                case Notice("refused", code, detail):
                    await self._say(
                        detail if code != "not-in-control" else f"{detail}; ctrl-p ctrl-t takes control"
                    )
                case Ended():
                    return message
        return None

    async def _state(self, value: dict[str, Any]) -> None:
        """Who asks for control is told to whoever has it."""
        asking = [viewer["name"] for viewer in value.get("viewers") or [] if viewer["asks"]]
        if asking and value.get("controller") == self._line.viewer:
            await self._say(f"{', '.join(asking)} asks for control")

    async def _say(self, words: str) -> None:
        """A word of ours: in the title and with the bell, because the screen belongs to the program."""
        await self._write(b"\x07\x1b]2;tpp: " + clean(words, one_line=True).encode() + b"\x07")

    def _restored(self) -> bytes:
        """What brings the person's terminal back to what it was."""
        return (_LEAVE if self._alternate else b"") + _RESET

    async def _write(self, data: bytes) -> None:
        """To the person's terminal, which may be slow: keys go out meanwhile."""
        for switch in _ALTERNATE.finditer(data):
            self._alternate = switch[1] == b"h"
        if data:
            await asyncio.to_thread(_write_all, data)


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _name() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or "somebody"
