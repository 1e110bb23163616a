"""Our checkpointer on real Postgres: LangGraph's own conformance suite, one transaction, and the fence."""

from __future__ import annotations

import contextlib

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate

from graphs.saver import Saver
from graphs.state import OUTGOING, REWIND
from schema import Database, conversations, entities, events, rewind_points, users
from terminalpp.types.errors import Fenced
from terminalpp.types.ids import Fence, Ref, new_id


async def test_it_passes_langgraphs_conformance_suite(database: Database):
    @checkpointer_test(name="terminalpp")
    async def saver():
        yield Saver(database, None, None)

    report = await validate(saver)
    failures = [f"{name}: {text}" for name, result in report.results.items() for text in result.failures]
    assert failures == []
    assert report.passed_all_base()
    assert report.passed_all()


async def owned(database: Database) -> tuple[str, Fence]:
    """A conversation and the fence of its first owner."""
    user = await users.ensure_owner(database)
    id = new_id()
    await conversations.create(database, id, user, None)
    row = await entities.claim(database, Ref("conversation", id), "cell/a", 0.0)
    assert row is not None
    return id, row.fence


def step(conversation_id: str, number: int) -> tuple:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {
        "rounds": number,
        OUTGOING: [["step.finished", "system", {"n": number}]],
        REWIND: {"snapshot": f"tree{number}", "label": "coder 1"},
    }
    versions = {"rounds": number, OUTGOING: number, REWIND: number}
    checkpoint["channel_versions"] = versions
    config = {"configurable": {"thread_id": conversation_id, "checkpoint_ns": ""}}
    return config, checkpoint, {"source": "loop", "step": number, "parents": {}}, versions


async def test_checkpoint_events_and_rewind_point_come_together(database: Database):
    id, fence = await owned(database)
    told = []

    async def announce(seq: int) -> None:
        told.append(seq)

    saver = Saver(database, fence, id, announce)
    stored = await saver.aput(*step(id, 1))
    assert [event.payload for event in await events.read(database, id)] == [{"n": 1}]
    points = await rewind_points.list(database, id)
    assert [(point.tree, point.event_seq) for point in points] == [("tree1", 1)]
    assert told == [1]
    kept = await saver.aget_tuple(stored)
    assert kept is not None
    assert kept.checkpoint["channel_values"] == {"rounds": 1}, "what left is not kept twice"


async def test_what_a_steps_nodes_wrote_goes_with_the_checkpoint_that_holds_it(database: Database):
    id, fence = await owned(database)
    saver = Saver(database, fence, id)
    first = await saver.aput(*step(id, 1))
    await saver.aput_writes(first, [("rounds", 2), ("plan", {"steps": []})], "task")
    assert len((await saver.aget_tuple(first)).pending_writes) == 2, "a crash now finds them"
    _, checkpoint, metadata, versions = step(id, 2)
    row = await entities.claim(database, Ref("conversation", id), "cell/b", 10.0)
    with pytest.raises(Fenced):
        await saver.aput(first, checkpoint, metadata, versions)
    assert len((await saver.aget_tuple(first)).pending_writes) == 2, "nobody but the owner takes them away"
    second = await Saver(database, row.fence, id).aput(first, checkpoint, metadata, versions)
    assert (await saver.aget_tuple(first)).pending_writes == []
    assert (await saver.aget_tuple(second)).checkpoint["channel_values"] == {"rounds": 2}


async def test_a_fenced_out_owner_stores_nothing(database: Database):
    id, fence = await owned(database)
    zombie = Saver(database, fence, id)
    row = await entities.claim(database, Ref("conversation", id), "cell/b", 10.0)
    assert row is not None
    with pytest.raises(Fenced):
        await zombie.aput(*step(id, 1))
    with pytest.raises(Fenced):
        await zombie.aput_writes(
            {"configurable": {"thread_id": id, "checkpoint_ns": "", "checkpoint_id": "x"}}, [("a", 1)], "task"
        )
    assert await events.read(database, id) == []
    assert await zombie.aget_tuple({"configurable": {"thread_id": id, "checkpoint_ns": ""}}) is None
    await Saver(database, row.fence, id).aput(*step(id, 2))
    assert await events.last_seq(database, id) == 1


async def test_an_event_that_cannot_be_stored_takes_the_checkpoint_with_it(database: Database):
    id, fence = await owned(database)
    config, checkpoint, metadata, versions = step(id, 1)
    checkpoint["channel_values"][OUTGOING] = [["x", "system", {"no json": object()}]]
    with contextlib.suppress(Exception):
        await Saver(database, fence, id).aput(config, checkpoint, metadata, versions)
    assert await Saver(database, fence, id).aget_tuple(config) is None
    assert await events.read(database, id) == []
