"""Idempotency-Key: one effect and one answer per key, also over a crash."""

from __future__ import annotations

import asyncio

import pytest

from gateway.idempotency import REPLAYED
from schema import Database, conversations, idempotency, sandboxes, users
from terminalpp.client import Client
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from tests.gateway.conftest import Served

SETUP = {"workspace": "/home/user", "model": "scripted:demo"}


async def test_same_key_same_answer_one_sandbox(stack: Served, database: Database) -> None:
    body, headers = {"name": "one"}, {"idempotency-key": "k 1"}
    async with stack.http() as http:
        first = await http.post("/v1/sandboxes", json=body, headers=headers)
        again = await http.post("/v1/sandboxes", json=body, headers=headers)
        other = await http.post("/v1/sandboxes", json=body)
    assert first.status_code == 201
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert other.json()["id"] != first.json()["id"]
    assert len(await sandboxes.list(database)) == 2


async def test_same_key_other_request_is_refused(stack: Served) -> None:
    headers = {"idempotency-key": "k2"}
    async with stack.http() as http:
        await http.post("/v1/sandboxes", json={"name": "a"}, headers=headers)
        other = await http.post("/v1/sandboxes", json={"name": "b"}, headers=headers)
        query = await http.post("/v1/sandboxes?wait=true", json={"name": "a"}, headers=headers)
    for answer in (other, query):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-mismatch")


async def test_at_once_it_happens_once(stack: Served, database: Database) -> None:
    async with stack.http() as http:
        answers = await asyncio.gather(
            *(http.post("/v1/sandboxes", json={}, headers={"idempotency-key": "k3"}) for _ in range(8))
        )
    codes = {answer.status_code for answer in answers}
    assert codes <= {201, 409}
    assert 201 in codes
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "idempotency-in-flight"
            assert answer.headers["retry-after"] == "1"
    assert len(await sandboxes.list(database)) == 1


async def test_a_crash_in_between_is_made_good(stack: Served, database: Database) -> None:
    """The process died after the effect and before the answer was kept: the key is taken over after a
    minute, and the effect is recognised by its derived id."""
    async with stack.http() as http:
        headers = {"idempotency-key": "k4"}
        first = await http.post("/v1/sandboxes", json={}, headers=headers)
        await database.execute(
            "UPDATE idempotency_keys SET finished_at = NULL, response_status = NULL, response_body = NULL,"
            " response_headers = NULL, locked_at = now() - interval '59 seconds'"
        )
        early = await http.post("/v1/sandboxes", json={}, headers=headers)
        await database.execute("UPDATE idempotency_keys SET locked_at = now() - interval '61 seconds'")
        late = await http.post("/v1/sandboxes", json={}, headers=headers)
    assert early.json()["code"] == "idempotency-in-flight"
    assert (late.status_code, late.json()["id"]) == (201, first.json()["id"])
    assert len(await sandboxes.list(database)) == 1


async def test_an_error_leaves_the_key_free(served: Served, database: Database) -> None:
    async with served.http() as http:
        for _ in range(2):
            answer = await http.post("/v1/sandboxes", json={}, headers={"idempotency-key": "k5"})
            assert answer.json()["code"] == "unavailable"  # Ray is down
    owner = await users.ensure_owner(database)
    begun = await idempotency.begin(database, owner, "k5", "POST", "/v1/sandboxes", "0" * 64)
    assert begun is None


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_bad_keys(served: Served, key: str) -> None:
    async with served.http() as http:
        answer = await http.post("/v1/sandboxes", json={}, headers={"idempotency-key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "header.idempotency-key"


async def test_without_a_key_nothing_is_kept(stack: Served, database: Database) -> None:
    async with stack.http() as http:
        await http.post("/v1/sandboxes", json={})
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") == 0


async def test_conversation_life(stack: Served, database: Database) -> None:
    """Without a message no team works: what is tested here is the wire, not the graph."""
    async with stack.client() as client:
        box = await client.create_sandbox(wait=True)
        key = new_id()
        made = [
            await client.create_conversation(box["id"], "/home/user", model="scripted:demo", key=key)
            for _ in range(2)
        ]
        assert made[0] == made[1]
        id = made[0]["id"]
        assert (made[0]["mode"], made[0]["workspace"]) == ("team", "/home/user")
        assert (made[0]["model"], made[0]["last_seq"]) == ("scripted:demo", 0)
        roles = [agent["role"] for agent in await client.agents(id)]
        assert roles == ["planner", "coder", "tester", "critic", "executor"]
        assert sorted(agent["role"] for agent in await client.agents()) == sorted(roles)
        assert (await client.set_model(id, "ollama/llama3"))["model"] == "ollama/llama3"
        assert (await client.cancel(id)) == {"cancelled": False}
        found = await client.diff(id)
        assert (found.patch, found.files) == (b"", [])
        assert [row["id"] for row in await client.conversations()] == [id]
        await client.delete_sandbox(box["id"])
        assert await client.conversations() == []
        assert await client.sandboxes() == []
    assert await conversations.list(database) == []


async def test_what_cannot_work_is_refused_at_once(stack: Served, api: Client, box: str) -> None:
    await api.run_command(box, "touch file", cwd="/home/user", wait_ms=5000)
    for workspace in ("/home/user/nowhere", "/home/user/file", "/home/user/file/x"):
        with pytest.raises(errors.InvalidInput, match=r"body\.workspace: ") as caught:
            await api.create_conversation(box, workspace, model="scripted:demo")
        assert caught.value.extra["errors"][0]["field"] == "body.workspace"
    with pytest.raises(errors.ModelUnknown, match="scripted:nobody"):
        await api.create_conversation(box, "/home/user", model="scripted:nobody")
    await api.stop_sandbox(box)  # looked into all the same: it is started for that
    talk = (await api.create_conversation(box, "/home/user", model="scripted:demo"))["id"]
    with pytest.raises(errors.ModelUnknown, match="no provider"):
        await api.set_model(talk, "nobody-has-made-this")
    assert (await api.set_model(talk, "ollama/anything"))["model"] == "ollama/anything"
    assert len(await api.conversations()) == 1


async def test_pages(served: Served, database: Database) -> None:
    owner = await users.ensure_owner(database)
    other = await database.fetchval(
        "INSERT INTO users (email, username) VALUES ('o@example.org', 'other') RETURNING id"
    )
    ids = [new_id() for _ in range(7)]
    for id in ids:
        await sandboxes.create(database, id, owner, "box")
    foreign = new_id()
    await sandboxes.create(database, foreign, other, "not ours")
    async with served.http() as http:
        seen, cursor = [], None
        while True:
            query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
            page = (await http.get("/v1/sandboxes", params=query)).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        hidden = await http.get(f"/v1/sandboxes/{foreign}")
    assert seen == ids[::-1]
    assert hidden.status_code == 404
