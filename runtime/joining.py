"""Joining the cluster: what a process does once before it can call entities."""

from __future__ import annotations

import asyncio

from runtime.client import Runtime
from runtime.cluster import RayCells, init_ray
from runtime.settings import Settings
from schema import Database
from terminalpp.types import errors


async def connect(settings: Settings, database: Database | None = None) -> Runtime:
    """Join the cluster at `settings.ray_address` and make sure that this node's steward stands.

    Uses `database` if given, else its own pool on `settings.database_url`. Raises Unavailable when
    Ray or Postgres does not answer. Changes the working directory of the process.
    """
    if settings.ray_address is None or settings.database_url is None:
        raise errors.InvalidInput("ray_address and database_url must be resolved before connect()")
    await asyncio.to_thread(init_ray, settings.ray_address)
    from runtime.cell import Cell  # imports Ray, which reads its token's place from the environment then

    owns = database is None
    database = database or await Database.connect(
        settings.database_url, max_size=10, application_name="terminalpp runtime"
    )
    runtime = Runtime(settings, database, RayCells(Cell, settings.home, leave=True), owns_database=owns)
    await runtime.ensure_steward()
    return runtime
