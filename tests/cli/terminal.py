"""A pseudo terminal with a program in it: what a person types, and what came to the screen as plain text."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path

from terminalpp.cli.sanitize import Sanitizer

ROOT = Path(__file__).parents[2]


class Terminal:
    """`raw` is every byte the program wrote, `text` the same without escape sequences."""

    def __init__(self, process: asyncio.subprocess.Process, end: int) -> None:
        self.process, self._end = process, end
        self.raw, self._seen = b"", 0
        self.text = ""
        self._neutral = Sanitizer()
        self._came = asyncio.Event()
        asyncio.get_running_loop().add_reader(end, self._read)

    @classmethod
    async def open(cls, *words: str, cwd: Path, columns: int = 100, **environment: str) -> Terminal:
        ours, theirs = pty.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TPP_HOME")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "terminalpp.cli.main", *words, cwd=cwd, stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True,
            env=kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LANG": "C.UTF-8"} | environment,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        return cls(process, ours)

    def _read(self) -> None:
        try:
            data = os.read(self._end, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._end)
        self.raw += data
        for _ in range(data.count(b"\x1b[6n")):  # the program asks where the cursor is
            self.type("\x1b[1;1R")
        self.text += self._neutral.feed_bytes(data)
        self._came.set()

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        os.killpg(self.process.pid, signal.SIGWINCH)

    async def until(self, words: str, seconds: float = 30) -> None:
        """Wait until `words` came, after what was waited for before. Spaces do not count: a program may move
        the cursor instead of writing them."""
        words = words.replace(" ", "")
        try:
            async with asyncio.timeout(seconds):
                while (place := self.text.replace(" ", "").find(words, self._seen)) < 0:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"{words!r} never came; in the end {self.text[-2000:]!r}") from None
        self._seen = place + len(words)

    async def answered(self, keys: str) -> int:
        """Type `keys` until they end the program; its status. What is typed while it sets its terminal up,
        faster than a person can, is thrown away."""
        while True:
            with contextlib.suppress(OSError):
                self.type(keys)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    return await self.process.wait()

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._end)
        os.close(self._end)
