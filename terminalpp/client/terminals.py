"""The routes of terminals: open, list, read, type, end, record; and the connection that looks at one.

Ids are those of the sandbox and of the terminal in it. What `type_terminal` types is typed once per key."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

from terminalpp.client.routes import GRACE_S, Routes
from terminalpp.client.shapes import ScreenText, Terminal, TerminalListed
from terminalpp.client.terminal import TerminalConnection
from terminalpp.client.transport import field, segment
from terminalpp.types.terminals import Role

START_S = 60.0


def _of(sandbox_id: str, terminal_id: str | None = None, what: str = "") -> str:
    path = f"/v1/sandboxes/{segment(sandbox_id)}/terminals"
    return path + (f"/{segment(terminal_id)}" if terminal_id else "") + (f"/{what}" if what else "")


class Terminals(Routes):
    """See `Client`."""

    async def create_terminal(
        self, sandbox_id: str, *, command: str | list[str] | None = None, name: str | None = None,
        cwd: str | None = None, env: dict[str, str] | None = None, cols: int | None = None,
        rows: int | None = None, policy: str | None = None, key: str | None = None,
    ) -> Terminal:  # fmt: skip
        """A terminal whose program runs, or whose `reason` says why it could not be started. Without
        `command` a shell."""
        body: dict[str, Any] = {
            "name": name, "cwd": cwd, "env": env, "cols": cols, "rows": rows, "policy": policy,
            ("argv" if isinstance(command, list) else "command"): command,
        }  # fmt: skip
        given = {name: value for name, value in body.items() if value is not None}
        return await self._post(_of(sandbox_id), given, key=key, timeout_s=START_S + GRACE_S)

    async def terminals(
        self, sandbox_id: str | None = None, *, open: bool = False, limit: int = 1000
    ) -> list[TerminalListed]:
        """Of one sandbox, or of all; the newest first. `open`: those that have a program."""
        path = _of(sandbox_id) if sandbox_id else "/v1/terminals"
        return await self._pages(path, limit, **({"open": "true"} if open else {}))

    async def terminal(self, sandbox_id: str, terminal_id: str) -> Terminal:
        """Its record, with who looks at it."""
        return await self._get(_of(sandbox_id, terminal_id))

    async def end_terminal(self, sandbox_id: str, terminal_id: str) -> Terminal:
        """Kill its program; what was printed stays."""
        return await self._transport.json("DELETE", _of(sandbox_id, terminal_id), timeout_s=START_S)

    async def terminal_screen(self, sandbox_id: str, terminal_id: str, *, history: int = 0) -> ScreenText:
        """What stands on the screen, and with `history` so many of the last lines."""
        return await self._get(_of(sandbox_id, terminal_id, "screen"), history=history or None)

    async def search_terminal(
        self, sandbox_id: str, terminal_id: str, text: str, *, ignore_case: bool = False, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Lines that hold the text, the newest first: `line` and `text`."""
        query = {"q": text, "ignore_case": "true" if ignore_case else None, "limit": limit}
        return field(await self._get(_of(sandbox_id, terminal_id, "search"), **query), "items")

    async def type_terminal(
        self, sandbox_id: str, terminal_id: str, text: str = "", *, keys: list[str] | None = None,
        data: bytes | None = None, take: bool = False, key: str | None = None,
    ) -> None:  # fmt: skip
        """Type text and then keys (`Enter`, `C-c`, …), or bytes; once, however often it is sent. `take`:
        control too. Raises NotInControl."""
        encoded = base64.b64encode(data).decode() if data is not None else None
        body = {"text": text or None, "keys": keys, "base64": encoded, "take": take}
        await self._post(_of(sandbox_id, terminal_id, "input"), body, key=key)

    async def resize_terminal(
        self, sandbox_id: str, terminal_id: str, cols: int | None = None, rows: int | None = None, *,
        policy: str | None = None,
    ) -> Terminal:  # fmt: skip
        """A size of its own, or whose size it has: latest, smallest, fixed."""
        body = {"cols": cols, "rows": rows, "policy": policy}
        return await self._post(_of(sandbox_id, terminal_id, "resize"), body)

    async def terminal_recording(self, sandbox_id: str, terminal_id: str) -> AsyncIterator[bytes]:
        """All that it printed, as asciicast v3: lines of JSON, in pieces."""
        path = _of(sandbox_id, terminal_id, "recording")
        async with self._transport.stream(path, query={}, headers={}, silence_s=60.0) as pieces:
            async for piece in pieces:
                yield piece

    def connect_terminal(
        self, sandbox_id: str, terminal_id: str, *, role: str = "writer", name: str = "a program",
        cols: int | None = None, rows: int | None = None, since: int | None = None,
    ) -> TerminalConnection:  # fmt: skip
        """A connection, to be entered (`async with`). See `terminalpp.client.terminal`."""
        options: dict[str, Any] = {
            "role": Role(role),
            "name": name,
            "cols": cols,
            "rows": rows,
            "since": since,
        }
        return TerminalConnection(self._transport, sandbox_id, terminal_id, **options)
