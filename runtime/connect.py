"""Joining the cluster: what a process does once before it can call entities."""

from __future__ import annotations

from runtime.client import Runtime
from runtime.cluster import RayCells, init_ray
from runtime.settings import Settings
from schema import Database
from terminalpp.types import errors


async def connect(settings: Settings, database: Database | None = None, *, wait: bool = True) -> Runtime:
    """Join the cluster at `settings.ray_address` and make sure that this node's steward stands.

    Without `wait` this begins with the first `Runtime.joined`, which the caller awaits beside other work:
    importing Ray and joining take most of a gateway's start, and the cells of this machine answer over their
    sockets meanwhile.
    Uses `database` if given, else its own pool on `settings.database_url`. Raises Unavailable when
    Ray or Postgres does not answer. Changes the working directory of the process.
    """
    if settings.ray_address is None or settings.database_url is None:
        raise errors.InvalidInput("ray_address and database_url must be resolved before connect()")
    address, owns = settings.ray_address, database is None

    def join() -> type:
        init_ray(address)
        from runtime.cell import Cell  # imports Ray, which reads its token's place from the environment then

        return Cell

    cells = RayCells(None, settings.home, join=join, leave=True)
    if wait:
        await cells.joined()
    database = database or await Database.connect(
        settings.database_url, max_size=10, application_name="terminalpp runtime"
    )
    runtime = Runtime(settings, database, cells, owns_database=owns)
    if wait:
        await runtime.joined()
    return runtime
