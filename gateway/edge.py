"""What every request passes before a route sees it: three plain ASGI layers in one.

In this order: a request id (the caller's, if it is a sane one), the time taken and the status for the
metrics; the token, for every path under /v1, before a byte of the body is read and before any
validation could answer; the limit on the body, by its declared length at once and by count while it
arrives. What escapes a route is logged with its request id and answered as a problem, and a body
that a route left unread is not waited for.
"""

from __future__ import annotations

import logging
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.auth import bearer
from gateway.state import Gateway
from terminalpp.types import errors
from terminalpp.types.ids import new_id

log = logging.getLogger("gateway")

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ARCHIVE = re.compile(r"/v1/sandboxes/[^/]+/archive/?")


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = scope["request_id"] = _request_id(headers)
        started, status = time.perf_counter(), 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
                took = time.perf_counter() - started
                self._gateway.metrics.observe(scope["method"], scope["path"], status, took)
            await send(message)

        try:
            if scope["path"] == "/v1" or scope["path"].startswith("/v1/"):
                scope["user_id"] = await self._gateway.tokens.user_of(bearer(headers))
            limit, name = self._limit(scope["path"])
            _refuse_declared(headers, limit, name)
            await self._app(scope, _counted(receive, limit, name), send_marked)
        except Exception as error:
            found = problems.error_of(error)
            if found.code == "internal":
                log.exception("request %s %s %s failed", request_id, scope["method"], scope["path"])
            if not status:
                await problems.answer(found, request_id, scope["path"])(scope, receive, send_marked)

    def _limit(self, path: str) -> tuple[int, str]:
        settings = self._gateway.settings
        if _ARCHIVE.fullmatch(path):
            return settings.archive_limit_bytes, "TPP_ARCHIVE_LIMIT_BYTES"
        return settings.body_limit_bytes, "TPP_BODY_LIMIT_BYTES"


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return value.decode()
    return new_id()


def _too_large(limit: int, name: str) -> errors.TooLarge:
    detail = f"the body is larger than {limit} bytes, the limit {name}"
    return errors.TooLarge(detail, "", {"limit_bytes": limit})


def _refuse_declared(headers: list[tuple[bytes, bytes]], limit: int, name: str) -> None:
    for header, value in headers:
        if header == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit, name)


def _counted(receive: Receive, limit: int, name: str) -> Receive:
    """`receive` that raises TooLarge once more than `limit` bytes of body have arrived."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit, name)
        return message

    return counted
