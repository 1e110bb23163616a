"""One connection to Postgres: its values, the time limit of its statements, and what its errors mean.

Every statement has a limit (`STATEMENT_SECONDS` unless the caller says otherwise), because a server that is
frozen, or a disk that hangs, closes nothing: whoever waits would wait for ever. A statement that is not
answered in time is cancelled at the server and raises `Unavailable`; whether it was carried out is not
known. The limit is the connection's own timer, so a caller's `asyncio.timeout` stays the caller's error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import asyncpg

from schema.rows import to_json
from terminalpp.types import errors

T = TypeVar("T")

STATEMENT_SECONDS = 5.0  # an answer of the API within 10 s is this, the wait for a connection, and a margin
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
WAIT_SECONDS = 30.0

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


class Leased:
    """A connection for as long as it is lent: whoever keeps it longer gets an error, not another's rows."""

    __slots__ = ("_connection",)

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection: asyncpg.Connection | None = connection

    def end(self) -> None:
        """Make this lease unusable: the connection goes to somebody else."""
        self._connection = None

    def __getattr__(self, name: str) -> Any:
        if self._connection is None:
            raise asyncpg.InterfaceError(f"{name} of a connection that was given back")
        return getattr(self._connection, name)


Connection = asyncpg.Connection | Leased


class TimedConnection(asyncpg.Connection):
    """Says `Unavailable` when a statement's time is up, also for BEGIN, COMMIT and ROLLBACK."""

    @contextlib.contextmanager
    def _timed(self, seconds: float | None) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            limit = seconds or self._config.command_timeout or 0.0
            raise errors.Unavailable(
                f"the database did not answer within {limit:.0f} s; whether it did what it was told is open"
            ) from error

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement within the time limit; its status line. Raises what `execute` of asyncpg raises,
        mapped."""
        with self._timed(timeout):
            return await super().execute(query, *args, timeout=timeout)

    async def executemany(self, command: str, args: Any, *, timeout: float | None = None) -> None:
        """Run a statement once for each of `args`, all within one time limit."""
        with self._timed(timeout):
            await super().executemany(command, args, timeout=timeout)

    async def fetch(self, query: str, *args: Any, timeout: float | None = None, **options: Any) -> list[Any]:
        """All rows of a statement, within the time limit."""
        with self._timed(timeout):
            return await super().fetch(query, *args, timeout=timeout, **options)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None, **options: Any) -> Any:
        """The first row of a statement or None, within the time limit."""
        with self._timed(timeout):
            return await super().fetchrow(query, *args, timeout=timeout, **options)

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None, **options: Any) -> Any:
        """The first value of the first row or None, within the time limit."""
        with self._timed(timeout):
            return await super().fetchval(query, *args, timeout=timeout, **options)


def lost(error: BaseException) -> bool:
    """Whether `error` says that the connection or the server went away."""
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg says "connection is closed" / "connection was closed in the middle of operation" / "pool is
        # closing" with one class; other interface errors are mistakes in our own code and stay as they are.
        return "clos" in str(error)
    return isinstance(error, _AWAY) and not isinstance(error, errors.TerminalError)


def unsent(error: BaseException) -> bool:
    """Whether the driver found the connection unusable before it sent anything.

    A server that ends an idle session says so (57P01) before it closes: a statement that comes between the
    two finds the protocol in a state that it cannot leave ("cannot switch to state 11").
    """
    if isinstance(error, asyncpg.InternalClientError):
        return "cannot switch to state" in str(error)
    return isinstance(error, asyncpg.InterfaceError) and "connection is closed" in str(error)


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
def translated(connection: asyncpg.Connection | None = None) -> Iterator[None]:
    """Errors of the database as ours. What the caller's own code raises inside passes through untouched.

    An OSError is the database's only when `connection` is gone: the caller may have files of its own.
    """
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        if isinstance(error, OSError) and connection is not None and not connection.is_closed():
            raise
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


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


async def prepare(connection: asyncpg.Connection) -> None:
    """JSON for json and jsonb, text for uuid."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=to_json, decoder=json.loads, format="text"
        )
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str, format="text")


async def connect(
    url: str,
    *,
    application_name: str = "terminalpp",
    wait_s: float = WAIT_SECONDS,
    limit_s: float = STATEMENT_SECONDS,
) -> asyncpg.Connection:
    """One connection outside any pool, to be ended with `close`. Waits for a restarting server as `insist`
    does; `limit_s` is the time of each statement (a migration takes longer than a request may)."""

    with translated():
        return await insist(lambda: open_one(url, application_name, limit_s=limit_s), wait_s)


async def open_one(
    url: str,
    application_name: str,
    settings: dict[str, str] | None = None,
    *,
    limit_s: float = STATEMENT_SECONDS,
    **options: Any,
) -> asyncpg.Connection:
    """A connection that knows our types, tried for once. `settings` are the server's, `options` asyncpg's."""
    connection = await asyncpg.connect(
        url,
        timeout=CONNECT_SECONDS,
        command_timeout=limit_s,
        connection_class=TimedConnection,
        server_settings={"application_name": application_name, "jit": "off", **(settings or {})},
        **options,
    )
    try:
        await prepare(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def close(connection: asyncpg.Connection) -> None:
    """End a connection of `connect`: politely if the server answers within two seconds, else at once."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
