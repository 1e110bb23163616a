"""The event stream: replay from any number, live, over restarts of the gateway, Redis and Postgres' truth."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest

from gateway import feeds, protocol, sse
from runtime.framing import short_name
from schema import Database, Live
from terminalpp.client.events import Parser
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from terminalpp.types.proof import SOCKET
from tests.eventually import eventually
from tests.gateway.conftest import Served, Talk, make_talk, serving


async def head(served: Served, talk: Talk, after: int = 0) -> list[dict]:
    async with served.client() as client:
        return [event async for event in client.events(talk.id, after=after, follow=False)]


async def test_replay_is_whole_and_in_order(served: Served, talk: Talk) -> None:
    await talk.say(feeds.PAGE * 2 + 7, "long " * 50)
    events = await head(served, talk)
    assert [event["seq"] for event in events] == list(range(1, feeds.PAGE * 2 + 8))
    assert events[0]["payload"] == {"text": "long " * 50 + " 0"}
    assert (events[0]["type"], events[0]["actor"]) == ("model.delta", "coder")
    assert [event["seq"] for event in await head(served, talk, after=feeds.PAGE)] == list(
        range(feeds.PAGE + 1, feeds.PAGE * 2 + 8)
    )
    assert await head(served, talk, after=10**9) == []


async def test_exactly_one_page_ends_too(served: Served, talk: Talk) -> None:
    await talk.say(feeds.PAGE)
    assert len(await head(served, talk)) == feeds.PAGE
    assert await head(served, talk, after=feeds.PAGE) == []


async def test_the_wire_is_what_the_standard_says(served: Served, talk: Talk) -> None:
    await talk.say(1, "line\nbreak \u2028 \x85 é")
    async with served.http() as http:
        path = f"/v1/conversations/{talk.id}/events?follow=false"
        answer = await http.get(path, headers={"last-event-id": "0"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content.startswith(b"retry: 1000\n\nid: 1\nevent: model.delta\ndata: {")
    assert answer.content.endswith(b"}\n\n: end\n\n")
    assert answer.content.count(b"\n") == 8


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30])
async def test_bad_last_event_id(served: Served, talk: Talk, value: str) -> None:
    async with served.http() as http:
        path = f"/v1/conversations/{talk.id}/events"
        answer = await http.get(path, headers={"last-event-id": value})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")


async def test_live_events_come_at_once(served: Served, talk: Talk) -> None:
    async with served.client() as client:
        stream = client.events(talk.id)
        delays = []
        for n in range(5):
            waiting = asyncio.ensure_future(anext(stream))
            await eventually(lambda: served.app.gateway.streams == 1)
            started = time.monotonic()
            await talk.say(1)
            assert (await waiting)["seq"] == n + 1
            delays.append(time.monotonic() - started)
    # The first may miss its signal (the subscription is being made); Redis carries the others.
    assert min(delays) < 0.5


async def test_without_redis_events_come_by_polling(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    nowhere = Live("redis://127.0.0.1:1/0")
    async with serving(tmp_path, database, nowhere, database_url=database_url) as served:
        talk = await make_talk(database, nowhere)
        async with served.client() as client:
            stream = client.events(talk.id)
            for seq in (1, 2):
                await talk.say(1)
                async with asyncio.timeout(5):
                    assert (await anext(stream))["seq"] == seq
    await nowhere.close()


async def test_many_clients_see_the_same(served: Served, talk: Talk) -> None:
    async def follow() -> list[int]:
        async with served.client() as client:
            seen = []
            async for event in client.events(talk.id):
                seen.append(event["seq"])
                if event["seq"] == 300:
                    return seen
        raise AssertionError("the stream ended")

    followers = [asyncio.create_task(follow()) for _ in range(20)]
    for _ in range(30):
        await talk.say(10)
    for seen in await asyncio.gather(*followers):
        assert seen == list(range(1, 301))


async def test_leaving_is_noticed(served: Served, talk: Talk) -> None:
    gateway = served.app.gateway
    async with served.http() as http:
        path = f"/v1/conversations/{talk.id}/events"
        async with http.stream("GET", path) as answer:
            chunks = answer.aiter_bytes()  # kept: a collected iterator closes its connection
            await anext(chunks)
            assert gateway.streams == 1
    await eventually(lambda: gateway.streams == 0, timeout_s=5)


async def test_too_many_streams_are_refused_and_others_go_on(
    tmp_path: Path, database: Database, database_url: str, live: Live
) -> None:
    limits = {"long_requests_max": 1, "database_url": database_url}
    async with serving(tmp_path, database, live, **limits) as served, served.http() as http:
        talk = await make_talk(database, live)
        path = f"/v1/conversations/{talk.id}/events"
        async with http.stream("GET", path) as answer:
            chunks = answer.aiter_bytes()  # kept: a collected iterator closes its connection
            await anext(chunks)
            refused = await http.get(path)
            assert (await http.get("/v1/conversations")).status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert refused.headers["retry-after"] == "1"


async def test_silence_is_filled_with_heartbeats(
    served: Served, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(feeds, "POLL_S", 0.05)
    async with served.http() as http, http.stream("GET", f"/v1/conversations/{talk.id}/events") as answer:
        text = b""
        async for chunk in answer.aiter_bytes():
            text += chunk
            if text.count(b": alive\n\n") == 3:
                break


async def test_a_client_that_does_not_read_costs_one_page(served: Served, talk: Talk) -> None:
    """Its stream waits in `send`; the log is read no further than a page beyond what was sent."""
    await talk.say(feeds.PAGE * 8, "x" * 2000)
    port = int(served.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    lines = [f"GET /v1/conversations/{talk.id}/events HTTP/1.1", f"Authorization: Bearer {served.token}"]
    writer.write("\r\n".join([*lines, "Host: localhost", "", ""]).encode())
    await eventually(lambda: served.app.gateway.streams == 1)
    sent = served.app.gateway.metrics.events._value
    last = -1.0

    def settled() -> bool:
        nonlocal last
        same, last = sent.get() == last, sent.get()
        return same and last > 0

    await eventually(settled, timeout_s=10, interval_s=0.3)
    assert sent.get() < feeds.PAGE * 8
    assert len(await head(served, talk)) == feeds.PAGE * 8  # others are not held up
    writer.close()
    await eventually(lambda: served.app.gateway.streams == 0, timeout_s=5)


@pytest.mark.parametrize("local", [False, True], ids=["tcp", "unix"])
async def test_a_client_that_never_reads_is_cut_and_a_slow_one_is_not(
    tmp_path: Path, database: Database, database_url: str, live: Live, monkeypatch: pytest.MonkeyPatch,
    local: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(protocol, "STALL_S", 0.5)
    async with serving(tmp_path, database, live, database_url=database_url, unix=local) as served:
        talk = await make_talk(database, live)
        await talk.say(feeds.PAGE * 16, "x" * 2000)
        lines = [f"GET /v1/conversations/{talk.id}/events HTTP/1.1", f"Authorization: Bearer {served.token}"]
        asked = "\r\n".join([*lines, "Host: localhost", "", ""]).encode()

        def opened() -> socket.socket:
            found = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
            if local:
                with short_name(tmp_path / "run") as short:
                    found.connect(f"{short}/{SOCKET}")
            else:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                found.connect(("127.0.0.1", int(served.url.rpartition(":")[2])))
            found.sendall(asked)
            return found

        with opened() as slow, opened():
            await eventually(lambda: served.app.gateway.streams == 2)
            slow.setblocking(False)
            loop, ends = asyncio.get_running_loop(), time.monotonic() + 3.0
            while served.app.gateway.streams == 2 or time.monotonic() < ends:
                assert await loop.sock_recv(slow, 65536)
                await asyncio.sleep(0.05)
            assert served.app.gateway.streams == 1  # the one that reads


@pytest.mark.parametrize("kind", ["events", "output"])
async def test_half_an_event_again_and_again_is_no_contact(kind: str) -> None:
    """The client came again for ever."""
    from terminalpp.client import Client

    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: 1\r\n"
        writer.write(head + b"connection: close\r\n\r\nretry: 1000\n\nid: 1\nevent: x\ndata: {\"seq\":1,")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Client(url, "t", patience_s=1, prove=False) as client:
        told = client.events(new_id()) if kind == "events" else client.stream_output(new_id(), new_id())
        with pytest.raises(errors.TerminalError) as raised:
            async with asyncio.timeout(15):
                await anext(told)
    assert raised.value.retryable
    assert connections > 1


async def test_the_client_goes_on_over_restarts_of_the_gateway(
    tmp_path: Path, database: Database, database_url: str, live: Live
) -> None:
    seen: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(tmp_path, database, live, database_url=database_url))
        port = int(first.url.rpartition(":")[2])
        talk = await make_talk(database, live)

        async def follow() -> None:
            async with first.client() as client:
                async for event in client.events(talk.id):
                    seen.append(event["seq"])
                    if event["seq"] == 60:
                        return

        following = asyncio.create_task(follow())
        await talk.say(20)
        await eventually(lambda: len(seen) == 20)
        started = time.monotonic()
        await first.stop()
        assert time.monotonic() - started < 5  # an open stream does not hold the end up
        await talk.say(20)
        async with serving(tmp_path, database, live, port, database_url=database_url):
            await talk.say(20)
            async with asyncio.timeout(20):
                await following
    assert seen == list(range(1, 61))


async def test_a_server_that_is_not_there_is_reported_soon() -> None:
    from terminalpp.client import Client

    started = time.monotonic()
    async with Client("http://127.0.0.1:1", "t", patience_s=60) as client:
        with pytest.raises(errors.Unavailable, match="does not answer"):
            await client.sandboxes()
        with pytest.raises(errors.Unavailable):
            await anext(client.events("x"))
    assert time.monotonic() - started < 15


async def test_the_client_says_what_the_server_said(served: Served) -> None:
    async with served.client() as client:
        with pytest.raises(errors.NotFound) as caught:
            await anext(client.events("00000000-0000-4000-8000-000000000000"))
        assert caught.value.next_step
        assert caught.value.extra["request_id"]
    async with httpx.AsyncClient() as http:
        assert (await http.get(served.url + "/v1/agents")).status_code == 401


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_parser_takes_any_cut(size: int) -> None:
    wire = b"retry: 1000\n\nid: 1\r\nevent: a\r\ndata: x\r\ndata:y\r\n\r\n: note\n\n"
    wire += b"data: \xe2\x80\xa8\n\n: end\n\n"
    parser, found = Parser(), []
    for at in range(0, len(wire), size):
        found += parser.feed(wire[at : at + size])
    assert found == [("a", b"x\ny"), ("message", b"\xe2\x80\xa8")]
    assert parser.done


async def test_a_page_is_read_once_for_all_and_few_are_kept(
    served: Served, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await talk.say(feeds.PAGE + 3)
    shared = served.app.gateway.feeds
    async with shared.following(talk.id, last) as feed:
        first, *others = await asyncio.gather(*(feed.page(0) for _ in range(20)))
        assert all(page is first for page in others)
        assert await feed.page(0) is first
        assert (first.last, (await feed.page(first.last)).last) == (feeds.PAGE, last)
        # Of what is kept, the page used longest ago goes.
        monkeypatch.setattr(feeds, "KEPT_BYTES", first.size)
        await feed.page(1)
        assert await feed.page(0) is not first
        assert shared._kept_bytes == sum(page.size for page in shared._kept.values()) <= first.size
        # A signal that says too much is found out by looking.
        feed.advance(last + 5)
        assert (await feed.page(last)).count == 0
        assert feed.head == last
    assert shared._open == {}


async def test_a_page_is_bounded_by_bytes_too(served: Served, talk: Talk) -> None:
    from random import Random

    noise = Random(8)
    for _ in range(4):
        await talk.say(1, noise.randbytes(feeds.PAGE_BYTES // 2).hex())
    async with served.app.gateway.feeds.following(talk.id, 4) as feed:
        assert 1 <= (await feed.page(0)).count < 4
    assert [event["seq"] for event in await head(served, talk)] == [1, 2, 3, 4]
