"""Lists are read along an index from their place on, however many rows there are: no sort of all, no scan."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schema import Database, sandboxes, users
from schema.sql import load
from terminalpp.types.ids import new_id

MIDDLE = datetime(2026, 1, 2, tzinfo=UTC)
ZERO = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def crowded(database: Database) -> tuple[Database, str, str]:
    """Thousands of rows of the owner, and as many of others, a minute apart around MIDDLE."""
    owner = await users.ensure_owner(database)
    box = (await sandboxes.create(database, new_id(), owner, "box")).id
    other = await database.fetchval("INSERT INTO users (email, username) VALUES ('a@x', 'a') RETURNING id")
    at = "timestamptz '2026-01-01 00:00Z' + n * interval '1 minute' FROM generate_series(1, 3000) n"
    for user in (owner, other):
        await database.execute(
            f"INSERT INTO sandboxes (user_id, name, created_at) SELECT $1, n::text, {at}", user
        )
        await database.execute(
            f"INSERT INTO ai_conversations (user_id, sandbox_id, created_at) SELECT $1, $2, {at}", user, box
        )
    await database.execute(
        "INSERT INTO ai_agents (conversation_id, type, name, created_at) "
        "SELECT id, 'coder', 'coder', created_at FROM ai_conversations"
    )
    for place in (box, await database.fetchval("SELECT id FROM sandboxes WHERE id <> $1 LIMIT 1", box)):
        await database.execute(
            "INSERT INTO command_executions (sandbox_id, user_id, command, created_at) "
            f"SELECT $1, $2, 'true', {at}", place, owner,
        )  # fmt: skip
    await database.execute("ANALYZE")
    return database, owner, box


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", []) for node in nodes(below))]


async def plan_of(database: Database, file: str, name: str, *args: Any) -> list[dict[str, Any]]:
    rows = await database.fetch("EXPLAIN (ANALYZE, FORMAT JSON) " + load(file)[name], *args)
    found = rows[0][0]
    return nodes((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])


async def test_a_page_from_the_middle_touches_little_more_than_itself(
    crowded: tuple[Database, str, str],
) -> None:
    database, owner, box = crowded
    asked = {
        ("sandboxes", "list_sandboxes"): (owner, None, None, MIDDLE, ZERO, 50),
        ("conversations", "list_conversations"): (owner, None, None, None, MIDDLE, ZERO, 50),
        ("executions", "list_executions"): (box, False, None, None, None, MIDDLE, ZERO, 50),
        ("agents", "list_agents"): (owner, None, None, MIDDLE, 1, ZERO, 50),
    }
    for (file, name), args in asked.items():
        plan = await plan_of(database, file, name, *args)
        # Entities in quarantine are looked up beside it, by an index of their own once there are many.
        kinds = {node["Node Type"] for node in plan if node.get("Relation Name") != "entities"}
        assert "Seq Scan" not in kinds, (name, kinds)
        assert "Sort" not in kinds, (name, kinds)
        read = max(node["Actual Rows"] * node["Actual Loops"] for node in plan)
        assert read < 250, (name, read)
