"""Checkpoints, pending writes and rewind points as rows."""

from __future__ import annotations

from schema import Database, checkpoints, rewind_points
from schema.conversations import Conversation

T = "thread"


async def put(database: Database, id: str, ns: str = "", thread: str = T, **metadata: object) -> None:
    await checkpoints.put(database, thread, ns, id, None, {"id": id}, metadata)


async def test_the_newest_or_the_named_one(database: Database) -> None:
    assert await checkpoints.get(database, T) is None
    for id in ("1ef0", "1ef2", "1ef1"):
        await put(database, id)
    await put(database, "1ef9", ns="sub")
    assert (await checkpoints.get(database, T)).checkpoint_id == "1ef2"
    assert (await checkpoints.get(database, T, "", "1ef0")).checkpoint == {"id": "1ef0"}
    assert (await checkpoints.get(database, T, "sub")).checkpoint_id == "1ef9"


async def test_a_repeated_step_replaces_its_checkpoint(database: Database) -> None:
    await put(database, "1", step=1)
    await put(database, "1", step=2)
    assert (await checkpoints.get(database, T)).metadata == {"step": 2}


async def test_listing_filters(database: Database) -> None:
    for n in range(4):
        await put(database, str(n), step=n, source="loop")
    await put(database, "9", thread="other")

    async def ids(*args: object, **filters: object) -> list[str]:
        return [row.checkpoint_id for row in await checkpoints.list(database, *args, **filters)]

    assert await ids(T) == ["3", "2", "1", "0"]
    assert await ids() == ["9", "3", "2", "1", "0"]
    assert await ids(T, before="2") == ["1", "0"]
    assert await ids(T, metadata={"step": 1, "source": "loop"}) == ["1"]
    assert await ids(T, limit=2) == ["3", "2"]
    assert await ids(T, "", checkpoint_id="1") == ["1"]


async def test_writes_stay_unless_replaced(database: Database) -> None:
    await checkpoints.put_writes(database, T, "", "1", "task", [(0, "a", {"x": 1}), (1, "b", None)], "p")
    await checkpoints.put_writes(database, T, "", "1", "task", [(0, "a", "late"), (2, "c", [])], "p")
    found = await checkpoints.get_writes(database, T, "", "1")
    values = [(row.idx, row.channel, row.value) for row in found]
    assert values == [(0, "a", {"x": 1}), (1, "b", None), (2, "c", [])]
    await checkpoints.put_writes(database, T, "", "1", "task", [(-1, "__error__", "e1")], replace=True)
    await checkpoints.put_writes(database, T, "", "1", "task", [(-1, "__error__", "e2")], replace=True)
    await checkpoints.put_writes(database, T, "", "1", "task", [])
    found = await checkpoints.get_writes(database, T, "", "1")
    assert [row.value for row in found if row.idx == -1] == ["e2"]


async def test_threads_are_copied_and_deleted_whole(database: Database) -> None:
    await put(database, "1", run_id="r1")
    await put(database, "2", run_id="r2")
    await checkpoints.put_writes(database, T, "", "1", "task", [(0, "a", 1)])
    async with database.transaction() as connection:
        await checkpoints.copy_thread(connection, T, "fork")
    await checkpoints.delete_thread(database, T)
    assert await checkpoints.list(database, T) == []
    assert await checkpoints.get_writes(database, T, "", "1") == []
    assert len(await checkpoints.list(database, "fork")) == 2
    assert len(await checkpoints.get_writes(database, "fork", "", "1")) == 1
    await checkpoints.delete_for_runs(database, ["r1"])
    assert [row.checkpoint_id for row in await checkpoints.list(database, "fork")] == ["2"]
    assert await checkpoints.get_writes(database, "fork", "", "1") == []


async def test_pruning_keeps_the_newest_and_what_can_be_rewound_to(
    database: Database, conversation: Conversation
) -> None:
    for n in range(6):
        await put(database, str(n), thread=conversation.id)
        await checkpoints.put_writes(database, conversation.id, "", str(n), "task", [(0, "a", n)])
    await rewind_points.add(database, conversation.id, 7, "1", tree="t1")
    assert await checkpoints.prune(database, conversation.id, keep=2) == 3
    left = [row.checkpoint_id for row in await checkpoints.list(database, conversation.id)]
    assert left == ["5", "4", "1"]
    assert await checkpoints.get_writes(database, conversation.id, "", "0") == []
    assert len(await checkpoints.get_writes(database, conversation.id, "", "1")) == 1


async def test_a_repeated_step_has_one_rewind_point(database: Database, conversation: Conversation) -> None:
    first = await rewind_points.add(database, conversation.id, 3, "c1", tree="a", label="coder")
    again = await rewind_points.add(database, conversation.id, 5, "c1", tree="b")
    await rewind_points.add(database, conversation.id, 4, "c0")
    assert first.id == again.id
    points = await rewind_points.list(database, conversation.id)
    assert [(point.event_seq, point.tree) for point in points] == [(4, None), (5, "b")]
