"""Server-sent events: the parser, and the iterator that survives the gateway.

`messages` connects again when the connection breaks or falls silent (the server sends a heartbeat every
15 s) and goes on behind the last event; after `patience_s` in which no connection brought one whole event or
heartbeat it raises `Unavailable`.
`follow` yields each event of a conversation once, in order, from `after` on. The parser works on bytes and
ends lines as the standard says, at LF, CR LF and CR: a text decoder that knows Unicode's line separators
would cut payloads. https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from terminalpp.client.shapes import Event
from terminalpp.client.transport import REPEATABLE_CODES, Transport, understanding
from terminalpp.types import errors

SILENCE_S = 45.0
_END_OF_LINE = re.compile(rb"\r\n|\r|\n")
_MARK = b"\xef\xbb\xbf"  # a byte order mark may stand before the first line


class Parser:
    """Bytes in, `(event, data)` out. `done` is set by the server's closing comment; `heard` counts whole
    events and comments."""

    def __init__(self) -> None:
        self._rest = b""
        self._first = True  # no line has been read
        self._after_cr = False  # a line feed that comes first belongs to the CR before
        self._type = ""
        self._data: list[bytes] = []
        self.done = False
        self.heard = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """The events that are complete with this chunk: id and data of each."""
        if not chunk:
            return
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        *lines, self._rest = _END_OF_LINE.split(self._rest + chunk)
        for line in lines:
            if self._first:
                line, self._first = line.removeprefix(_MARK), False
            if not line:
                if self._data:
                    self.heard += 1
                    yield self._type or "message", b"\n".join(self._data)
                self._type, self._data = "", []
            elif line.startswith(b":"):
                self.heard += 1
                self.done = self.done or line[1:].strip() == b"end"
            else:
                name, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if name == b"data":
                    self._data.append(value)
                elif name == b"event":
                    self._type = value.decode("utf-8", "replace")


async def messages(
    transport: Transport, path: str, query: dict[str, Any], last_id: Callable[[], str]
) -> AsyncGenerator[tuple[str, Any], None]:
    """Each event's type and decoded data, over as many connections as it takes, until the server says that
    there are no more; `last_id` tells where the next connection begins. Raises TerminalError."""
    contact, attempt = time.monotonic(), 0
    while True:
        parser, heard = Parser(), 0
        headers = {"accept": "text/event-stream", "last-event-id": last_id()}
        try:
            async with transport.stream(path, query=query, headers=headers, silence_s=SILENCE_S) as pieces:
                async for chunk in pieces:
                    for kind, data in parser.feed(chunk):
                        with understanding(f"an event of {path}"):
                            decoded = json.loads(data)
                        yield kind, decoded
                    if parser.heard > heard:  # half an event, again and again, is no contact
                        contact, attempt, heard = time.monotonic(), 0, parser.heard
            if parser.done:
                return
            failure: errors.TerminalError = errors.Unavailable(f"{path} ends without an event")
        except errors.TerminalError as error:
            # Reading again does no harm, so a server that failed in a way of its own is asked again.
            if isinstance(error, errors.UnexpectedAnswer):
                raise
            if error.code not in REPEATABLE_CODES and error.status < 500:
                raise
            failure = error
        if time.monotonic() - contact > transport.patience(failure.code == "unavailable"):
            raise failure
        attempt += 1
        await asyncio.sleep(min(1.0, 0.05 * 2 ** min(attempt, 6)) * random.uniform(0.5, 1.0))


async def follow(transport: Transport, path: str, after: int, live: bool) -> AsyncGenerator[Event, None]:
    """Events behind `after`; without `live` it ends at the head of the log. Raises TerminalError."""
    query = {"follow": None if live else "false"}
    async with aclosing(messages(transport, path, query, lambda: str(after))) as told:
        async for _, event in told:
            with understanding(f"an event of {path}"):
                fresh = event["seq"] > after
            if fresh:
                after = event["seq"]
                yield event
