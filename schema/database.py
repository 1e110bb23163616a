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
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, Self, TypeVar

import asyncpg
from asyncpg.transaction import Transaction

from schema.connection import (
    CONNECT_SECONDS,
    STATEMENT_SECONDS,
    WAIT_SECONDS,
    Connection,
    TimedConnection,
    insist,
    lost,
    prepare,
    translated,
    unsent,
)
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import Fence

log = logging.getLogger("terminalpp.schema")
T = TypeVar("T")

IDLE_IN_TRANSACTION_MS = 10_000  # the server ends a session that is silent inside a transaction for longer
RESET_SECONDS = 2.0  # in which the server must have ended what a caller left under way
_Q = Queries("database")


class Executor(Protocol):
    """What queries need: a connection (inside a transaction or not) or the `Database` itself."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...


async def _reset(connection: asyncpg.Connection) -> None:
    """Nothing: asyncpg itself has rolled back what was left open, and session state is not used here."""


class Database:
    """A pool of at most `max_size` connections. Create with `Database.connect`; end with `close`."""

    def __init__(self, pool: asyncpg.Pool, wait_s: float) -> None:
        self._pool = pool
        self._wait_s = wait_s
        self._limit_s = STATEMENT_SECONDS
        self._returning: set[asyncio.Task[None]] = set()
        self._waiting: set[object] = set()  # one for each who waits for a connection

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

        async def attempt() -> asyncpg.Pool:
            return await asyncpg.create_pool(
                url,
                min_size=min_size,
                max_size=max_size,
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                connection_class=TimedConnection,
                init=prepare,
                reset=_reset,
                # Plans are kept for the life of a connection: there are fewer named queries than places.
                statement_cache_size=256,
                max_cached_statement_lifetime=0,
                server_settings={
                    "application_name": application_name,
                    "jit": "off",
                    # A process that was stopped in the middle of a fenced transaction holds its entity's row;
                    # the entity's next owner would wait for it for ever.
                    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
                },
            )

        return cls(await insist(attempt, wait_s), wait_s)

    def within(self, seconds: float) -> Self:
        """The same pool, whose single statements may take `seconds` each: for work that is long by nature."""
        other = copy.copy(self)
        other._limit_s = seconds
        return other

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return len(self._waiting)

    def connections(self) -> tuple[int, int]:
        """`(idle, used)`."""
        idle = self._pool.get_idle_size()
        return idle, self._pool.get_size() - idle

    async def close(self) -> None:
        """Ends the pool; connections still in use are given five seconds, then cut."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection without a transaction. Raises Unavailable as described above."""
        connection = await self._connection()
        try:
            with translated(connection):
                yield connection
        finally:
            self._release(connection)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a READ COMMITTED transaction: committed at the end, rolled back on an exception.

        The rollback is not waited for: who gives up returns at once, whatever the server does.
        """
        deadline = time.monotonic() + self._wait_s
        connection, transaction = await insist(lambda: self._begin(deadline), self._wait_s)
        try:
            with translated(connection):
                yield connection
                await transaction.commit()
                transaction = None
        finally:
            self._release(connection, transaction)

    async def _connection(self) -> Connection:
        deadline = time.monotonic() + self._wait_s
        return await insist(lambda: self._acquire(deadline), self._wait_s)

    async def _acquire(self, deadline: float) -> Connection:
        """One of the pool, free or new. Raises TimeoutError, and what connecting raises."""
        self._waiting.add(mark := object())
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.01)):
                return await self._pool.acquire()
        finally:
            self._waiting.discard(mark)

    async def _begin(self, deadline: float) -> tuple[Connection, Transaction | None]:
        connection = await self._acquire(deadline)
        transaction = connection.transaction()
        try:
            await transaction.start()
        except BaseException:
            self._release(connection, transaction)
            raise
        return connection, transaction

    def _release(self, connection: Connection, transaction: Transaction | None = None) -> None:
        """Back to the pool, behind the caller's back: the pool takes three rounds of the loop for it.
        `transaction`: one that was not committed."""
        task = asyncio.create_task(self._give_back(connection, transaction))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _give_back(self, connection: Connection, transaction: Transaction | None) -> None:
        try:
            if transaction is not None and not connection.is_closed():
                await self._roll_back(transaction)
            # Waits for the end of a cancelled statement, and cuts the connection when it does not come.
            await self._pool.release(connection, timeout=RESET_SECONDS)
        except Exception as error:
            with contextlib.suppress(asyncpg.InterfaceError):  # the pool has cut it already
                connection.terminate()
            if not lost(error):
                log.error("a connection could not be given back", exc_info=error)

    async def _roll_back(self, transaction: Transaction) -> None:
        """Raises TimeoutError when the server does not answer."""
        async with asyncio.timeout(RESET_SECONDS):
            # One that never began, or whose COMMIT failed, has nothing to roll back.
            with contextlib.suppress(asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
                await transaction.rollback()

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
        return await self._run(lambda c: c.execute(query, *args, timeout=self._limit_s), query)

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        return await self._run(lambda c: c.fetch(query, *args, timeout=self._limit_s), query)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._run(lambda c: c.fetchrow(query, *args, timeout=self._limit_s), query)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._run(lambda c: c.fetchval(query, *args, timeout=self._limit_s), query)

    async def _run(self, act: Callable[[Connection], Awaitable[T]], query: str) -> T:
        """`act` on a connection; again on another one where that cannot do anything twice."""
        deadline = time.monotonic() + self._wait_s
        read = query.startswith("SELECT")

        async def attempt() -> T:
            connection = await self._acquire(deadline)
            try:
                return await act(connection)
            except Exception as error:
                if read or unsent(error) or not lost(error):
                    raise
                with translated():
                    raise
            finally:
                self._release(connection)

        with translated():
            return await insist(attempt, self._wait_s)


async def check_fence(connection: Connection, fence: Fence) -> None:
    """Locks the entity's row for this transaction and proves that `fence` is its present owner's.

    The lock (FOR NO KEY UPDATE) prevents the race in which a new owner claims between our check and our
    commit: its claim updates the row and waits. Raises Fenced.
    """
    if await connection.fetchval(_Q.check_fence, fence.kind, fence.id, fence.epoch) is None:
        raise errors.Fenced(f"{fence.kind}/{fence.id} has a newer owner than epoch {fence.epoch}")
