"""Lists by key: each item exactly once whatever happens meanwhile, filters, and no output in them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from schema import Database, agents, conversations, executions, sandboxes, users
from terminalpp.types.ids import new_id
from tests.gateway.conftest import Served

MADE = 7


class Rows:
    """Makes rows of each list as their owners do."""

    def __init__(self, database: Database, user: str, sandbox: str) -> None:
        self.database, self.user, self.sandbox = database, user, sandbox

    async def sandboxes(self) -> str:
        return (await sandboxes.create(self.database, new_id(), self.user, "listed")).id

    async def conversations(self) -> str:
        return (await conversations.create(self.database, new_id(), self.user, self.sandbox)).id

    async def commands(self) -> str:
        row, _ = await executions.create(self.database, new_id(), self.sandbox, self.user, "true")
        return row.id

    async def agents(self) -> str:
        team = await agents.create_team(self.database, await self.conversations(), ["coder", "planner"])
        assert [agent.type for agent in team] == ["planner", "coder"]
        return team[0].id


@pytest.fixture
async def rows(served: Served, database: Database) -> Rows:
    user = await users.ensure_owner(database)
    return Rows(database, user, (await sandboxes.create(database, new_id(), user, "box")).id)


def path_of(name: str, rows: Rows) -> str:
    return f"/v1/sandboxes/{rows.sandbox}/commands" if name == "commands" else f"/v1/{name}"


async def all_of(http: httpx.AsyncClient, path: str, **query: Any) -> list[dict]:
    answer = await http.get(path, params={"limit": 500, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


@pytest.mark.parametrize("name", ["sandboxes", "conversations", "commands", "agents"])
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_each_comes_once_whatever_is_made_meanwhile(
    served: Served, rows: Rows, name: str, size: int
) -> None:
    make, path = getattr(rows, name), path_of(name, rows)
    for _ in range(MADE):
        await make()
    async with served.http() as http:
        before = [item["id"] for item in await all_of(http, path)]
        seen, cursor = [], None
        while True:
            query = {"limit": size} | ({"cursor": cursor} if cursor else {})
            page = (await http.get(path, params=query)).json()
            assert len(page["items"]) <= size
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            await make()
            # What was used meanwhile keeps its place.
            await rows.database.execute("UPDATE ai_conversations SET title = 'used'")
        assert seen == before
        times = [item["created_at"] for item in await all_of(http, path)]
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("cursor", ["zzz", "10", "MTAuMC4w", "LTk5OTk5OTk5OTk5OTk5OTkuMC4" + "w" * 43, "é"])
async def test_a_cursor_of_ones_own_is_refused(served: Served, rows: Rows, cursor: str) -> None:
    async with served.http() as http:
        for name in ("sandboxes", "conversations", "commands", "agents"):
            answer = await http.get(path_of(name, rows), params={"cursor": cursor})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
            assert answer.json()["detail"].startswith("query.cursor: ")


async def test_a_page_goes_on_behind_what_was_removed(served: Served, rows: Rows, database: Database) -> None:
    for _ in range(4):
        await rows.sandboxes()
    async with served.http() as http:
        before = [item["id"] for item in await all_of(http, "/v1/sandboxes")]
        page = (await http.get("/v1/sandboxes?limit=2")).json()
        await sandboxes.delete(database, page["items"][1]["id"])
        rest = await all_of(http, "/v1/sandboxes", cursor=page["next_cursor"])
    assert [item["id"] for item in rest] == before[2:]


async def test_lists_of_commands_carry_no_output(served: Served, rows: Rows, database: Database) -> None:
    id = await rows.commands()
    end = executions.End(id, "completed", 0, "x" * 200_000, "y" * 200_000, 200_000, 200_000, ms=5)
    assert await executions.finish(database, end)
    async with served.http() as http:
        (listed,) = await all_of(http, path_of("commands", rows))
        whole = (await http.get(f"{path_of('commands', rows)}/{id}")).json()
    assert len(whole["stdout"]) == len(whole["stderr"]) == 200_000
    assert listed == {name: value for name, value in whole.items() if name not in ("stdout", "stderr")}


async def test_filters(served: Served, rows: Rows, database: Database) -> None:
    first, talk = await rows.commands(), await rows.conversations()
    row, _ = await executions.create(
        database, new_id(), rows.sandbox, rows.user, "true", conversation_id=talk
    )
    await executions.finish(database, executions.End(first, "completed", 0))
    await conversations.set_status(database, await rows.conversations(), "archived")
    await rows.agents()
    since = row.created_at.isoformat()
    async with served.http() as http:

        async def ids(path: str, **query: Any) -> list[str]:
            return [item["id"] for item in await all_of(http, path, **query)]

        commands = path_of("commands", rows)
        assert await ids(commands, status="completed") == [first]
        assert await ids(commands, status="running") == []
        assert await ids(commands, conversation_id=talk) == [row.id]
        assert await ids(commands, since=since) == [row.id]
        assert await ids(commands, since="2000-01-01T00:00:00Z") == [row.id, first]
        assert await ids("/v1/sandboxes", status="stopped") == [rows.sandbox]
        assert await ids("/v1/sandboxes", status="running") == []
        assert await ids("/v1/sandboxes", since=since) == []
        assert talk in await ids("/v1/conversations", status="active")
        assert len(await ids("/v1/conversations", status="archived")) == 1
        assert await ids("/v1/conversations", sandbox_id=new_id()) == []
        assert len(await ids("/v1/conversations", sandbox_id=rows.sandbox, since=since)) == 1
        assert len(await ids("/v1/conversations", sandbox_id=rows.sandbox, since=since, status="all")) == 2
        assert len(await ids("/v1/agents", status="active")) == 2
        assert await ids("/v1/agents", conversation_id=talk) == []
        for path, query in (
            (commands, "status=sleeping"), (commands, "since=yesterday"), (commands, "conversation_id=1"),
            (commands, "since=2026-13-40T00:00:00Z"), ("/v1/conversations", "status=deleted"),
            (commands, "offset=3"), ("/v1/sandboxes", "status=running&status=stopped"),
        ):  # fmt: skip
            answer = await http.get(f"{path}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input"), query
            assert query.partition("=")[0] in answer.json()["detail"]
