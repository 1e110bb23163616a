"""Forward-only migrations: numbered SQL files, applied once, each in its own transaction.

Guarantees: several processes may call `migrate` at once (an advisory lock lets one work, the others then find
nothing to do); a migration is applied whole or not at all; a file that was edited after it was applied is
refused (`MigrationChanged`); a database with migrations that this code does not know is refused
(`DatabaseTooNew`), because an older program would write nonsense into it. There is no way back: take a
`pg_dump` before an upgrade if you want one.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import asyncpg

from schema import connection as connections
from schema import dump
from schema.sql import Queries
from terminalpp.types import errors

FOLDER = Path(__file__).parent / "migrations"
# Any constant will do, as long as every version of this program uses the same: "tpp schema" as a number.
LOCK = 0x7470_7073_6368
MIGRATE_SECONDS = 3600.0  # of one statement: it may rewrite a large table, or wait for another migrator
_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")
_Q = Queries("migrations")


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered SQL file: its version, its name and its text."""

    version: int
    name: str
    sql: str
    sha256: str


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """`state`: applied, pending, changed (the file was edited since) or unknown (from a newer program)."""

    version: int
    name: str
    state: str
    applied_at: datetime | None
    ms: int | None


@cache
def known(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """The migrations in the folder, in order. Raises ValueError when the numbers have a gap or a twin."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.match(path.name)
        if match is None:
            raise ValueError(f"not a migration's name: {path.name}")
        raw = path.read_bytes()
        found.append(Migration(int(match[1]), match[2], raw.decode(), hashlib.sha256(raw).hexdigest()))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations must be numbered 0001, 0002, … without gaps")
    return tuple(found)


async def migrate(url: str, *, folder: Path = FOLDER) -> list[MigrationStatus]:
    """Applies what is missing and returns what it applied.

    Raises DatabaseTooNew, MigrationChanged, Unavailable; a migration's own error leaves it unapplied.
    """
    connection = await connections.connect(url, application_name="tpp-migrate", limit_s=MIGRATE_SECONDS)
    try:
        # A session lock, not a transaction's: it must span the transactions of all migrations. It goes with
        # the connection, so a killed migrator leaves nothing behind.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await connection.execute(_Q.create_table)
        done = await _check(connection, folder)
        applied = []
        for migration in known(folder):
            if migration.version not in done:
                applied.append(await _apply(connection, migration))
        return applied
    finally:
        await connections.close(connection)


async def _apply(connection: asyncpg.Connection, migration: Migration) -> MigrationStatus:
    started = time.monotonic()
    async with connection.transaction():
        await connection.execute(migration.sql)
        ms = round((time.monotonic() - started) * 1000)
        applied_at = await connection.fetchval(
            _Q.record, migration.version, migration.name, migration.sha256, ms
        )
    # Plans made before the tables changed are of no use any more.
    await connection.reload_schema_state()
    return MigrationStatus(migration.version, migration.name, "applied", applied_at, ms)


async def _check(connection: asyncpg.Connection, folder: Path) -> set[int]:
    """The applied versions. Raises DatabaseTooNew or MigrationChanged."""
    states = await _states(connection, folder)
    for state in states:
        if state.state == "unknown":
            newest = max(known(folder), key=lambda migration: migration.version).version
            raise errors.DatabaseTooNew(
                f"the database has migration {state.version} ({state.name}), this program ends at {newest}"
            )
        if state.state == "changed":
            raise errors.MigrationChanged(
                f"migration {state.version} ({state.name}) was edited after it was applied"
            )
    return {state.version for state in states if state.state == "applied"}


async def _states(connection: asyncpg.Connection, folder: Path) -> list[MigrationStatus]:
    exists = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
    applied = {row["version"]: row for row in await connection.fetch(_Q.applied)} if exists else {}
    files = {migration.version: migration for migration in known(folder)}
    states = []
    for version in sorted(files.keys() | applied.keys()):
        row, file = applied.get(version), files.get(version)
        if row is None:
            states.append(MigrationStatus(version, file.name, "pending", None, None))
            continue
        state = "unknown" if file is None else "applied" if row["sha256"] == file.sha256 else "changed"
        states.append(MigrationStatus(version, row["name"], state, row["applied_at"], row["ms"]))
    return states


async def status(url: str, *, folder: Path = FOLDER) -> list[MigrationStatus]:
    """Every migration, known or found, in order. Changes nothing."""
    connection = await connections.connect(url, application_name="tpp-migrate")
    try:
        return await _states(connection, folder)
    finally:
        await connections.close(connection)


async def verify(url: str, *, folder: Path = FOLDER) -> list[str]:
    """Differences between the live database and `schema.sql`, as lines of a diff; empty when they agree.

    Raises DatabaseTooNew and MigrationChanged before it compares.
    """
    connection = await connections.connect(url, application_name="tpp-migrate")
    try:
        await _check(connection, folder)
        return dump.difference(dump.expected(), await dump.dump(connection))
    finally:
        await connections.close(connection)
