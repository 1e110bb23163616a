"""The pool of Postgres connections, transactions, and the fence.

`Database` hands out connections that speak JSON for jsonb and text for uuid. It guarantees:

- A connection that cannot be had because Postgres is restarting is waited for (up to `wait_s`, with
  jitter), then `Unavailable`. A transaction whose BEGIN failed is begun again on another connection, because
  nothing of the caller's has run yet; one that broke later raises `Unavailable` and whether it was committed
  is not known: callers name their work by id, so doing it again is recognised.
- Nobody waits for ever: a statement that is not answered within its limit is cancelled at the server and
  raises `Unavailable`. So is one whose task is cancelled; that task does not wait for it.
- A connection belongs to one task at a time. What was under way on it when it came back (a statement that was
  cancelled, a transaction that was not ended) is ended before the next one gets it, or the connection is cut.
- `fenced` checks the caller's epoch and locks the entity's row in the same transaction as the writes that
  follow. A claim must update that row, so it either came before (we raise `Fenced`) or waits until we end.
- Single statements through `Database` itself take a connection for one round trip: no BEGIN, no reset. Only
  reads (`SELECT …`) are sent again after a lost connection; a write that may have happened is not.

It refuses session state: nothing here sets variables or locks that outlive a transaction, so a connection
goes back to the pool without a reset query (which would cost every command one more round trip).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, Self, TypeVar

import asyncpg
from asyncpg.transaction import Transaction

from schema.connection import (
    STATEMENT_SECONDS,
    WAIT_SECONDS,
    Connection,
    Leased,
    insist,
    lost,
    open_one,
    translated,
    unsent,
)
from schema.pool import Pool
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import Fence

T = TypeVar("T")

IDLE_IN_TRANSACTION_MS = 10_000  # the server ends a session that is silent inside a transaction for longer
_Q = Queries("database")


class Executor(Protocol):
    """What queries need: a connection (inside a transaction or not) or the `Database` itself."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement; its status line, such as `UPDATE 1`."""
    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows of a statement."""
    async def fetchrow(self, query: str, *args: Any) -> Any:
        """The first row, or None."""
    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first value of the first row, or None."""


class Database:
    """A pool of at most `max_size` connections. Create with `Database.connect`; end with `close`."""

    def __init__(self, pool: Pool, wait_s: float) -> None:
        self._pool = pool
        self._wait_s = wait_s
        self._limit_s = STATEMENT_SECONDS

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        min_size: int = 1,
        max_size: int = 5,
        application_name: str = "terminalpp",
        wait_s: float = WAIT_SECONDS,
    ) -> Database:
        """Raises Unavailable when Postgres does not answer within `wait_s` seconds."""

        options = {
            # Plans are kept for the life of a connection: there are fewer named queries than places.
            "statement_cache_size": 256,
            "max_cached_statement_lifetime": 0,
        }
        settings = {
            # A process that was stopped in the middle of a fenced transaction holds its entity's row;
            # the entity's next owner would wait for it for ever.
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
        }

        async def attempt() -> Pool:
            pool = Pool(lambda: open_one(url, application_name, settings, **options), min_size, max_size)
            await pool.open()
            return pool

        return cls(await insist(attempt, wait_s), wait_s)

    def within(self, seconds: float) -> Self:
        """The same pool, whose single statements may take `seconds` each: for work that is long by nature."""
        other = copy.copy(self)
        other._limit_s = seconds
        return other

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return self._pool.waiting

    def connections(self) -> tuple[int, int]:
        """`(idle, used)`."""
        return self._pool.idle, self._pool.size - self._pool.idle

    async def close(self) -> None:
        """Ends the pool; connections still in use are given five seconds, then cut."""
        await self._pool.close()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a READ COMMITTED transaction: committed at the end, rolled back on an exception.

        The rollback is not waited for: who gives up returns at once, whatever the server does.
        """
        deadline = self._deadline()
        connection, transaction = await insist(lambda: self._begin(deadline), self._wait_s)
        leased = Leased(connection)
        try:
            with translated(connection):
                yield leased
                leased.end()
                await transaction.commit()
        except BaseException:
            leased.end()
            self._pool.mend(connection, transaction)
            raise
        self._pool.give_back(connection)

    def _deadline(self) -> float:
        """Of the wait for a connection, by the loop's clock."""
        return asyncio.get_running_loop().time() + self._wait_s

    async def _begin(self, deadline: float) -> tuple[asyncpg.Connection, Transaction]:
        connection = await self._pool.take(deadline)
        transaction = connection.transaction()
        try:
            await transaction.start()
        except BaseException:
            self._pool.mend(connection, transaction)
            raise
        return connection, transaction

    @contextlib.asynccontextmanager
    async def fenced(self, fence: Fence) -> AsyncIterator[Connection]:
        """A transaction that holds the entity's row for `fence`. Raises Fenced if another owner claimed it.

        Every writer for one entity passes here, so such transactions run one after the other: keep them
        short, and await nothing else inside.
        """
        async with self.transaction() as connection:
            await check_fence(connection, fence)
            yield connection

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement on a connection of the pool; its status line. Raises Unavailable, DiskFull."""
        return await self._run(lambda c: c.execute(query, *args, timeout=self._limit_s), query)

    async def executemany(self, query: str, args: list[Any]) -> None:
        """All of them in one transaction and one round trip."""
        await self._run(lambda c: c.executemany(query, args, timeout=self._limit_s), query)

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows of a statement, by a connection of the pool. Raises Unavailable."""
        return await self._run(lambda c: c.fetch(query, *args, timeout=self._limit_s), query)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """The first row or None, by a connection of the pool. Raises Unavailable."""
        return await self._run(lambda c: c.fetchrow(query, *args, timeout=self._limit_s), query)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first value of the first row or None, by a connection of the pool. Raises Unavailable."""
        return await self._run(lambda c: c.fetchval(query, *args, timeout=self._limit_s), query)

    async def _run(self, act: Callable[[asyncpg.Connection], Awaitable[T]], query: str) -> T:
        """`act` on a connection; again on another one where that cannot do anything twice."""
        read = query.startswith("SELECT")

        async def on(connection: asyncpg.Connection) -> T:
            try:
                result = await act(connection)
            except BaseException as error:
                self._pool.mend(connection)
                if not isinstance(error, Exception) or read or unsent(error) or not lost(error):
                    raise
                with translated():
                    raise
            self._pool.give_back(connection)
            return result

        with translated():
            try:
                if (free := self._pool.take_free()) is not None:
                    return await on(free)
            except Exception as error:
                if not lost(error):
                    raise
            deadline = self._deadline()

            async def attempt() -> T:
                return await on(await self._pool.take(deadline))

            return await insist(attempt, self._wait_s)


async def check_fence(connection: Connection, fence: Fence) -> None:
    """Locks the entity's row for this transaction and proves that `fence` is its present owner's.

    The lock (FOR NO KEY UPDATE) prevents the race in which a new owner claims between our check and our
    commit: its claim updates the row and waits. Raises Fenced.
    """
    if await connection.fetchval(_Q.check_fence, fence.kind, fence.id, fence.epoch) is None:
        raise errors.Fenced(f"{fence.kind}/{fence.id} has a newer owner than epoch {fence.epoch}")
