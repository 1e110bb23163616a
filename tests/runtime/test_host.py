"""Entities in a host on real Postgres, without Ray: turns, effects, failures, leases, passivation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime import activation, wire
from runtime.supervision import BUDGET_FAILURES
from schema import Database, dead_letters, entities, mailbox, outbox, reminders
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually
from tests.runtime.entities import OBSTACLES
from tests.runtime.local_cells import LocalNode


@pytest.fixture
async def node(
    database: Database, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[LocalNode]:
    node = LocalNode(database, database_url, redis_url, tmp_path)
    node.add("cell/test/1")
    yield node
    await node.close()


async def state(node: LocalNode, ref: Ref) -> dict:
    row = await entities.load(node.database, ref)
    return {} if row is None else row.state


# ---- turns -------------------------------------------------------------------------------------------


async def test_messages_are_applied_in_order(node: LocalNode, counter: Ref) -> None:
    for tag in range(40):
        await node.runtime.send(counter, "add", {"tag": tag}, wait=False)
    await node.runtime.send(counter, "add", {"tag": "last"})
    assert (await state(node, counter))["seen"] == [*range(40), "last"]


async def test_refusal_is_a_stored_answer_and_changes_nothing(node: LocalNode, counter: Ref) -> None:
    await node.runtime.send(counter, "add", {"n": 7})
    for _ in range(2):
        with pytest.raises(errors.Conflict, match="no, thank you"):
            await node.runtime.send(counter, "refuse", {}, message_id="r1")
    assert (await node.runtime.call(counter, "get"))["total"] == 7
    assert (await mailbox.result_of(node.database, "r1")).attempts == 0


@pytest.mark.parametrize("how", ["turn", "fenced", "spawn", "in a task of its own"])
async def test_a_read_only_method_cannot_write(node: LocalNode, counter: Ref, how: str) -> None:
    await node.runtime.send(counter, "add", {"n": 7})
    with pytest.raises(errors.TerminalError, match="meddle is @readonly"):
        await node.runtime.call(counter, "meddle", {"how": how})
    assert (await state(node, counter))["total"] == 7
    assert await node.runtime.send(counter, "add", {"n": 1}) == {"total": 8}, "what writes still can"


async def test_poison_goes_to_dead_letters_and_the_mailbox_goes_on(node: LocalNode, counter: Ref) -> None:
    await node.runtime.send(counter, "add", {"n": 7})
    with pytest.raises(errors.TerminalError, match="ZeroDivisionError: a defect"):
        await node.runtime.send(counter, "poison", {"why": "test"})
    assert await node.runtime.send(counter, "add", {"n": 1}) == {"total": 8}
    (letter,) = await dead_letters.list(node.database)
    assert (letter.name, letter.payload, letter.entity_id) == ("poison", {"why": "test"}, counter.id)


async def test_too_many_defects_end_in_quarantine(node: LocalNode, counter: Ref) -> None:
    for _ in range(BUDGET_FAILURES):
        await node.runtime.send(counter, "poison", wait=False)
    with pytest.raises(errors.Quarantined, match="a defect"):
        await node.runtime.send(counter, "add", {}, timeout_s=30)
    with pytest.raises(errors.Quarantined, match="a defect"):
        await node.runtime.call(counter, "get")
    (row,) = await entities.list_entities(node.database, quarantined=True)
    assert (row.id, row.last_error["detail"]) == (counter.id, "ZeroDivisionError: a defect")
    assert await entities.release_quarantine(node.database, counter)
    assert (await node.runtime.call(counter, "get"))["epoch"] > 1


async def test_turns_beside_messages_lose_nothing(node: LocalNode, counter: Ref) -> None:
    calls = [node.runtime.call(counter, "add_beside_turns", {"n": 1}) for _ in range(20)]
    sends = [node.runtime.send(counter, "add", {"n": 100}) for _ in range(5)]
    await asyncio.gather(*calls, *sends)
    assert (await node.runtime.call(counter, "get"))["total"] == 520


async def test_send_between_entities_is_part_of_the_turn(node: LocalNode, counter: Ref) -> None:
    other = Ref("counter", new_id())
    for _ in range(2):
        await node.runtime.send(counter, "forward", {"to": str(other), "tag": "x"}, message_id="f1")

    async def arrived() -> bool:
        return (await state(node, other)).get("seen") == ["x"]

    await eventually(arrived)
    assert (await state(node, counter))["forwarded"] == 1


async def test_turn_that_cannot_be_committed_leaves_its_message_waiting(
    node: LocalNode, counter: Ref
) -> None:
    """The receiver's mailbox is full: state, send and the mark "done" wait together."""
    full = Ref("missing", new_id())
    for n in range(50):
        await mailbox.enqueue(node.database, full, f"{full.id}-{n}", "add", {}, None)
    await node.runtime.send(counter, "forward", {"to": str(full), "tag": 1}, message_id="f2", wait=False)
    host = node.cells.hosts["cell/test/1"]
    await eventually(lambda: host.list() and host.find(counter).mail.outside_failures >= 2)
    assert (await mailbox.result_of(node.database, "f2")).status == "pending"
    assert await state(node, counter) == {}
    await mailbox.fail(node.database, f"{full.id}-0", {})

    async def done() -> bool:
        return (await mailbox.result_of(node.database, "f2")).status == "done"

    await eventually(done)
    assert await state(node, counter) == {"forwarded": 1}


async def test_activation_that_fails_is_told_and_counted(node: LocalNode) -> None:
    ref = Ref("stubborn", new_id())
    OBSTACLES[ref.id] = RuntimeError("not today")
    with pytest.raises(errors.TerminalError, match="not today"):
        await node.runtime.call(ref, "get")
    row = await entities.load(node.database, ref)
    assert (row.failures, row.owner) == (1, None)
    del OBSTACLES[ref.id]
    assert await node.runtime.call(ref, "get") == "here"


# ---- bounds ------------------------------------------------------------------------------------------


async def test_full_mailbox_is_overloaded(node: LocalNode, counter: Ref) -> None:
    node.cells.place = None
    for n in range(50):
        await node.runtime.send(counter, "add", {"tag": n}, wait=False)
    with pytest.raises(errors.Overloaded):
        await node.runtime.send(counter, "add", {"tag": "too many"}, wait=False)
    node.cells.place = "cell/test/1"
    await node.runtime.call(counter, "get")

    async def drained() -> bool:
        return len((await state(node, counter)).get("seen", [])) == 50

    await eventually(drained)


async def test_too_many_calls_are_overloaded(node: LocalNode, counter: Ref) -> None:
    await node.runtime.call(counter, "get")
    hanging = [
        asyncio.create_task(node.runtime.call(counter, "hang")) for _ in range(activation.CALLS_MAX)
    ]
    host = node.cells.hosts["cell/test/1"]
    await eventually(lambda: host.find(counter).calls == activation.CALLS_MAX)
    with pytest.raises(errors.Overloaded):
        await node.runtime.call(counter, "echo", {})
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    assert await node.runtime.call(counter, "echo", {"free": "again"}) == {"free": "again"}


# ---- effects and reminders ---------------------------------------------------------------------------


async def test_effect_is_tried_until_it_works(node: LocalNode, counter: Ref, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    action = await node.runtime.send(counter, "act", {"name": "fail_twice", "file": str(file)})

    async def done() -> bool:
        return (await outbox.get(node.database, action)).status == "done"

    await eventually(done)
    assert file.read_text().splitlines() == [f"{action} {attempt}" for attempt in (1, 2, 3)]


async def test_effect_that_is_refused_is_told_to_the_entity(node: LocalNode, counter: Ref) -> None:
    action = await node.runtime.send(counter, "act", {"name": "never_works", "x": 1})

    async def told() -> dict | None:
        return (await state(node, counter)).get("failed_effect")

    failed = await eventually(told)
    assert failed["action"]["id"] == action
    assert failed["error"]["code"] == "conflict"
    (letter,) = await dead_letters.list(node.database)
    assert (letter.source, letter.source_id) == ("outbox", action)


async def test_keyed_action_is_one_of_a_kind(node: LocalNode, counter: Ref, tmp_path: Path) -> None:
    payload = {"file": str(tmp_path / "lines"), "key": "once"}
    first = await node.runtime.send(counter, "act", payload)
    assert await node.runtime.send(counter, "act", payload) == first

    async def done() -> bool:
        return (await outbox.get(node.database, first)).status == "done"

    await eventually(done)
    assert len((tmp_path / "lines").read_text().splitlines()) == 1


async def test_reminders_repeat_and_stop(node: LocalNode, counter: Ref) -> None:
    await node.runtime.send(counter, "remind_me", {"after": 0.05, "every": 0.05})

    async def ticked() -> bool:
        for ref in await reminders.fire_due(node.database):
            node.runtime.nudge(ref)
        return (await state(node, counter)).get("ticks", 0) >= 3

    await eventually(ticked)
    await node.runtime.send(counter, "stop_reminding")
    assert await reminders.list_reminders(node.database, counter) == []


# ---- ownership ---------------------------------------------------------------------------------------


async def test_owner_taken_over_is_fenced_and_forgets(node: LocalNode, counter: Ref) -> None:
    await node.runtime.send(counter, "add", {"n": 1})
    old, new = node.cells.hosts["cell/test/1"], node.add("cell/test/2")
    zombie = old.find(counter)
    await new.activate(counter, takeover_from=old.owner, crashed=True)
    with pytest.raises(errors.Fenced):
        async with zombie.open_turn("late") as turn:
            turn.state["total"] = 666
    with pytest.raises(errors.Fenced):
        await zombie.call("add_beside_turns", {"n": 665})
    with pytest.raises(wire.Refused):
        old.find(counter)
    node.cells.place = "cell/test/2"
    assert await node.runtime.send(counter, "add", {"n": 1}) == {"total": 2}


async def test_calls_under_way_move_with_the_entity(node: LocalNode, counter: Ref) -> None:
    await node.runtime.call(counter, "get")
    old, new = node.cells.hosts["cell/test/1"], node.add("cell/test/2")
    hanging = asyncio.create_task(node.runtime.call(counter, "hang"))
    await eventually(lambda: old.find(counter).calls == 1)
    lost = old.find(counter)
    await new.activate(counter, takeover_from=old.owner)
    node.cells.place = "cell/test/2"
    await old.renew()
    await eventually(lambda: new.find(counter).calls == 1)
    assert lost.calls == 0
    hanging.cancel()


async def test_renewal_tells_what_was_lost(node: LocalNode, counter: Ref) -> None:
    await node.runtime.call(counter, "get")
    old, new = node.cells.hosts["cell/test/1"], node.add("cell/test/2")
    await new.activate(counter, takeover_from=old.owner)
    await old.renew()
    with pytest.raises(wire.Refused, match="not-here"):
        old.find(counter)


async def test_live_owner_is_not_taken_over(node: LocalNode, counter: Ref) -> None:
    await node.runtime.call(counter, "get")
    with pytest.raises(errors.Unavailable):
        await node.add("cell/test/2").activate(counter)


async def test_cell_that_cannot_renew_suspends_itself(node: LocalNode, counter: Ref) -> None:
    await node.runtime.call(counter, "get")
    host = node.cells.hosts["cell/test/1"]
    node.clock.now += 9.1
    with pytest.raises(wire.Refused, match="suspended"):
        host.find(counter)
    with pytest.raises(wire.Refused, match="suspended"):
        await host.activate(Ref("counter", new_id()))
    await host.renew()
    assert (await node.runtime.call(counter, "get"))["epoch"] == 1


async def test_idle_entity_leaves_and_returns(node: LocalNode) -> None:
    ref = Ref("sleepy", new_id())
    await node.runtime.send(ref, "note")
    host = node.cells.hosts["cell/test/1"]
    await host.poll()
    assert host.count == 1
    await eventually(lambda: host.find(ref).idle)
    node.clock.now += 0.5
    await host.poll()
    assert host.count == 0

    async def released() -> bool:
        return (await entities.load(node.database, ref)).owner is None

    await eventually(released)
    await host.renew()
    assert await node.runtime.call(ref, "get") == {"epoch": 2, "notes": 1}


async def test_poll_finds_mail_whose_nudge_was_lost(node: LocalNode, counter: Ref) -> None:
    await node.runtime.call(counter, "get")
    await mailbox.enqueue(node.database, counter, "lost-nudge", "add", {"tag": "found"})
    await node.cells.hosts["cell/test/1"].poll()

    async def applied() -> bool:
        return (await state(node, counter)).get("seen") == ["found"]

    await eventually(applied)


async def test_stop_gives_everything_up(node: LocalNode, counter: Ref) -> None:
    await node.runtime.send(counter, "add", {"n": 4})
    await node.cells.hosts["cell/test/1"].stop()
    assert (await entities.load(node.database, counter)).owner is None
    node.add("cell/test/2")
    node.cells.place = "cell/test/2"
    assert await node.runtime.send(counter, "add", {"n": 4}) == {"total": 8}
