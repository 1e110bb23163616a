"""One request to the gateway: the token, the key that makes it repeatable, patience, and errors.

A request that may be repeated without harm (GET, PUT, DELETE with a body in hand, POST with its
Idempotency-Key, which every POST gets) is repeated while the gateway restarts or says "not now":
with backoff, for `patience_s` in all. Before the first answer ever the patience for a refused
connection is short, so that a server that is simply not up is reported at once.
What the gateway refuses is raised as the `TerminalError` of its code; a transport failure that
outlives the patience is `Unavailable`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from terminalpp.types import errors
from terminalpp.types.ids import new_id

FIRST_CONTACT_S = 3.0
REPEATABLE_CODES = frozenset({"unavailable", "overloaded", "idempotency-in-flight"})


def segment(value: str) -> str:
    """One path segment or query value, quoted; bytes that are not UTF-8 (as surrogates) are kept."""
    return quote(value.encode("utf-8", "surrogateescape"), safe="")


def error_of(status: int, body: bytes) -> errors.TerminalError:
    """The error in a problem+json body; any other body keeps its first words."""
    try:
        problem = httpx.Response(status, content=body).json()
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "code" in problem:
        extra = dict(problem.get("extra") or {})
        for name in ("errors", "request_id"):
            if problem.get(name):
                extra[name] = problem[name]
        return errors.from_json({**problem, "extra": extra})
    words = body[:300].decode("utf-8", "replace").strip()
    return errors.TerminalError(f"the server answered {status}: {words}")


class Transport:
    """Sends requests with httpx; knows nothing of routes."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        patience_s: float = 60.0,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._owns = http is None
        # trust_env off: a proxy set for the internet must not see the token of a loopback server.
        self.http = http or httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=64))
        self._headers = {"authorization": f"Bearer {token}"}
        self._met = False

    async def close(self) -> None:
        if self._owns:
            await self.http.aclose()

    def patience(self, refused: bool) -> float:
        """How long (seconds) a failing request is repeated."""
        return self.patience_s if self._met or not refused else min(FIRST_CONTACT_S, self.patience_s)

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The decoded JSON answer. Raises TerminalError."""
        response = await self.request(method, path, **options)
        return response.json() if response.content else None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        json: Any = None,
        content: Any = None,
        headers: dict[str, str] | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
        also: frozenset[int] = frozenset(),
    ) -> httpx.Response:
        """One answer below 400, or of a status in `also`. An async iterator as `content` is sent once."""
        sent = {**self._headers, **(headers or {})}
        if method == "POST":
            sent["idempotency-key"] = key or new_id()
        repeatable = content is None or isinstance(content, bytes)
        options: dict[str, Any] = {
            # None, not {}: httpx would drop a query that stands in the path.
            "params": {name: value for name, value in (query or {}).items() if value is not None} or None,
            "json": json,
            "content": content,
            "headers": sent,
            "timeout": httpx.Timeout(timeout_s or self.timeout_s, connect=5.0),
        }
        started, attempt = time.monotonic(), 0
        while True:
            failure, refused = await self._once(method, path, options, also)
            if isinstance(failure, httpx.Response):
                return failure
            attempt += 1
            wait = min(1.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.0)
            late = time.monotonic() - started + wait > self.patience(refused)
            if late or not repeatable or failure.code not in REPEATABLE_CODES:
                raise failure
            await asyncio.sleep(wait)

    async def _once(
        self, method: str, path: str, options: dict[str, Any], also: frozenset[int]
    ) -> tuple[httpx.Response | errors.TerminalError, bool]:
        """The answer or the error, and whether no connection was had at all."""
        try:
            response = await self.http.request(method, self.base_url + path, **options)
        except httpx.TransportError as error:
            return self.unreachable(error), isinstance(error, httpx.ConnectError)
        self._met = True
        if response.status_code < 400 or response.status_code in also:
            return response, False
        return error_of(response.status_code, response.content), False

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: dict[str, Any], headers: dict[str, str], silence_s: float
    ) -> AsyncIterator[httpx.Response]:
        """A streamed GET, not repeated. `silence_s`: longest wait for the next byte. Raises TerminalError."""
        timeout = httpx.Timeout(silence_s, connect=5.0)
        try:
            async with self.http.stream(
                "GET",
                self.base_url + path,
                params={name: value for name, value in query.items() if value is not None},
                headers={**self._headers, **headers},
                timeout=timeout,
            ) as response:
                self._met = True
                if response.status_code >= 400:
                    raise error_of(response.status_code, await response.aread())
                yield response
        except httpx.TransportError as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> errors.Unavailable:
        words = str(error) or type(error).__name__
        return errors.Unavailable(f"the server at {self.base_url} does not answer: {words}")
