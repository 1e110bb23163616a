"""Whatever answers, and however the line breaks, the client raises a TerminalError and nothing else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from terminalpp.client import AsyncConversation, AsyncSandbox, Client, Sandbox
from terminalpp.client.connection import connection
from terminalpp.types import errors
from tests.gateway.conftest import Served

ID = "11111111-2222-4333-8444-555555555555"
LOGIN = b"<html><head><title>Sign in</title><style>p {color: red}</style></head><body>Who?</body></html>"


def answer(status: int, body: bytes, type: str = "text/html", *more: str) -> bytes:
    fields = [f"content-type: {type}", f"content-length: {len(body)}", "connection: close", *more]
    head = "\r\n".join([f"HTTP/1.1 {status} X", *fields])
    return f"{head}\r\n\r\n".encode() + body


def ours(body: Any, *more: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answer(200, data, "application/json", "x-request-id: 1", *more)


ODD: dict[str, tuple[bytes, str]] = {
    "a login page": (answer(200, LOGIN), "unexpected-answer"),
    "a login page with JSON's type": (answer(200, LOGIN, "application/json"), "unexpected-answer"),
    "a redirection": (answer(302, b"", "text/html", "location: https://sso.example/"), "unexpected-answer"),
    "somebody's JSON": (answer(200, b"{}", "application/json"), "unexpected-answer"),
    "half a JSON": (ours(b'{"id": '), "unexpected-answer"),
    "no JSON": (ours(b""), "unexpected-answer"),
    "deep JSON": (ours(b"[" * 100_000), "unexpected-answer"),
    "a list": (ours([]), "unexpected-answer"),
    "null": (ours(b"null"), "unexpected-answer"),
    "another object": (ours({"hello": 1}), "unexpected-answer"),
    "a proxy's 502": (answer(502, b"<h1>502 Bad Gateway</h1>"), "unavailable"),
    "a proxy's 503": (answer(503, b""), "unavailable"),
    "a proxy's 504": (answer(504, b"upstream timed out", "text/plain"), "unavailable"),
    "a proxy's 429": (answer(429, b"slow down"), "overloaded"),
    "a proxy's 401": (answer(401, LOGIN), "unauthorized"),
    "a proxy's 404": (answer(404, b"nothing here"), "unexpected-answer"),
    "a proxy's 418": (answer(418, b"\xff\xfe\0"), "unexpected-answer"),
    "an error of odd form": (answer(500, b'{"code": [], "detail": {}, "extra": [1]}'), "internal"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "unavailable"),
    "nothing": (b"", "unavailable"),
    "half of it": (ours({"id": ID})[:-5], "unavailable"),
    "a wrong length": (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "unavailable"),
}


@contextlib.asynccontextmanager
async def stranger(said: bytes) -> AsyncIterator[str]:
    """A server that answers every request with these bytes, then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def every(stream: Any) -> list[Any]:
    return [item async for item in stream]


CALLS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "a record": lambda client: AsyncSandbox.connect(ID, client=client),
    "a list": lambda client: client.sandboxes(),
    "files": lambda client: client.list_files(ID, "/"),
    "a command": lambda client: AsyncSandbox(client, ID).commands.run("true"),
    "output": lambda client: client.output(ID, ID),
    "events": lambda client: every(client.events(ID)),
    "a stream": lambda client: every(client.stream_output(ID, ID)),
    "a diff": lambda client: client.diff(ID),
    "processes": lambda client: client.processes(ID),
    "kill": lambda client: client.kill_processes(ID),
    "a conversation": lambda client: AsyncConversation(client, ID).send("x"),
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_stranger_is_a_typed_error(odd: str) -> None:
    said, code = ODD[odd]
    async with stranger(said) as url, Client(url, "t", prove=False, patience_s=0.0) as client:
        with pytest.raises(errors.TerminalError) as caught:
            await AsyncSandbox.connect(ID, client=client)
    assert caught.value.code == code, caught.value
    assert "<h" not in caught.value.detail
    assert "color" not in caught.value.detail


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("odd", ["a login page", "another object", "null", "a redirection", "half a JSON"])
async def test_every_kind_of_answer_is_looked_at(call: str, odd: str) -> None:
    async with stranger(ODD[odd][0]) as url, Client(url, "t", prove=False, patience_s=0.0) as client:
        with pytest.raises(errors.TerminalError):
            await CALLS[call](client)


@pytest.mark.parametrize(
    "line", [b"data: {\n\n", b"data: 1\n\n", b"data: {}\n\n", b'event: stdout\ndata: {"base64": "x"}\n\n']
)
async def test_an_odd_event_ends_the_stream(line: bytes) -> None:
    """And is not asked for again, for ever."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: 1\r\n\r\n"
    async with stranger(head + line) as url, Client(url, "t", prove=False) as client:
        for stream in (client.events(ID), client.stream_output(ID, ID)):
            with pytest.raises(errors.UnexpectedAnswer):
                await every(stream)


async def test_what_cannot_be_sent() -> None:
    for url in ("", "localhost:7438", "ftp://localhost", "http://", "http://[", "http://localhost:99999"):
        with pytest.raises(errors.InvalidInput):
            Client(url, "token")
    for token in ("", "a b", "a\nx: y", "é"):
        with pytest.raises(errors.InvalidInput):
            Client("http://localhost:1", token)
    async with stranger(b"") as url, Client(url, "t", prove=False, patience_s=0.0) as client:
        for odd in (float("nan"), "\ud800", object()):
            with pytest.raises(errors.InvalidInput):
                await client.create_sandbox(resource_limits={"memory": odd})
        with pytest.raises(errors.TerminalError):
            await client.create_sandbox(key="a\nb")
    with pytest.raises(errors.InvalidInput, match="closed"):
        await client.version()


async def test_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with Client(url, "t", patience_s=0.0) as client:
            with pytest.raises(errors.Unavailable):
                await client.sandboxes()
        with pytest.raises(errors.Unavailable):
            await asyncio.to_thread(Sandbox.create, url="http://name.invalid:1", token="t")


async def test_a_wrong_token(served: Served) -> None:
    async with Client(served.url, "wrong", prove=False) as client:
        with pytest.raises(errors.Unauthorized):
            await client.sandboxes()
        with pytest.raises(errors.Unauthorized):
            await every(client.events(ID))


# ---- which server -------------------------------------------------------------------------------


def test_the_server_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("TPP_URL", "TPP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TPP_HOME", str(tmp_path))
    with pytest.raises(errors.Unavailable):
        connection()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "owner.token").write_text("own\n")
    found = connection()
    assert (found.token, found.socket) == ("own", tmp_path / "run" / "gateway.sock")
    monkeypatch.setenv("TPP_URL", "https://far.example")
    with pytest.raises(errors.Unauthorized, match="TPP_TOKEN"):
        connection()  # the token of the home is never sent there
    monkeypatch.setenv("TPP_TOKEN", "far")
    assert (connection().url, connection().token) == ("https://far.example", "far")
    with pytest.raises(errors.Unauthorized, match="token"):
        connection("https://third.example")
    assert connection("https://third.example", "t").token == "t"
    assert "far" not in repr(connection()).replace("far.example", "")


# ---- the line breaks ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def cutting(url: str, every_bytes: int) -> AsyncIterator[tuple[str, list[int]]]:
    """A relay that cuts each connection once so many bytes of answers went through."""
    port = int(url.rpartition(":")[2])
    cuts = [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return writer.close()

        async def up() -> None:
            while data := await reader.read(65536):
                here.write(data)

        sending = asyncio.ensure_future(up())
        left = every_bytes
        try:
            while left > 0 and (data := await there.read(min(left, 65536))):
                writer.write(data)
                await writer.drain()
                left -= len(data)
            cuts[0] += left <= 0
        except ConnectionError:
            pass
        finally:
            sending.cancel()
            here.close()
            writer.transport.abort() if left <= 0 else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", cuts
    finally:
        server.close()


async def test_a_result_is_whole_whatever_the_line_does(stack: Served, box: str) -> None:
    text = "head -c 300000 /dev/urandom > a; base64 -w 70 a; sha1sum < a >&2"
    async with cutting(stack.url, 110_000) as (url, cuts), Client(url, stack.token, prove=False) as client:
        seen: list[str] = []
        result = await AsyncSandbox(client, box).commands.run(text, on_stdout=seen.append, timeout=60)
        data = base64.b64decode(result.stdout)
    assert cuts[0] >= 2
    assert "".join(seen) == result.stdout
    assert result.gap_bytes == 0
    assert result.stderr.split()[0] == hashlib.sha1(data).hexdigest()
