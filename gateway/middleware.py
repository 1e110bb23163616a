"""The layer that every request passes before a route sees it: plain ASGI.

In this order: a request id (the caller's, if it is a sane one), the time taken and the status for the
metrics; the host and the origin (`origin_checks`); the token, for every path under /v1, before a byte of
the body is read and before any validation could answer; a place among the requests that run at once
(`admission`); room on the disk, for what would create data; the limit on the body, by its declared length
at once and by count while it arrives, and on its pauses. What escapes a route is logged with its request id
and answered as a problem. A body that was not read to its end is taken for a moment longer and forgotten,
then the connection is closed.

A WebSocket passes the same, before its handshake is answered. A request for a port in a sandbox passes the
host and origin checks and goes to `port_proxy`, which asks for rights of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import origin_checks, port_addresses, problems
from gateway.admission import Ticket
from gateway.auth import bearer
from gateway.metrics import Metrics
from gateway.port_addresses import Address
from gateway.port_proxy import IDLE_S, PortProxy
from gateway.state import AppState
from gateway.tickets import principal_of_ticket
from terminalpp.types import errors
from terminalpp.types.ids import new_id

log = logging.getLogger("gateway")

LINGER_S = 2.0
PAUSE_S = 30.0
POLICY, INTERNAL = 1008, 1011  # close codes of RFC 6455, section 7.4.1
REASON_MAX = 40  # characters: a close frame holds 123 bytes
STREAM = b"text/event-stream"
_NO_LIMIT = 2**62
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# While the disk is nearly full these are refused, save what ends, frees or only looks.
_CREATE = frozenset({"POST", "PUT", "PATCH"})
_ENDS = re.compile(r"/(?:stop|cancel|signal|kill|wait|stdin|release|replay)/?$")
_FILE = re.compile(r"/v1/sandboxes/[^/]+/files/?")
_ARCHIVE = re.compile(r"/v1/sandboxes/[^/]+/archive/?")


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, gateway: AppState) -> None:
        self._app = app
        self._gateway = gateway
        self._guard = gateway.guard
        self._ports = PortProxy(gateway)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        scope["request_id"] = _request_id(headers)
        port = self._port(scope)
        if port is None:
            body = _Body(receive, headers, *self._limit(scope["method"], scope["path"]), PAUSE_S)
            answer = _Answer(scope, send, body, self._gateway.metrics, scope["path"])
        else:
            body = _Body(receive, headers, _NO_LIMIT, "", IDLE_S)
            answer = _Answer(scope, send, body, self._gateway.metrics, port_addresses.ROUTE, pages=True)
        ticket: Ticket | None = None

        async def within() -> None:
            nonlocal ticket
            scope["principal"] = principal = await self._gateway.tokens.principal(bearer(headers))
            ticket = await self._gateway.admission.enter(
                principal.user_id, scope["method"], scope["path"], scope["query_string"]
            )
            if scope["method"] in _CREATE and not _ENDS.search(scope["path"]):
                self._gateway.disk.check()
            body.refuse_declared()
            await self._app(scope, body.receive, answer.send)

        try:
            self._guard.check(scope, ours=port is not None and not port.prefix)
            if port is not None:
                await self._ports.answer(port, scope, body.receive, answer.send)
            elif scope["path"] == "/v1" or scope["path"].startswith("/v1/"):
                await self._gateway.outage.guard(lambda: answer.begun, within)
            else:
                body.refuse_declared()
                await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            found = problems.error_of(error)
            if found.code == "internal":
                log.exception("request %s %s %s failed", scope["request_id"], scope["method"], scope["path"])
            self._gateway.metrics.refusals.labels(found.code).inc()
            if not answer.begun:
                await problems.answer(found, scope["request_id"], scope["path"])(scope, receive, answer.send)
        except asyncio.CancelledError:
            # The end of the process cuts what still runs: the caller is told to ask again, of the next one.
            if answer.begun or not self._gateway.draining.is_set():
                raise
            found = errors.Unavailable("the server is being restarted")
            await problems.answer(found, scope["request_id"], scope["path"])(scope, receive, answer.send)
        finally:
            answer.measure()
            if ticket is not None:
                ticket.end()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for a WebSocket, which holds its place as long as it is open. A refusal is the answer to
        the handshake: a problem where the server can send one (an extension of ASGI), else a bare 403."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        path, scope["request_id"] = scope["path"], _request_id(headers)
        ticket, accepted = None, False

        async def sent(message: Message) -> None:
            nonlocal accepted
            accepted = accepted or message["type"] == "websocket.accept"
            await send(message)

        try:
            self._guard.check(scope)
            if path == "/v1" or path.startswith("/v1/"):
                principal = await principal_of_ticket(self._gateway, scope["query_string"])
                scope["principal"] = principal = principal or await self._gateway.tokens.principal(
                    bearer(headers)
                )
                ticket = await self._gateway.admission.enter_long(principal.user_id)
            await self._app(scope, receive, sent)
        except Exception as error:
            found = problems.error_of(error)
            if found.code == "internal":
                log.exception("websocket %s %s failed", scope["request_id"], path)
            self._gateway.metrics.refusals.labels(found.code).inc()
            if accepted:
                code = INTERNAL if found.code == "internal" else POLICY
                await send({"type": "websocket.close", "code": code, "reason": found.detail[:REASON_MAX]})
            elif "websocket.http.response" in (scope.get("extensions") or {}):
                await problems.answer(found, scope["request_id"], path)(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": POLICY})
        finally:
            if ticket is not None:
                ticket.end()

    def _port(self, scope: Scope) -> Address | None:
        """The port that a request is for. A host that only looks like one of ours is none."""
        found = port_addresses.of(scope)
        if found is not None and not found.prefix and self._guard.domain(found.host) is None:
            return None
        return found

    def _limit(self, method: str, path: str) -> tuple[int, str]:
        settings = self._gateway.settings
        if method == "PUT" and _FILE.fullmatch(path):
            return settings.file_limit_bytes, "TPP_FILE_LIMIT_BYTES"
        if _ARCHIVE.fullmatch(path):
            return settings.archive_limit_bytes, "TPP_ARCHIVE_LIMIT_BYTES"
        return settings.body_limit_bytes, "TPP_BODY_LIMIT_BYTES"


class _Body:
    """The request's body on its way in. `unread`: bytes of it are still to come."""

    def __init__(
        self, receive: Receive, headers: list[tuple[bytes, bytes]], limit: int, limit_name: str,
        pause_s: float,
    ) -> None:  # fmt: skip
        self._receive = receive
        self._pause_s = pause_s
        self._limit = limit
        self._limit_name = limit_name
        self._seen = 0
        declared = [value for name, value in headers if name == b"content-length"]
        self._declared = int(declared[0]) if declared and declared[0].isdigit() else 0
        self.unread = self._declared > 0 or any(name == b"transfer-encoding" for name, _ in headers)

    def refuse_declared(self) -> None:
        """Raises TooLarge when the request says itself that it is."""
        if self._declared > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """Raises TooLarge once more than the limit has arrived, RequestTimeout when nothing does."""
        if self.unread:
            try:
                async with asyncio.timeout(self._pause_s):
                    message = await self._receive()
            except TimeoutError:
                words = f"nothing of the body arrived for {self._pause_s:.0f} s"
                raise errors.RequestTimeout(words) from None
        else:
            message = await self._receive()
        if message["type"] == "http.request":
            self.unread = bool(message.get("more_body"))
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise self._too_large()
        return message

    async def linger(self) -> None:
        """Take what still arrives, for a moment: a connection that is closed on a client that is still
        sending is reset, and the client may never see why."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                message: Message = {"more_body": True}
                while message.get("more_body"):
                    message = await self._receive()

    def _too_large(self) -> errors.TooLarge:
        detail = f"the body is larger than {self._limit} bytes, the limit {self._limit_name}"
        return errors.TooLarge(detail, "", {"limit_bytes": self._limit})


class _Answer:
    """The answer on its way out: marked with the request id, measured as one of `route`, and closed when the
    body was not read to its end (it may be endless). `pages`: it is a program's, and says itself what a
    browser may do with it."""

    def __init__(
        self, scope: Scope, send: Send, body: _Body, metrics: Metrics, route: str, *, pages: bool = False
    ) -> None:
        self._scope = scope
        self._route = route
        self._marks = [] if pages else origin_checks.headers(scope["path"])
        self._send = send
        self._body = body
        self._metrics = metrics
        self._started = time.perf_counter()
        self._closing = False
        self._status = 0
        self._measured = False
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self._closing = True, self._body.unread
            said = message.get("headers", [])
            names = {name for name, _ in said}
            message["headers"] = [
                *said,
                (b"x-request-id", self._scope["request_id"].encode()),
                *(pair for pair in self._marks if pair[0] not in names),
                *([(b"connection", b"close")] if self._closing else []),
            ]
            self._status = message["status"]
            if any(name == b"content-type" and value.startswith(STREAM) for name, value in said):
                self.measure()
        elif self._closing and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._body.linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    def measure(self) -> None:
        """Once: at the end of the answer, also when the client left before; of a stream at its beginning."""
        if self.begun and not self._measured:
            self._measured = True
            took = time.perf_counter() - self._started
            self._metrics.observe(self._scope["method"], self._route, self._status, took)


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return value.decode()
    return new_id()
