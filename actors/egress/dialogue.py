"""One connection of a program inside a sandbox to the proxy: its request, the judgement, the bytes.

It asks with CONNECT for a tunnel, or for plain HTTP with an absolute URL (`forwarding`); one request each
connection. h11 reads the request; what it finds ambiguous is answered with 400. A refusal is an answer 403
with the reason and the way out in words, after it was recorded.

TLS is not broken open. A tunnel whose first bytes greet another server than the one it was asked for is cut,
and so is one to port 443 that does not speak TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11

from actors.egress import client_hello, forwarding
from actors.egress.credentials import Credentials
from actors.egress.dialing import Dialer, Unreachable
from actors.egress.policy import Policy, host_and_port, host_of, is_address
from actors.egress.refusal import Reason, Refused
from terminalpp.types.errors import TerminalError

HEAD_MAX_BYTES = 32 * 1024
HEAD_CHUNK_BYTES = 4096  # h11 counts what is incomplete: the limit holds to within one
HEAD_SECONDS = 30.0  # for a whole request head, however slowly it comes
GREETING_SECONDS = 60.0  # for the first bytes of a tunnel to port 443
LINGER_SECONDS = 2.0  # in which a program may finish sending what is not read any more
CHUNK_BYTES = 64 * 1024
TLS_PORT = 443


@dataclass(frozen=True, slots=True)
class Means:
    """What a dialogue works with. `policy` gives the sandbox's policy as it stands now, None: no network any
    more; it raises a TerminalError where that cannot be known. `refused` records a refusal."""

    sandbox_id: str
    policy: Callable[[], Awaitable[Policy | None]]
    refused: Callable[[Refused], Awaitable[None]]
    dialer: Dialer
    credentials: Credentials
    head_seconds: float = HEAD_SECONDS


class Dialogue:
    """See the head of this file. `target`: where it leads, once that was allowed."""

    def __init__(
        self, means: Means, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._means, self._reader, self._writer = means, reader, writer
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
        self.target: tuple[str, int] | None = None

    async def run(self) -> None:
        """Until both sides have ended. Raises ConnectionError when one of them went away."""
        try:
            async with asyncio.timeout(self._means.head_seconds):
                request = await forwarding.next_event(self._client, self._reader, HEAD_CHUNK_BYTES)
        except TimeoutError:
            return await self._answer(408, "Request Timeout", "the request did not come in time")
        except h11.RemoteProtocolError as error:
            return await self._answer(error.error_status_hint or 400, "Bad Request", f"bad request: {error}")
        if not isinstance(request, h11.Request):
            return None  # it went away again
        try:
            await self._serve(request)
        except Refused as refusal:
            await self._refuse(refusal)
        except Unreachable as error:
            await self._answer(502, "Bad Gateway", str(error))
        except (ValueError, h11.ProtocolError) as error:
            await self._answer(400, "Bad Request", f"bad request: {error}")
        except TerminalError as error:
            await self._answer(503, "Service Unavailable", f"the policy cannot be read just now: {error}")

    async def _serve(self, request: h11.Request) -> None:
        fields = [name for name, _ in request.headers]
        if b"content-length" in fields and b"transfer-encoding" in fields:
            raise ValueError("Content-Length and Transfer-Encoding in one request")
        if request.method == b"CONNECT":
            if b"content-length" in fields or b"transfer-encoding" in fields:
                raise ValueError("CONNECT has no body")
            host, port = host_and_port(request.target.decode("ascii"))
            if port is None:
                raise ValueError("CONNECT names a host and a port")
            await self._tunnel(host, port)
        else:
            asked = forwarding.asked_of(request)
            upstream = await self._dial(host_of(asked.host), asked.port)
            try:
                added = await self._means.credentials.headers(self._means.sandbox_id, *self._known_target())
                await forwarding.forward(self._client, self._reader, self._writer, upstream, asked, added)
            finally:
                upstream[1].close()

    async def _dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        policy = await self._means.policy()
        upstream = await self._means.dialer.dial(policy or Policy(), host, port)
        self.target = (host, port)
        return upstream

    def _known_target(self) -> tuple[str, int]:
        assert self.target is not None
        return self.target

    async def _tunnel(self, host: str, port: int) -> None:
        reader, writer = await self._dial(host, port)
        try:
            while self._client.next_event() is not h11.PAUSED:
                continue
            granted = h11.Response(status_code=200, headers=[], reason=b"Connection established")
            self._writer.write(self._client.send(granted) or b"")
            await self._writer.drain()
            early = self._client.trailing_data[0]
            ways = (self._outwards(early, writer, host, port), pump(reader, self._writer))
            await both(*ways)
        except Refused as refusal:
            await self._means.refused(refusal)
            if refusal.reason is Reason.OTHER_NAME:
                self._writer.write(client_hello.UNRECOGNIZED_NAME)
        finally:
            writer.close()

    async def _outwards(self, early: bytes, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        """What the program sends; the first of it is judged before any of it goes out."""
        try:
            async with asyncio.timeout(GREETING_SECONDS if port == TLS_PORT else None):
                first = await self._judged_greeting(early, host, port)
        except TimeoutError:
            raise Refused(host, port, Reason.NOT_TLS) from None
        await pump(self._reader, writer, first)

    async def _judged_greeting(self, data: bytes, host: str, port: int) -> bytes:
        """The first bytes, once they are known to greet `host`. Raises Refused."""
        while True:
            data = data or await self._reader.read(CHUNK_BYTES)
            if not data or (data[0] != client_hello.HANDSHAKE and port != TLS_PORT):
                return data
            try:
                name = client_hello.greeted(data)
            except ssl.SSLWantReadError:
                if more := await self._reader.read(CHUNK_BYTES):
                    data += more
                    continue
                raise Refused(host, port, Reason.NOT_TLS) from None
            except client_hello.NotTls:
                raise Refused(host, port, Reason.NOT_TLS) from None
            if not is_address(host) and (name is None or not _same(name, host)):
                raise Refused(host, port, Reason.OTHER_NAME)
            return data

    async def _refuse(self, refusal: Refused) -> None:
        await self._means.refused(refusal)
        way_out = refusal.way_out(self._means.sandbox_id)
        words = f"{refusal}\n" + (f"A person can allow it: {way_out}\n" if way_out else "")
        await self._answer(403, "Refused by the network policy of the sandbox", words, refusal.reason)

    async def _answer(self, status: int, reason: str, words: str, refused: str | None = None) -> None:
        """An answer of our own, and the end: nothing else is read from this connection."""
        body = words.encode() if words.endswith("\n") else f"{words}\n".encode()
        head = [f"HTTP/1.1 {status} {reason}", "Content-Type: text/plain; charset=utf-8",
                f"Content-Length: {len(body)}", "Connection: close",
                *([f"X-Tpp-Refused: {refused}"] if refused else [])]
        if self._client.our_state in (h11.IDLE, h11.SEND_RESPONSE, h11.ERROR):
            self._writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._writer.drain()
                    self._writer.write_eof()
                    # Closed with bytes unread, a socket loses what was written to it.
                    while await self._reader.read(CHUNK_BYTES):
                        continue


def _same(name: str, host: str) -> bool:
    try:
        return host_of(name) == host
    except (ValueError, UnicodeError):
        return False


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b"") -> None:
    """Carry bytes until the end of `reader`, then end `writer`: at most two buffers are held."""
    data = first or await reader.read(CHUNK_BYTES)
    while data:
        writer.write(data)
        await writer.drain()
        data = await reader.read(CHUNK_BYTES)
    if writer.can_write_eof():
        writer.write_eof()


async def both(*ways: Awaitable[None]) -> None:
    """Until both directions have ended, or one has failed, which ends the other; raises what it failed
    with."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
