"""A fake provider that says what it is told to, byte by byte, in any shape and with any fault.

`OddServer(plays)` answers the n-th POST with the n-th play (the last one again after that) and keeps the
requests; with `by_answers` the number of assistant messages in the request tells which play is next, as in a
conversation. `demand` looks at a request first and says why it is refused (400), as strict providers do.
A play is built by `stream`, `body` or `status`: a head and the pieces of a body.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Demand = Callable[[dict[str, Any]], str | None]
BASE = {"id": "chatcmpl-odd", "object": "chat.completion.chunk", "created": 1, "model": "odd"}


@dataclass(frozen=True)
class Play:
    """One answer: HTTP status, headers, the body in pieces.

    `broken` closes before the body's end; `silent` says nothing more until the client gives up.
    """

    pieces: tuple[bytes, ...]
    status: int = 200
    type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    silent: bool = False


def sse(event: Any) -> bytes:
    """One event; text stands as it is."""
    return event.encode() if isinstance(event, str) else f"data: {json.dumps(BASE | event)}\n\n".encode()


def stream(*events: Any, **more: Any) -> Play:
    return Play(tuple(sse(event) for event in events), **more)


def body(value: Any, **more: Any) -> Play:
    text = value if isinstance(value, str) else json.dumps(value)
    return Play((text.encode(),), type=more.pop("type", "application/json"), **more)


def status(code: int, message: Any, **headers: str) -> Play:
    value = message if isinstance(message, dict) else {"error": {"message": message}}
    return body(value, status=code, headers=headers)


class OddServer:
    """Listens on a loopback port of its own while it is entered."""

    def __init__(self, *plays: Play, by_answers: bool = False, demand: Demand | None = None) -> None:
        self.plays: Sequence[Play] = plays
        self.by_answers, self.demand = by_answers, demand
        self.requests: list[dict[str, Any]] = []
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> OddServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            self.requests.append(json.loads(await reader.readexactly(length)))
            play = self._next(self.requests[-1])
            await self._answer(play, writer)
            if play.silent:
                await reader.read()
        writer.close()

    def _next(self, request: dict[str, Any]) -> Play:
        refusal = self.demand(request) if self.demand is not None else None
        if refusal is not None:
            return status(400, {"error": {"message": refusal, "type": "invalid_request_error"}})
        answers = sum(message["role"] == "assistant" for message in request.get("messages", []))
        place = answers if self.by_answers else len(self.requests) - 1
        return self.plays[min(place, len(self.plays) - 1)]

    async def _answer(self, play: Play, writer: asyncio.StreamWriter) -> None:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in play.headers.items())
        writer.write(
            f"HTTP/1.1 {play.status} X\r\nContent-Type: {play.type}\r\n{more}"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
        )
        for piece in play.pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        if not (play.broken or play.silent):
            writer.write(b"0\r\n\r\n")
            await writer.drain()
