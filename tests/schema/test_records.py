"""Sandboxes, conversations, agents, accounts, idempotency keys: the rows behind the interface."""

from __future__ import annotations

import asyncio
import itertools

import asyncpg
import pytest

from schema import Database, agents, conversations, idempotency, messages, sandboxes, users
from schema.conversations import Conversation
from schema.sandboxes import Sandbox
from terminalpp.types.errors import Conflict, IdempotencyInFlight, IdempotencyMismatch, NotFound
from terminalpp.types.ids import new_id
from terminalpp.types.states import AgentRole, SandboxState

ALLOWED = {
    ("stopped", "starting"), ("starting", "running"), ("running", "stopped"), ("error", "starting"),
    ("stopped", "error"), ("starting", "error"), ("running", "error"),
}  # fmt: skip
PAIRS = [pair for pair in itertools.product(map(str, SandboxState), repeat=2) if pair[0] != pair[1]]


@pytest.mark.parametrize(("before", "after"), PAIRS)
async def test_the_sandbox_goes_its_way_only(
    database: Database, owner: str, before: str, after: str
) -> None:
    id = new_id()
    await database.execute(
        "INSERT INTO sandboxes (id, user_id, name, status) VALUES ($1, $2, 'n', $3)", id, owner, before
    )
    if (before, after) in ALLOWED:
        assert (await sandboxes.set_status(database, id, after, "why")).status == after
        return
    with pytest.raises(Conflict) as caught:
        await sandboxes.set_status(database, id, after)
    assert caught.value.extra == {"from": before, "to": after}
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await database.execute("UPDATE sandboxes SET status = $2 WHERE id = $1", id, after)
    assert refused.value.constraint_name == "ck_sandboxes_transition"


async def test_a_refused_step_leaves_the_transaction_usable(database: Database, sandbox: Sandbox) -> None:
    async with database.transaction() as connection:
        with pytest.raises(Conflict):
            await sandboxes.set_status(connection, sandbox.id, "running")
        await sandboxes.set_status(connection, sandbox.id, "starting", "pulling")
    row = await sandboxes.get(database, sandbox.id)
    assert (row.status, row.status_detail) == ("starting", "pulling")


async def test_the_same_state_again_is_no_step(database: Database, sandbox: Sandbox) -> None:
    assert (await sandboxes.set_status(database, sandbox.id, "stopped", "idle")).status_detail == "idle"


async def test_a_sandbox_is_made_once_with_the_seeds_defaults(database: Database, owner: str) -> None:
    id = new_id()
    first = await sandboxes.create(database, id, owner, "box")
    assert await sandboxes.create(database, id, owner, "other name") == first
    assert (first.status, first.image, first.network) == ("stopped", "ubuntu:22.04", "none")
    assert first.resource_limits == {"cpu": "1", "memory": "1GB", "disk": "10GB"}
    assert (first.environment_vars, first.exposed_ports, first.generation) == ({}, [], 0)
    guest = await database.fetchval("INSERT INTO users (email, username) VALUES ('g', 'g') RETURNING id")
    with pytest.raises(Conflict):
        await sandboxes.create(database, id, guest, "mine")
    assert [row.id for row in await sandboxes.list(database, owner)] == [id]
    assert await sandboxes.list(database, guest) == []


async def test_what_the_driver_reports(database: Database, sandbox: Sandbox) -> None:
    assert await sandboxes.next_generation(database, sandbox.id) == 1
    row = await sandboxes.set_container(
        database, sandbox.id, "c1", node_id="local", driver="bubblewrap", isolation="bwrap"
    )
    assert (row.container_id, row.driver, row.isolation, row.generation) == ("c1", "bubblewrap", "bwrap", 1)
    row = await sandboxes.set_container(database, sandbox.id, None)
    assert (row.container_id, row.driver) == (None, "bubblewrap")
    await database.execute("UPDATE sandboxes SET last_activity_at = now() - interval '1 hour'")
    before = (await sandboxes.get(database, sandbox.id)).last_activity_at
    await sandboxes.touch(database, sandbox.id)
    assert (await sandboxes.get(database, sandbox.id)).last_activity_at > before
    assert await sandboxes.delete(database, sandbox.id)
    assert not await sandboxes.delete(database, sandbox.id)


@pytest.mark.parametrize(
    "call",
    [
        lambda d, id: sandboxes.get(d, id),
        lambda d, id: sandboxes.set_status(d, id, "starting"),
        lambda d, id: sandboxes.next_generation(d, id),
        lambda d, id: sandboxes.set_container(d, id, None),
        lambda d, id: conversations.get(d, id),
        lambda d, id: conversations.update_settings(d, id, {}),
        lambda d, id: conversations.add_usage(d, id, 1),
        lambda d, id: agents.get(d, id),
        lambda d, id: agents.set_status(d, id, "paused"),
        lambda d, id: agents.create_team(d, id, ["coder"]),
        lambda d, id: messages.add(d, new_id(), id, "user", "hi"),
    ],
)
async def test_what_is_not_there_is_not_found(database: Database, call) -> None:
    with pytest.raises(NotFound):
        await call(database, new_id())


async def test_a_conversation_keeps_settings_totals_and_name(
    database: Database, conversation: Conversation, owner: str, sandbox: Sandbox
) -> None:
    again = await conversations.create(database, conversation.id, owner, sandbox.id, title="x")
    assert again == conversation
    row = await conversations.update_settings(database, conversation.id, {"model": "m1", "mode": "team"})
    row = await conversations.update_settings(database, conversation.id, {"mode": "single"})
    assert (row.settings, row.model_used) == ({"model": "m1", "mode": "single"}, "m1")
    await conversations.add_usage(database, conversation.id, 10, 0.1)
    await conversations.add_usage(database, conversation.id, 5, 0.2)
    row = await conversations.add_usage(database, conversation.id, 5, None)
    assert (row.total_tokens, row.cost_usd) == (20, 0.3)
    assert await conversations.set_title(database, conversation.id, "t" * 300)
    assert not await conversations.set_title(database, conversation.id, "second")
    assert (await conversations.get(database, conversation.id)).title == "t" * 255
    assert len(await conversations.list(database, owner, sandbox_id=sandbox.id)) == 1
    await conversations.set_status(database, conversation.id, "deleted")
    assert await conversations.list(database, owner) == []


async def test_messages_in_order_and_once(database: Database, conversation: Conversation) -> None:
    ids = [new_id() for _ in range(3)]
    for id in ids:
        assert await messages.add(database, id, conversation.id, "user", f"\x00{id}", {"n": 1})
    assert not await messages.add(database, ids[0], conversation.id, "user", "again")
    found = await messages.list(database, conversation.id)
    assert [message.id for message in found] == ids
    assert found[0].content == f"�{ids[0]}"
    assert len(await messages.list(database, conversation.id, after_seq=found[0].seq)) == 2
    assert (await messages.get(database, ids[1])).role == "user"


async def test_a_team_is_made_once(database: Database, conversation: Conversation, owner: str) -> None:
    team = await agents.create_team(database, conversation.id, list(AgentRole))
    assert [agent.type for agent in team] == ["planner", "coder", "tester", "critic", "executor"]
    assert team == await agents.create_team(database, conversation.id, ["coder", "critic"])
    assert team[1].id == agents.agent_id(conversation.id, "coder")
    changed = await agents.set_status(database, team[1].id, "paused", {"task": "t"})
    assert (changed.status, changed.context) == ("paused", {"task": "t"})
    assert len(await agents.list(database, owner)) == 5
    assert len(await agents.list(database, None, conversation.id)) == 5


async def test_one_owner_however_many_start_at_once(database: Database) -> None:
    ids = await asyncio.gather(*(users.ensure_owner(database) for _ in range(6)))
    assert len(set(ids)) == 1


async def test_a_token_works_until_it_does_not(database: Database, owner: str) -> None:
    first, second = "a" * 64, "b" * 64
    assert await users.user_of_token(database, first) is None
    for _ in range(2):
        await users.ensure_token(database, owner, first)
    assert await users.user_of_token(database, first) == owner
    await users.touch_token(database, first)
    await users.ensure_token(database, owner, second, only=True)
    assert await users.user_of_token(database, first) is None
    assert await users.user_of_token(database, second) == owner
    await database.execute("UPDATE users SET disabled_at = now()")
    assert await users.user_of_token(database, second) is None
    await database.execute("UPDATE users SET disabled_at = NULL")
    assert await users.revoke_token(database, second)
    assert await users.user_of_token(database, second) is None
    assert len(await users.list_tokens(database, owner)) == 2


async def test_a_token_is_stored_as_a_hash_only(database: Database, owner: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="ck_api_keys_token"):
        await users.ensure_token(database, owner, "the token itself")


# ---- idempotency keys ---------------------------------------------------------------------------------

REQUEST = ("POST", "/v1/sandboxes", "f" * 64)


async def test_one_key_one_response(database: Database, owner: str) -> None:
    assert await idempotency.begin(database, owner, "k", *REQUEST) is None
    with pytest.raises(IdempotencyInFlight):
        await idempotency.begin(database, owner, "k", *REQUEST)
    assert await idempotency.finish(database, owner, "k", 201, {"x": "y"}, b"\x00body")
    stored = await idempotency.begin(database, owner, "k", *REQUEST)
    assert (stored.status, stored.headers, stored.body) == (201, {"x": "y"}, b"\x00body")
    assert not await idempotency.finish(database, owner, "k", 500, {}, b"")
    assert not await idempotency.abandon(database, owner, "k")


@pytest.mark.parametrize(
    "other",
    [("PUT", *REQUEST[1:]), ("POST", "/v1/other", REQUEST[2]), (*REQUEST[:2], "0" * 64)],
)
@pytest.mark.parametrize("finished", [True, False])
async def test_one_key_one_request(
    database: Database, owner: str, other: tuple[str, str, str], finished: bool
) -> None:
    await idempotency.begin(database, owner, "k", *REQUEST)
    if finished:
        await idempotency.finish(database, owner, "k", 200, {}, b"")
    with pytest.raises(IdempotencyMismatch):
        await idempotency.begin(database, owner, "k", *other, stale_after_s=0)


async def test_of_many_tries_one_goes(database: Database, owner: str) -> None:
    tries = await asyncio.gather(
        *(idempotency.begin(database, owner, "k", *REQUEST) for _ in range(10)), return_exceptions=True
    )
    assert [result for result in tries if not isinstance(result, IdempotencyInFlight)] == [None]


async def test_a_key_whose_process_died_is_taken_over(database: Database, owner: str) -> None:
    await idempotency.begin(database, owner, "k", *REQUEST)
    await database.execute("UPDATE idempotency_keys SET locked_at = now() - interval '2 minutes'")
    tries = await asyncio.gather(
        *(idempotency.begin(database, owner, "k", *REQUEST) for _ in range(5)), return_exceptions=True
    )
    assert [result for result in tries if not isinstance(result, IdempotencyInFlight)] == [None]


async def test_an_abandoned_key_is_free_and_an_old_one_forgotten(database: Database, owner: str) -> None:
    await idempotency.begin(database, owner, "k", *REQUEST)
    assert await idempotency.abandon(database, owner, "k")
    assert await idempotency.begin(database, owner, "k", "PUT", "/other", "0" * 64) is None
    assert await idempotency.prune(database) == 0
    await database.execute("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")
    assert await idempotency.prune(database) == 1
