"""A short statement through `schema.Database`, beside asyncpg's own pool and one connection alone.

    python -m bench.pool [N]

`cpu µs` is what this process took for one; eight run at once, as in a server. Needs no running home.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from bench.measure import row
from schema import Database
from schema import connection as connections
from tests.services import PostgresServer

AT_ONCE = 8
ROUNDS = 5
SQL = "SELECT 1 AS a, 2 AS b"


async def turn(work: Callable[[], Awaitable[Any]], n: int, taken: list[float]) -> float:
    """Seconds of this process's time for `n` runs."""

    async def one() -> None:
        for _ in range(n // AT_ONCE):
            began = time.perf_counter()
            await work()
            taken.append(time.perf_counter() - began)

    began = time.process_time()
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return time.process_time() - began


async def main(n: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tpp-pool-") as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            await server.answer()
            await measure(server.url(), n)
        finally:
            server.stop()


async def measure(url: str, n: int) -> None:
    free = [await connections.connect(url) for _ in range(AT_ONCE)]
    ours = await Database.connect(url, max_size=AT_ONCE)
    theirs = await asyncpg.create_pool(url, min_size=1, max_size=AT_ONCE)

    async def alone() -> None:
        connection = free.pop()
        await connection.fetchrow(SQL)
        free.append(connection)

    works = {
        "a connection of its own": alone,
        "schema.Database": lambda: ours.fetchrow(SQL),
        "asyncpg's pool": lambda: theirs.fetchrow(SQL),
    }
    taken: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, float] = defaultdict(float)
    for work in works.values():
        await turn(work, 200, [])
    for _ in range(ROUNDS):
        for name, work in works.items():
            spent[name] += await turn(work, n // ROUNDS, taken[name])
    print(f"| {'what':<26} | {'n':>6} | p50 ms | p95 ms | p99 ms | cpu µs |")
    print(f"| {'-' * 26} | ------ | ------ | ------ | ------ | ------ |")
    for name in works:
        found = row(name, taken[name])
        times = " | ".join(f"{found[key]:>6.2f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        print(f"| {name:<26} | {found['n']:>6} | {times} | {spent[name] / found['n'] * 1e6:>6.0f} |")
    for connection in free:
        await connections.close(connection)
    await ours.close()
    with contextlib.suppress(Exception):
        await theirs.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
