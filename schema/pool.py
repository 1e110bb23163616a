"""A pool of connections to Postgres that costs a few microseconds for each use.

asyncpg's own pool takes some 75 µs of a core for each use (two tasks, a shield, three timers): a sixth of a
request (`bench/pool.py` measures both in turns). This pool guarantees:

- At most `max_size` connections are open or being opened. A caller who finds none free waits in a line; a
  connection that comes back goes to the first in it.
- A connection is clean when the next caller gets it. A caller who met any trouble gives it back with `mend`:
  whatever still runs on it (a cancelled statement, an open transaction) is ended in the background within
  `MEND_SECONDS`, or the connection is closed.
- A connection that is idle for `IDLE_SECONDS` is closed (`min_size` stay open), and none lives longer than
  `LIFE_SECONDS`, because a backend's memory only grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable

import asyncpg
from asyncpg.transaction import Transaction

from schema.connection import lost

log = logging.getLogger("terminalpp.schema")
MEND_SECONDS = 2.0
IDLE_SECONDS = 300.0
LIFE_SECONDS = 3600.0
CLOSE_SECONDS = 5.0


class Pool:
    """`connect` opens one connection. Call `open` before the first use and `close` after the last."""

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], min_size: int, max_size: int
    ) -> None:
        self._connect = connect
        self._min_size, self._max_size = min_size, max_size
        self._free: list[tuple[asyncpg.Connection, float]] = []  # and since when, the latest last
        self._born: dict[asyncpg.Connection, float] = {}  # all that are open
        self._opening = 0
        self._line: deque[asyncio.Future[asyncpg.Connection | None]] = deque()
        self._mending: set[asyncio.Task[None]] = set()
        self._trimming: asyncio.TimerHandle | None = None
        self._closed = False
        self._empty = asyncio.Event()  # closed, and all has come back

    @property
    def waiting(self) -> int:
        """How many callers wait in the line."""
        return len(self._line)

    @property
    def idle(self) -> int:
        """How many connections nobody uses now."""
        return len(self._free)

    @property
    def size(self) -> int:
        """How many connections there are, used or not."""
        return len(self._born)

    async def open(self) -> None:
        """Opens `min_size` connections. Raises what connecting raises, and leaves none open then."""
        try:
            for _ in range(self._min_size):
                self._opening += 1
                self.give_back(await self._open())
        except BaseException:
            self.terminate()
            raise

    def take_free(self) -> asyncpg.Connection | None:
        """Returns a free connection, or None when there is none."""
        while self._free:
            connection, _ = self._free.pop()
            if not connection.is_closed():
                return connection
            self._drop(connection)
        return None

    async def take(self, deadline: float) -> asyncpg.Connection:
        """Returns a free connection, a new one, or the next that comes back.

        `deadline`: of the loop's clock, for the wait in the line. Raises TimeoutError, InterfaceError once
        closed, and what connecting raises.
        """
        if (free := self.take_free()) is not None:
            return free
        self._check_open()
        if len(self._born) + self._opening < self._max_size:
            self._opening += 1
            return await self._open()
        turn: asyncio.Future[asyncpg.Connection | None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                connection = await turn
        except BaseException:
            if turn in self._line:
                self._line.remove(turn)
            elif not turn.cancelled() and turn.exception() is None:  # its turn came at the very moment
                self._pass_on(turn.result())
            raise
        return connection if connection is not None else await self._open()

    def give_back(self, connection: asyncpg.Connection) -> None:
        """Takes a connection back on which no statement runs."""
        now = asyncio.get_running_loop().time()
        if connection.is_in_transaction():
            self.mend(connection)
        elif self._closed or connection.is_closed() or now - self._born[connection] > LIFE_SECONDS:
            self._end(connection)
        elif (turn := self._first()) is not None:
            turn.set_result(connection)
        else:
            self._free.append((connection, now))
            if self._trimming is None and len(self._free) > self._min_size:
                self._trimming = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._trim)

    def mend(self, connection: asyncpg.Connection, transaction: Transaction | None = None) -> None:
        """Takes a connection back after trouble and cleans it in the background.

        `transaction`: one that was not committed.
        """
        if connection.is_closed():
            self._drop(connection)
            return
        task = asyncio.create_task(self._mend(connection, transaction), name="mend a connection")
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    async def close(self) -> None:
        """Closes all connections, those in use after `CLOSE_SECONDS`. Waiting callers get an error."""
        self._closed = True
        self._stop()
        for connection, _ in self._free:
            self._end(connection)
        self._free.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._born:
                    await self._empty.wait()
                await asyncio.gather(*self._mending)
        self.terminate()

    def terminate(self) -> None:
        """Cuts all connections at once."""
        self._closed = True
        self._stop()
        for connection in list(self._born):
            connection.terminate()
        self._born.clear()
        self._free.clear()

    # ---- inside ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise asyncpg.InterfaceError("pool is closed")

    async def _open(self) -> asyncpg.Connection:
        """Opens a connection in a place that `_opening` counts already."""
        try:
            connection = await self._connect()
        except BaseException:
            self._pass_on(None)
            raise
        self._opening -= 1
        self._born[connection] = asyncio.get_running_loop().time()
        if self._closed:
            self._drop(connection)
            connection.terminate()
            self._check_open()
        return connection

    async def _mend(self, connection: asyncpg.Connection, transaction: Transaction | None) -> None:
        try:
            async with asyncio.timeout(MEND_SECONDS):
                if transaction is not None:
                    # One that never began, or whose COMMIT failed, has nothing to roll back.
                    with contextlib.suppress(asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
                        await transaction.rollback()
                await connection.reset()  # waits for the end of a statement that was cancelled
        except BaseException as error:
            connection.terminate()
            self._drop(connection)
            if not isinstance(error, Exception):
                raise
            if not lost(error):
                log.error("a connection could not be mended", exc_info=error)
        else:
            self.give_back(connection)

    def _end(self, connection: asyncpg.Connection) -> None:
        """Closes a connection properly, in the background."""
        self._drop(connection)
        if not connection.is_closed():
            task = asyncio.create_task(self._say_farewell(connection), name="close a connection")
            self._mending.add(task)
            task.add_done_callback(self._mending.discard)

    async def _say_farewell(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.close(timeout=MEND_SECONDS)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()

    def _drop(self, connection: asyncpg.Connection) -> None:
        """Removes a connection from the pool; another may be opened in its place."""
        self._born.pop(connection, None)
        self._next()
        if self._closed and not self._born:
            self._empty.set()

    def _first(self) -> asyncio.Future[asyncpg.Connection | None] | None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                return turn
        return None

    def _next(self) -> None:
        """Lets the first in the line open a connection, if there is a place."""
        if len(self._born) + self._opening < self._max_size and (turn := self._first()) is not None:
            self._opening += 1
            turn.set_result(None)

    def _pass_on(self, turn: asyncpg.Connection | None) -> None:
        """Gives what a caller did not take (None: a place to open one) to the next."""
        if turn is not None:
            self.give_back(turn)
        else:
            self._opening -= 1
            self._next()

    def _trim(self) -> None:
        """Closes connections that were idle for too long, the longest first."""
        self._trimming = None
        now = asyncio.get_running_loop().time()
        while len(self._free) > self._min_size and now - self._free[0][1] >= IDLE_SECONDS:
            self._end(self._free.pop(0)[0])
        if len(self._free) > self._min_size:
            left = self._free[0][1] + IDLE_SECONDS - now
            self._trimming = asyncio.get_running_loop().call_later(left, self._trim)

    def _stop(self) -> None:
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
        while (turn := self._first()) is not None:
            turn.set_exception(asyncpg.InterfaceError("pool is closed"))
