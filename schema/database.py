"""The pool of Postgres connections, transactions, and the fence.

`Database` hands out connections that speak JSON for jsonb and text for uuid. It guarantees:

- A connection that cannot be had because Postgres is restarting is waited for (up to `WAIT_SECONDS`, with
  jitter), then `Unavailable`. A transaction whose BEGIN failed is begun again on another connection, because
  nothing of the caller's has run yet; one that broke later raises `Unavailable` and whether it was committed
  is not known: callers name their work by id, so doing it again is recognised.
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
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from schema.rows import to_json
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.ids import Fence

log = logging.getLogger("terminalpp.schema")
Connection = asyncpg.Connection | PoolConnectionProxy
T = TypeVar("T")

WAIT_SECONDS = 30.0
IDLE_IN_TRANSACTION_MS = 10_000  # the server ends a session that is silent inside a transaction for longer
_Q = Queries("database")

# The server is away, starting, stopping or full. OSError: refused or reset; TimeoutError: no answer.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # the protocol broke off where asyncpg did not expect it
)


class Executor(Protocol):
    """What queries need: a connection (inside a transaction or not) or the `Database` itself."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...


def lost(error: BaseException) -> bool:
    """Whether `error` says that the connection or the server went away."""
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg says "connection is closed" / "connection was closed in the middle of operation" / "pool is
        # closing" with one class; other interface errors are mistakes in our own code and stay as they are.
        return "clos" in str(error)
    return isinstance(error, _AWAY) and not isinstance(error, errors.TerminalError)


def translate(error: BaseException) -> errors.TerminalError | None:
    """Our error for a database error that a caller can act upon; None for everything else."""
    if lost(error):
        return errors.Unavailable(f"the database does not answer: {error or type(error).__name__}")
    if isinstance(error, (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)):
        return errors.Unavailable(f"two transactions collided: {error}")
    if isinstance(error, asyncpg.DiskFullError):
        return errors.DiskFull(f"the database has no space left: {error}")
    if isinstance(error, (asyncpg.InsufficientResourcesError, asyncpg.PostgresIOError)):
        return errors.Unavailable(f"the database lacks what it needs: {error}")
    if isinstance(error, (asyncpg.DataError, asyncpg.CharacterNotInRepertoireError)):
        return errors.InvalidInput(f"the database cannot hold this value: {error}")
    if isinstance(error, asyncpg.ForeignKeyViolationError):
        return errors.NotFound(f"it refers to something that does not exist: {error.detail or error}")
    return None


@contextlib.contextmanager
def _translated(connection: Connection | None = None) -> Any:
    """Errors of the database as ours. What the caller's own code raises inside passes through untouched.

    An OSError is the database's only when `connection` is gone: the caller may have files of its own.
    """
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if isinstance(error, OSError) and connection is not None and not connection.is_closed():
            raise
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


async def _prepare(connection: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=to_json, decoder=json.loads, format="text"
        )
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str, format="text")




async def _reset(connection: asyncpg.Connection) -> None:
    """Nothing: asyncpg itself has rolled back what was left open, and session state is not used here."""


async def insist(attempt: Callable[[], Awaitable[T]], wait_s: float = WAIT_SECONDS) -> T:
    """The result of `attempt`, tried again with jittered pauses (20 ms to 1 s) while Postgres is away.

    Raises Unavailable after `wait_s` seconds; every other error at once.
    """
    deadline = time.monotonic() + wait_s
    pause = 0.02
    while True:
        try:
            return await attempt()
        except Exception as error:
            # A pool that was closed on purpose stays closed.
            if not lost(error) or "pool is clos" in str(error):
                raise
            if time.monotonic() + pause > deadline:
                raise errors.Unavailable(
                    f"the database did not answer for {wait_s:.0f} s: {error or type(error).__name__}"
                ) from error
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, 1.0)


async def connect(url: str, *, application_name: str = "terminalpp", wait_s: float = WAIT_SECONDS) -> Any:
    """One connection outside any pool (migrations use it). Waits for a restarting server as `insist` does."""

    async def attempt() -> asyncpg.Connection:
        connection = await asyncpg.connect(
            url, timeout=10, server_settings={"application_name": application_name, "jit": "off"}
        )
        await _prepare(connection)
        return connection

    return await insist(attempt, wait_s)


class Database:
    """A pool of at most `max_size` connections. Create with `Database.connect`; end with `close`."""

    def __init__(self, pool: asyncpg.Pool, wait_s: float) -> None:
        self._pool = pool
        self._wait_s = wait_s
        self._returning: set[asyncio.Task[None]] = set()

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
                timeout=10,
                init=_prepare,
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

    async def close(self) -> None:
        """Ends the pool; connections still in use are given five seconds, then cut."""
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except TimeoutError:
            self._pool.terminate()

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection without a transaction. Raises Unavailable as described above."""
        connection = await insist(self._pool.acquire, self._wait_s)
        try:
            with _translated(connection):
                yield connection
        finally:
            self._release(connection)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a READ COMMITTED transaction: committed at the end, rolled back on an exception."""
        connection, transaction = await insist(self._begin, self._wait_s)
        try:
            with _translated(connection):
                try:
                    yield connection
                except BaseException:
                    # On a dead connection there is nothing to roll back, and the first error is the one
                    # that tells what happened.
                    with contextlib.suppress(asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
                        await transaction.rollback()
                    raise
                await transaction.commit()
        finally:
            self._release(connection)

    def _release(self, connection: Connection) -> None:
        """Back to the pool, behind the caller's back: the pool takes three rounds of the loop for it."""
        task = asyncio.create_task(self._pool.release(connection))
        self._returning.add(task)
        task.add_done_callback(self._released)

    def _released(self, task: asyncio.Task[None]) -> None:
        self._returning.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not lost(error):
            log.error("a connection could not be given back", exc_info=error)

    async def _begin(self) -> tuple[Connection, Any]:
        connection = await self._pool.acquire()
        try:
            transaction = connection.transaction()
            await transaction.start()
        except BaseException:
            self._release(connection)
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
        return await self._run(lambda c: c.execute(query, *args), query)

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        return await self._run(lambda c: c.fetch(query, *args), query)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._run(lambda c: c.fetchrow(query, *args), query)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._run(lambda c: c.fetchval(query, *args), query)

    async def _run(self, act: Callable[[Connection], Awaitable[T]], query: str) -> T:
        async def attempt() -> T:
            async with self._pool.acquire() as connection:
                return await act(connection)

        with _translated():
            if query.startswith("SELECT"):
                return await insist(attempt, self._wait_s)
            connection = await insist(self._pool.acquire, self._wait_s)
            try:
                return await act(connection)
            finally:
                self._release(connection)


async def check_fence(connection: Connection, fence: Fence) -> None:
    """Locks the entity's row for this transaction and proves that `fence` is its present owner's.

    The lock (FOR NO KEY UPDATE) prevents the race in which a new owner claims between our check and our
    commit: its claim updates the row and waits. Raises Fenced.
    """
    if await connection.fetchval(_Q.check_fence, fence.kind, fence.id, fence.epoch) is None:
        raise errors.Fenced(f"{fence.kind}/{fence.id} has a newer owner than epoch {fence.epoch}")
