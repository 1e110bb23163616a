"""Plain HTTP through the proxy: a request with an absolute URL, read and written anew by h11.

Nothing of the program's own framing reaches the server: lengths, chunks and the connection's fields are
made anew, the Host is the URL's. One request a connection, both of which are closed behind it; an upgrade
is not passed on (a WebSocket takes a tunnel). Bodies are carried as they come, in both directions at once.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import h11

from actors.egress.policy import host_and_port

CHUNK_BYTES = 64 * 1024
_URL = re.compile(rb"(?i:http)://([^/?#@\\]+)([/?][^#]*)?")
# RFC 9110, 7.6.1; and what is meant for a proxy.
_OF_THE_CONNECTION = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade",
     b"http2-settings", b"proxy-authorization", b"proxy-authenticate", b"expect", b"host")
)  # fmt: skip

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for another server. `chunked`: its body has no length told before."""

    request: h11.Request
    host: str
    port: int
    authority: bytes
    path: bytes


def asked_of(request: h11.Request) -> Asked:
    """What a request asks for. Raises ValueError when it has no absolute http URL, or one with a password."""
    found = _URL.fullmatch(request.target)
    if found is None:
        raise ValueError("this is a proxy: ask with CONNECT, or with http://host/… without user and fragment")
    host, port = host_and_port(found[1].decode("ascii"))
    path = found[2] or b"/"
    return Asked(request, host, port or 80, found[1], path if path.startswith(b"/") else b"/" + path)


async def next_event(
    connection: h11.Connection, reader: asyncio.StreamReader, chunk_bytes: int = CHUNK_BYTES
) -> object:
    """The next event, reading as needed. Raises h11.RemoteProtocolError."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(chunk_bytes))
    return event


async def forward(
    client: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Stream,
    asked: Asked, added: list[tuple[str, str]],
) -> None:  # fmt: skip
    """Carry one request and its response. Raises h11.ProtocolError before the response has begun."""
    server = h11.Connection(h11.CLIENT, max_incomplete_event_size=256 * 1024)
    upstream[1].write(server.send(_request(asked, added)) or b"")
    if client.they_are_waiting_for_100_continue:
        go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
        writer.write(client.send(go_on) or b"")
    sending = asyncio.create_task(_carry_body(client, reader, server, upstream[1]))
    try:
        await _carry_response(server, upstream[0], client, writer, asked)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def _request(asked: Asked, added: list[tuple[str, str]]) -> h11.Request:
    given = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in added]
    replaced = {name for name, _ in given}
    fields = [(name, value) for name, value in _end_to_end(asked.request.headers) if name not in replaced]
    if any(name == b"transfer-encoding" for name, _ in asked.request.headers):
        fields.append((b"transfer-encoding", b"chunked"))
    host = (b"host", asked.authority)
    return h11.Request(
        method=asked.request.method, target=asked.path,
        headers=[host, *fields, *given, (b"connection", b"close")],
    )  # fmt: skip


def _end_to_end(headers: h11.Headers | Fields) -> Fields:
    """The fields that are meant for the other end."""
    fields = [value for name, value in headers if name == b"connection"]
    named = {word.strip().lower() for value in fields for word in value.split(b",")}
    return [(name, value) for name, value in headers
            if name not in _OF_THE_CONNECTION and (name not in named or name == b"content-length")]


async def _carry_body(
    client: h11.Connection, reader: asyncio.StreamReader, server: h11.Connection, writer: asyncio.StreamWriter
) -> None:
    while isinstance(event := await next_event(client, reader), h11.Data):
        writer.write(server.send(h11.Data(data=bytes(event.data))) or b"")
        await writer.drain()
    if isinstance(event, h11.EndOfMessage):
        writer.write(server.send(h11.EndOfMessage()) or b"")
        await writer.drain()
    else:
        writer.transport.abort()  # half a request is none


async def _carry_response(
    server: h11.Connection, reader: asyncio.StreamReader, client: h11.Connection,
    writer: asyncio.StreamWriter, asked: Asked,
) -> None:  # fmt: skip
    event = await next_event(server, reader)
    while isinstance(event, h11.InformationalResponse):
        event = await next_event(server, reader)
    if not isinstance(event, h11.Response):
        raise ValueError(f"{asked.host}:{asked.port} closed the connection without a response")
    fields = [*_end_to_end(event.headers), (b"connection", b"close")]
    head = h11.Response(status_code=event.status_code, headers=fields, reason=event.reason)
    writer.write(client.send(head) or b"")
    try:
        while isinstance(event := await next_event(server, reader), h11.Data):
            writer.write(client.send(h11.Data(data=bytes(event.data))) or b"")
            await writer.drain()
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError
        writer.write(client.send(h11.EndOfMessage()) or b"")
        await writer.drain()
    except (h11.ProtocolError, ConnectionError):
        writer.transport.abort()  # cut on purpose: half a body must not look whole
