"""The reverse proxy to ports in sandboxes: any method, any path, bodies and streams of any length, upgrades.

One request, one connection to the program, closed at its end: nothing that a caller sends can be taken for
another caller's request, and no idle connection goes stale. h11 speaks HTTP to the program and refuses what
is none. Nothing is gathered: a piece goes on before the next is read, so who reads or writes slowly slows
down the other end of the same request alone. A caller that leaves ends the program's connection, and an
answer that breaks off breaks off for the caller too. An upgrade (WebSocket or any other) is raw bytes from
its 101 on.

The owner's request starts a sandbox that does not run; one by a share link does not (SandboxNotRunning), so
nobody but the owner decides what costs. Bodies have no limit of size, since nothing is kept; what is silent
both ways for `IDLE_S` ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any

import h11
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from actors.sandbox.tppd.ports import Wire
from gateway import port_addresses, port_headers
from gateway.port_access import Visitor, visitor_of
from gateway.port_addresses import RAW, SECRET, Address
from gateway.state import AppState
from gateway.tunnel import Tunnel
from schema import sandboxes
from terminalpp.types import errors

IDLE_S = 600.0
CONTINUE_S = 1.0  # as long the program may keep a body waiting that was announced by Expect
PIECE_BYTES = 256 * 1024
HEAD_MAX_BYTES = 64 * 1024  # of the program's answer
TOUCH_S = 60.0  # use of a sandbox is noted so often
FOLLOWED = 3  # informational answers that are let pass before the answer


class PortProxy:
    """See the head of this file."""

    def __init__(self, gateway: AppState) -> None:
        self._gateway = gateway
        self._touched: dict[str, float] = {}

    async def answer(self, address: Address, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a port. Raises TerminalError, ClientDisconnect before the answer has begun;
        after that the connection is cut."""
        if address.raw and address.upgrade.decode("latin-1").lower() != RAW:
            raise errors.BadRequest("raw bytes are had by an upgrade alone", f"Send `Upgrade: {RAW}`.")
        target, secret = address.target, None
        if not address.prefix:
            target, secret = port_addresses.secret_in(target)
        gateway = self._gateway
        visitor = await visitor_of(address, scope["headers"], secret, gateway.tokens, gateway.shares)
        await self._check_owner(address, visitor)
        if secret is not None and _is_navigation(scope):
            await _leave_cookie(scope, target, secret, visitor, send)
            return
        place = await self._place(address, scope, visitor)
        try:
            async with gateway.connections.to(address.sandbox_id) as access:
                wire = await access.dial(address.port, wake=visitor.user_id is not None)
                await self._touch(address.sandbox_id)
                await _Call(gateway, address, target, visitor, scope, receive, send, wire).run()
        finally:
            place.end()

    async def _check_owner(self, address: Address, visitor: Visitor) -> None:
        if visitor.user_id is None:
            return
        gateway, id = self._gateway, address.sandbox_id
        owner = gateway.owners.get(id)
        if owner is None:
            owner = gateway.remember_owner(id, (await sandboxes.get(gateway.database, id)).user_id)
        if owner != visitor.user_id:
            raise errors.NotFound(f"there is no sandbox {id}")

    async def _place(self, address: Address, scope: Scope, visitor: Visitor) -> Any:
        admission = self._gateway.admission
        if address.upgrade:
            return await admission.enter_long(visitor.account)
        return await admission.enter(visitor.account, scope["method"], port_addresses.ROUTE, b"")

    async def _touch(self, sandbox_id: str) -> None:
        """It is in use, so it does not fall asleep."""
        now = time.monotonic()
        if now - self._touched.get(sandbox_id, -TOUCH_S) < TOUCH_S:
            return
        if len(self._touched) > 10_000:
            self._touched.clear()
        self._touched[sandbox_id] = now
        await sandboxes.touch(self._gateway.database, sandbox_id)


def _is_navigation(scope: Scope) -> bool:
    """Whether a browser opens a page: then a link is exchanged for a cookie, and leaves the address."""
    accepts = [value for name, value in scope["headers"] if name == b"accept"]
    return scope["method"] in ("GET", "HEAD") and any(b"text/html" in value for value in accepts)


async def _leave_cookie(scope: Scope, target: bytes, secret: str, visitor: Visitor, send: Send) -> None:
    cookie = f"{SECRET}={secret}; Path=/; Max-Age={int(visitor.seconds or 0)}; HttpOnly; SameSite=Lax"
    # "//other.host/" would lead elsewhere, and so would a backslash.
    place = b"/" + target.lstrip(b"/\\")
    headers = [(b"location", place), (b"set-cookie", cookie.encode("latin-1")), (b"content-length", b"0"),
               (b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer")]  # fmt: skip
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class _Call:
    """One request on its way through."""

    def __init__(
        self, gateway: AppState, address: Address, target: bytes, visitor: Visitor, scope: Scope,
        receive: Receive, send: Send, wire: Wire,
    ) -> None:  # fmt: skip
        self._gateway, self._address, self._target, self._visitor = gateway, address, target, visitor
        self._scope, self._receive, self._send = scope, receive, send
        self._reader, self._writer = wire
        self._program = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
        self._go_on = asyncio.Event()  # the body may be sent
        self._moved = time.monotonic()
        self._begun = self._left = False  # the answer has begun; it is no HTTP any more

    async def run(self) -> None:
        """To the end of the answer. Raises PortFailed, DeadlineExceeded, LinkExpired, ClientDisconnect."""
        try:
            answer = self._raw() if self._address.raw else self._down()
            await _first([answer, self._idle(), self._visitor.stay(), self._up()])
            if self._begun and not self._left:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        except (h11.RemoteProtocolError, ConnectionError) as error:
            await self._fail(errors.PortFailed(f"{self._where()}: {str(error) or 'the connection broke'}"))
        except errors.TerminalError as error:
            await self._fail(error)
        finally:
            self._writer.transport.abort()  # it may be in the middle of anything, and nothing more is wanted

    def _where(self) -> str:
        return f"port {self._address.port} of sandbox {self._address.sandbox_id}"

    async def _fail(self, error: errors.TerminalError) -> None:
        """Say so, or where the answer has begun, break it off."""
        if not self._begun:
            raise error
        await asyncio.sleep(0)
        self._scope["cut"]()

    def _request(self) -> h11.Request:
        scope = self._scope
        client = scope["client"][0] if scope.get("client") else None
        headers = port_headers.request(
            self._address, scope["headers"], client, ours=self._visitor.ours,
            server_port=self._gateway.port,
        )  # fmt: skip
        if not any(name == b"expect" for name, _ in headers):
            self._go_on.set()
        try:
            return h11.Request(method=scope["method"], target=self._target, headers=headers)
        except h11.LocalProtocolError as error:
            raise errors.BadRequest(f"the request cannot be passed on: {error}") from None

    # ---- to the program -------------------------------------------------------------------------

    async def _up(self) -> None:
        """The body as it comes; then the caller's leaving is waited for."""
        if self._address.upgrade:
            await self._scope["tunnel"].lost.wait()
            raise ClientDisconnect
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONTINUE_S):
                await self._go_on.wait()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message.get("more_body", False)
            try:
                if body := message.get("body"):
                    self._writer.write(self._program.send(h11.Data(body)))
                if not more:
                    self._writer.write(self._program.send(h11.EndOfMessage()))
                await self._writer.drain()
            except ConnectionError:
                break  # it wants no more; its answer may have come before
            except h11.LocalProtocolError:
                break  # its answer is complete
            self._moved = time.monotonic()
        if not more:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            raise ClientDisconnect
        await asyncio.Event().wait()

    # ---- from the program -----------------------------------------------------------------------

    async def _events(self) -> AsyncIterator[Any]:
        while True:
            event = self._program.next_event()
            if event is not h11.NEED_DATA:
                yield event
                continue
            self._program.receive_data(await self._reader.read(PIECE_BYTES))
            self._moved = time.monotonic()

    async def _down(self) -> None:
        """The answer as it comes."""
        self._writer.write(self._program.send(self._request()))
        if self._address.upgrade:
            self._program.send(h11.EndOfMessage())
        informed = 0
        async for event in self._events():
            match event:
                case h11.InformationalResponse(status_code=101):
                    headers = port_headers.response(self._address, list(event.headers))
                    upgrade = next((v for n, v in event.headers if n == b"upgrade"), self._address.upgrade)
                    await self._leave(headers, upgrade, self._program.trailing_data[0])
                    return
                case h11.InformationalResponse():
                    self._go_on.set()
                    if (informed := informed + 1) > FOLLOWED:
                        raise errors.PortFailed(f"{self._where()}: it answers with {event.status_code} only")
                case h11.Response():
                    self._go_on.set()
                    headers = port_headers.response(self._address, list(event.headers))
                    self._begun = True
                    await self._send(
                        {"type": "http.response.start", "status": event.status_code, "headers": headers}
                    )
                case h11.Data():
                    await self._send(
                        {"type": "http.response.body", "body": bytes(event.data), "more_body": True}
                    )
                    self._moved = time.monotonic()
                case h11.EndOfMessage():
                    return
                case _:
                    raise errors.PortFailed(f"{self._where()}: it closed the connection without an answer")

    async def _idle(self) -> None:
        """Returns never. Raises DeadlineExceeded when nothing has moved for `IDLE_S`."""
        left = IDLE_S
        while left > 0:
            await asyncio.sleep(left)
            left = self._moved + IDLE_S - time.monotonic()
        raise errors.DeadlineExceeded(f"{self._where()}: nothing came for {IDLE_S:.0f} s")

    # ---- an upgrade -----------------------------------------------------------------------------

    async def _raw(self) -> None:
        await self._leave([], RAW.encode(), b"")

    async def _leave(self, headers: port_headers.Headers, upgrade: bytes, early: bytes) -> None:
        """It is no HTTP from here on. Ends when both directions have, or either end is gone, or we must."""
        tunnel: Tunnel = self._scope["tunnel"]
        headers += [(b"connection", b"upgrade"), (b"upgrade", upgrade),
                    (b"x-request-id", self._scope["request_id"].encode())]  # fmt: skip
        self._begun = self._left = True
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        abort = True
        try:
            await tunnel.write(b"HTTP/1.1 101 Switching Protocols\r\n" + head + b"\r\n" + early)
            await _first([self._both(tunnel), tunnel.lost.wait(), self._gateway.draining.wait()])
            abort = tunnel.lost.is_set()
        finally:
            await tunnel.close(abort=abort)

    async def _both(self, tunnel: Tunnel) -> None:
        async def up() -> None:
            while data := await tunnel.read(PIECE_BYTES):
                self._writer.write(data)
                await self._writer.drain()
                self._moved = time.monotonic()
            self._writer.write_eof()

        async def down() -> None:
            while data := await self._reader.read(PIECE_BYTES):
                await tunnel.write(data)
                self._moved = time.monotonic()
            tunnel.write_eof()

        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(_quiet(up()))
                group.create_task(_quiet(down()))


async def _quiet(work: Awaitable[None]) -> None:
    """A direction whose other end is gone is over; the other one may have something left."""
    with contextlib.suppress(ConnectionError):
        await work


async def _first(works: list[Coroutine[Any, Any, Any]]) -> None:
    """Until the first of them has ended; the others are cancelled. Raises what that one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:  # in their order: an answer that has ended counts more than a caller who left
        if not task.cancelled():
            task.result()
            return
