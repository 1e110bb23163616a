"""One Ray cluster and one database for all tests of this folder; entities are told apart by fresh ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime import Runtime
from runtime.connect import connect
from runtime.settings import Settings
from schema import Database
from terminalpp.types.ids import Ref, new_id
from tests.conftest import admin, with_database
from tests.runtime.local_cells import CELL, LocalNode
from tests.runtime.ray_processes import RayHead

LEASE_SECONDS = 4.0


def settings_for(database_url: str, redis_url: str, home: Path) -> Settings:
    return Settings(
        home=home, database_url=database_url, redis_url=redis_url, lease_seconds=LEASE_SECONDS,
        cells_per_node=6, entity_registry="tests.runtime.entities:ENTITIES",
        preload_registry="tests.runtime.entities:PRELOAD", mailbox_max_depth=50,
    )


@pytest.fixture(scope="package")
async def ray_head(
    postgres_url: str, template_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RayHead]:
    await admin(postgres_url, f"CREATE DATABASE runtime_cluster TEMPLATE {template_database}")
    url = with_database(postgres_url, "runtime_cluster")
    head = RayHead(settings_for(url, redis_url, tmp_path_factory.mktemp("home")))
    await head.start()
    yield head
    head.stop()


@pytest.fixture(scope="package")
async def runtime(ray_head: RayHead) -> AsyncIterator[Runtime]:
    runtime = await connect(ray_head.settings)
    yield runtime
    await runtime.close()


@pytest.fixture(scope="package")
async def cluster_database(ray_head: RayHead) -> AsyncIterator[Database]:
    database = await Database.connect(ray_head.settings.database_url)
    yield database
    await database.close()


@pytest.fixture
async def node(
    database: Database, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[LocalNode]:
    """A node with one cell in this process."""
    node = LocalNode(database, database_url, redis_url, tmp_path)
    node.add(CELL)
    yield node
    await node.close()


@pytest.fixture
def counter() -> Ref:
    return Ref("counter", new_id())
