"""A command's output as it comes: the iterator over `…/output/stream` that survives the gateway.

When the connection breaks or falls silent it connects again and goes on at the next byte of each stream;
after `patience_s` without a server it raises `Unavailable`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from terminalpp.client.events import SILENCE_S, Parser
from terminalpp.client.shapes import OutputEvent
from terminalpp.client.transport import REPEATABLE_CODES, Transport
from terminalpp.types import errors


async def follow(transport: Transport, path: str, at: dict[str, int]) -> AsyncIterator[OutputEvent]:
    """Events behind the offsets `at`, up to `end`; `exited` comes once. Raises TerminalError."""
    contact, attempt, exited = time.monotonic(), 0, False
    while True:
        parser = Parser()
        try:
            async with transport.stream(
                path,
                query={},
                headers={"accept": "text/event-stream", "last-event-id": f"{at['stdout']}-{at['stderr']}"},
                silence_s=SILENCE_S,
            ) as pieces:
                async for chunk in pieces:
                    contact, attempt = time.monotonic(), 0
                    for kind, data in parser.feed(chunk):
                        event = _event(kind, json.loads(data))
                        if event.stream:
                            at[event.stream] = event.offset + event.gap_bytes + len(event.data)
                        if kind != "exited" or not exited:
                            yield event
                        exited = exited or kind == "exited"
                        if kind == "end":
                            return
        except errors.TerminalError as error:
            if error.code not in REPEATABLE_CODES and error.status < 500:
                raise
            if time.monotonic() - contact > transport.patience(error.code == "unavailable"):
                raise
        attempt += 1
        await asyncio.sleep(min(1.0, 0.05 * 2 ** min(attempt, 6)) * random.uniform(0.5, 1.0))


def _event(kind: str, told: dict[str, Any]) -> OutputEvent:
    if kind in ("exited", "end"):
        return OutputEvent(kind, record=told)
    data = base64.b64decode(told["base64"]) if "base64" in told else told.get("text", "").encode()
    return OutputEvent(kind, told["stream"], told["offset"], data, told.get("bytes", 0))
