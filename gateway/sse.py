"""A conversation's events as a stream (server-sent events), from any number on, for ever.

Postgres is the only source: the stream reads pages of `PAGE` events behind the last one it sent and sends
them in pieces of at most `PIECE_BYTES`, waiting for the client to take each. So a slow client costs one page
of memory, falls behind, and misses nothing; nothing is queued for it. Redis only says "look now"; without
it the log is looked at every `POLL_S`. A comment every `HEARTBEAT_S` shows that the line is alive.
The stream ends when the client goes, when the process is asked to stop (the client comes again with
`Last-Event-ID`), or, without `follow`, at the head of the log with the comment `: end`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.answers import moment
from gateway.state import Gateway
from schema import events
from terminalpp.types import errors

PAGE = 500
PIECE_BYTES = 64 * 1024
POLL_S = 1.0
HEARTBEAT_S = 15.0
STREAMS_MAX = 1000


def encode(event: events.Event) -> bytes:
    """One event as lines: the number as `id`, the type as `event`, all of it as one line of JSON."""
    data = json.dumps(
        {
            "seq": event.seq,
            "type": event.type,
            "actor": event.actor,
            "created_at": moment(event.created_at),
            "payload": event.payload,
        },
        separators=(",", ":"),
    )
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n".encode()


def pieces(page: Sequence[events.Event]) -> Iterator[bytes]:
    """The page as it is sent: whole events, joined up to about PIECE_BYTES."""
    piece = bytearray()
    for event in page:
        piece += encode(event)
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


class EventStream(Response):
    """Sends itself; `conversation_id` has been checked before."""

    media_type = "text/event-stream"

    def __init__(self, gateway: Gateway, conversation_id: str, after: int, follow: bool) -> None:
        if gateway.streams >= STREAMS_MAX:
            raise errors.Overloaded(f"{STREAMS_MAX} event streams are open")
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._gateway = gateway
        self._conversation_id = conversation_id
        self._after = after
        self._follow = follow
        self._wake = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def push(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        self._gateway.streams += 1
        self._gateway.metrics.streams.set(self._gateway.streams)
        tasks = [asyncio.create_task(self._run(push)), asyncio.create_task(_gone(receive))]
        if self._follow:
            tasks.append(asyncio.create_task(self._listen()))
            tasks.append(asyncio.create_task(self._drained()))
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            self._gateway.streams -= 1
            self._gateway.metrics.streams.set(self._gateway.streams)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, push: Callable[[bytes], Awaitable[None]]) -> None:
        await push(b"retry: 1000\n\n")
        sent_at = time.monotonic()
        while not self._gateway.draining.is_set():
            self._wake.clear()
            page = await events.read(self._gateway.database, self._conversation_id, self._after, PAGE)
            self._gateway.metrics.events.inc(len(page))
            for piece in pieces(page):
                await push(piece)
                sent_at = time.monotonic()
            if page:
                self._after = page[-1].seq
            if len(page) == PAGE:
                continue
            if not self._follow:
                await push(b": end\n\n")
                return
            if time.monotonic() - sent_at >= HEARTBEAT_S:
                await push(b": alive\n\n")
                sent_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _listen(self) -> None:
        """Wake at Redis's word. When Redis is lost this ends in silence, and polling goes on."""
        async for seq in self._gateway.live.subscribe(self._conversation_id):
            if seq > self._after:
                self._wake.set()

    async def _drained(self) -> None:
        await self._gateway.draining.wait()
        self._wake.set()


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
