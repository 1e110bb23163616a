"""Commands: accepted once, under the fence, in one round trip; ended once."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from schema import Database, conversations, entities, executions
from schema.conversations import Conversation
from schema.sandboxes import Sandbox
from terminalpp.types.errors import Fenced, IdempotencyMismatch, NotFound
from terminalpp.types.ids import Fence, Ref, new_id
from tests.eventually import eventually


@pytest.fixture
async def fence(database: Database, sandbox: Sandbox) -> Fence:
    return (await entities.claim(database, Ref("sandbox", sandbox.id), "cell-a", 60)).fence


async def test_a_command_is_accepted_once(
    database: Database, owner: str, sandbox: Sandbox, fence: Fence
) -> None:
    args = (new_id(), sandbox.id, owner, "make", "/home/user/x", {"A": "1"}, "auto", "key")
    more = {"agent": "coder", "conversation_id": new_id()}
    row, created = await executions.create(database, *args, fence=fence, **more)
    again, created_again = await executions.create(database, *args, fence=fence)
    assert (created, created_again) == (True, False)
    assert row == again
    assert (row.status, row.command, row.agent) == ("pending", "make", "coder")
    assert row.environment_vars == {"A": "1"}


async def test_a_zombie_accepts_nothing(
    database: Database, owner: str, sandbox: Sandbox, fence: Fence
) -> None:
    known = new_id()
    await executions.create(database, known, sandbox.id, owner, "true", fence=fence)
    await entities.claim(database, Ref(fence.kind, fence.id), "cell-b", 60, takeover_from="cell-a")
    for id in (known, new_id()):
        with pytest.raises(Fenced):
            await executions.create(database, id, sandbox.id, owner, "true", fence=fence)
    assert [row.id for row in await executions.list(database, sandbox.id)] == [known]


async def test_a_claim_under_way_is_waited_for(
    database: Database, owner: str, sandbox: Sandbox, fence: Fence
) -> None:
    """The race: the claim's transaction is open, so its new epoch cannot be seen yet."""
    create = executions.create(database, new_id(), sandbox.id, owner, "true", fence=fence)
    async with database.transaction() as connection:
        await entities.claim(
            connection, Ref(fence.kind, fence.id), "cell-b", 60, takeover_from="cell-a"
        )
        creating = asyncio.create_task(create)
        done, _ = await asyncio.wait({creating}, timeout=0.3)
        assert not done
    with pytest.raises(Fenced):
        await creating
    assert await executions.list(database, sandbox.id) == []


async def test_commands_of_one_owner_do_not_wait_for_each_other(
    database: Database, owner: str, sandbox: Sandbox, fence: Fence
) -> None:
    async with database.transaction() as connection:
        await executions.create(connection, new_id(), sandbox.id, owner, "a", fence=fence)
        other = executions.create(database, new_id(), sandbox.id, owner, "b", fence=fence)
        async with asyncio.timeout(5):
            assert (await other)[1]


async def test_a_commands_conversation_is_forgotten_with_it(
    database: Database, owner: str, sandbox: Sandbox, conversation: Conversation
) -> None:
    other = await conversations.create(database, new_id(), owner, sandbox.id)
    made = {}
    for talk in (conversation, other):
        row, _ = await executions.create(
            database, new_id(), sandbox.id, owner, "true", agent="coder", conversation_id=talk.id
        )
        made[talk.id] = row.id
    await conversations.delete(database, conversation.id)
    found = await executions.list(database, sandbox.id)
    assert {row.id: row.conversation_id for row in found} == {
        made[conversation.id]: None, made[other.id]: other.id
    }


async def test_accepting_is_one_statement(
    database: Database, owner: str, sandbox: Sandbox, fence: Fence
) -> None:
    queries: list[str] = []
    async with database.transaction() as connection:
        connection.add_query_logger(lambda record: queries.append(record.query))
        await executions.create(connection, new_id(), sandbox.id, owner, "true", fence=fence)
        await connection.execute("SELECT 'last'")
    await eventually(lambda: queries[-1:] == ["SELECT 'last'"])  # asyncpg tells a round of the loop later
    assert len(queries) == 2


@pytest.mark.parametrize("fenced", [True, False])
async def test_twins_make_one_row(
    database: Database, owner: str, sandbox: Sandbox, fence: Fence, fenced: bool
) -> None:
    for _ in range(5):
        id = new_id()
        results = await asyncio.gather(
            *(
                executions.create(database, id, sandbox.id, owner, "x", fence=fence if fenced else None)
                for _ in range(8)
            )
        )
        assert sum(created for _, created in results) == 1
        assert {row.id for row, _ in results} == {id}


async def test_an_id_or_key_means_one_command(database: Database, owner: str, sandbox: Sandbox) -> None:
    id = new_id()
    await executions.create(database, id, sandbox.id, owner, "a", idempotency_key="key")
    with pytest.raises(IdempotencyMismatch):
        await executions.create(database, id, sandbox.id, owner, "b")
    with pytest.raises(IdempotencyMismatch):
        await executions.create(database, new_id(), sandbox.id, owner, "a", idempotency_key="key")


async def test_a_command_needs_its_sandbox(database: Database, owner: str) -> None:
    with pytest.raises(NotFound):
        await executions.create(database, new_id(), new_id(), owner, "true")
    with pytest.raises(NotFound):
        await executions.get(database, new_id())


async def test_the_first_end_stays(database: Database, owner: str, sandbox: Sandbox) -> None:
    id = new_id()
    await executions.create(database, id, sandbox.id, owner, "true")
    assert await executions.mark_running(database, id)
    assert not await executions.mark_running(database, id)
    assert [row.id for row in await executions.list_open(database, sandbox.id)] == [id]
    ended = await executions.finish(
        database, executions.End(id, "completed", 3, "out\x00", "err", 4, 3, ms=1500)
    )
    assert ended
    assert not await executions.finish(database, executions.End(id, "failed", reason="lost"))
    row = await executions.get(database, id)
    assert (row.status, row.exit_code, row.stdout, row.stdout_bytes) == ("completed", 3, "out�", 4)
    assert row.execution_time_ms == 1500
    assert row.started_at <= row.completed_at
    assert await executions.list_open(database, sandbox.id) == []


@pytest.mark.parametrize("status", ["running", "pending", "failed", "killed"])
async def test_sql_itself_keeps_an_end(
    database: Database, owner: str, sandbox: Sandbox, status: str
) -> None:
    id = new_id()
    await executions.create(database, id, sandbox.id, owner, "true")
    await executions.finish(database, executions.End(id, "completed", 0))
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await database.execute("UPDATE command_executions SET status = $2 WHERE id = $1", id, status)
    assert caught.value.constraint_name == "ck_ce_transition"


async def test_completed_means_there_is_an_exit_code(
    database: Database, owner: str, sandbox: Sandbox
) -> None:
    id = new_id()
    await executions.create(database, id, sandbox.id, owner, "true")
    with pytest.raises(asyncpg.CheckViolationError, match="ck_ce_completed"):
        await executions.finish(database, executions.End(id, "completed"))


async def test_long_output_is_cut_in_the_middle(database: Database, owner: str, sandbox: Sandbox) -> None:
    id = new_id()
    await executions.create(database, id, sandbox.id, owner, "yes")
    await executions.finish(database, executions.End(id, "completed", 0, "begin" + "ü" * 400_000 + "end", ""))
    row = await executions.get(database, id)
    assert row.truncated
    assert len(row.stdout.encode()) <= executions.MAX_STREAM_BYTES
    assert row.stdout.startswith("beginü")
    assert row.stdout.endswith("üend")
    assert "cut" in row.stdout
