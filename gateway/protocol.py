"""uvicorn's HTTP/1.1 connection with bounds: what it may cost before anything is known of its caller.

- The head of a request (first line and headers, or a body's trailers) is bounded in bytes (431) and in time
  (`HEAD_S`, 408); trailers are not taken for headers. A body that stops arriving is cut by `Edge`.
- At most `PIPELINED` requests wait behind the one that is answered; the connection ends after their answers,
  and the client sends the rest again on another.
- At most `connections_max` connections: beyond it the one that is idle longest is closed; where none is idle,
  a new one may still ask for health, and beyond `RESERVE` more nothing is accepted.
- A client that takes nothing of its answer for `STALL_S` is cut; one that reads, however slowly, never is.
- What is no HTTP is answered in our form too, behind the answers that are still due, and ends the connection.
- A request for a port in a sandbox that wants to leave HTTP becomes a `Tunnel`, whatever it leaves for.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections import OrderedDict
from functools import partial
from typing import Any

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway import origin_checks, port_addresses, problems
from gateway.tunnel import Tunnel
from runtime.settings import Settings
from terminalpp.types import errors
from terminalpp.types.ids import new_id

HEAD_S = 10.0
LINGER_S = 1.0
STALL_S = 120.0
PIPELINED = 32
JOINED_MAX = 16_384  # bytes of a body that are sent with the head, and copied for it
RESERVE = 128
HEALTH = frozenset({"/livez", "/readyz", "/version", "/metrics"})


class _Stop(Exception):
    """Raised in a callback of the parser to make it stop."""


class Idle:
    """The connections of a server on which nothing is under way, the one idle longest first."""

    def __init__(self) -> None:
        self._connections: OrderedDict[Protocol, None] = OrderedDict()

    def add(self, connection: Protocol) -> None:
        """Nothing is under way on it from now on."""
        self._connections[connection] = None

    def remove(self, connection: Protocol) -> None:
        """Something is under way on it, or it is gone."""
        self._connections.pop(connection, None)

    def close_one(self) -> bool:
        """Close the one idle longest; False when none is idle."""
        if not self._connections:
            return False
        self._connections.popitem(last=False)[0].transport.close()
        return True


class _Joining:
    """The way an answer is written. Its head waits for the first of its body, at most until the loop's next
    round: a small answer is one system call and one packet, and a stream's head still goes at once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None  # None: nothing was written yet

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            self._loop.call_soon(self._flush)
        elif self._head and len(data) <= JOINED_MAX:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._flush()
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class Protocol(HttpToolsProtocol):
    """A connection, with limits on its head, its time and what a client leaves unread."""

    def __init__(self, *, settings: Settings, idle: Idle, **options: Any) -> None:
        super().__init__(**options)
        self._limit = settings.header_limit_bytes
        self._most = settings.connections_max
        self._idle = idle
        self._unread = 0  # bytes since the last piece of a body or the end of a request
        self._in_head = False
        self._late: asyncio.TimerHandle | None = None
        self._ended = False  # what still arrives is forgotten
        self._crowded = False
        self._stalled: asyncio.TimerHandle | None = None
        self._tunnel: Tunnel | None = None

    # ---- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio. Makes room by closing an idle connection; refuses what comes beyond."""
        super().connection_made(transport)
        if len(self.connections) > self._most and not self._idle.close_one():
            self._crowded = True
            if len(self.connections) > self._most + RESERVE:
                transport.abort()
                return
        self._idle.add(self)
        self._late = self.loop.call_later(HEAD_S, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._idle.remove(self)
        self._in_time()
        self._taken()
        self._unset_keepalive_if_required()  # uvicorn keeps the timer, and all with it, when it was reset
        super().connection_lost(exc)
        if self._tunnel is not None:
            self._tunnel.gone()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """See asyncio. A tunnel's other direction stays open."""
        if self._tunnel is not None:
            self._tunnel.ended()
            return True
        return super().eof_received()

    def data_received(self, data: bytes) -> None:
        """See asyncio. Refuses what is not HTTP, and a head that is too large."""
        if self._ended:
            return
        if self._tunnel is not None:
            self._tunnel.feed(data)
            return
        self._idle.remove(self)
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._tunnel is not None:
                self._tunnel.feed(data[upgrade.args[0] :])
                return
            if self._should_upgrade():
                self._upgrade()
                return
            # To nothing that is known here: the request is answered as any other.
        except httptools.HttpParserError:
            if not self._ended:
                self._refuse(errors.BadRequest("the request is not HTTP"))
        if self._ended:
            return
        if self._unread > self._limit:
            self._refuse(self._too_large())
        elif self._late is None and (self._in_head or self._is_free()):
            self._late = self.loop.call_later(HEAD_S, self._too_late)

    def _upgrade(self) -> None:
        """It is a WebSocket from here on, and this object is done. Its bounds are those of uvicorn's
        settings."""
        if self._crowded:
            self._refuse(self._overloaded())
            return
        self._in_time()
        self._taken()
        self.handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._idle.add(self)

    def pause_writing(self) -> None:
        """See asyncio. Watches a client that stops reading."""
        super().pause_writing()
        self._wait_for_reader(self._untaken())

    def resume_writing(self) -> None:
        """See asyncio."""
        self._taken()
        super().resume_writing()

    def _wait_for_reader(self, untaken: int) -> None:
        self._stalled = self.loop.call_later(STALL_S, self._look_at_reader, untaken)

    def _look_at_reader(self, before: int) -> None:
        untaken = self._untaken()
        if untaken < before:
            self._wait_for_reader(untaken)
        else:
            self.transport.abort()

    def _untaken(self) -> int:
        """Bytes of the answer that wait here and in the kernel. Nothing is written meanwhile, so it falls as
        long as the client reads."""
        queued = fcntl.ioctl(self.transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + struct.unpack("i", queued)[0]

    def _taken(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    # ---- the parser ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools. Refuses a target that cannot be read, and too many requests at once."""
        self._in_time()
        self._in_head = False
        if len(self.pipeline) >= PIPELINED:
            self.pipeline[0][0].keep_alive = False  # the last in line
            self._ended = True
            raise _Stop
        self.scope["target"] = self.url  # as it came
        if self.parser.should_upgrade() and self._leaves_for_a_port():
            self.scope["tunnel"] = self._tunnel = Tunnel(self.transport, self.flow)
        try:
            super().on_headers_complete()
            self.scope["cut"] = partial(_cut, self.cycle)
            if self._tunnel is not None:
                self.cycle.keep_alive = False
        except Exception as error:  # a target that is none, or not ASCII
            self._refuse(errors.BadRequest("the request's target cannot be read"))
            raise _Stop from error

    def _is_free(self) -> bool:
        """Whether no answer is due on this connection but that to a request that comes now."""
        return self.cycle is None or self.cycle.response_complete

    def _leaves_for_a_port(self) -> bool:
        method = self.parser.get_method().decode("ascii")
        leaves = bool(port_addresses.upgrade_of(method, self.headers))
        return leaves and self._is_free() and port_addresses.is_for_a_port(self.url, self.headers)

    def _should_upgrade(self) -> bool:
        """See uvicorn, which is told of its own WebSockets alone."""
        return not port_addresses.is_for_a_port(self.url, self.headers) and super()._should_upgrade()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._unread = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._crowded and app is self.app and cycle.scope["path"] not in HEALTH:
            app, cycle.keep_alive = _Refusal(self._overloaded(), 0.0), False
        cycle.transport = _Joining(self.transport, self.loop)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    # ---- refusals --------------------------------------------------------------------------------

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limit:
            self._refuse(self._too_large())
            raise _Stop

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if self._in_head:
            self._refuse(errors.RequestTimeout(f"the headers did not arrive within {HEAD_S:.0f} s"))
        elif not self.transport.is_closing():
            self.transport.close()  # nothing was asked for

    def _refuse(self, error: errors.TerminalError) -> None:
        """Answer behind the answers that are due, take nothing more, and end the connection."""
        self._ended = True
        self._in_time()
        self._idle.remove(self)
        due = self.cycle if self.cycle is not None and not self.cycle.response_complete else None
        if due is not None and due.more_body:
            # In the middle of a body: the answer is to that request, whose route sees a client that left.
            if due.response_started or self.pipeline:
                self.transport.close()
                return
            due.disconnected, due = True, None
            self.cycle.message_event.set()
        scope: Any = {
            "type": "http", "method": "GET", "path": "/", "headers": [], "request_id": new_id(),
            "http_version": "1.1", "query_string": b"",
        }  # fmt: skip
        cycle = RequestResponseCycle(
            scope=scope, transport=self.transport, flow=self.flow, logger=self.logger,
            access_logger=self.access_logger, access_log=False,
            default_headers=self.server_state.default_headers, message_event=asyncio.Event(),
            expect_100_continue=False, keep_alive=False, on_response=self.on_response_complete,
        )  # fmt: skip
        refusal = _Refusal(error, LINGER_S if error.status == 431 else 0.0)
        self.cycle = cycle
        if due is None:
            self._start_asgi_task(cycle, refusal)
        else:
            self.pipeline.appendleft((cycle, refusal))

    def _too_large(self) -> errors.HeadersTooLarge:
        detail = f"the headers are larger than {self._limit} bytes, the limit TPP_HEADER_LIMIT_BYTES"
        return errors.HeadersTooLarge(detail, "", {"limit_bytes": self._limit})

    def _overloaded(self) -> errors.Overloaded:
        return errors.Overloaded(f"{self._most} connections are open, the limit TPP_CONNECTIONS_MAX")


def _cut(cycle: RequestResponseCycle) -> None:
    """End the connection of an answer that cannot be completed, so that its reader sees that it is not."""
    cycle.disconnected = True
    cycle.transport.close()


class _Refusal:
    """An application that answers with one error. `linger_s`: what the client still sends is taken for so
    long, because a connection closed on a sender is reset and the answer may be lost."""

    def __init__(self, error: errors.TerminalError, linger_s: float) -> None:
        self._error = error
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope.get("request_id") or new_id()

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                marks = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
                message["headers"] = [*message["headers"], *origin_checks.headers("/v1"), *marks]
            elif self._linger_s:
                await send({**message, "more_body": True})
                await asyncio.sleep(self._linger_s)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await problems.answer(self._error, request_id, scope["path"])(scope, receive, say)
