"""The gateway as it is served: uvicorn on a real port, a real database, a real Redis.

What needs the actor runtime is tested end to end with the whole stack. Here Ray is down: `AbsentRuntime`
answers as a connection to a dead cluster does, which is itself one of the things to test.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.__main__ import Server, listen, listen_unix
from gateway.app import Application, create_app
from runtime.services import helper
from runtime.settings import Settings
from schema import Database, Live, conversations, sandboxes, users
from terminalpp.client import Client
from terminalpp.types.errors import Unavailable
from terminalpp.types.ids import Fence, new_id
from tests.eventually import eventually


class AbsentRuntime:
    """A runtime whose Ray is gone."""

    async def call(self, *_: Any, **__: Any) -> Any:
        raise Unavailable("Ray does not answer")

    send = cells = call


@dataclass
class Served:
    app: Application
    server: Server
    url: str
    token: str
    home: Path
    task: asyncio.Task[None]

    def http(self, **options: Any) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=20, **options)

    def client(self, **options: Any) -> Client:
        return Client(self.url, self.token, **options)

    async def stop(self) -> None:
        self.app.gateway.draining.set()
        self.server.should_exit = True
        await self.task


@contextlib.asynccontextmanager
async def serving(
    home: Path, database: Database, live: Live, port: int = 0, runtime: Any = None, unix: bool = False,
    **settings: Any,
) -> AsyncIterator[Served]:
    """A gateway until the end of the block."""
    made = Settings(home=home, port=port, **settings)
    (home / "secrets").mkdir(exist_ok=True)
    listener = listen(port)
    listeners = [listener, listen_unix(home)] if unix else [listener]
    app = create_app(made, runtime or AbsentRuntime(), database=database, live=live)
    server = Server(app, made)
    # Not `serve`: it takes the process's signals, which belong to the test runner.
    task = asyncio.create_task(server._serve(listeners))
    await eventually(lambda: server.started or task.done(), timeout_s=20)
    if task.done():
        task.result()
    token = (home / "secrets" / "owner.token").read_text().strip()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    served = Served(app, server, url, token, home, task)
    try:
        yield served
    finally:
        await served.stop()


@pytest.fixture
async def live(redis_url: str) -> AsyncIterator[Live]:
    live = Live(redis_url)
    yield live
    await live.close()


@pytest.fixture
async def served(
    tmp_path: Path, database: Database, database_url: str, live: Live
) -> AsyncIterator[Served]:
    async with serving(tmp_path, database, live, database_url=database_url) as served:
        yield served


@pytest.fixture(scope="session")
async def home() -> AsyncIterator[Path]:
    """A home with tppd in it, for the tests that start sandboxes."""
    folder = Path(tempfile.mkdtemp(prefix="tpp-gateway-"))
    (folder / "bin").mkdir()
    await helper.build(folder, lambda *_: None)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def stack(
    home: Path, database: Database, database_url: str, redis_url: str, live: Live
) -> AsyncIterator[Served]:
    """The gateway with real entities and real sandboxes."""
    from tests.gateway.stack import standing

    async with standing(home, database, live, database_url, redis_url) as served:
        yield served


@pytest.fixture
async def api(stack: Served) -> AsyncIterator[Client]:
    async with stack.client() as client:
        yield client


@pytest.fixture
async def box(api: Client) -> str:
    """The id of a running sandbox."""
    row = await api.create_sandbox(name="box", wait=True)
    assert row["status"] == "running", row
    return row["id"]


@dataclass
class Talk:
    """A conversation in the database, with the fence under which its events are written."""

    id: str
    sandbox_id: str
    fence: Fence
    database: Database
    live: Live

    async def say(self, count: int, text: str = "hello") -> int:
        """Append `count` events as the conversation's owner does; the number of the last."""
        from schema import events

        batch = [("model.delta", "coder", {"text": f"{text} {n}"}) for n in range(count)]
        async with self.database.fenced(self.fence) as connection:
            first = await events.append(connection, self.id, batch)
        last = first + count - 1
        await self.live.publish(self.id, last)
        return last


@pytest.fixture
async def talk(served: Served, database: Database, live: Live) -> Talk:
    return await make_talk(database, live)


async def make_talk(database: Database, live: Live, user_id: str | None = None) -> Talk:
    from schema import entities
    from terminalpp.types.ids import Ref

    user_id = user_id or await users.ensure_owner(database)
    id, sandbox_id = new_id(), new_id()
    await sandboxes.create(database, sandbox_id, user_id, "box")
    settings = {"mode": "team", "workspace": "/home/user/work"}
    await conversations.create(database, id, user_id, sandbox_id, settings=settings)
    claimed = await entities.claim(database, Ref("conversation", id), "test-cell", 600.0, None)
    return Talk(id, sandbox_id, Fence("conversation", id, claimed.epoch), database, live)
