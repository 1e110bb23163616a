"""A command's output as it comes: the iterator over `…/output/stream` that survives the gateway.

After a lost connection it goes on at the next byte of each stream (see `events.messages`).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from terminalpp.client.events import messages
from terminalpp.client.shapes import OutputEvent
from terminalpp.client.transport import Transport, understanding


async def follow(transport: Transport, path: str, at: dict[str, int]) -> AsyncGenerator[OutputEvent, None]:
    """Events behind the offsets `at`, up to `end`; `exited` comes once. Raises TerminalError."""
    exited = False
    async with aclosing(messages(transport, path, {}, lambda: f"{at['stdout']}-{at['stderr']}")) as told:
        async for kind, data in told:
            with understanding(f"an event of {path}"):
                event = _event(kind, data)
            if event.stream:
                at[event.stream] = event.offset + event.gap_bytes + len(event.data)
            if kind != "exited" or not exited:
                yield event
            exited = exited or kind == "exited"
            if kind == "end":
                return


def _event(kind: str, told: dict[str, Any]) -> OutputEvent:
    if kind in ("exited", "end"):
        return OutputEvent(kind, record=dict(told))
    data = base64.b64decode(told["base64"]) if "base64" in told else told.get("text", "").encode()
    return OutputEvent(kind, str(told["stream"]), int(told["offset"]), data, int(told.get("bytes", 0)))
