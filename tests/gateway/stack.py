"""The gateway over real entities and real sandboxes in this process: everything but Ray."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from actors.node.entity import make_drivers
from runtime.settings import Settings
from schema import Database, Live
from tests.gateway.conftest import Served, serving
from tests.runtime.local_cells import hosting

OPTIONS = {"sandbox_driver": "bubblewrap", "sandbox_memory_bytes": 268_435_456}


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
