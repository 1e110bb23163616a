"""HEAD and OPTIONS for every path, and `Allow` where a method is refused.

HEAD is GET without the body: the headers are those of GET, and what a stream would send is not waited for.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ORDER = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class Methods:
    """Which methods each path has, by the OpenAPI document."""

    def __init__(self, document: dict[str, Any], others: tuple[str, ...] = ()) -> None:
        self._paths = [
            (re.compile(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(path))), _methods(operations))
            for path, operations in document["paths"].items()
        ] + [(re.compile(re.escape(path)), _methods({"get": {}})) for path in others]

    def allowed(self, path: str) -> str:
        """The value of `Allow`; empty for a path that does not exist."""
        found = {method for pattern, methods in self._paths if pattern.fullmatch(path) for method in methods}
        return ", ".join(method for method in _ORDER if method in found)


def _methods(operations: dict[str, Any]) -> set[str]:
    methods = {method.upper() for method in operations}
    return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())


async def head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a HEAD by the route of GET, which is told that the client is gone once the headers are
    out, and by `head` in its scope that no Range is to be looked at."""
    begun = False

    async def hear() -> Message:
        return {"type": "http.disconnect"} if begun else await receive()

    async def say(message: Message) -> None:
        nonlocal begun
        if message["type"] == "http.response.start":
            begun = True
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    await app({**scope, "method": "GET", "head": True}, hear, say)
