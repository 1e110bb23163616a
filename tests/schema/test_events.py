"""The event log is gapless and ordered at every moment, and refuses writers whose fence is old."""

from __future__ import annotations

import asyncio

import pytest

from schema import Database, conversations, events
from schema.conversations import Conversation
from terminalpp.types.errors import NotFound
from terminalpp.types.ids import Fence, new_id


async def test_numbers_start_at_one_and_go_on(
    database: Database, conversation: Conversation, fence: Fence
) -> None:
    async with database.fenced(fence) as connection:
        two = [("a", "user", {"n": 1}), ("b", "coder", {})]
        assert await events.append(connection, conversation.id, two) == 1
        assert await events.append(connection, conversation.id, [("c", "system", {"x": [1, None]})]) == 3
    log = await events.read(database, conversation.id)
    assert [(event.seq, event.type, event.actor) for event in log] == [
        (1, "a", "user"), (2, "b", "coder"), (3, "c", "system"),
    ]  # fmt: skip
    assert log[2].payload == {"x": [1, None]}
    assert await events.last_seq(database, conversation.id) == 3
    assert [event.seq for event in await events.read(database, conversation.id, 1, 1)] == [2]


async def test_concurrent_writers_leave_no_gap_and_readers_see_none(
    database: Database, conversation: Conversation, fence: Fence
) -> None:
    """Some transactions are rolled back; a reader that follows the log all the while never sees a hole."""
    writers, rounds = 6, 15
    over = asyncio.Event()

    async def write(writer: int) -> None:
        for round_ in range(rounds):
            fail = (writer + round_) % 4 == 0
            try:
                async with database.fenced(fence) as connection:
                    batch = [("e", f"w{writer}", {"round": round_, "part": part}) for part in range(3)]
                    await events.append(connection, conversation.id, batch)
                    if fail:
                        raise InterruptedError
            except InterruptedError:
                continue

    async def follow() -> list[int]:
        seen: list[int] = []
        while not over.is_set() or len(seen) < await events.last_seq(database, conversation.id):
            seen += [event.seq for event in await events.read(database, conversation.id, len(seen), 50)]
            assert seen == list(range(1, len(seen) + 1))
        return seen

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(writer) for writer in range(writers)))
    over.set()
    committed = sum((writer + round_) % 4 != 0 for writer in range(writers) for round_ in range(rounds))
    assert await following == list(range(1, committed * 3 + 1))


async def test_numbering_holds_without_the_fence_too(database: Database, conversation: Conversation) -> None:
    """The fence serialises writers; the counter alone must be enough for the numbers."""

    async def write() -> None:
        async with database.transaction() as connection:
            await events.append(connection, conversation.id, [("e", "system", {})])

    await asyncio.gather(*(write() for _ in range(25)))
    assert [event.seq for event in await events.read(database, conversation.id)] == list(range(1, 26))


async def test_finding_and_filtering(database: Database, conversation: Conversation, fence: Fence) -> None:
    kinds = ("model.started", "model.finished")
    batch = [(kind, "coder", {"call_id": f"c{n}"}) for n in range(3) for kind in kinds]
    async with database.fenced(fence) as connection:
        await events.append(connection, conversation.id, batch)
    found = await events.find(database, conversation.id, "model.finished", "c1")
    assert found.seq == 4
    assert await events.find(database, conversation.id, "model.finished", "c9") is None
    some = await events.read_types(database, conversation.id, ["model.finished", "other"], after_seq=2)
    assert [event.seq for event in some] == [4, 6]


async def test_text_that_postgres_cannot_hold_is_shown_and_not_refused(
    database: Database, conversation: Conversation, fence: Fence
) -> None:
    payload = {"text": "a\x00b\ud800c😀", "k\x00": ["\udfff"]}
    async with database.fenced(fence) as connection:
        await events.append(connection, conversation.id, [("e", "system", payload)])
    [event] = await events.read(database, conversation.id)
    assert event.payload == {"text": "a�b�c😀", "k�": ["�"]}


async def test_an_unknown_conversation_is_not_found(database: Database) -> None:
    async with database.transaction() as connection:
        with pytest.raises(NotFound):
            await events.append(connection, new_id(), [("e", "system", {})])
    with pytest.raises(NotFound):
        await events.last_seq(database, new_id())


async def test_nothing_to_append_is_a_mistake(database: Database, conversation: Conversation) -> None:
    with pytest.raises(ValueError, match="nothing"):
        await events.append(database, conversation.id, [])


async def test_events_go_with_their_conversation_only(database: Database, conversation: Conversation) -> None:
    async with database.transaction() as connection:
        await events.append(connection, conversation.id, [("e", "system", {})])
    await conversations.set_status(database, conversation.id, "deleted")
    assert len(await events.read(database, conversation.id)) == 1
    await database.execute("DELETE FROM ai_conversations WHERE id = $1", conversation.id)
    assert await events.read(database, conversation.id) == []
