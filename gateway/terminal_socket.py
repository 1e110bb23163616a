"""The WebSocket of a terminal: `GET …/terminals/{terminal_id}/connect`, protocol `tpp.term.v1`.

One `_Line` per connection, three tasks. *Output* reads the journal by offset and never waits for a viewer:
what may be under way unacknowledged is bounded (WINDOW_BYTES), and who has fallen more than RESYNC_BYTES
behind is shown the painted screen of now and goes on from there. *News* is a long poll of the entity: size,
control, who looks, title, the end; it is also what says that the viewer is still there. *Input* hands on what
is typed, in order, at the viewer's own offsets: after a break he sends what was not acknowledged again, and
it is typed once.

Whatever dies behind it (entity, cell, sandbox's owner, Postgres), the connection stays and says so, as long
as this process lives; when this one dies the viewer connects again with `since` and `viewer`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from actors.sandbox.access import NEVER, SandboxAccess
from gateway.state import AppState, user_of
from gateway.terminal_query import Asked
from gateway.terminals import ask, row_of
from schema import sandboxes
from terminalpp.types import errors
from terminalpp.types.states import TerminalState
from terminalpp.types.terminals import (
    INPUT_MAX,
    PROTOCOL,
    WINDOW_BYTES,
    Channel,
    json_message,
    message,
    parse,
)

PIECE_BYTES = 128 * 1024
RESYNC_BYTES = 4 * 1024 * 1024
RESUME_BYTES = 1024 * 1024  # farther behind than this who comes again is shown the screen instead
WATCH_MS = 10_000
RETRY_S = 0.25
LEAVE_S = 1.0
QUEUE = 64                  # messages that wait to be typed: then nothing more is read from the connection
POLICY = 1008  # RFC 6455, section 7.4.1
REASON_MAX = 40  # characters: a close frame holds 123 bytes
WEATHER = (errors.Unavailable, errors.DeadlineExceeded, errors.Overloaded, errors.NotOwner, errors.DiskFull)

router = APIRouter()


@router.websocket("/v1/sandboxes/{sandbox_id}/terminals/{terminal_id}/connect")
async def connect(websocket: WebSocket, sandbox_id: str, terminal_id: str) -> None:
    """Look at a terminal, and type into it. Refusals come before the handshake, as problems."""
    gateway: AppState = websocket.app.state.gateway
    asked = Asked.of(websocket, sandbox_id, terminal_id)
    await _owned(gateway, websocket, asked.sandbox)
    await row_of(gateway, asked.sandbox, asked.terminal)
    if PROTOCOL not in websocket.scope["subprotocols"]:
        raise errors.BadRequest(f"the client does not speak {PROTOCOL}", "Ask for it as subprotocol.")
    async with gateway.connections.to(asked.sandbox) as access:
        await _Line(gateway, websocket, access, asked).run()


async def _owned(gateway: AppState, websocket: WebSocket, sandbox: str) -> None:
    owner = gateway.owners.get(sandbox)
    if owner is None:
        owner = gateway.remember_owner(sandbox, (await sandboxes.get(gateway.database, sandbox)).user_id)
    if owner != user_of(websocket):
        raise errors.NotFound(f"there is no sandbox {sandbox}")


@dataclass
class _Line:
    """One connection. `sent` and `shown`: offsets of output that went out, and that the viewer
    acknowledged."""

    gateway: AppState
    socket: WebSocket
    access: SandboxAccess
    asked: Asked
    sent: int = 0
    shown: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    typed: asyncio.Queue[tuple[int, bytes]] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    acked: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)  # the terminal's program has ended

    async def run(self) -> None:
        """Until the terminal has ended and all was shown, or the viewer goes, or this process must."""
        me = self.asked
        self.told = await self._watch(0)
        self._note(self.told)
        await self.socket.accept(PROTOCOL)
        try:
            await self._say({"type": "hello", "viewer": me.viewer, **self._state()})
            await self.socket.send_bytes(self._size())
            works = [self._output(), self._news(), self._typing(), self._receive()]
            tasks = [asyncio.create_task(work, name=f"terminal {me.terminal}") for work in works]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                    raise result
        except errors.TerminalError as error:  # the handshake is over: a problem has no place any more
            with contextlib.suppress(RuntimeError):  # he is gone
                await self.socket.close(POLICY, error.detail[:REASON_MAX])
        finally:
            with contextlib.suppress(errors.TerminalError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._ask("leave")

    # ---- to the viewer --------------------------------------------------------------------------

    async def _output(self) -> None:
        """Output as it comes, and the end. Returns when there will be no more."""
        since, end = self.asked.since, await self._length()
        if since is not None and since <= end and end - since <= RESUME_BYTES:
            self.sent = self.shown = since
        else:
            await self._paint()
        while True:
            if not await self._room():
                await self._paint()
                continue
            over = (
                self.over.is_set()
            )  # looked at before the bytes: what is printed between the two is not missed
            chunk = await self._chunk()
            if chunk is not None:
                await self.socket.send_bytes(message(Channel.OUTPUT, chunk[0], chunk[1]))
                self.sent = chunk[0] + len(chunk[1])
            elif over:
                await self.socket.send_bytes(json_message(Channel.CLOSE, self._end()))
                await self.socket.close(1000)
                return
            else:
                await self._more()

    async def _chunk(self) -> tuple[int, bytes] | None:
        """The next bytes and their offset; None when there are none now. Bytes that are gone: the screen."""
        try:
            found = await self.access.output(self.asked.terminal, "stdout", self.sent, PIECE_BYTES)
        except errors.NotFound:
            return None
        if found.gap_bytes:
            await self._paint()
            return await self._chunk()
        return (found.offset, found.data) if found.data else None

    async def _more(self) -> None:
        """Wait for more output, or for the end."""
        waiting = asyncio.ensure_future(self._printed())
        ending = asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait((waiting, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, ending):
                task.cancel()
            await asyncio.gather(waiting, ending, return_exceptions=True)

    async def _printed(self) -> None:
        try:
            status = await self.access.more(self.asked.terminal, WATCH_MS / 1000, self.sent, NEVER)
            if status.closed:  # the entity says how it ended, some milliseconds later
                await asyncio.sleep(RETRY_S)
        except (errors.NotFound, errors.SandboxNotRunning, *WEATHER):
            await asyncio.sleep(RETRY_S)

    async def _room(self) -> bool:
        """Wait until the viewer has shown enough; False: he is too far behind, and is to be shown the
        screen."""
        while self.sent - self.shown >= WINDOW_BYTES:
            self.acked.clear()
            await self.acked.wait()
            if self.sent - self.shown < WINDOW_BYTES:
                return await self._length() - self.sent <= RESYNC_BYTES
        return True

    async def _paint(self) -> None:
        """The screen of now, from which output goes on."""
        painted = await self._insist("paint")
        await self.socket.send_bytes(
            json_message(Channel.RESIZE, {"cols": painted["cols"], "rows": painted["rows"]})
        )
        data = base64.b64decode(painted["data"])
        await self.socket.send_bytes(message(Channel.SCREEN, painted["offset"], data))
        self.sent = self.shown = painted["offset"]

    async def _length(self) -> int:
        try:
            return await self.access.length(self.asked.terminal, "stdout")
        except errors.NotFound:
            return 0

    async def _news(self) -> None:
        """What changes around the terminal, as it does; and that this viewer is here."""
        while True:
            before = self.told
            try:
                told = await self._watch(WATCH_MS)
            except errors.NotFound:
                self._note({**before, "status": str(TerminalState.LOST), "end": {"reason": "it was deleted"}})
                return await asyncio.sleep(3600)
            except WEATHER as error:
                await self._say({"type": "trouble", "code": error.code, "detail": error.detail})
                await asyncio.sleep(RETRY_S)
                continue
            if (told["cols"], told["rows"]) != (before["cols"], before["rows"]):
                await self.socket.send_bytes(self._size(told))
            if self._state(told) != self._state(before):
                await self._say({"type": "state", **self._state(told)})
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        self.told = told
        if TerminalState(told["status"]).final:
            self.over.set()

    # ---- from the viewer ------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Messages of the viewer, until it goes. A wrong one ends the connection, with the reason."""
        while True:
            received = await self.socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            raw = received.get("bytes")
            if raw is None:
                raise errors.BadRequest("text was sent; all messages are binary")
            channel, offset, value = parse(raw)
            match channel:
                case Channel.INPUT:
                    if len(value) > INPUT_MAX:
                        raise errors.TooLarge(f"more than {INPUT_MAX} bytes were typed at once")
                    await self.typed.put((offset, value))
                case Channel.ACK:
                    if offset > self.sent:
                        raise errors.BadRequest("more was acknowledged than was sent")
                    self.shown = max(self.shown, offset)
                    self.acked.set()
                case Channel.RESIZE:
                    await self._try("resize", cols=value.get("cols"), rows=value.get("rows"))
                case Channel.CONTROL:
                    await self._control(value)
                case _:
                    raise errors.BadRequest(f"channel {channel.name} is not for the viewer to send")

    async def _control(self, value: dict[str, Any]) -> None:
        match value.get("type"):
            case "take" | "ask" | "release" as do:
                to = {"to": str(value["to"])} if value.get("to") else {}
                await self._try("control", do=do, **to)
            case "ping":
                await self._say({"type": "pong", "at": value.get("at")})
            case other:
                raise errors.BadRequest(f"{str(other)[:40]!r} is nothing that can be asked")

    async def _typing(self) -> None:
        """Type what came, in its order; what came meanwhile goes in one call."""
        while True:
            offset, data = await self.typed.get()
            while not self.typed.empty() and len(data) < INPUT_MAX // 2:
                at, more = self.typed.get_nowait()
                if at != offset + len(data):
                    await self._type(offset, data)
                    offset, data = at, more
                else:
                    data += more
            await self._type(offset, data)

    async def _type(self, offset: int, data: bytes) -> None:
        """Until it was typed or is refused: the same bytes at the same offset are typed once."""
        while True:
            try:
                answer = await self._ask("type", offset=offset, data=base64.b64encode(data).decode())
                await self.socket.send_bytes(message(Channel.ACK, answer["offset"]))
                return
            except WEATHER as error:
                if self.over.is_set():
                    return
                await self._say({"type": "trouble", "code": error.code, "detail": error.detail})
                await asyncio.sleep(RETRY_S)
            except errors.SandboxNotRunning:
                return  # its end is on the way
            except errors.TerminalError as error:
                expected = error.extra.get("expected", offset)
                await self._say(
                    {
                        "type": "refused",
                        "code": error.code,
                        "detail": error.detail,
                        "hint": error.hint,
                        "offset": expected,
                    }
                )
                return

    # ---- inside ---------------------------------------------------------------------------------

    async def _ask(self, method: str, **payload: Any) -> Any:
        me = self.asked
        base = {"viewer": me.viewer, "user_id": me.user, "name": me.name, "role": me.role}
        return await ask(self.gateway, me.terminal, method, **base, **payload)

    async def _insist(self, method: str) -> Any:
        """Until it is answered: for what changes nothing."""
        while True:
            try:
                return await self._ask(method)
            except WEATHER as error:
                await self._say({"type": "trouble", "code": error.code, "detail": error.detail})
                await asyncio.sleep(RETRY_S)

    async def _try(self, method: str, **payload: Any) -> None:
        """Once; a refusal is told."""
        try:
            await self._ask(method, **payload)
        except errors.TerminalError as error:
            await self._say(
                {"type": "refused", "code": error.code, "detail": error.detail, "hint": error.hint}
            )

    async def _watch(self, timeout_ms: int) -> dict[str, Any]:
        mine = self.told.get("controller") == self.asked.viewer if self.told else self.asked.control
        size = {"cols": self.asked.cols, "rows": self.asked.rows} if not self.told else {}
        version = self.told.get("version") if self.told.get("epoch") else None
        return await self._ask("watch", version=version, timeout_ms=timeout_ms, control=mine, **size)

    def _state(self, told: dict[str, Any] | None = None) -> dict[str, Any]:
        now = told or self.told
        names = ("cols", "rows", "policy", "controller", "viewers", "title", "status", "name", "agent")
        return {name: now.get(name) for name in names}

    def _size(self, told: dict[str, Any] | None = None) -> bytes:
        now = told or self.told
        return json_message(Channel.RESIZE, {"cols": now["cols"], "rows": now["rows"]})

    def _end(self) -> dict[str, Any]:
        end = self.told.get("end") or {}
        return {"status": self.told["status"], "exit_code": end.get("exit_code"), "signal": end.get("signal"),
                "reason": end.get("reason"), "offset": self.sent, "at": time.time()}

    async def _say(self, value: dict[str, Any]) -> None:
        await self.socket.send_bytes(json_message(Channel.CONTROL, value))
