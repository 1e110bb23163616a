"""`tpp term replay`: a recording played on the person's terminal, or written to a file."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from terminalpp.cli.exits import Exit
from terminalpp.cli.queries import Questions
from terminalpp.cli.screen import Screen
from terminalpp.client.transport import understanding
from terminalpp.types.errors import FileProblem

_RESET = b"\x1b[?25h\x1b[?2004l\x1b7\x1b[r\x1b8\x1b[0m\r\n"


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines of what comes in pieces."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


async def play(pieces: AsyncIterator[bytes], screen: Screen, speed: float, idle_s: float) -> Exit:
    """As it came, `speed` times as fast, without pauses of more than `idle_s`. Questions that the program
    asked are left out: nobody waits for an answer any more."""
    questions, head = Questions(), True
    try:
        async for line in lines(pieces):
            with understanding("the recording"):
                event = json.loads(line)
                if head:
                    head = False
                    term = event["term"]
                    if screen.tty and (screen.width < term["cols"]):
                        screen.line(
                            f"recorded on {term['cols']}x{term['rows']}; make the window larger", "yellow"
                        )
                    continue
                since, kind, data = event
            pause = min(float(since), idle_s) / speed
            if pause > 0 and screen.tty:
                sys.stdout.flush()
                await asyncio.sleep(pause)
            if kind == "o":
                sys.stdout.buffer.write(questions.feed(data.encode()))
        sys.stdout.flush()
    finally:
        if screen.tty:
            sys.stdout.buffer.write(_RESET)
            sys.stdout.flush()
    return Exit.OK


async def save(pieces: AsyncIterator[bytes], path: str, screen: Screen) -> Exit:
    """Raises FileProblem."""
    if path == "-":
        async for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return Exit.OK
    try:
        with Path(path).open("wb") as file:  # noqa: ASYNC230 - nothing else waits in this process
            async for piece in pieces:
                file.write(piece)
    except OSError as error:
        raise FileProblem(f"{path}: {error.strerror}") from None
    screen.line(f"written to {path}")
    return Exit.OK
