"""What a connection may cost, over plain sockets: large and slow heads, pipelines, no HTTP at all, crowds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import middleware, protocol
from schema import Database, Live
from tests.eventually import eventually
from tests.gateway.conftest import Served, serving

GET = b"GET /version HTTP/1.1\r\nHost: localhost\r\n"


def port_of(served: Served) -> int:
    return int(served.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def line_to(served: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(served))
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict]:
    """One answer with a JSON body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body)


async def refusal(reader: asyncio.StreamReader, status: int, code: str) -> dict:
    found, headers, body = await answer_of(reader)
    assert (found, body["code"], body["status"]) == (status, code, status)
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"] == body["request_id"]
    assert await reader.read() == b""  # and it ends
    return body


def segments_of(writer: asyncio.StreamWriter) -> int:
    """How many packets with data have arrived: `tcpi_data_segs_in` of tcp(7)'s TCP_INFO."""
    end: socket.socket = writer.get_extra_info("socket")
    return int.from_bytes(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 156)[152:], sys.byteorder)


async def test_a_small_answer_is_one_packet(served: Served) -> None:
    async with line_to(served) as (reader, writer):
        for asked in (1, 2, 3):
            writer.write(GET + b"\r\n")
            assert (await answer_of(reader))[0] == 200
            assert segments_of(writer) == asked


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        GET + b"X-A: b\r\n" * 9_000 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET + b"X-" + b"n" * 70_000 + b": v\r\n\r\n",
    ],
    ids=["a long value", "many headers", "a long target", "a long name"],
)
async def test_headers_beyond_the_limit_are_431(served: Served, head: bytes) -> None:
    async with line_to(served) as (reader, writer):
        writer.write(head)
        body = await refusal(reader, 431, "headers-too-large")
        assert "TPP_HEADER_LIMIT_BYTES" in body["detail"]
    async with line_to(served) as (reader, writer):
        writer.write(GET + b"X-Long: " + b"a" * 60_000 + b"\r\n\r\n")
        assert (await answer_of(reader))[0] == 200


async def test_endless_headers_are_answered_early_and_cost_nothing(served: Served) -> None:
    async with line_to(served) as (reader, writer):
        writer.write(GET + b"X-Long: ")
        sent = 0

        async def send_for_ever() -> None:
            nonlocal sent
            while True:
                writer.write(b"a" * 65_536)
                await writer.drain()
                sent += 65_536

        sending = asyncio.create_task(send_for_ever())
        found, _, body = await answer_of(reader)
        assert (found, body["code"]) == (431, "headers-too-large")
        with pytest.raises(ConnectionError):
            await sending
    connections = served.server.server_state.connections
    await eventually(lambda: not connections)


async def test_trailers_are_bounded_and_are_no_headers(served: Served) -> None:
    head = f"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
    chunked = head.encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    async with line_to(served) as (reader, writer):
        writer.write(chunked + b"X-Request-Id: trailing\r\n\r\n")
        found, headers, _ = await answer_of(reader)
        assert (found, headers["x-request-id"] == "trailing") == (503, False)  # Ray is away here
    async with line_to(served) as (reader, writer):
        writer.write(chunked + b"X-Long: " + b"a" * 400_000)
        await refusal(reader, 431, "headers-too-large")


async def test_a_head_that_does_not_arrive_is_408(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    async with line_to(served) as (reader, writer):
        for byte in GET[:5]:
            writer.write(bytes([byte]))  # slowly, and never whole
        await refusal(reader, 408, "request-timeout")
    async with line_to(served) as (reader, writer):
        assert await reader.read() == b""  # nothing was asked for: it is closed
    async with line_to(served) as (reader, writer):
        writer.write(GET + b"\r\n")
        assert (await answer_of(reader))[0] == 200
        writer.write(b"\r\n")  # no request, and no reason to stay
        assert await reader.read() == b""


async def test_a_body_that_stops_arriving_is_408(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "PAUSE_S", 0.3)
    monkeypatch.setattr(middleware, "LINGER_S", 0.1)
    head = f"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
    async with line_to(served) as (reader, writer):
        writer.write(head.encode() + b"Content-Length: 10\r\n\r\n{")
        await refusal(reader, 408, "request-timeout")
    assert served.app.gateway.admission.requests.running == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"hello\r\n\r\n",
        GET + b"bad header\r\n\r\n",
        b"GET \xff HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem(served: Served, sent: bytes) -> None:
    async with line_to(served) as (reader, writer):
        writer.write(sent)
        await refusal(reader, 400, "bad-request")


async def test_a_broken_body_is_a_problem(served: Served) -> None:
    head = f"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
    async with line_to(served) as (reader, writer):
        writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        await refusal(reader, 400, "bad-request")


async def test_pipelined_requests_are_answered_in_order_and_the_refusal_comes_last(served: Served) -> None:
    ask = b"".join(GET + b"X-Request-Id: %d\r\n\r\n" % n for n in range(5))
    async with line_to(served) as (reader, writer):
        writer.write(ask + b"nonsense\r\n\r\n")
        for n in range(5):
            status, headers, _ = await answer_of(reader)
            assert (status, headers["x-request-id"]) == (200, str(n))
        await refusal(reader, 400, "bad-request")


async def test_a_long_pipeline_ends_behind_its_bound(served: Served) -> None:
    async with line_to(served) as (reader, writer):
        writer.write((GET + b"\r\n") * 2000)
        text = await reader.read()
    assert protocol.PIPELINED <= text.count(b"HTTP/1.1 200") <= protocol.PIPELINED + 1


async def test_a_crowd_of_connections_leaves_room_for_health(
    tmp_path: Path, database: Database, database_url: str, live: Live
) -> None:
    async with (
        serving(tmp_path, database, live, database_url=database_url, connections_max=8) as served,
        contextlib.AsyncExitStack() as stack,
    ):
        # Idle ones give way to whoever comes.
        idle = [await stack.enter_async_context(line_to(served)) for _ in range(8)]
        async with line_to(served) as (reader, writer):
            writer.write(GET + b"\r\n")
            assert (await answer_of(reader))[0] == 200
        assert await idle[0][0].read() == b""
        # Where all are busy, only health is answered.
        for _ in range(8):
            _, writer = await stack.enter_async_context(line_to(served))
            writer.write(GET)
        await eventually(lambda: len(served.server.server_state.connections) == 8)
        async with line_to(served) as (reader, writer):
            writer.write(GET.replace(b"/version", b"/v1/sandboxes") + b"\r\n")
            await refusal(reader, 429, "overloaded")
        async with line_to(served) as (reader, writer):
            writer.write(GET + b"\r\n")
            assert (await answer_of(reader))[0] == 200
