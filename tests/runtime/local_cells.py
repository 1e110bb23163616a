"""Hosts in the test's own process behind the port `runtime.client.Cells`: everything real but Ray."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from runtime import Runtime, cell, wire
from runtime.client import CellLost
from runtime.entity_host import Host
from runtime.registry import Registry
from runtime.settings import Settings
from schema import Database, Live
from terminalpp.types.errors import DeadlineExceeded

CELL = "cell/test/1"


class LocalCells:
    """`place` names the host that takes new entities; None refuses them all."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.place: str | None = None

    async def ask(self, name: str, method: str, *args: Any, timeout_s: float) -> Any:
        if method == "locate":
            return await cell._reply(self._locate(args[0]))
        if name not in self.hosts:
            raise CellLost(name, "gone", gone=True)
        if method == "describe":
            return json.dumps({"name": name, "state": "serving", "entities": []})
        work = {"call": cell._call, "deliver": cell._deliver, "nudge": cell._nudge}[method]
        try:
            async with asyncio.timeout(timeout_s):
                return await cell._reply(work(self.hosts[name], args[0]))
        except TimeoutError:
            raise DeadlineExceeded(f"{name} did not answer {method} in {timeout_s:.1f} s") from None

    async def _locate(self, data: bytes) -> str:
        ref, _ = wire.parse(data)
        if self.place is None:
            raise wire.Refused(wire.SUSPENDED)
        await self.hosts[self.place].activate(ref)
        return self.place

    async def names(self) -> list[str]:
        return sorted(self.hosts)

    async def start(self, name: str, group: str) -> None:
        return None

    async def kill(self, name: str, *, restart: bool) -> None:
        await self.hosts.pop(name).stop()

    async def close(self) -> None:
        return None


@contextlib.asynccontextmanager
async def hosting(settings: Settings, database: Database, live: Live) -> AsyncIterator[Runtime]:
    """A runtime whose one cell is a host in this process."""
    cells = LocalCells()
    runtime = Runtime(settings, database, cells, owns_database=False)
    registry = Registry.load(settings.entity_registry, settings.preload_registry)
    host = Host(f"test@{uuid.uuid4().hex}", settings, registry, database, live, runtime)
    cells.hosts[CELL], cells.place = host, CELL
    await host.renew()
    host.start()
    try:
        yield runtime
    finally:
        await host.stop()
        await runtime.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class LocalNode:
    """Some hosts on one database. They do not start their rounds: tests call `renew` and `poll`."""

    def __init__(self, database: Database, database_url: str, redis_url: str, home: Path) -> None:
        self.settings = Settings(
            home=home, database_url=database_url, redis_url=redis_url, lease_seconds=10.0,
            entity_registry="tests.runtime.entities:ENTITIES",
            preload_registry="tests.runtime.entities:PRELOAD", mailbox_max_depth=50,
        )
        self.database = database
        self.cells = LocalCells()
        self.runtime = Runtime(self.settings, database, self.cells, owns_database=False)
        self.clock = Clock()
        self.live = Live(redis_url)

    def add(self, name: str) -> Host:
        registry = Registry.load(self.settings.entity_registry, self.settings.preload_registry)
        host = Host(
            f"{name}@{len(self.cells.hosts)}", self.settings, registry, self.database, self.live,
            self.runtime, self.clock,
        )
        self.cells.hosts[name] = host
        self.cells.place = self.cells.place or name
        return host

    async def close(self) -> None:
        for host in self.cells.hosts.values():
            await host.stop()
        await self.runtime.close()
        await self.live.close()
