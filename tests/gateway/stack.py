"""The gateway over real entities and real sandboxes in this process: everything but Ray."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from actors.node.entity import make_drivers
from runtime import Runtime
from runtime.entity_host import Host
from runtime.registry import Registry
from runtime.settings import Settings
from schema import Database, Live
from tests.gateway.conftest import Served, serving
from tests.runtime.local_cells import LocalCells

CELL = "cell/local/1"
OPTIONS = {"sandbox_driver": "bubblewrap", "sandbox_memory_bytes": 268_435_456}


class Cells(LocalCells):
    """The local cells, which also say that they are there."""

    async def ask(self, name: str, method: str, *args: Any, timeout_s: float) -> Any:
        if method == "describe":
            return json.dumps({"name": name, "state": "serving", "entities": []})
        return await super().ask(name, method, *args, timeout_s=timeout_s)


@contextlib.asynccontextmanager
async def hosting(settings: Settings, database: Database, live: Live) -> AsyncIterator[Runtime]:
    """A runtime whose one cell is a host in this process."""
    cells = Cells()
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


@contextlib.asynccontextmanager
async def standing(
    home: Path, database: Database, live: Live, database_url: str, redis_url: str, **more: Any
) -> AsyncIterator[Served]:
    """The whole of it; sandboxes are removed at the end. `more`: settings."""
    options = {"database_url": database_url, "redis_url": redis_url, **OPTIONS, **more}
    settings = Settings(home=home, **options)
    async with (
        hosting(settings, database, live) as runtime,
        serving(home, database, live, runtime=runtime, **options) as served,
    ):
        yield served
    for driver in make_drivers(settings).values():
        if (await driver.probe()).available:
            for sandbox_id in await driver.list():
                await driver.remove(sandbox_id)
