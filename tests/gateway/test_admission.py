"""Who may run, who waits, who is refused; and that nobody's crowd is another's trouble."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import admission, auth
from gateway.admission import Pool
from gateway.auth import digest
from gateway.middleware import Edge
from schema import Database, Live, users
from terminalpp.types.errors import Overloaded
from terminalpp.types.ids import new_id
from tests.eventually import eventually
from tests.gateway.conftest import Served, make_talk, serving


@pytest.fixture
async def narrow(tmp_path: Path, database: Database, database_url: str, live: Live) -> AsyncIterator[Served]:
    """A gateway with room for three requests, two of one account, and two more that wait."""
    limits = {
        "requests_max": 3, "requests_per_account": 2, "requests_queue": 2,
        "long_requests_max": 3, "long_requests_per_account": 2, "database_url": database_url,
    }  # fmt: skip
    async with serving(tmp_path, database, live, **limits) as served:
        yield served


@contextlib.asynccontextmanager
async def another(served: Served, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A second account's client."""
    id, token = new_id(), secrets.token_hex(16)
    await database.execute(
        "INSERT INTO users (id, email, username) VALUES ($1, 'second@x.org', 'second')", id
    )
    await users.ensure_token(database, id, digest(token))
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, trust_env=False, timeout=20) as http:
        yield http


@contextlib.asynccontextmanager
async def half_sent(served: Served, count: int) -> AsyncIterator[None]:
    """Requests of the owner whose bodies do not arrive: each holds a place."""
    head = f"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
    port, writers = int(served.url.rpartition(":")[2]), []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + b"Content-Length: 10\r\n\r\n{")
        writers.append(writer)
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


async def test_one_account_cannot_take_all_places(
    narrow: Served, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "SETTLED_S", 60)
    monkeypatch.setattr(admission, "WAIT_S", 0.3)
    requests = narrow.app.gateway.admission.requests
    async with another(narrow, database) as second, narrow.http() as http:
        async with half_sent(narrow, 4):
            await eventually(lambda: requests.running == 2 and requests.waiting == 2)
            at_once = await http.get("/v1/sandboxes")  # no room in the line
            assert (at_once.status_code, at_once.json()["code"]) == (429, "overloaded")
            assert at_once.headers["retry-after"] == "1"
            assert at_once.json()["retryable"] is True
            assert (await second.get("/v1/sandboxes")).status_code == 200
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz")).status_code == 503  # it answers: Ray is away here
            await eventually(lambda: requests.waiting == 0)  # two have waited long enough
            assert (await http.get("/v1/sandboxes")).status_code == 429
        await eventually(lambda: requests.running == 0)
        assert (await http.get("/v1/sandboxes")).status_code == 200
    assert (requests.running, requests.waiting, requests._lines, requests._of) == (0, 0, {}, {})


async def test_what_waits_long_takes_no_place_from_ordinary_requests(
    narrow: Served, database: Database, live: Live
) -> None:
    pools = narrow.app.gateway.admission
    talk = await make_talk(database, live)
    async with narrow.http() as http, contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(half_sent(narrow, 2))
        await eventually(lambda: pools.long.running == 2)  # slow senders move on
        assert pools.requests.running == 0
        assert (await http.get("/v1/sandboxes")).status_code == 200
        refused = await http.get(f"/v1/conversations/{talk.id}/events?follow=false")
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "long requests of this account" in refused.json()["detail"]
    await eventually(lambda: pools.long.running == 0)


async def test_accounts_take_turns() -> None:
    pool, order = Pool("requests", limit=1, share=1, queue=10), []

    async def ask(account: str) -> None:
        await pool.line(account)
        order.append(account)
        pool.leave(account)

    pool.enter("first")
    asking = [asyncio.create_task(ask(account)) for account in ("a", "a", "a", "b", "c")]
    await eventually(lambda: pool.waiting == 5)
    pool.leave("first")
    await asyncio.gather(*asking)
    assert order == ["a", "b", "c", "a", "a"]
    assert (pool.running, pool.waiting, pool._lines, pool._of) == (0, 0, {}, {})


async def test_who_leaves_the_line_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool("requests", limit=1, share=1, queue=10)
    pool.enter("a")
    gone, stays = asyncio.create_task(pool.line("a")), asyncio.create_task(pool.line("a"))
    await eventually(lambda: pool.waiting == 2)
    gone.cancel()
    pool.leave("a")
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    # Let in and cancelled in the same moment: the place goes to the next one.
    let_in, last = asyncio.create_task(pool.line("a")), asyncio.create_task(pool.line("b"))
    await eventually(lambda: pool.waiting == 2)
    pool.leave("a")
    let_in.cancel()
    await last
    assert pool._of == {"b": 1}
    monkeypatch.setattr(admission, "WAIT_S", 0.05)
    with pytest.raises(Overloaded):
        await pool.line("c")
    pool.leave("b")
    assert (pool.running, pool.waiting, pool._lines, pool._of) == (0, 0, {}, {})


async def test_guessing_tokens_keeps_nobody_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "LOOKUPS_WAITING", 20)
    tokens = served.app.gateway.tokens
    async with served.http() as http:
        assert (await http.get("/v1/sandboxes")).status_code == 200
        guesses = asyncio.gather(
            *(tokens.principal(f"guess-{n}") for n in range(300)), return_exceptions=True
        )
        assert (await http.get("/v1/sandboxes")).status_code == 200
        codes = [error.code for error in await guesses]  # type: ignore[union-attr]
    assert set(codes) == {"unauthorized", "overloaded"}
    assert len(tokens._known) == 1


async def test_known_tokens_are_forgotten_one_by_one(
    served: Served, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "CACHE_SIZE", 2)
    tokens = served.app.gateway.tokens
    owner = await users.ensure_owner(database)
    for name in ("one", "two", "three"):
        await users.ensure_token(database, owner, digest(name), name)
        await tokens.principal(name)
    assert list(tokens._known) == [digest("two"), digest("three")]


async def test_the_time_of_an_answer_ends_with_it_and_of_a_stream_with_its_beginning(served: Served) -> None:
    gateway = served.app.gateway
    kind, last = b"text/plain", asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await last.wait()
        await send({"type": "http.response.body", "body": b"end", "more_body": False})

    def measured() -> float:
        samples = [sample for metric in gateway.metrics.seconds.collect() for sample in metric.samples]
        return sum(sample.value for sample in samples if sample.name.endswith("_count"))

    served.app.edge = Edge(slow, gateway)
    async with served.http() as http:
        for kind, during in ((b"text/plain", 0), (b"text/event-stream", 1)):  # noqa: B007
            last.clear()
            before = measured()
            async with http.stream("GET", "/version") as answer:
                assert measured() - before == during
                last.set()
                assert await answer.aread() == b"end"
            await eventually(lambda before=before: measured() - before == 1)
