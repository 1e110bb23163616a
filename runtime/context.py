"""The means that an entity is given to work with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from terminalpp.types.ids import Fence, Ref, new_id

if TYPE_CHECKING:
    import asyncio

    from runtime.client import Runtime
    from runtime.entity import Turn
    from runtime.settings import Settings
    from runtime.tenure import Tenure
    from schema import Connection, Database, Live


# The read-only method that this task carries out; tasks that it starts inherit it.
reading: ContextVar[str | None] = ContextVar("reading", default=None)


class Context:
    """One per activation. Everything here ends with it: its tasks are cancelled, its fence is refused."""

    def __init__(
        self,
        tenure: Tenure,
        spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]],
        open_turn: Callable[[str], AbstractAsyncContextManager[Turn]],
    ) -> None:
        means = tenure.means
        self._tenure, self._spawn, self._open_turn = tenure, spawn, open_turn
        self.ref: Ref = tenure.ref
        self.fence: Fence = tenure.fence
        self.database: Database = means.database
        self.live: Live = means.live
        self.redis_url: str | None = means.settings.redis_url
        self.settings: Settings = means.settings
        self.runtime: Runtime = means.runtime
        self.node_id: str = means.settings.node_id

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background for as long as the entity is active; it keeps the entity active.

        If it raises what is a defect (`supervision.Cause`), the entity is restarted from its committed state;
        a refusal or weather is logged: work that must outlive weather waits it out itself.
        """
        self._check_may_write()
        return self._spawn(work, name)

    @asynccontextmanager
    async def fenced(self) -> AsyncIterator[Connection]:
        """A transaction that holds the entity's row under our epoch. Raises Fenced, Unavailable.

        Short, and nothing else awaited inside: turns and the cell's lease wait for it.
        """
        self._check_may_write()
        async with self._tenure.fenced() as connection:
            yield connection

    @property
    def quarantined(self) -> bool:
        """Only the methods and effects that the class names in `in_quarantine` are carried out."""
        return self._tenure.quarantined

    def turn(self) -> AbstractAsyncContextManager[Turn]:
        """A turn for background work: waits for the running one, then gives state and transaction.

        Never from within a turn: it would wait for itself.
        """
        self._check_may_write()
        return self._open_turn(new_id())

    def _check_may_write(self) -> None:
        if (method := reading.get()) is not None:
            raise TypeError(f"{self.ref}: {method} is @readonly and may not write, or leave work behind")
