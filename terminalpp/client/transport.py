"""One request to the gateway: the token, the key that makes it repeatable, patience, and errors.

A request that may be repeated without harm (GET, PUT, DELETE with a body in hand, POST with its
Idempotency-Key, which every POST gets) is repeated while the gateway restarts or says "not now":
with backoff, for `patience_s` in all. Before the first answer ever the patience for a refused
connection is short, so that a server that is simply not up is reported at once.
What the gateway refuses is raised as the `TerminalError` of its code; a transport failure that
outlives the patience is `Unavailable`.

aiohttp, because it sends a small request in one packet and takes a third of httpx's time for it: with httpx
the client was the largest part of a short command over REST (`bench/rest.py`).
"""

from __future__ import annotations

import asyncio
import json as jsons
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from terminalpp.client.connector import (
    CONNECT_S,
    LocalConnector,
    dial_loopback,
    dial_unix,
    is_loopback,
)
from terminalpp.types import errors
from terminalpp.types.ids import new_id

FIRST_CONTACT_S = 3.0
CONNECTIONS_MAX = 64
REPEATABLE_CODES = frozenset({"unavailable", "overloaded", "idempotency-in-flight"})


def segment(value: str) -> str:
    """One path segment or query value, quoted; bytes that are not UTF-8 (as surrogates) are kept."""
    return quote(value.encode("utf-8", "surrogateescape"), safe="")


def error_of(status: int, body: bytes) -> errors.TerminalError:
    """The error in a problem+json body; any other body keeps its first words."""
    try:
        problem = jsons.loads(body)
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


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read whole. `headers` are found in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport:
    """Sends requests; knows nothing of routes. Of one event loop: that of its first request."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        patience_s: float = 60.0,
        socket: Path | None = None,
        prove: bool = True,
    ) -> None:
        self.base_url = base_url.rstrip("/") if socket is None else "http://localhost"
        self._socket, self._token, self._prove = socket, token, prove
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._session: aiohttp.ClientSession | None = None
        self._headers = {"authorization": f"Bearer {token}"}
        self._met = False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None,
        headers: dict[str, str],
        silence_s: float,
        content: Any = None,
    ) -> Any:
        """The request, not yet awaited. `silence_s`: longest wait for the next byte of the answer."""
        if self._session is None:
            # trust_env stays off: a proxy set for the internet must not see the token of a loopback server.
            self._session = aiohttp.ClientSession(
                connector=self._connector(), cookie_jar=aiohttp.DummyCookieJar()
            )
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = self.base_url + path
        if given:
            url += ("&" if "?" in path else "?") + urlencode(given)
        return self._session.request(
            method,
            URL(url, encoded=True),
            data=content,
            headers={**self._headers, **headers},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s),
        )

    def _connector(self) -> aiohttp.BaseConnector:
        if self._socket is not None:
            return LocalConnector(partial(dial_unix, self._socket), CONNECTIONS_MAX)
        url = URL(self.base_url)
        if self._prove and is_loopback(url):
            return LocalConnector(partial(dial_loopback, url, self._token), CONNECTIONS_MAX)
        return aiohttp.TCPConnector(limit=CONNECTIONS_MAX)

    def patience(self, refused: bool) -> float:
        """How long (seconds) a failing request is repeated."""
        return self.patience_s if self._met or not refused else min(FIRST_CONTACT_S, self.patience_s)

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The decoded JSON answer. Raises TerminalError."""
        content = (await self.request(method, path, **options)).content
        return jsons.loads(content) if content else None

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
        repeat: bool = True,
    ) -> Answer:
        """One answer below 400, or of a status in `also`. An async iterator as `content` is sent once, and
        so is everything without `repeat`."""
        headers = dict(headers or {})
        if method == "POST":
            headers["idempotency-key"] = key or new_id()
        if json is not None:
            content = jsons.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            headers["content-type"] = "application/json"
        repeatable = repeat and (content is None or isinstance(content, bytes))
        silence_s = timeout_s or self.timeout_s
        started, attempt = time.monotonic(), 0
        while True:
            sending = self._send(method, path, query, headers, silence_s, content)
            failure, refused = await self._once(sending, also)
            if isinstance(failure, Answer):
                return failure
            attempt += 1
            # A restarting server is met soon; one that is busy is left alone for longer.
            wait = min(0.2 if refused else 1.0, 0.05 * 2 ** min(attempt, 6)) * random.uniform(0.5, 1.0)
            late = time.monotonic() - started + wait > self.patience(refused)
            if late or not repeatable or failure.code not in REPEATABLE_CODES:
                raise failure
            await asyncio.sleep(wait)

    async def _once(
        self, sending: Any, also: frozenset[int]
    ) -> tuple[Answer | errors.TerminalError, bool]:
        """The answer or the error, and whether no connection was had at all."""
        try:
            async with sending as response:
                answer = Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            return self.unreachable(error), isinstance(error, aiohttp.ClientConnectorError)
        self._met = True
        if answer.status < 400 or answer.status in also:
            return answer, False
        return error_of(answer.status, answer.content), False

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: dict[str, Any], headers: dict[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of a streamed GET's answer, not repeated. `silence_s`: longest wait for the next byte.
        Raises TerminalError."""
        try:
            async with self._send("GET", path, query, headers, silence_s) as response:
                self._met = True
                if response.status >= 400:
                    raise error_of(response.status, await response.read())
                yield response.content.iter_any()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> errors.Unavailable:
        words = str(error) or type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorError):
            words = str(error.os_error) or words
        where = self._socket or self.base_url
        return errors.Unavailable(f"the server at {where} does not answer: {words}")
