"""Real services for the tests: one Postgres and one Redis per session, one database per test.

The database of a test is a copy (`CREATE DATABASE … TEMPLATE`, some 30 ms) of one that was migrated once.
fsync is off: these databases do not outlive the session. Both servers are children of the test process, are
told to die with it, and are stopped by their process id at the end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from xdist.scheduler import LoadScopeScheduling

from runtime import sandbox_probe
from schema import Database, migrations
from tests.services import PostgresServer, RedisServer

# What a shell starts in the background ignores Ctrl-C, and so do its children: the tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Ray reads this when it is first imported, whichever test comes first; every head of ours asks for a token.
os.environ["RAY_AUTH_MODE"] = "token"


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Callable[[], Path]]:
    """Makes folders for servers; all are removed at the end."""
    made: list[Path] = []
    # Copying a database is copying 300 files: six times faster in memory, where there is enough of it.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 2**30

    place = memory if roomy else Path(tempfile.gettempdir())
    for left in place.glob("tpp-test-*-*"):
        # A killed run could not tidy up; the folder's name says whose it was.
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            shutil.rmtree(left, ignore_errors=True)

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix=f"tpp-test-{os.getpid()}-", dir=place)))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def postgres_url(server_folder: Callable[[], Path]) -> AsyncIterator[str]:
    """The URL of database `postgres` on the session's server."""
    server = PostgresServer(server_folder())
    server.start()
    try:
        await server.answer()
        yield server.url()
    finally:
        server.stop()


def with_database(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


async def admin(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
async def template_database(postgres_url: str) -> str:
    """The name of a migrated database that nothing is connected to."""
    await admin(postgres_url, "CREATE DATABASE template_tpp")
    await migrations.migrate(with_database(postgres_url, "template_tpp"))
    return "template_tpp"


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a new database with nothing in it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await admin(postgres_url, f"CREATE DATABASE {name} TEMPLATE template0")
    yield with_database(postgres_url, name)
    await admin(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """The URL of a fresh migrated database, for whoever makes connections of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await admin(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy")
    yield with_database(postgres_url, name)
    await admin(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A `schema.Database` on a fresh migrated database."""
    database = await Database.connect(database_url, max_size=20)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def redis_url() -> AsyncIterator[str]:
    """The URL of the session's Redis."""
    server = RedisServer()
    server.start()
    try:
        await server.answer()
        yield server.url
    finally:
        server.stop()


# Whole folders share a booted node, a cluster or a sandbox, which another process would have to boot again:
# they stay together. What takes longest comes first, so that no process works on alone at the end.
TOGETHER = (
    "e2e", "gateway", "cli", "agents", "sandbox_entity", "sandbox", "boot", "runtime", "docker", "bench"
)  # fmt: skip


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for processes more than they work."""
    return (os.cpu_count() or 1) + 1


def _group(nodeid: str) -> str:
    path = nodeid.partition("::")[0]
    folder = path.split("/")[1]
    return folder if folder in TOGETHER else path


class _ByGroup(LoadScopeScheduling):
    """One group at a time for each process. (xdist's `loadgroup` renames tests, which pytest 9.2 ignores.)"""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    config.option.loadscopereorder = False
    return _ByGroup(config, log)


def _spread(items: list[pytest.Item]) -> None:
    """The long groups first."""
    order = {name: at for at, name in enumerate(TOGETHER)}
    items.sort(key=lambda item: order.get(_group(item.nodeid), len(order)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a Docker daemon its tests are left out and counted as deselected; CI demands them.

    TPP_TEST_REQUIRE (`docker,bubblewrap`) turns what is missing into an error: nothing is left out there.
    """
    required = {name for name in os.environ.get("TPP_TEST_REQUIRE", "").split(",") if name}
    missing = {name: why for name, why in asyncio.run(_missing()).items() if why}
    if wanted := required & set(missing):
        raise pytest.UsageError("; ".join(f"{name} is required here: {missing[name]}" for name in wanted))
    if "bubblewrap" in missing:
        raise pytest.UsageError(f"the suite needs bubblewrap: {missing['bubblewrap']}")
    if "docker" in missing:
        out = [item for item in items if item.get_closest_marker("docker")]
        items[:] = [item for item in items if item not in out]
        config.hook.pytest_deselected(items=out)
    if hasattr(config, "workerinput"):
        _spread(items)


async def _missing() -> dict[str, str]:
    """What does not work here, with the reason; "" where it does."""
    chosen = await sandbox_probe.choose_bwrap()
    answers, said = await sandbox_probe.docker_version(os.environ)
    return {
        "bubblewrap": await sandbox_probe.try_bwrap(chosen.path) if chosen.path else chosen.why,
        "docker": "" if answers else said,
    }
