"""What counts against an entity, and what still works in quarantine. Real Postgres, no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtime import supervision, wire
from runtime.supervision import BUDGET_FAILURES
from schema import dead_letters, entities, mailbox, outbox, quarantines, reminders
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually
from tests.runtime.entities import MADE, MET, OBSTACLES, TROUBLES
from tests.runtime.local_cells import CELL, LocalNode

DEFECTS = ("defect", "internal")
REFUSALS = ("refusal", "bad input", "surrogate")
WEATHER = tuple(name for name in TROUBLES if name not in (*DEFECTS, *REFUSALS))


@pytest.fixture
def trouble() -> Ref:
    return Ref("trouble", new_id())


async def failures(node: LocalNode, ref: Ref) -> int:
    row = await entities.load(node.database, ref)
    assert row is not None
    return row.failures


async def quiet(node: LocalNode, ref: Ref) -> None:
    """Nothing is under way in the entity: no spawned work, no restart."""
    await eventually(lambda: node.cells.hosts[CELL].find(ref).idle)


# ---- the table: kind of error × place → what happens -------------------------------------------------
# Each test tries all kinds side by side, each on an entity of its own.


async def in_a_turn(node: LocalNode, name: str) -> None:
    trouble = Ref("trouble", new_id())
    payload, message_id = {"trouble": name, "times": 2}, f"m-{trouble.id}"
    sent = node.runtime.send(trouble, "turn", payload, message_id=message_id)
    if name in REFUSALS or name in ("disk full", "no space"):
        with pytest.raises(errors.TerminalError) as told:
            await sent
        assert told.value.code in ("conflict", "invalid-input", "disk-full"), name
    else:
        assert await sent == "done", name

    async def finished() -> mailbox.MailRow | None:
        found = await mailbox.result_of(node.database, message_id)
        return found if found.finished else None

    # Told at once or not: what was accepted is done when the weather is over.
    row = await eventually(finished)
    assert row.status == ("failed" if name in REFUSALS else "done"), name
    assert row.attempts == (2 if name in DEFECTS else 0), name
    assert MET[trouble.id, name] == (1 if name in REFUSALS else 3), name
    await quiet(node, trouble)
    assert await failures(node, trouble) == 0, name


async def in_a_call(node: LocalNode, name: str) -> None:
    trouble = Ref("trouble", new_id())
    with pytest.raises(errors.TerminalError):
        await node.runtime.call(trouble, "call", {"trouble": name})
    assert await node.runtime.call(trouble, "call", {"trouble": name}) == "done", name
    assert await failures(node, trouble) == 0, name


async def in_spawned_work(node: LocalNode, name: str) -> None:
    trouble = Ref("trouble", new_id())
    await node.runtime.call(trouble, "spawn", {"trouble": name})
    restarts = 1 if name in DEFECTS else 0
    await eventually(lambda: MADE.get(trouble.id) == 1 + restarts and MET.get((trouble.id, name)))
    await quiet(node, trouble)
    assert MADE[trouble.id] == 1 + restarts, name
    assert await failures(node, trouble) == restarts, name
    assert await node.runtime.call(trouble, "whole_object")


async def in_an_effect(node: LocalNode, name: str) -> None:
    trouble = Ref("trouble", new_id())
    action = await node.runtime.send(trouble, "act", {"trouble": name})

    async def status() -> str | None:
        found = (await outbox.get(node.database, action)).status
        return found if found != "pending" else None

    assert await eventually(status) == ("dead" if name in REFUSALS else "done"), name
    await quiet(node, trouble)
    assert await failures(node, trouble) == 0, name


async def in_activated(node: LocalNode, name: str) -> None:
    ref = Ref("stubborn", new_id())
    try:
        TROUBLES[name]()
    except Exception as error:
        OBSTACLES[ref.id] = error
    with pytest.raises(errors.TerminalError):
        await node.runtime.call(ref, "get", timeout_s=0.2)
    await eventually(lambda: MET.get((ref.id, "obstacle")))
    del OBSTACLES[ref.id]
    await eventually(lambda: ref not in node.cells.hosts[CELL]._activating)
    assert (await failures(node, ref) > 0) == (name in DEFECTS), name

    async def here() -> bool:
        try:
            return await node.runtime.call(ref, "get") == "here"
        except errors.TerminalError:
            return False  # the answer of a try from before

    await eventually(here)


@pytest.mark.parametrize("place", [in_a_turn, in_a_call, in_spawned_work, in_an_effect, in_activated])
async def test_only_defects_count(
    node: LocalNode, place: Callable[[LocalNode, str], Awaitable[None]]
) -> None:
    await asyncio.gather(*(place(node, name) for name in TROUBLES))


async def test_activated_that_meets_weather_in_a_restart_is_given_up_not_counted(node: LocalNode) -> None:
    ref = Ref("stubborn", new_id())
    assert await node.runtime.call(ref, "get") == "here"
    OBSTACLES[ref.id] = errors.Unavailable("away")
    activation = node.cells.hosts[CELL].find(ref)
    await activation.restart(ZeroDivisionError("once"))

    async def released() -> bool:
        return (await entities.load(node.database, ref)).owner is None

    await eventually(released)
    assert await failures(node, ref) == 1
    del OBSTACLES[ref.id]
    assert await node.runtime.call(ref, "get") == "here"


def test_a_full_disk_is_waited_out_for_as_long_as_it_takes() -> None:
    ruling = supervision.judge_effect(errors.DiskFull("x"), 10_000)
    assert ruling.verdict is supervision.Verdict.RETRY


async def test_the_tries_of_one_message_are_one_defect(node: LocalNode, trouble: Ref) -> None:
    with pytest.raises(errors.TerminalError, match="ZeroDivisionError"):
        await node.runtime.send(trouble, "turn", {"trouble": "defect", "times": 99})
    await quiet(node, trouble)
    assert await failures(node, trouble) == 1


# ---- in quarantine -----------------------------------------------------------------------------------


async def put_aside(node: LocalNode, ref: Ref) -> None:
    await node.runtime.call(ref, "peek")
    activation = node.cells.hosts[CELL].find(ref)
    for _ in range(BUDGET_FAILURES):
        await activation.count_failure(ZeroDivisionError("a defect"))
    assert (await quarantines.get(node.database, ref)).error["detail"] == "ZeroDivisionError: a defect"


async def test_what_ends_it_and_what_reads_it_goes_on(node: LocalNode, trouble: Ref) -> None:
    await put_aside(node, trouble)
    made = MADE[trouble.id]
    waiting = f"w-{trouble.id}"
    with pytest.raises(errors.Quarantined, match="a defect"):
        await node.runtime.send(trouble, "turn", {"trouble": "defect", "times": 0}, message_id=waiting)
    with pytest.raises(errors.Quarantined, match="a defect"):
        await node.runtime.call(trouble, "call", {"trouble": "defect", "times": 0})
    assert await node.runtime.call(trouble, "peek") == {"quarantined": True}
    assert await node.runtime.send(trouble, "end") == "ended", "although other mail is before it"

    async def tidied() -> bool:
        return (await node.runtime.call(trouble, "peek")).get("tidied")

    await eventually(tidied)
    assert MADE[trouble.id] == made, "activated() may be what is broken"
    assert (await quarantines.get(node.database, trouble)).messages == 1

    assert await entities.release_quarantine(node.database, trouble)
    assert await node.runtime.send(
        trouble, "turn", {"trouble": "defect", "times": 0}, message_id=waiting) == "done"
    assert await node.runtime.call(trouble, "peek") == {
        "quarantined": False, "ended": True, "tidied": True, "turns": 1}


async def test_quarantine_outlives_its_cell(node: LocalNode, trouble: Ref) -> None:
    await put_aside(node, trouble)
    await node.runtime.call(trouble, "peek")
    await node.cells.hosts[CELL].stop()
    node.add("cell/test/2")
    node.cells.place = "cell/test/2"
    with pytest.raises(errors.Quarantined):
        await node.runtime.call(trouble, "whole_object")
    assert await node.runtime.send(trouble, "end") == "ended"


async def test_defects_in_quarantine_are_not_counted(node: LocalNode, trouble: Ref) -> None:
    await put_aside(node, trouble)
    await mailbox.enqueue(node.database, trouble, new_id(), "effect_failed", {"no": "error"})
    await node.runtime.call(trouble, "peek")

    async def dead() -> bool:
        return bool(await dead_letters.list(node.database, entity_id=trouble.id))

    await eventually(dead)
    assert await node.runtime.send(trouble, "end") == "ended"


async def test_reminders_of_what_is_aside_are_not_piled_up(node: LocalNode, counter: Ref) -> None:
    await node.runtime.send(counter, "remind_me", {"after": 0.0, "every": 0.001})
    await entities.quarantine(node.database, counter, {"code": "internal", "detail": "x"})
    assert await reminders.fire_due(node.database) == []
    await entities.release_quarantine(node.database, counter)
    assert await reminders.fire_due(node.database) == [counter]


# ---- ready -------------------------------------------------------------------------------------------


async def test_nobody_reaches_an_object_that_is_being_made(node: LocalNode, trouble: Ref) -> None:
    """Calls and messages that come during the first activation and during a restart find a whole object."""
    assert all(await asyncio.gather(*(node.runtime.call(trouble, "whole_object") for _ in range(5))))
    activation = node.cells.hosts[CELL].find(trouble)
    restarting = asyncio.create_task(activation.restart(ZeroDivisionError("x")))
    await eventually(lambda: not activation.tenure.ready.is_set() or restarting.done(), interval_s=0)
    calls = [asyncio.create_task(activation.call("whole_object", {})) for _ in range(5)]
    turn = asyncio.create_task(node.runtime.send(trouble, "turn", {"trouble": "defect", "times": 0}))
    await restarting
    assert all(await asyncio.gather(*calls))
    assert await turn == "done"


async def test_an_entity_that_leaves_takes_nothing_more(node: LocalNode) -> None:
    """A call at the very moment of passivation is either carried out or told to look elsewhere."""
    ref = Ref("sleepy", new_id())
    host = node.cells.hosts[CELL]
    for round in range(1, 4):
        await node.runtime.send(ref, "note", {})
        activation = host.find(ref)
        await eventually(lambda found=activation: found.idle)
        node.clock.now += 0.5
        poll = asyncio.create_task(host.poll())
        got = await asyncio.gather(*(node.runtime.call(ref, "get") for _ in range(10)))
        await poll
        assert {answer["notes"] for answer in got} == {round}
        await eventually(lambda: not host._leaving)
    activation = host.find(ref)
    await eventually(lambda: activation.idle)
    node.clock.now += 0.5
    await host.poll()
    with pytest.raises(wire.Refused):
        await activation.call("get", {})


async def test_a_cell_with_an_entity_does_not_retire(node: LocalNode, trouble: Ref) -> None:
    host = node.cells.hosts[CELL]
    await node.runtime.call(trouble, "peek")
    assert not await host.retire()
    assert await node.runtime.call(trouble, "peek") == {"quarantined": False}
    await host.stop()
    assert await host.retire()
    with pytest.raises(wire.Refused, match="suspended"):
        await host.activate(trouble)
