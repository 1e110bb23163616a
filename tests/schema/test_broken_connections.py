"""Connections that are cut, cancelled, ended by the server or never answered: nobody gets another's, and
every failure is `Unavailable`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator

import pytest

from schema import Database, entities, migrations
from schema import connection as connections
from terminalpp.types.errors import Unavailable
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually
from tests.services import PostgresServer

WORKERS, POOL = 12, 3


@pytest.fixture
async def pool(server: PostgresServer) -> AsyncIterator[Database]:
    database = await Database.connect(server.url(), max_size=POOL, wait_s=2)
    await database.execute("CREATE TABLE t (n integer PRIMARY KEY)")
    yield database
    await database.close()


class Proxy:
    """TCP to the server. `hold`: the end of a connection is not passed on until `let_go`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._ended: set[asyncio.StreamWriter] = set()
        self.hold = False
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.let_go()
        self._server.close()

    def let_go(self) -> None:
        self.hold = False
        for writer in self._ended:
            writer.close()

    @property
    def held(self) -> int:
        """Connections that the server has ended and the client does not know to be."""
        return len(self._ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)

        up = asyncio.create_task(pipe(reader, to_server))
        await pipe(from_server, writer)
        to_server.close()
        if self.hold:
            self._ended.add(writer)
        else:
            writer.close()
        await up


async def test_a_farewell_that_came_before_the_end_of_the_line_is_no_defect(server: PostgresServer) -> None:
    """The server's last word (57P01) reaches an idle connection, its end does not yet: asyncpg answers the
    next statement with "cannot switch to state 11; another operation (2) is in progress"."""
    admin = await connections.connect(server.url())
    async with Proxy(server.port) as proxy:
        url = f"postgresql://tpp@127.0.0.1:{proxy.port}/postgres"
        for statement in ("SELECT 1", "INSERT INTO t VALUES (1) RETURNING n", "transaction", "many"):
            await admin.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n integer PRIMARY KEY)")
            database = await Database.connect(url, max_size=1, application_name="hurt")
            await database.fetchval("SELECT 0")
            proxy.hold, before = True, proxy.held
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hurt'"
            assert await admin.fetchval(ended)
            await eventually(lambda: proxy.held > before)  # noqa: B023
            proxy.hold = False
            if statement == "transaction":
                async with database.transaction() as connection:
                    assert await connection.fetchval("SELECT 1") == 1
            elif statement == "many":
                await database.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
            else:
                assert await database.fetchval(statement) == 1
            assert await database.fetchval("SELECT 7") == 7
            await database.close()
    await connections.close(admin)


# ---- frozen ------------------------------------------------------------------------------------------------


async def test_a_frozen_server_is_unavailable_within_ten_seconds_and_then_all_is_well(
    server: PostgresServer, pool: Database
) -> None:
    """SIGSTOP of the whole tree, while a transaction is open and others begin, and more than there are
    connections."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def open_transaction() -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (100)")
            inside.set()
            await go_on.wait()
            await connection.execute("INSERT INTO t VALUES (101)")

    async def transact(n: int) -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES ($1)", n)

    async def held() -> None:
        await pool.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])

    opened = asyncio.create_task(open_transaction())
    await inside.wait()
    server.freeze()
    try:
        go_on.set()
        works = [opened, pool.fetchval("SELECT 1"), pool.execute("INSERT INTO t VALUES (3)")]
        works += [transact(4), held(), *(pool.fetch("SELECT 1") for _ in range(2 * POOL))]
        works.append(connections.connect(server.url(), wait_s=1))
        async with asyncio.timeout(10):  # what docs/guarantees.md says
            found = await asyncio.gather(*works, return_exceptions=True)
        assert {type(error) for error in found} == {Unavailable}, found
        assert all(error.retryable for error in found)
    finally:
        server.thaw()
    # What timed out is either done or not; here nothing had been committed when the server stopped.
    await eventually(lambda: _answers(pool))
    assert await pool.fetchval("SELECT count(*) FROM t WHERE n >= 100") == 0
    assert await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(20))) == list(range(20))


async def _answers(pool: Database) -> bool:
    with contextlib.suppress(Unavailable):
        return await pool.fetchval("SELECT 1") == 1
    return False


async def test_a_slow_statement_is_cancelled_at_the_server_too(pool: Database) -> None:
    slow = pool.within(0.3)
    with pytest.raises(Unavailable, match="within"):
        await slow.fetchval("SELECT pg_sleep(3600)")
    active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(3600)' AND state = 'active'"
    await eventually(lambda: _none(pool, active))
    assert await pool.within(3600).fetchval("SELECT 'patient'") == "patient"


async def _none(pool: Database, query: str) -> bool:
    return await pool.fetchval(query) == 0


async def test_a_frozen_server_does_not_hold_up_who_gives_up(server: PostgresServer, pool: Database) -> None:
    """A cancelled task returns at once: neither a rollback nor the release waits for the dead."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with pool.transaction() as connection:
            inside.set()
            await go_on.wait()
            await connection.execute("SELECT 1")

    task = asyncio.create_task(work())
    await inside.wait()
    server.freeze()
    try:
        go_on.set()
        reading = asyncio.create_task(pool.fetchval("SELECT 1"))
        connecting = asyncio.create_task(connections.connect(server.url()))
        await asyncio.sleep(0)
        for each in (task, reading, connecting):
            each.cancel()
        done, pending = await asyncio.wait({task, reading, connecting}, timeout=1)
        assert not pending
        assert all(each.cancelled() for each in done)
    finally:
        server.thaw()


async def test_closing_a_connection_to_a_frozen_server_ends(server: PostgresServer) -> None:
    connection = await connections.connect(server.url())
    server.freeze()
    try:
        async with asyncio.timeout(8):
            await connections.close(connection)
        assert connection.is_closed()
    finally:
        server.thaw()


# ---- at random ---------------------------------------------------------------------------------------------


@pytest.fixture
async def hurt(server: PostgresServer) -> AsyncIterator[Database]:
    await migrations.migrate(server.url())
    database = await Database.connect(server.url(), max_size=POOL, application_name="hurt", wait_s=20)
    yield database
    await database.close()


async def _one(database: Database, claimed: entities.Entity, seed: random.Random, tag: int) -> None:
    """One piece of work of any kind; whatever it reads must be its own."""
    match seed.randrange(5):
        case 0:
            assert await database.fetchval("SELECT $1::int", tag) == tag
        case 1:
            assert await database.execute("UPDATE counts SET n = n WHERE false") == "UPDATE 0"
            assert len(await database.fetch("SELECT generate_series(1, $1)", tag % 50 + 1)) == tag % 50 + 1
        case 2:
            async with database.fenced(claimed.fence) as connection:
                await connection.execute("UPDATE counts SET n = n + 1")
                assert await connection.fetchval("SELECT $1::int", tag) == tag
        case 3:
            async with database.transaction() as connection:
                assert await connection.fetchval("SELECT $1::text", f"t{tag}") == f"t{tag}"
                await connection.execute("SELECT pg_sleep(0.001)")
        case 4:
            await database.executemany("SELECT $1::int", [(tag,), (tag,)])
            assert await database.fetchval("SELECT $1::int", -tag) == -tag


async def _whole(database: Database) -> None:
    """All connections of the pool can be had at once, and none is in a transaction."""
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(database.transaction()) for _ in range(POOL)]
        for number, connection in enumerate(held):
            assert await connection.fetchval("SELECT $1::int", number) == number
    stuck = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hurt' AND state LIKE 'idle in%'"
    assert await database.fetchval(stuck) == 0


async def _claimed(database: Database) -> entities.Entity:
    await database.execute("CREATE TABLE counts (n integer)")
    await database.execute("INSERT INTO counts VALUES (0)")
    claimed = await entities.claim(database, Ref("counter", new_id()), "cell/test/1@a", 600)
    assert claimed is not None
    return claimed


@pytest.mark.parametrize("number", [1, 2])
async def test_cancelled_at_random_points_under_load(hurt: Database, number: int) -> None:
    claimed = await _claimed(hurt)
    cancelled = finished = 0

    async def worker(index: int) -> None:
        nonlocal cancelled, finished
        seed = random.Random(number * 1000 + index)
        for tag in range(60):
            task = asyncio.create_task(_one(hurt, claimed, seed, index * 1000 + tag))
            await asyncio.wait({task}, timeout=seed.choice([0, 0.0005, 0.002, 0.005, 5]))
            task.cancel()
            try:
                await task
                finished += 1
            except asyncio.CancelledError:
                cancelled += 1

    await asyncio.gather(*(worker(index) for index in range(WORKERS)))
    assert cancelled > 50
    assert finished > 50
    await _whole(hurt)


@pytest.mark.parametrize("how", ["backends", "postmaster"])
async def test_ended_by_the_server_under_load(server: PostgresServer, hurt: Database, how: str) -> None:
    """Backends are ended, or the whole server is killed, while requests run: only `Unavailable` is seen."""
    claimed = await _claimed(hurt)
    stop = asyncio.Event()
    finished = unavailable = 0

    async def worker(index: int) -> None:
        nonlocal finished, unavailable
        seed, tag = random.Random(index), 0
        while not stop.is_set():
            tag += 1
            try:
                await _one(hurt, claimed, seed, index * 100_000 + tag)
                finished += 1
            except Unavailable:
                unavailable += 1

    workers = [asyncio.create_task(worker(index)) for index in range(WORKERS)]
    try:
        for _ in range(10 if how == "backends" else 3):
            reached = finished + 40
            await eventually(lambda: finished >= reached or any(w.done() for w in workers), 30)  # noqa: B023
            if how == "backends":
                admin = await connections.connect(server.url())
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hurt'"
                )
                await connections.close(admin)
            else:
                server.signal(signal.SIGKILL)
                await server.restart()
    finally:
        stop.set()
        await asyncio.gather(*workers)
    assert unavailable
    await _whole(hurt)
