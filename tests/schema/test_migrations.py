"""The runner: once, in order, whole or not at all, and never over what it does not know."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from schema import connection as connections
from schema import dump, migrations
from terminalpp.types.errors import DatabaseTooNew, MigrationChanged

KNOWN = len(list(migrations.FOLDER.glob("*.sql")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations that a test may edit."""
    return Path(shutil.copytree(migrations.FOLDER, tmp_path / "migrations"))


async def run(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_the_migrations_make_what_schema_sql_says(empty_database_url: str) -> None:
    await migrations.migrate(empty_database_url)
    connection = await connections.connect(empty_database_url)
    try:
        assert dump.difference(dump.expected(), await dump.dump(connection)) == []
    finally:
        await connection.close()


async def test_a_second_run_has_nothing_to_do(empty_database_url: str) -> None:
    first = await migrations.migrate(empty_database_url)
    assert [state.version for state in first] == list(range(1, KNOWN + 1))
    assert await migrations.migrate(empty_database_url) == []
    assert {state.state for state in await migrations.status(empty_database_url)} == {"applied"}


async def test_status_of_an_empty_database_changes_nothing(empty_database_url: str) -> None:
    assert {state.state for state in await migrations.status(empty_database_url)} == {"pending"}
    assert await run(empty_database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_two_runs_at_once_apply_everything_once(empty_database_url: str) -> None:
    runs = await asyncio.gather(*(migrations.migrate(empty_database_url) for _ in range(4)))
    assert sorted(len(applied) for applied in runs) == [0, 0, 0, KNOWN]
    assert await migrations.verify(empty_database_url) == []


async def test_an_edited_migration_is_refused(empty_database_url: str, folder: Path) -> None:
    await migrations.migrate(empty_database_url, folder=folder)
    file = folder / "0002_repairs.sql"
    file.write_text(file.read_text() + "-- a word more\n")
    migrations.known.cache_clear()
    with pytest.raises(MigrationChanged, match=r"2 \(repairs\)"):
        await migrations.migrate(empty_database_url, folder=folder)
    with pytest.raises(MigrationChanged):
        await migrations.verify(empty_database_url, folder=folder)
    states = await migrations.status(empty_database_url, folder=folder)
    assert [state.state for state in states] == ["applied", "changed"] + ["applied"] * (KNOWN - 2)


async def test_a_newer_database_is_refused(empty_database_url: str, folder: Path) -> None:
    (folder / f"{KNOWN + 1:04}_future.sql").write_text("CREATE TABLE future (id integer);\n")
    await migrations.migrate(empty_database_url, folder=folder)
    with pytest.raises(DatabaseTooNew, match=rf"{KNOWN + 1} \(future\)"):
        await migrations.migrate(empty_database_url)
    with pytest.raises(DatabaseTooNew):
        await migrations.verify(empty_database_url)


async def test_a_failing_migration_leaves_no_trace(empty_database_url: str, folder: Path) -> None:
    (folder / f"{KNOWN + 1:04}_broken.sql").write_text("CREATE TABLE half (id integer);\nSELECT 1 / 0;\n")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrations.migrate(empty_database_url, folder=folder)
    assert await run(empty_database_url, "SELECT to_regclass('half') IS NULL")
    states = await migrations.status(empty_database_url, folder=folder)
    assert states[-1].state == "pending"
    assert await migrations.verify(empty_database_url) == []


async def test_numbers_have_no_gaps(folder: Path) -> None:
    (folder / "0999_far.sql").write_text("SELECT 1;\n")
    with pytest.raises(ValueError, match="without gaps"):
        migrations.known(folder)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("DROP INDEX idx_ce_open", "idx_ce_open"),
        ("ALTER TABLE sandboxes DROP CONSTRAINT ck_sandboxes_status", "ck_sandboxes_status"),
        ("ALTER TABLE users ADD COLUMN extra text", "extra text"),
        ("ALTER TABLE events ALTER COLUMN actor DROP NOT NULL", "actor"),
        ("DROP TRIGGER trg_audit_append ON audit_logs", "trg_audit_append"),
        ("CREATE OR REPLACE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql "
         "AS 'BEGIN RETURN NEW; END'", "clock_timestamp"),
        ("DROP VIEW user_storage_usage", "user_storage_usage"),
        ("ALTER TABLE ai_agents ALTER COLUMN status SET DEFAULT 'paused'", "paused"),
    ],
)  # fmt: skip
async def test_verify_names_what_differs(database_url: str, change: str, shown: str) -> None:
    assert await migrations.verify(database_url) == []
    await run(database_url, change)
    difference = await migrations.verify(database_url)
    assert any(shown in line for line in difference if line[0] in "+-"), difference
