"""A cell in a process of its own, a home, and a sandbox in it; once per driver that works here."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from actors.node.entity import make_drivers
from actors.sandbox.access import SandboxAccess
from actors.sandbox.link import link_to
from runtime import settings as settings_module
from runtime.services import helper
from runtime.settings import Settings
from schema import Database, mailbox, users
from terminalpp.types.errors import from_json
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Cell:
    """The client's end of tests/sandbox_entity/cell.py."""

    settings: Settings
    process: asyncio.subprocess.Process | None = None
    _waiting: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    _reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        environment = {**os.environ, **self.settings.to_environ()}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.sandbox_entity.cell", cwd=ROOT, env=environment, limit=2**26,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            assert await self.process.stdout.readline() == b"ready\n"
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            reply = json.loads(line)
            future = self._waiting.pop(reply["id"], None)
            if future is not None and not future.done():
                future.set_result(reply)
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    async def _ask(
        self, op: str, id: str, method: str, payload: Any, message_id: str | None, kind: str
    ) -> Any:
        assert self.process is not None
        assert self.process.stdin is not None
        request_id = new_id()
        self._waiting[request_id] = future = asyncio.get_running_loop().create_future()
        request = {"id": request_id, "op": op, "ref": [kind, id], "method": method, "payload": payload,
                   "message_id": message_id}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(180):
            reply = await future
        if "error" in reply:
            raise from_json(reply["error"])
        return reply["value"]

    async def call(self, id: str, method: str, kind: str = "sandbox", **payload: Any) -> Any:
        return await self._ask("call", id, method, payload, None, kind)

    async def send(
        self, id: str, method: str, message_id: str | None = None, kind: str = "sandbox", **payload: Any
    ) -> Any:
        return await self._ask("send", id, method, payload, message_id, kind)

    async def remind(self, database: Database, id: str, name: str) -> None:
        """A reminder is due now: the runtime's own message, which nobody can send through its door."""
        message, ref = new_id(), Ref("sandbox", id)
        await mailbox.enqueue(database, ref, message, f"remind:{name}", {"name": name}, None)
        await self.activate(id)

        async def applied() -> bool:
            row = await mailbox.result_of(database, message)
            return row is not None and row.finished

        await eventually(applied)

    async def activate(self, id: str) -> None:
        await self._ask("activate", id, "", None, None, "sandbox")

    def access(self, id: str) -> SandboxAccess:
        """The way into a sandbox for all but its entity. `close` it."""
        return SandboxAccess(link_to(self.settings.home, id), lambda: self.call(id, "attach"))

    async def sh(self, id: str, command: str, **options: Any) -> dict[str, Any]:
        options = {"exec_id": new_id(), "wait_ms": 30_000, **options}
        return await self.call(id, "run", command=command, **options)

    async def kill(self) -> None:
        """SIGKILL, now."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        if self._reader:
            await self._reader

    async def stop(self) -> None:
        if self.process is None or self.process.returncode is not None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await self.process.wait()
        except TimeoutError:
            await self.kill()


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tpp-entity-"))
    (folder / "bin").mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def built(home: Path) -> Path:
    return await helper.build(home, lambda *_: None)


@pytest.fixture(params=["bubblewrap", pytest.param("docker", marks=pytest.mark.docker)])
def driver_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def settings(
    home: Path, built: Path, database_url: str, redis_url: str, driver_name: str
) -> AsyncIterator[Settings]:
    settings = settings_module.load({
        "TPP_HOME": str(home), "TPP_DATABASE_URL": database_url, "TPP_REDIS_URL": redis_url,
        "TPP_SANDBOX_DRIVER": driver_name, "TPP_LEASE_SECONDS": "1", "TPP_SANDBOX_MEMORY_BYTES": "268435456",
        "TPP_IMAGE_BASE": os.environ.get("TPP_IMAGE_BASE", "ubuntu:22.04"),
        "TPP_ENTITY_REGISTRY": "tests.sandbox_entity.registry:ENTITIES",
        "TPP_PRELOAD_REGISTRY": "tests.sandbox_entity.registry:PRELOAD",
    })
    yield settings
    for driver in make_drivers(settings).values():
        if (await driver.probe()).available:
            for sandbox_id in await driver.list():
                await driver.remove(sandbox_id)


@pytest.fixture
async def cells(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[Cell]]]:
    """Starts cells; all are stopped at the end."""
    started: list[Cell] = []

    async def start() -> Cell:
        cell = Cell(settings)
        started.append(cell)
        await cell.start()
        return cell

    yield start
    for cell in started:
        await cell.stop()


@pytest.fixture
async def cell(cells: Callable[[], Awaitable[Cell]]) -> Cell:
    return await cells()


@pytest.fixture
async def owner(database: Database) -> str:
    return await users.ensure_owner(database)


@pytest.fixture
async def sandbox(cell: Cell, owner: str) -> str:
    """The id of a running sandbox."""
    id = new_id()
    await cell.send(id, "create", user_id=owner, name="test")
    await cell.call(id, "attach")
    return id
