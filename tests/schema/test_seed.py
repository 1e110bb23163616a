"""The seed is kept whole: byte for byte in migration 1, and name for name after all migrations."""

from __future__ import annotations

import re

import pytest

from schema import Database, migrations, redis_keys, retention
from schema.sql import load
from tests.schema.seed_objects import BLOCKS, INDEXES, OBJECTS, SPEC, TABLES, VIEWS


def test_the_seed_has_what_we_think_it_has() -> None:
    assert (len(TABLES), len(INDEXES), len(VIEWS), len(BLOCKS)) == (18, 10, 2, 11)


@pytest.mark.parametrize("name", OBJECTS)
def test_migration_1_has_it_byte_for_byte(name: str) -> None:
    assert OBJECTS[name] in migrations.known()[0].sql


def test_migration_1_has_whole_blocks_in_order() -> None:
    text = migrations.known()[0].sql
    places = [text.index(block) for block in BLOCKS[:-1]]
    assert places == sorted(places)


def columns(table: str) -> list[str]:
    body = OBJECTS[table].partition("(\n")[2]
    names = re.findall(r"^    (\w+) ", body, re.MULTILINE)
    return [name for name in names if not name.startswith("UNIQUE")]


@pytest.mark.parametrize("table", TABLES)
async def test_table_and_columns_exist(database: Database, table: str) -> None:
    found = await database.fetch(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = $1",
        table,
    )
    assert len(columns(table)) >= 6
    assert set(columns(table)) <= {record["column_name"] for record in found}


async def test_indexes_and_views_exist(database: Database) -> None:
    found = await database.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    by_name = {record["indexname"]: record["indexdef"] for record in found}
    assert set(INDEXES) <= by_name.keys()
    assert "USING ivfflat" in by_name["idx_ai_memory_embedding"]
    views = await database.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
    assert set(VIEWS) <= {record["viewname"] for record in views}


async def test_the_retention_block_runs_verbatim(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(BLOCKS[-1])


def test_the_policies_are_the_seeds_words() -> None:
    kept = [query + ";" for query in load("retention").values()]
    assert len(kept) == 4
    for statement in kept:
        assert statement in BLOCKS[-1]
    assert tuple(load("retention")) == retention.SEED


def test_redis_keys_are_the_seeds() -> None:
    named = set(re.findall(r"^(\S+) -> ", SPEC, re.MULTILINE))
    made = {
        redis_keys.user_session("{session_id}"),
        redis_keys.terminal_session("{sandbox_id}"),
        redis_keys.command_queue("{sandbox_id}"),
        redis_keys.ai_context("{conversation_id}"),
        redis_keys.rate_limit_user("{user_id}", "{action}"),
        redis_keys.rate_limit_ip("{ip_address}", "{action}"),
    }
    assert made == named
