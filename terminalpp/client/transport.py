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
import contextlib
import json as jsons
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
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
REFUSAL_MAX = 65_536  # bytes that are read of a stream that is none
TOKEN = re.compile(r"[\x21-\x7e]+")
REPEATABLE_CODES = frozenset({"unavailable", "overloaded", "idempotency-in-flight"})


def segment(value: str) -> str:
    """One path segment or query value, quoted; bytes that are not UTF-8 (as surrogates) are kept."""
    return quote(value.encode("utf-8", "surrogateescape"), safe="")


# What a proxy says in its own words, while the server behind it is away or it holds the request back itself.
BY_STATUS: dict[int, type[errors.TerminalError]] = {
    401: errors.Unauthorized,
    408: errors.RequestTimeout,
    413: errors.TooLarge,
    429: errors.Overloaded,
    431: errors.HeadersTooLarge,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}
MARKUP = re.compile(rb"(?s)<(script|style).*?</\1>|<[^>]*>|[\x00-\x20\x7f]+")


def words_of(body: bytes) -> str:
    """The first words of an answer that is not ours, on one line."""
    return " ".join(MARKUP.sub(b" ", body[:2000]).decode("utf-8", "replace").split())[:200]


def field(answer: Mapping[str, Any], name: str) -> Any:
    """Raises UnexpectedAnswer when it is not there."""
    with understanding("the answer"):
        return answer[name]


def error_of(status: int, body: bytes) -> errors.TerminalError:
    """The error in a problem+json body; any other body is a proxy's or a stranger's: by its status."""
    try:
        problem = jsons.loads(body)
    except (ValueError, RecursionError):
        problem = None
    if isinstance(problem, dict) and "code" in problem:
        extra = problem.get("extra")
        extra = dict(extra) if isinstance(extra, dict) else {}
        for name in ("errors", "request_id"):
            if problem.get(name):
                extra[name] = problem[name]
        return errors.from_json({**problem, "extra": extra})
    kind = BY_STATUS.get(status, errors.UnexpectedAnswer)
    return kind(f"the answer was {status}, not in the server's form: {words_of(body) or 'without words'}")


@contextmanager
def understanding(what: str) -> Iterator[None]:
    """An answer that does not have the form it should have is UnexpectedAnswer, not a KeyError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        words = f"{what} is not in the server's form ({type(error).__name__}: {str(error)[:100]})"
        raise errors.UnexpectedAnswer(words) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read whole. `headers` are found in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def refusal(answer: Answer) -> errors.TerminalError | None:
    """Why an answer is none: refused, a redirection (none of ours is), or from somebody else (every answer of
    ours is numbered)."""
    if answer.status < 300 and "x-request-id" in answer.headers:
        return None
    return error_of(answer.status, answer.content)


def written(body: Any) -> bytes:
    """`body` as JSON. Raises InvalidInput for what is none: NaN, halves of surrogate pairs, objects."""
    try:
        return jsons.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidInput(f"the request cannot be written as JSON: {error}") from error


def is_address(url: str) -> bool:
    """Whether it is an http or https address with a host."""
    try:
        parsed = URL(url)
        return parsed.scheme in ("http", "https") and bool(parsed.host) and parsed.port is not None
    except ValueError:
        return False


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
        """Raises InvalidInput for an address or a token that cannot be one."""
        self.base_url = base_url.rstrip("/") if socket is None else "http://localhost"
        self._socket, self._token, self._prove = socket, token, prove
        if not is_address(self.base_url):
            raise errors.InvalidInput(f"{base_url!r} is no address of a server", "http://… or https://…")
        if not TOKEN.fullmatch(token):
            raise errors.InvalidInput("the token is empty or holds what no token holds")
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._session: aiohttp.ClientSession | None = None
        self._headers = {"authorization": f"Bearer {token}"}
        self._met = self._closed = False

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
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
        session = self._open_session()
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = self.base_url + path
        if given:
            url += ("&" if "?" in path else "?") + urlencode(given)
        return session.request(
            method,
            URL(url, encoded=True),
            data=content,
            headers={**self._headers, **headers},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s),
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise errors.InvalidInput("this client was closed", "Make a new one.")
        if self._session is None:
            # trust_env stays off: a proxy set for the internet must not see the token of a loopback server.
            self._session = aiohttp.ClientSession(
                connector=self._connector(), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

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
        """The decoded JSON answer, None of an answer without content. Raises TerminalError."""
        answer = await self.request(method, path, **options)
        if answer.status == 204:
            return None
        with understanding(f"the answer to {method} {path}"):
            return dict(**jsons.loads(answer.content))  # an object, whatever is in it

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
        """One answer below 300, or of a status in `also`. An async iterator as `content` is sent once, and
        so is everything without `repeat`."""
        headers = dict(headers or {})
        if method == "POST":
            headers["idempotency-key"] = key or new_id()
        if json is not None:
            content = written(json)
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
        except ValueError as error:  # what stands in the headers or the address cannot be sent
            return errors.InvalidInput(f"the request cannot be sent: {error}"), False
        self._met = True
        if answer.status in also:
            return answer, False
        return refusal(answer) or answer, False

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: dict[str, Any], headers: dict[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of a streamed GET's answer, not repeated. `silence_s`: longest wait for the next byte.
        Raises TerminalError."""
        try:
            async with self._send("GET", path, query, headers, silence_s) as response:
                self._met = True
                head = Answer(response.status, response.headers, b"")
                if refusal(head) is not None:
                    head = Answer(head.status, head.headers, await response.content.read(REFUSAL_MAX))
                if (failure := refusal(head)) is not None:
                    raise failure
                yield response.content.iter_any()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.unreachable(error) from error

    async def through(
        self, method: str, path: str, *, headers: dict[str, str], content: Any, silence_s: float
    ) -> Answer:
        """One request to a program behind the gateway, not repeated: its answer, whatever it is. Raises what
        the gateway itself says."""
        try:
            async with self._send(method, path, None, headers, silence_s, content) as response:
                answer = Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.unreachable(error) from error
        except ValueError as error:
            raise errors.InvalidInput(f"the request cannot be sent: {error}") from None
        self._met = True
        if "tpp-port" not in answer.headers:
            raise error_of(answer.status, answer.content)
        return answer

    @property
    def authorization(self) -> str:
        """What every request says of itself."""
        return self._headers["authorization"]

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection to the gateway, proved where that is asked for. Raises OSError."""
        url = URL(self.base_url)
        if self._socket is not None:
            return await asyncio.open_connection(sock=await dial_unix(self._socket))
        if self._prove and is_loopback(url):
            return await asyncio.open_connection(sock=await dial_loopback(url, self._token))
        context = ssl.create_default_context() if url.scheme == "https" else None
        return await asyncio.open_connection(url.host, url.port, ssl=context)

    async def websocket(
        self, path: str, *, query: dict[str, Any], protocol: str, max_bytes: int
    ) -> aiohttp.ClientWebSocketResponse:
        """An open WebSocket, not opened again when it breaks. Raises TerminalError."""
        session = self._open_session()
        given = {name: value for name, value in query.items() if value is not None}
        url = URL(f"{self.base_url}{path}?{urlencode(given)}", encoded=True)
        try:
            opened = await session.ws_connect(
                url, headers=self._headers, protocols=(protocol,), max_msg_size=max_bytes, heartbeat=20.0,
                timeout=aiohttp.ClientWSTimeout(ws_close=2.0), autoping=True,
            )  # fmt: skip
        except aiohttp.WSServerHandshakeError as error:
            raise await self._refused(path, query, error.status) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.unreachable(error) from error
        self._met = True
        return opened

    async def _refused(self, path: str, query: dict[str, Any], status: int) -> errors.TerminalError:
        """Why a handshake was refused: aiohttp throws the answer's words away, so it is asked for them again,
        as an ordinary request."""
        headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
                   "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, errors.TerminalError):
            async with self._send("GET", path, query, headers, self.timeout_s) as response:
                if response.status != 101:
                    return error_of(response.status, await response.content.read(REFUSAL_MAX))
        return error_of(status, b"")

    def unreachable(self, error: Exception) -> errors.Unavailable:
        """The error that says that nobody answered, and what to do about it."""
        words = str(error) or type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorError):
            words = str(error.os_error) or words
        where = self._socket or self.base_url
        return errors.Unavailable(f"the server at {where} does not answer: {words}")
