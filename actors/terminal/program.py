"""The program in a terminal, as it is reached from its entity: started, typed to, read to its end and
painted.

All goes through the sandbox's one door (`SandboxAccess`). What changes something carries two numbers: the
epoch of the sandbox's owner, and ours (`owner`), because two entities of one terminal, an old one that was
frozen and its successor, would both reach the same sandbox. A sandbox is started for a terminal that is to
start in it and for none that ran in it before: that one's program is gone with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from actors.sandbox.access import NEVER, SandboxAccess
from actors.sandbox.link import link_to
from actors.sandbox.tppd import ptys
from actors.sandbox.tppd.journal import ExitRecord
from actors.sandbox.tppd.replies import Status
from actors.terminal.screen import Screen
from actors.terminal.screens import new_screen
from runtime import Context
from terminalpp.types import errors
from terminalpp.types.ids import Ref
from terminalpp.types.states import SandboxState
from terminalpp.types.terminals import Wanted

CHUNK_BYTES = 256 * 1024
WATCH_SECONDS = 20.0
ATTACH_SECONDS = 120.0
ANSWER_SECONDS = 1.0
CAUGHT_UP_SECONDS = 0.25


class Program:
    """See the head of this file. Of one activation; `close` it when done.

    `generation`: of the sandbox it was started in, None before. `screen` is None until something was read.
    """

    def __init__(
        self, context: Context, sandbox_id: str, generation: int | None, size: tuple[int, int]
    ) -> None:
        self._context, self._id = context, context.ref.id
        self.sandbox_id = sandbox_id
        self.generation = generation
        self.screen: Screen | None = None
        self._size = size
        self._sizes: list[tuple[int, int, int]] = []  # still to come on the screen: offset, columns, rows
        self._answered = 0  # bytes that the screen answered to what the program asked
        self._fresh = False  # started by this activation: nothing that it asked was answered before
        self._painting = asyncio.Lock()
        self._followed = False
        self._read_on = asyncio.Event()  # the screen was fed
        self.sandbox = SandboxAccess(link_to(context.settings.home, sandbox_id), self.attach)

    async def close(self) -> None:
        """Let go of the connection and the screen; the program goes on."""
        await self.sandbox.close()
        if self.screen is not None:
            self.screen.close()

    # ---- acting ---------------------------------------------------------------------------------

    async def attach(self) -> dict[str, Any]:
        """The sandbox's answer to `attach`. Raises SandboxNotRunning when the program's is gone."""
        ref = Ref("sandbox", self.sandbox_id)
        if self.generation is not None and not await self.there():
            raise errors.SandboxNotRunning("the sandbox that the terminal was in has ended")
        return await self._context.runtime.call(ref, "attach", timeout_s=ATTACH_SECONDS)

    async def there(self) -> bool:
        """Whether the sandbox that it was started in is the one that runs."""
        try:
            now = await self._context.runtime.call(Ref("sandbox", self.sandbox_id), "status", timeout_s=30)
        except errors.NotFound:
            return False  # it was deleted
        return now["status"] == SandboxState.RUNNING and int(now["generation"]) == self.generation

    async def start(self, wanted: Wanted, size: tuple[int, int]) -> Status:
        """Start it, once however often. Raises what attaching and starting raise."""
        at = await self.attach()
        environment = {**at["environment"], **wanted.environment(at["shell"])}
        status = await self.sandbox.do(lambda tppd, epoch: ptys.start(
            tppd, self._id, wanted.arguments(at["shell"]), epoch=epoch, cols=size[0], rows=size[1],
            env=environment, cwd=wanted.cwd))
        self.generation, self._fresh = int(at["generation"]), True
        return status

    async def type(self, writer: str, offset: int, data: bytes, timeout_s: float = 10.0) -> int:
        """See `ptys.type_into`."""
        return await self.sandbox.do(lambda tppd, epoch: ptys.type_into(
            tppd, self._id, writer, offset, data, epoch=epoch, owner=self._context.fence.epoch,
            timeout_s=timeout_s))

    async def mark(self, label: str) -> int:
        """See `ptys.mark`."""
        return await self.sandbox.do(lambda tppd, epoch: ptys.mark(
            tppd, self._id, label, epoch=epoch, owner=self._context.fence.epoch))

    async def resize(self, cols: int, rows: int) -> None:
        """Give the terminal this size, and the screen at the same byte. One that has ended keeps its own."""
        self._size = cols, rows
        with contextlib.suppress(errors.CommandFinished, errors.SandboxNotRunning):
            offset = await self.sandbox.do(lambda tppd, epoch: ptys.resize(
                tppd, self._id, cols, rows, epoch=epoch, owner=self._context.fence.epoch))
            self._sizes.append((offset, cols, rows))
            if self.screen is not None:
                self._grow(self.screen)

    async def kill(self) -> None:
        """Kill it and all that it left. Raises SandboxNotRunning, NotFound."""
        await self.sandbox.kill_tree(self._id)

    async def pid(self) -> int | None:
        """Its process id inside, where it can be told."""
        with contextlib.suppress(errors.TerminalError):
            return min((p.pid for p in await self.sandbox.processes() if p.exec_id == self._id), default=None)
        return None

    # ---- reading --------------------------------------------------------------------------------

    async def painted(self, started: bool) -> Screen:
        """The screen, as of what was printed up to now unless more comes than can be read at once; where
        nobody follows any more it is made from the journal, once."""
        async with self._painting:
            if self.screen is None:
                self.screen = self._new(*self._size)
                if started:
                    with contextlib.suppress(errors.NotFound):  # its journal is gone
                        self.screen = await self._replayed()
            end = await self.length()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CAUGHT_UP_SECONDS):
                    while self.screen.offset < end and self._followed:
                        self._read_on.clear()
                        await self._read_on.wait()
            return self.screen

    async def follow(
        self, changed: Callable[[], Awaitable[None]], idle: Callable[[], Awaitable[None]]
    ) -> ExitRecord:
        """Feed the screen as output comes and answer what is asked, until the end, which is returned.

        `changed` is called after output, `idle` when there is none, at least every WATCH_SECONDS. Raises
        SandboxNotRunning and what makes the sandbox unreachable.
        """
        await self.attach()
        async with self._painting:
            self.screen = screen = await self._replayed()
        await changed()
        try:
            self._followed = True
            return await self._live(screen, changed, idle)
        finally:
            self._followed = False
            self._read_on.set()

    async def _live(
        self, screen: Screen, changed: Callable[[], Awaitable[None]], idle: Callable[[], Awaitable[None]]
    ) -> ExitRecord:
        loop = asyncio.get_running_loop()
        while True:
            began, before = loop.time(), screen.offset
            if await self._read(screen, True):
                await changed()
                if screen.offset - before >= CHUNK_BYTES:  # a flood: half of the time is for others
                    await asyncio.sleep(loop.time() - began)
                continue
            await idle()
            if (record := await self.end()) is not None:
                if not await self._read(screen, True):
                    return record
                continue
            await self.sandbox.more(self._id, WATCH_SECONDS, screen.offset, NEVER)

    async def end(self) -> ExitRecord | None:
        """How it ended; None while it or anything that it left may print."""
        life = await self.sandbox.life(self._id)
        return await self.sandbox.exit_record(self._id) if life is not None and life.closed else None

    async def length(self) -> int:
        """Bytes it printed so far; 0 where that cannot be told."""
        with contextlib.suppress(errors.TerminalError):
            return await self.sandbox.length(self._id, "stdout")
        return 0

    async def _replayed(self) -> Screen:
        """The screen as of what the journal holds now. What was asked in there is answered only where this
        activation started the program."""
        marks = await self.sandbox.marks(self._id)
        sizes = [(mark.offset, mark.cols, mark.rows) for mark in marks if mark.kind == "r"]
        _, cols, rows = sizes.pop(0) if sizes else (0, *self._size)
        self._sizes = sizes
        screen, end = self._new(cols, rows), await self.sandbox.length(self._id, "stdout")
        while screen.offset < end and await self._read(screen, self._fresh):  # noqa: ASYNC110 - others' turn
            await asyncio.sleep(0)
        self._grow(screen)
        return screen

    def _new(self, cols: int, rows: int) -> Screen:
        return new_screen(cols, rows, self._context.settings.vt)

    async def _read(self, screen: Screen, answer: bool) -> bool:
        """Feed what the journal has next; whether there was anything."""
        chunk = await self.sandbox.output(self._id, "stdout", screen.offset, CHUNK_BYTES)
        if chunk.gap_bytes:
            screen.skip(chunk.gap_bytes)
        data = chunk.data
        while data:
            self._grow(screen)
            until = self._sizes[0][0] - screen.offset if self._sizes else len(data)
            piece, data = data[:until], data[until:]
            asked = screen.feed(piece)
            if asked and answer:
                await self._answer(asked)
        self._grow(screen)
        self._read_on.set()
        return bool(chunk.data or chunk.gap_bytes)

    def _grow(self, screen: Screen) -> None:
        """Give the screen the sizes that are due by now."""
        while self._sizes and self._sizes[0][0] <= screen.offset:
            _, cols, rows = self._sizes.pop(0)
            screen.resize(cols, rows)

    async def _answer(self, data: bytes) -> None:
        """What the screen answers is typed as by one more writer, a new one for each activation."""
        writer = f"screen-{self._context.fence.epoch}"
        with contextlib.suppress(errors.CommandFinished, errors.DeadlineExceeded, errors.OffsetMismatch):
            self._answered = await self.type(writer, self._answered, data, ANSWER_SECONDS)
