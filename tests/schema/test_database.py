"""The pool: waits for a restarting server, does nothing twice, and leaves the caller's own errors alone."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from schema import Database, users
from schema.connection import insist
from terminalpp.types.errors import InvalidInput, NotFound, Unavailable
from tests.eventually import eventually
from tests.services import PostgresServer, free_port


@pytest.fixture
async def pool(server: PostgresServer) -> AsyncIterator[Database]:
    database = await Database.connect(server.url(), max_size=4)
    await database.execute("CREATE TABLE t (n integer PRIMARY KEY)")
    yield database
    await database.close()


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT, signal.SIGKILL])
async def test_a_restart_is_waited_for(server: PostgresServer, pool: Database, how: int) -> None:
    """Reads, writes and transactions that begin while Postgres is away are carried out once it is back."""

    async def transact() -> str:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (2)")
        return "committed"

    await pool.fetchval("SELECT 1")
    pids = server.tree()
    server.signal(how)
    await eventually(lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in pids))
    read = asyncio.create_task(pool.fetchval("SELECT 7"))
    write = asyncio.create_task(pool.execute("INSERT INTO t VALUES (1)"))
    transaction = asyncio.create_task(transact())
    done, _ = await asyncio.wait({read, write, transaction}, timeout=0.3)
    assert not done
    server.start()
    assert await asyncio.gather(read, write, transaction) == [7, "INSERT 0 1", "committed"]
    assert await pool.fetchval("SELECT sum(n) FROM t") == 3


async def test_a_transaction_that_the_server_died_under_is_unavailable_and_undone(
    server: PostgresServer, pool: Database
) -> None:
    async def interrupted() -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            server.signal(signal.SIGQUIT)
            await connection.execute("INSERT INTO t VALUES (2)")

    with pytest.raises(Unavailable):
        await interrupted()
    server.start()
    assert await pool.fetchval("SELECT count(*) FROM t") == 0


async def test_a_commit_that_the_server_died_before_is_unavailable(
    server: PostgresServer, pool: Database
) -> None:
    async def interrupted() -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            server.signal(signal.SIGQUIT)

    with pytest.raises(Unavailable):
        await interrupted()


async def test_waiting_ends(server: PostgresServer) -> None:
    database = await Database.connect(server.url(), wait_s=0.5)
    server.signal(signal.SIGQUIT)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer"):
        await database.fetchval("SELECT 1")
    assert time.monotonic() - started < 5
    await database.close()


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Database.connect(f"postgresql://tpp@127.0.0.1:{free_port()}/x", wait_s=0.2)


async def test_insisting_does_not_hide_mistakes() -> None:
    calls = []

    async def attempt() -> None:
        calls.append(1)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await insist(attempt)
    assert calls == [1]


async def test_the_callers_own_errors_pass_through(database: Database) -> None:
    async def body() -> None:
        async with database.transaction():
            raise FileNotFoundError("mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        await body()


async def test_a_rollback_leaves_a_clean_connection(database_url: str) -> None:
    database = await Database.connect(database_url, max_size=1)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await database.fetchval("SELECT nothing")

    async def failing() -> None:
        async with database.transaction() as connection:
            await users.ensure_owner(connection)
            await connection.execute("SELECT nothing")

    with pytest.raises(asyncpg.UndefinedColumnError):
        await failing()
    assert await database.fetchval("SELECT count(*) FROM users") == 0
    await database.close()


async def test_a_cancelled_transaction_is_undone_and_its_connection_is_usable(database_url: str) -> None:
    database = await Database.connect(database_url, max_size=1)
    inside = asyncio.Event()

    async def body() -> None:
        async with database.transaction() as connection:
            await users.ensure_owner(connection)
            inside.set()
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(body())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        assert await database.fetchval("SELECT count(*) FROM users") == 0
    await database.close()


async def test_a_connection_left_in_a_transaction_is_cleaned(database_url: str) -> None:
    database = await Database.connect(database_url, max_size=1)
    await database.execute("BEGIN; CREATE TABLE t (n integer); DELETE FROM users")
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.execute("INSERT INTO t VALUES (1)")
    assert await database.fetchval("SELECT count(*) FROM users") == 0
    await database.close()


async def test_values_that_are_not_values_are_invalid_input(database: Database) -> None:
    with pytest.raises(InvalidInput):
        await database.fetchval("SELECT $1::uuid", "not-a-uuid")
    with pytest.raises(InvalidInput):
        await database.fetchval("SELECT $1::jsonb", {"n": float("nan")})
    with pytest.raises(NotFound):
        await database.execute(
            "INSERT INTO user_credentials (user_id, password_hash) VALUES (gen_random_uuid(), 'x')"
        )


async def test_json_and_uuid_travel_as_json_and_text(database: Database) -> None:
    value = {"a": [1, 2.5, None, True, "é"], "n": 2**53}
    assert await database.fetchval("SELECT $1::jsonb", value) == value
    id = "6f1d3f0e-1f0c-5c1e-9a55-7e2b60a0c0de"
    assert await database.fetchval("SELECT $1::uuid", id) == id
    assert await database.fetchval("SELECT $1::uuid[]", [id]) == [id]


async def test_more_callers_than_connections_wait_their_turn(database_url: str) -> None:
    database = await Database.connect(database_url, max_size=2)
    results = await asyncio.gather(*(database.fetchval("SELECT $1::int", n) for n in range(50)))
    assert results == list(range(50))
    await database.close()


async def test_close_returns_while_a_connection_is_in_use(database_url: str) -> None:
    database = await Database.connect(database_url, max_size=1)
    task = asyncio.create_task(database.fetchval("SELECT pg_sleep(60)"))
    other = await Database.connect(database_url)
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
    )
    await eventually(lambda: other.fetchval(sleeping))
    async with asyncio.timeout(15):
        await database.close()
    with pytest.raises(Unavailable):
        await task
    await other.close()
