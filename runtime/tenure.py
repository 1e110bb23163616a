"""One owner's hold on one entity: what the parts of an activation share.

A tenure knows who holds what (`ref`, `fence`), by which means, and whether it still does. The mailbox, the
effects and the context that an entity is given are built upon it; they know neither each other nor the
activation that ties them together, and what they need of it they are given as functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.entity import EFFECT_FAILED, Entity
from schema import entities
from terminalpp.types import errors

if TYPE_CHECKING:
    from runtime.client import Runtime
    from runtime.settings import Settings
    from schema import Connection, Database, Live


@dataclass(frozen=True, slots=True)
class Means:
    """The means of a cell, which all that it hosts share. `clock`: see `entity_host.boot_clock`; `serving`:
    whether the cell can prove its lease now."""

    settings: Settings
    database: Database
    live: Live
    runtime: Runtime
    clock: Callable[[], float]
    serving: Callable[[], bool]


class Tenure:
    """From a successful claim (`row` is what it returned) until it is closed.

    `drop`: have the host forget the entity, which is no longer ours.
    """

    def __init__(
        self, means: Means, cls: type[Entity], row: entities.Entity, drop: Callable[[Exception], None]
    ) -> None:
        self.means = means
        self.database = means.database
        self.cls = cls
        self.ref = row.ref
        self.fence = row.fence
        self.quarantined = row.quarantined_at is not None
        self.closed = False
        self.ready = asyncio.Event()  # the object may be used
        self.last_used = means.clock()
        self.drop = drop

    @property
    def only(self) -> list[str] | None:
        """Names of the methods and effects that are carried out; None: all."""
        return [*self.cls.in_quarantine, EFFECT_FAILED] if self.quarantined else None

    def touch(self) -> None:
        """It was used just now."""
        self.last_used = self.means.clock()

    def check_open(self) -> None:
        """Raises Fenced once closed."""
        if self.closed:
            raise errors.Fenced(f"{self.ref} is no longer active here")

    def check_serving(self) -> None:
        """Raises Fenced once closed, Unavailable while the cell cannot prove its lease."""
        self.check_open()
        if not self.means.serving():
            raise errors.Unavailable(f"{self.ref}: the lease could not be renewed")

    @asynccontextmanager
    async def fenced(self) -> AsyncIterator[Connection]:
        """A transaction that holds the entity's row under our epoch. Raises Fenced, Unavailable."""
        self.check_serving()
        async with self.database.fenced(self.fence) as connection:
            yield connection

    async def load(self) -> dict[str, Any] | None:
        """The state in the database; None when the entity has a newer owner."""
        row = await entities.load(self.database, self.ref)
        return row.state if row is not None and row.fence == self.fence else None
