"""Postgres stops answering under a gateway with real cells: every route says 503 in time, and all goes on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from runtime.settings import Settings
from schema import Database, Live, migrations
from terminalpp.types.ids import new_id
from tests.eventually import eventually
from tests.gateway.conftest import Served, Talk, make_talk, serving
from tests.gateway.stack import hosting
from tests.services import PostgresServer

# What docs/guarantees.md says, in seconds.
ANSWERED_WITHIN, READY_WITHIN = 10, 4
WITHOUT = ("/processes", "/models")  # these need no database, once the owner is known


@dataclass
class Frozen:
    """A gateway whose Postgres is this test's own."""

    server: PostgresServer
    served: Served
    talk: Talk

    async def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        async with self.served.http() as http:
            return await http.request(method, path, **options)

    async def ready(self) -> bool:
        return "FAIL postgres" not in (await self.ask("GET", "/readyz")).text


@pytest.fixture
async def frozen(
    server_folder: Callable[[], Path], tmp_path: Path, live: Live, redis_url: str
) -> AsyncIterator[Frozen]:
    server = PostgresServer(server_folder())
    server.start()
    await server.answer()
    await migrations.migrate(server.url())
    database = await Database.connect(server.url(), max_size=4, wait_s=4)
    settings = Settings(home=tmp_path, database_url=server.url(), redis_url=redis_url, lease_seconds=2)
    try:
        async with (
            hosting(settings, database, live) as runtime,
            serving(tmp_path, database, live, runtime=runtime, database_url=server.url()) as served,
        ):
            yield Frozen(server, served, await make_talk(database, live))
            server.thaw()
    finally:
        await database.close()
        server.stop()


def every_route(frozen: Frozen) -> list[tuple[str, str, dict[str, object]]]:
    """Each way that reads, and what is written: method, path, options of the request."""
    box, talk = frozen.talk.sandbox_id, frozen.talk.id
    names = {"sandbox_id": box, "conversation_id": talk, "kind": "sandbox"}
    found: list[tuple[str, str, dict[str, object]]] = []
    for path, methods in frozen.served.app.openapi()["paths"].items():
        if path.startswith("/v1") and "get" in methods:
            wanted = {one["name"] for one in methods["get"].get("parameters", []) if one["required"]}
            given = {"path": "/home/user", "q": "/home/user", "number": "1"}
            query = {name: given[name] for name in wanted & given.keys()}
            found.append(("GET", path.format_map(defaultdict(new_id, names)), {"params": query}))
    found.append(("POST", "/v1/sandboxes", {"json": {"name": "another"}}))
    found.append(("POST", f"/v1/sandboxes/{box}/commands", {"json": {"argv": ["true"], "wait_ms": 60000}}))
    found.append(("POST", f"/v1/conversations/{talk}/messages", {"json": {"text": "hello"}}))
    found.append(("POST", f"/v1/conversations/{talk}/cancel", {}))
    found.append(("DELETE", f"/v1/sandboxes/{box}", {}))
    return found


async def test_a_frozen_postgres_is_said_in_time_on_every_route(frozen: Frozen) -> None:
    # From here on the gateway knows token and owner, and goes straight to the cell.
    assert (await frozen.ask("GET", f"/v1/sandboxes/{frozen.talk.sandbox_id}")).status_code == 200
    frozen.server.freeze()
    routes = every_route(frozen)
    for moment in ("just now", "for a while, and the cell's lease has run out"):
        async with asyncio.timeout(ANSWERED_WITHIN):
            answers = await asyncio.gather(*(frozen.ask(m, path, **options) for m, path, options in routes))
        for (method, path, _), answer in zip(routes, answers, strict=True):
            if answer.status_code == 200 and path.endswith(WITHOUT):
                continue
            assert answer.status_code == 503, (moment, method, path, answer.status_code, answer.text[:300])
            assert answer.headers["retry-after"], (method, path)
            assert answer.json()["retryable"] is True
    async with frozen.served.http() as http, asyncio.timeout(READY_WITHIN):
        said = await asyncio.gather(*(http.get("/readyz") for _ in range(20)))
    assert all("FAIL postgres" in one.text and one.status_code == 503 for one in said), said[0].text
    assert (await frozen.ask("GET", "/livez")).status_code == 200
    frozen.server.thaw()
    await eventually(frozen.ready, timeout_s=30)
    assert (await frozen.ask("GET", "/v1/sandboxes")).status_code == 200


async def test_what_timed_out_is_told_apart_by_its_key(frozen: Frozen) -> None:
    """Asked while nothing answers, and again under the same key afterwards: one sandbox."""
    asked = {"json": {"name": "once"}, "headers": {"idempotency-key": "one-of-a-kind"}}
    frozen.server.freeze()
    assert (await frozen.ask("POST", "/v1/sandboxes", **asked)).status_code == 503
    frozen.server.thaw()
    await eventually(frozen.ready, timeout_s=30)

    async def made() -> httpx.Response | None:
        answer = await frozen.ask("POST", "/v1/sandboxes", **asked)
        assert answer.status_code in (201, 202, 409, 503), answer.text
        return answer if answer.status_code < 300 else None

    answer = await eventually(made, timeout_s=90, interval_s=0.5)
    again = await frozen.ask("POST", "/v1/sandboxes", **asked)
    assert again.json()["id"] == answer.json()["id"]
    listed = (await frozen.ask("GET", "/v1/sandboxes")).json()["items"]
    assert [row["id"] for row in listed if row["name"] == "once"] == [answer.json()["id"]]


async def test_a_killed_postgres_under_requests_gives_no_500(frozen: Frozen) -> None:
    statuses: set[int] = set()
    stop = asyncio.Event()

    async def keep_asking() -> None:
        async with frozen.served.http() as http:
            while not stop.is_set():
                for path in ("/v1/sandboxes", f"/v1/conversations/{frozen.talk.id}"):
                    statuses.add((await http.get(path)).status_code)

    askers = [asyncio.create_task(keep_asking()) for _ in range(8)]
    try:
        for _ in range(3):
            await eventually(frozen.ready, timeout_s=30)
            frozen.server.signal(9)
            await frozen.server.restart()
    finally:
        stop.set()
        await asyncio.gather(*askers)
    assert {200} <= statuses <= {200, 503}
