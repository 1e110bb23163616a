"""A conversation's events as a stream (server-sent events), from any number on, for ever.

The stream sends the pages of the conversation's feed (`gateway.feeds`) and waits for the client to take each
piece. So a slow client costs one page of memory, falls behind, and misses nothing; nothing is queued for it.
A comment every `HEARTBEAT_S` shows that the line is alive. The stream ends when the client goes, when the
process is asked to stop (the client comes again with `Last-Event-ID`), or, without `follow`, at the head of
the log with the comment `: end`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.state import AppState

HEARTBEAT_S = 15.0
Push = Callable[[bytes], Awaitable[None]]


class Stream(Response):
    """An answer that sends itself, until `run` returns or the client goes."""

    media_type = "text/event-stream"

    def __init__(self, gateway: AppState) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._gateway = gateway

    async def run(self, push: Push) -> None:
        """Send what there is; `push` waits until it is taken."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def push(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        self._gateway.streams += 1
        self._gateway.metrics.streams.set(self._gateway.streams)
        running = asyncio.create_task(self.run(push))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            self._gateway.streams -= 1
            self._gateway.metrics.streams.set(self._gateway.streams)
            for task in (running, leaving):
                task.cancel()
            await asyncio.gather(running, leaving, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(Stream):
    """`conversation_id` has been checked before; `head` is its last event as it was then."""

    def __init__(self, gateway: AppState, conversation_id: str, head: int, after: int, follow: bool) -> None:
        super().__init__(gateway)
        self._conversation_id = conversation_id
        self._head = head
        self._after = after
        self._follow = follow

    async def run(self, push: Push) -> None:
        """Send what there is and what comes, until the client or the server ends."""
        gateway, draining = self._gateway, self._gateway.draining
        await push(b"retry: 1000\n\n")
        sent_at = time.monotonic()
        async with gateway.feeds.following(self._conversation_id, self._head) as feed:
            while not draining.is_set() and (self._follow or self._after < self._head):
                silence_s = time.monotonic() - sent_at
                if await feed.beyond(self._after, HEARTBEAT_S - silence_s):
                    page = await feed.page(self._after)
                    for piece in page.pieces:
                        await push(piece)
                    self._after = page.last
                    gateway.metrics.events.inc(page.count)
                    await asyncio.sleep(0)  # with a kept page and a quick client nothing else yields
                elif silence_s >= HEARTBEAT_S:
                    await push(b": alive\n\n")
                else:
                    continue
                sent_at = time.monotonic()
        if not self._follow and self._after >= self._head:
            await push(b": end\n\n")


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
