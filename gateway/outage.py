"""Whether Postgres answers, asked beside the requests, and what becomes of those that wait for it.

A request may wait for Postgres here, in a cell, or for a cell that cannot renew its lease; each of these has
its own limit, and they add up. So the limit of the whole is kept here: once Postgres has not answered for
`AWAY_S`, every request that has not begun its answer gets 503 with Retry-After, and so does whoever comes,
until it answers again. What was cut is either done or not: the same Idempotency-Key tells.

The question goes over a connection of its own, so neither a pool in which everybody waits nor a statement
that hangs can hold it up. Streams that have begun go on as they can.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from schema import connection as connections
from terminalpp.types.errors import TerminalError, Unavailable

log = logging.getLogger("gateway")

EVERY_S = 1.0
LIMIT_S = 2.5  # of one question, and of one connection attempt
AWAY_S = 4.0


class Outage:
    """One per application. Without a `url` (tools that only read the routes) nothing is ever away."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._connection: connections.Connection | None = None
        self._asking: asyncio.Task[None] | None = None
        self._silent_since: float | None = None  # when the first question that was not answered was asked
        self._waiting: dict[asyncio.Timeout, Callable[[], bool]] = {}

    @property
    def away(self) -> bool:
        """Whether Postgres has not answered for AWAY_S."""
        return self._silent_s > AWAY_S

    @property
    def _silent_s(self) -> float:
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    async def guard(self, begun: Callable[[], bool], work: Callable[[], Awaitable[None]]) -> None:
        """A request's work. Raises Unavailable while Postgres is away, unless the answer has `begun`."""
        if self.away:
            raise self._unavailable()
        limit = asyncio.timeout(None)
        self._waiting[limit] = begun
        try:
            async with limit:
                await work()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self._unavailable() from error
        finally:
            del self._waiting[limit]

    async def ask(self) -> None:
        """Returns when Postgres has answered a question that was sent after this call or shortly before.
        Raises Unavailable within 2 × LIMIT_S."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="ask postgres")
            self._asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    async def run(self) -> None:
        """Ask for ever, and cut what waits while there is no answer."""
        while self._url is not None:
            with contextlib.suppress(TerminalError):
                await self.ask()
            if self.away:
                self._cut()
            await asyncio.sleep(EVERY_S)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
        if self._connection is not None:
            self._connection.terminate()

    async def _ask(self) -> None:
        if self._url is None:
            return
        asked_at = time.monotonic()
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connect(self._url)
            async with asyncio.timeout(LIMIT_S):
                await self._connection.fetchval("SELECT 1")
        except Exception as error:
            self._silent_since = self._silent_since or asked_at
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            if isinstance(error, TerminalError):
                raise
            words = str(error) or f"nothing came within {LIMIT_S} s"
            raise Unavailable(f"the database does not answer: {words}") from error
        self._silent_since = None

    @staticmethod
    async def _connect(url: str) -> connections.Connection:
        async with asyncio.timeout(LIMIT_S):
            return await connections.connect(url, application_name="tpp-gateway outage", wait_s=0)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # taken: nobody may be waiting for it

    def _cut(self) -> None:
        now = asyncio.get_running_loop().time()
        cut = [limit for limit, begun in self._waiting.items() if not begun()]
        for limit in cut:
            if not limit.expired() and limit.when() is None:
                limit.reschedule(now)
        if cut:
            log.warning("the database does not answer: %d requests are told so", len(cut))

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"the database has not answered for {self._silent_s:.0f} s")
