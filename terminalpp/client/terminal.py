"""A connection to a terminal: what it shows, as it comes, and what one types into it.

    async with client.connect_terminal(sandbox_id, terminal_id, cols=80, rows=24) as line:
        await line.type(b"make test\\r")
        async for message in line:
            ...  # Output, Shown, Size, State, Notice, Ended

It comes back by itself: when the connection breaks it is opened again from the byte that was shown last, and
what was typed and not acknowledged is sent again, which types it once. Iterating is what drives it,
acknowledges output and notices breaks, so a program that only types must iterate too. It ends with `Ended`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from terminalpp.client.transport import Transport, segment
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from terminalpp.types.terminals import (
    ACK_BYTES,
    INPUT_MAX,
    PROTOCOL,
    Channel,
    Role,
    json_message,
    message,
    parse,
)

if TYPE_CHECKING:
    from types import TracebackType

MESSAGE_MAX = 64 * 1024 * 1024  # a painted screen with all that was scrolled away
UNSENT_MAX = 1024 * 1024        # bytes that were typed and not taken: then `type` waits
RETRY_MAX_S = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """What was printed next; `offset` is that of its first byte."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Shown:
    """The screen as it stands: reset the terminal, and show `data`."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Size:
    """The terminal's size, from here on."""

    cols: int
    rows: int


@dataclass(frozen=True, slots=True)
class State:
    """Who looks, who is in control, the title, … as in the record."""

    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Notice:
    """`refused` (what was typed or asked for), `trouble` (the server waits for a part of it), `offline`
    (there is no connection, it is tried again), `online`."""

    kind: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Its program has ended. `exit_code` None: by a signal, or with its sandbox (see `status`, `reason`)."""

    status: str
    exit_code: int | None
    signal: int | None
    reason: str | None


Message = Output | Shown | Size | State | Notice | Ended


class TerminalConnection:
    """See the head of this file. `since`: the byte to begin at; None: with the painted screen."""

    def __init__(
        self, transport: Transport, sandbox_id: str, terminal_id: str, *, role: Role = Role.WRITER,
        name: str = "a program", cols: int | None = None, rows: int | None = None, since: int | None = None,
    ) -> None:  # fmt: skip
        self._transport = transport
        self._path = f"/v1/sandboxes/{segment(sandbox_id)}/terminals/{segment(terminal_id)}/connect"
        self._query: dict[str, Any] = {"viewer": new_id(), "role": str(role), "name": name}
        self._size = (cols, rows)
        self._shown, self._acked = since, 0
        self._typed, self._taken = bytearray(), 0  # not acknowledged, and the offset of its first byte
        self._sent = 0
        self._room = asyncio.Event()
        self._room.set()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._controls = False

    @property
    def viewer(self) -> str:
        """The id under which one is known there."""
        return self._query["viewer"]

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            await self._socket.close()

    # ---- acting ---------------------------------------------------------------------------------

    async def type(self, data: bytes) -> None:
        """Type; returns when it was sent or waits to be. It is typed once, whatever breaks meanwhile."""
        while len(self._typed) > UNSENT_MAX:
            self._room.clear()
            await self._room.wait()
        self._typed += data
        await self._pump()

    async def resize(self, cols: int, rows: int) -> None:
        """One's own size. Whether the terminal gets it is a matter of its policy."""
        self._size = (cols, rows)
        await self._send(json_message(Channel.RESIZE, {"cols": cols, "rows": rows}))

    async def take(self) -> None:
        """Take control, now."""
        await self._send(json_message(Channel.CONTROL, {"type": "take"}))

    async def ask(self) -> None:
        """Ask whoever is in control for it."""
        await self._send(json_message(Channel.CONTROL, {"type": "ask"}))

    async def release(self, to: str | None = None) -> None:
        """Give control up, or to another viewer."""
        await self._send(json_message(Channel.CONTROL, {"type": "release", **({"to": to} if to else {})}))

    async def _pump(self) -> None:
        while (start := self._sent - self._taken) < len(self._typed) and self._socket is not None:
            piece = bytes(self._typed[start : start + INPUT_MAX])
            at, self._sent = self._sent, self._sent + len(piece)
            await self._send(message(Channel.INPUT, at, piece))

    async def _send(self, raw: bytes) -> None:
        """What cannot be sent now is sent, or said, again after the next connection."""
        socket = self._socket
        if socket is not None and not socket.closed:
            try:
                await socket.send_bytes(raw)
            except (ConnectionError, aiohttp.ClientError):
                self._socket = None

    # ---- reading --------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Messages until the end. Raises TerminalError for what no new connection mends (NotFound, …)."""
        offline = False
        while True:
            if self._socket is None:
                if not offline:
                    offline = True
                    yield Notice("offline", "unavailable", "the connection broke")
                await self._again()
            socket = self._socket
            assert socket is not None
            if offline:
                offline = False
                yield Notice("online", "", "")
            received = await socket.receive()
            if received.type is not aiohttp.WSMsgType.BINARY:
                await self._lost(socket)
                continue
            found = await self._take(received.data)
            if found is not None:
                yield found
            if isinstance(found, Ended):
                return
            await self._acknowledge()

    async def _take(self, raw: bytes) -> Message | None:
        channel, offset, value = parse(raw)
        match channel:
            case Channel.OUTPUT:
                self._shown = offset + len(value)
                return Output(offset, value)
            case Channel.SCREEN:
                self._shown = self._acked = offset
                return Shown(offset, value)
            case Channel.RESIZE:
                return Size(int(value["cols"]), int(value["rows"]))
            case Channel.ACK:
                self._settle(offset)
                return None
            case Channel.CLOSE:
                return Ended(
                    str(value.get("status")), value.get("exit_code"), value.get("signal"), value.get("reason")
                )
            case Channel.CONTROL:
                return self._told(value)
        return None

    def _told(self, value: dict[str, Any]) -> Message | None:
        match value.get("type"):
            case "hello" | "state":
                self._controls = value.get("controller") == self.viewer
                return State(value)
            case "refused":
                if value.get("offset") is not None:  # what was typed and not taken is gone
                    self._taken = self._sent = int(value["offset"])
                    self._typed.clear()
                    self._room.set()
                return Notice("refused", str(value.get("code")), str(value.get("detail")))
            case "trouble":
                return Notice("trouble", str(value.get("code")), str(value.get("detail")))
        return None

    def _settle(self, offset: int) -> None:
        if offset > self._taken:
            del self._typed[: offset - self._taken]
            self._taken = offset
            self._sent = max(self._sent, offset)
            self._room.set()

    async def _acknowledge(self) -> None:
        """Whoever asks for the next message has shown all before it."""
        if self._shown is not None and self._shown - self._acked >= ACK_BYTES:
            self._acked = self._shown
            await self._send(message(Channel.ACK, self._shown))

    # ---- connecting -----------------------------------------------------------------------------

    async def _open(self) -> None:
        query = {**self._query, "cols": self._size[0], "rows": self._size[1], "since": self._shown}
        if self._controls:
            query["control"] = "true"
        self._socket = await self._transport.websocket(
            self._path, query=query, protocol=PROTOCOL, max_bytes=MESSAGE_MAX
        )
        self._sent, self._acked = self._taken, self._shown or 0
        await self._pump()

    async def _lost(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        reason, code = "", socket.close_code
        if isinstance(socket.exception(), Exception):
            reason = str(socket.exception())
        self._socket = None
        await socket.close()
        if code == 1008:  # what we sent was wrong, and would be again
            raise errors.BadRequest(f"the server closed the connection: {reason or 'refused'}")

    async def _again(self) -> None:
        """Until there is a connection, for as long as the transport's patience."""
        started, wait = time.monotonic(), 0.05
        while True:
            try:
                return await self._open()
            except errors.TerminalError as error:
                late = time.monotonic() - started > self._transport.patience_s
                if late or error.code not in ("unavailable", "overloaded"):
                    raise
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, RETRY_MAX_S)
