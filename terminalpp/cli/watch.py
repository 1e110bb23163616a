"""Following a conversation: its events in order, and beside them the output of each command.

While a command runs its output is read by offset from the server and handed to the renderer; its
end is shown only when its output is. A command that prints without end costs little: past
LIVE_BYTES the rest is not fetched, only its last TAIL_BYTES once it has ended. The client
reconnects by itself, so nothing here is about lost connections.

Ctrl-C once asks the server to cancel the turn and goes on watching until it has; twice leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from terminalpp.cli.render import Renderer
from terminalpp.cli.screen import Screen
from terminalpp.client import Client
from terminalpp.types.errors import NotFound, TerminalError

LIVE_BYTES = 256 * 1024
TAIL_BYTES = 8 * 1024
OUTPUT_PATIENCE_S = 5.0
UNKNOWN_TIMES = 8  # 1.8 s in all


class Detached(Exception):
    """The person pressed Ctrl-C twice: the work goes on without a watcher."""


class Watch:
    """One conversation on one screen. With `as_json` every event is one line and nothing is drawn."""

    def __init__(
        self,
        client: Client,
        conversation: Mapping[str, Any],
        screen: Screen,
        *,
        as_json: bool,
        live: bool = True,
    ) -> None:
        self.client = client
        self.id = str(conversation["id"])
        self.sandbox_id = str(conversation["sandbox_id"])
        self.screen = screen
        self.as_json = as_json
        self.renderer = Renderer(screen, live=live and not as_json)
        self.renderer.totals.model = str(conversation.get("model") or "")
        self.seq = 0
        self._followers: dict[str, tuple[asyncio.Task[int], asyncio.Event]] = {}

    async def turn(self, after: int | None = None) -> dict[str, Any]:
        """Watch until the next turn ends; its `turn.finished` payload. Raises Detached and TerminalError."""
        async for event in self.events(after):
            if event["type"] == "turn.finished":
                return event["payload"]
        raise TerminalError("the event stream ended early")

    async def replay(self, *, follow: bool, after: int = 0) -> None:
        """Show everything from `after` on; with `follow` for ever."""
        async for _ in self.events(after, follow=follow):
            pass

    async def events(self, after: int | None = None, *, follow: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Each event, shown."""
        self.seq = self.seq if after is None else after
        try:
            async for event in self.client.events(self.id, after=self.seq, follow=follow):
                self.seq = event["seq"]
                await self.show(event)
                yield event
        finally:
            for task, _ in self._followers.values():
                task.cancel()
            self._followers.clear()
            self.screen.clear_status()

    async def show(self, event: dict[str, Any]) -> None:
        """Print one event: as JSON, or as a person wants to see it."""
        if self.as_json:
            self.renderer.totals.add(event)
            self.screen.line(json.dumps(event))
            return
        if event["type"] == "command.finished":
            await self._output_ends(event["payload"])
        self.renderer.feed(event)
        if event["type"] == "command.started":
            exec_id, ended = str(event["payload"]["exec_id"]), asyncio.Event()
            task = asyncio.create_task(self._follow(exec_id, ended))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told when it ends
            self._followers[exec_id] = (task, ended)

    async def _follow(self, exec_id: str, ended: asyncio.Event) -> int:
        """Pass the output on as it comes; the offset reached."""
        offset, unknown = 0, 0
        while offset < LIVE_BYTES:
            wait_ms = 0 if ended.is_set() else 1000
            try:
                piece = await self.client.output(
                    self.sandbox_id, exec_id, offset=offset, limit=65536, wait_ms=wait_ms
                )
            except NotFound:  # the event says that it is being started; its record may come after it
                unknown += 1
                if unknown > UNKNOWN_TIMES:
                    raise
                await asyncio.sleep(0.05 * unknown)
                continue
            self.renderer.output(exec_id, piece.data, piece.gap_bytes)
            offset = piece.next_offset
            if piece.ended or (ended.is_set() and not piece.data):
                break
        return offset

    async def _output_ends(self, payload: dict[str, Any]) -> None:
        exec_id = str(payload.get("exec_id"))
        task, ended = self._followers.pop(exec_id, (None, None))
        if task is None or ended is None:
            return
        ended.set()
        try:
            async with asyncio.timeout(OUTPUT_PATIENCE_S):
                offset = await task
            last = max(offset, int(payload.get("output_bytes") or 0) - TAIL_BYTES)
            if offset >= LIVE_BYTES and last > offset:
                piece = await self.client.output(self.sandbox_id, exec_id, offset=last, limit=TAIL_BYTES)
                self.renderer.output(exec_id, piece.data, gap_bytes=piece.offset - offset)
        except TimeoutError:
            self.screen.line("  ┆ (the output is late; it is kept)", "dim")
        except TerminalError as error:
            self.screen.line(f"  ┆ (the output is not to be had: {error.detail})", "dim")


@contextlib.contextmanager
def interruptible(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls `first`, the next one `second`, while the block runs."""
    loop = asyncio.get_running_loop()
    presses = 0

    def pressed() -> None:
        nonlocal presses
        presses += 1
        (first if presses == 1 else second)()

    loop.add_signal_handler(signal.SIGINT, pressed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def guarded(watch: Watch, after: int | None = None) -> dict[str, Any]:
    """`watch.turn` with Ctrl-C: once cancels the turn, twice leaves it to itself (raises Detached)."""
    turn = asyncio.ensure_future(watch.turn(after))
    background: set[asyncio.Task[Any]] = set()
    left = False

    async def cancel() -> None:
        try:
            await watch.client.cancel(watch.id)
        except TerminalError as error:
            watch.screen.line(f"could not be cancelled: {error.detail}", "red")

    def first() -> None:
        if not watch.as_json:
            words = "Cancelling… what was done is kept. Ctrl-C again leaves; the work then goes on."
            watch.screen.line(words, "yellow")
        background.add(asyncio.create_task(cancel()))

    def second() -> None:
        nonlocal left
        left = True
        turn.cancel()

    with interruptible(first, second):
        try:
            return await turn
        except asyncio.CancelledError:
            if left:
                raise Detached() from None
            turn.cancel()
            raise
