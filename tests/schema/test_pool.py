"""The pool itself: who gets which connection, and what becomes of those that nobody needs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from schema import Database, pool
from schema.connection import open_one
from schema.pool import Pool
from tests.eventually import eventually

NAME = "test_pool"


@pytest.fixture
async def two(database_url: str) -> AsyncIterator[Pool]:
    made = Pool(lambda: open_one(database_url, NAME), 1, 2)
    await made.open()
    yield made
    await made.close()
    assert (made.idle, made.size, made.waiting) == (0, 0, 0)


def soon(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def backends(database: Database) -> int:
    return await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", NAME)


async def test_the_line_is_served_in_order_and_bounded(two: Pool, database: Database) -> None:
    held = [await two.take(soon()) for _ in range(2)]
    line = [asyncio.create_task(two.take(soon())) for _ in range(3)]
    await eventually(lambda: two.waiting == 3)
    with pytest.raises(TimeoutError):
        await two.take(soon(0.01))
    two.give_back(held[0])
    assert await line[0] is held[0]
    line[1].cancel()
    two.give_back(held[1])
    assert await line[2] is held[1]
    assert two.waiting == 0
    assert await backends(database) == 2
    for connection in held:
        two.give_back(connection)


async def test_what_comes_to_one_who_leaves_goes_to_the_next(two: Pool) -> None:
    held = [await two.take(soon()) for _ in range(2)]
    first, second = (asyncio.create_task(two.take(soon())) for _ in range(2))
    await eventually(lambda: two.waiting == 2)
    two.give_back(held[0])
    first.cancel()  # in the very moment in which it is served
    assert await second is held[0]
    third = asyncio.create_task(two.take(soon()))
    await eventually(lambda: two.waiting == 1)
    held[1].terminate()
    two.mend(held[1])  # there is a place to open one, for
    third.cancel()  # one who leaves
    with contextlib.suppress(asyncio.CancelledError):
        await third
    fresh = await two.take(soon())
    assert await fresh.fetchval("SELECT 1") == 1
    two.give_back(fresh)
    two.give_back(held[0])


async def test_a_place_is_not_lost_when_connecting_fails(database_url: str) -> None:
    broken = True

    async def connect() -> asyncpg.Connection:
        if broken:
            await asyncio.sleep(0)
            raise OSError("away")
        return await open_one(database_url, NAME)

    made = Pool(connect, 0, 1)
    found = await asyncio.gather(*(made.take(soon()) for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in found] == [OSError] * 5
    broken = False
    made.give_back(await made.take(soon()))
    assert (made.idle, made.size) == (1, 1)
    await made.close()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await made.take(soon())


async def test_what_is_idle_or_old_is_closed(
    two: Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)
    held = [await two.take(soon()) for _ in range(2)]
    for connection in held:
        two.give_back(connection)
    await eventually(lambda: two.idle == 1)
    assert await eventually(lambda: held[0].is_closed())  # idle longest
    assert not held[1].is_closed()
    monkeypatch.setattr(pool, "LIFE_SECONDS", -1.0)
    two.give_back(await two.take(soon()))
    await eventually(lambda: held[1].is_closed())
    assert two.size == 0


async def test_a_connection_that_ended_while_idle_is_not_given_away(two: Pool, database: Database) -> None:
    idle = await two.take(soon())
    two.give_back(idle)
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", NAME
    )
    await eventually(idle.is_closed)
    fresh = await two.take(soon())
    assert await fresh.fetchval("SELECT 1") == 1
    two.give_back(fresh)


async def test_a_connection_that_is_kept_too_long_is_of_no_use(database: Database) -> None:
    async with database.transaction() as kept:
        assert await kept.fetchval("SELECT 1") == 1
    with pytest.raises(asyncpg.InterfaceError, match="given back"):
        await kept.fetchval("SELECT 1")


async def test_closing_tells_those_in_line(database_url: str) -> None:
    made = Pool(lambda: open_one(database_url, NAME), 0, 1)
    held = await made.take(soon())
    waiting = asyncio.create_task(made.take(soon()))
    await eventually(lambda: made.waiting == 1)
    closing = asyncio.create_task(made.close())
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await waiting
    assert await held.fetchval("SELECT 1") == 1  # it has its time
    made.give_back(held)
    await closing
    assert held.is_closed()
