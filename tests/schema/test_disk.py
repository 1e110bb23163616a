"""A database without room: the error is ours, retryable, and over when there is room again."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import asyncpg
import pytest

from schema import Database, Executor
from schema.connection import translate
from terminalpp.types import errors
from tests.conftest import admin, with_database


async def fill(executor: Executor, statement: str) -> None:
    for _ in range(20):
        await executor.execute(statement)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")
async def test_a_full_disk_is_told_as_such_and_passes(postgres_url: str) -> None:
    place = Path(tempfile.mkdtemp(prefix="tpp-space-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(place)], check=True)
    (place / "here").mkdir()
    database = None
    try:
        await admin(postgres_url, f"CREATE TABLESPACE small LOCATION '{place / 'here'}'")
        await admin(postgres_url, "CREATE DATABASE small TABLESPACE small TEMPLATE template0")
        database = await Database.connect(with_database(postgres_url, "small"))
        await database.execute("CREATE TABLE filling (data text)")
        grow = "INSERT INTO filling SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200000) n"
        with pytest.raises(errors.DiskFull) as caught:
            await fill(database, grow)
        assert caught.value.retryable
        assert caught.value.status == 507
        with pytest.raises(errors.DiskFull):
            async with database.transaction() as connection:
                await fill(connection, grow)
        assert await database.fetchval("SELECT count(*) FROM filling") is not None
        subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)
        await database.execute(grow)
    finally:
        if database:
            await database.close()
        await admin(postgres_url, "DROP DATABASE IF EXISTS small WITH (FORCE)")
        await admin(postgres_url, "DROP TABLESPACE IF EXISTS small")
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


@pytest.mark.parametrize("error", [asyncpg.OutOfMemoryError("memory"), asyncpg.PostgresIOError("disk")])
def test_want_of_something_else_is_trouble_that_passes(error: asyncpg.PostgresError) -> None:
    told = translate(error)
    assert type(told) is errors.Unavailable
    assert told.retryable
