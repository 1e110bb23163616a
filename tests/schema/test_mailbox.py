"""Mailbox, outbox, reminders and dead letters: in order, once, bounded, and nothing lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from schema import Database, dead_letters, entities, mailbox, outbox, reminders
from terminalpp.types.errors import Conflict, IdempotencyMismatch, Overloaded
from terminalpp.types.ids import Ref, new_id

REF = Ref("agent", "one")
ERROR = {"code": "internal", "detail": "it broke"}


async def drain(database: Database, ref: Ref = REF) -> list[str]:
    """Ids of the waiting messages in the order in which the owner takes them."""
    taken = []
    while (row := await mailbox.next_message(database, ref)) is not None:
        taken.append(row.message_id)
        await mailbox.finish(database, row.message_id, None)
    return taken


async def test_messages_keep_their_order(database: Database) -> None:
    ids = [f"m{n}" for n in range(20)]
    for id in ids:
        await mailbox.enqueue(database, REF, id, "do", {})
        await mailbox.enqueue(database, Ref("agent", "other"), f"other-{id}", "do", {})
    assert await drain(database) == ids


async def test_a_repeated_message_is_recognised_and_keeps_its_result(database: Database) -> None:
    payload = {"text": "hé\u0000llo", "list": (1, 2), "f": 1.5}
    first = await mailbox.enqueue(database, REF, "m", "do", payload, "cli")
    again = await mailbox.enqueue(database, REF, "m", "do", payload)
    assert (first.created, again.created) == (True, False)
    assert first.seq == again.seq
    assert await mailbox.finish(database, "m", {"answer": 42})
    assert not await mailbox.finish(database, "m", {"answer": 43})
    later = await mailbox.enqueue(database, REF, "m", "do", payload)
    assert (later.status, later.result, later.finished) == ("done", {"answer": 42}, True)
    assert (await mailbox.result_of(database, "m")).result == {"answer": 42}
    assert await mailbox.next_message(database, REF) is None


@pytest.mark.parametrize(
    ("ref", "method", "payload"),
    [(REF, "do", {"n": 2}), (REF, "undo", {"n": 1}), (Ref("agent", "two"), "do", {"n": 1})],
)
async def test_an_id_means_one_message(database: Database, ref: Ref, method: str, payload: dict) -> None:
    await mailbox.enqueue(database, REF, "m", "do", {"n": 1})
    with pytest.raises(IdempotencyMismatch):
        await mailbox.enqueue(database, ref, "m", method, payload)
    assert await mailbox.pending_count(database, REF) == 1


async def test_a_full_mailbox_refuses_but_still_recognises(database: Database) -> None:
    for n in range(3):
        await mailbox.enqueue(database, REF, f"m{n}", "do", {}, max_depth=3)
    with pytest.raises(Overloaded):
        await mailbox.enqueue(database, REF, "m3", "do", {}, max_depth=3)
    assert not (await mailbox.enqueue(database, REF, "m1", "do", {}, max_depth=3)).created
    assert (await mailbox.enqueue(database, Ref("agent", "two"), "x", "do", {}, max_depth=3)).created
    await mailbox.finish(database, "m0", None)
    assert (await mailbox.enqueue(database, REF, "m3", "do", {}, max_depth=3)).created


async def test_many_senders_of_one_id_add_one_message(database: Database) -> None:
    for round_ in range(5):
        rows = await asyncio.gather(
            *(mailbox.enqueue(database, REF, f"same-{round_}", "do", {"n": 1}) for _ in range(12))
        )
        assert sum(row.created for row in rows) == 1
    assert await mailbox.pending_count(database, REF) == 5


async def test_a_message_of_a_rolled_back_transaction_was_never_sent(database: Database) -> None:
    async def send_and_fail() -> None:
        async with database.transaction() as connection:
            await mailbox.enqueue(connection, REF, "m", "do", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await send_and_fail()
    assert await mailbox.result_of(database, "m") is None


async def test_a_failed_message_answers_with_its_error(database: Database) -> None:
    await mailbox.enqueue(database, REF, "m", "do", {})
    assert await mailbox.fail(database, "m", ERROR)
    row = await mailbox.result_of(database, "m")
    assert (row.status, row.error) == ("failed", ERROR)


async def test_a_poison_message_goes_to_the_dead_letters_and_comes_back(database: Database) -> None:
    await mailbox.enqueue(database, REF, "poison", "do", {"n": 1})
    await mailbox.enqueue(database, REF, "next", "do", {})
    assert [await mailbox.record_attempt(database, "poison", ERROR) for _ in range(2)] == [1, 2]
    letter_id = await mailbox.to_dead_letter(database, "poison", ERROR)
    assert await mailbox.to_dead_letter(database, "poison", ERROR) is None
    assert (await mailbox.next_message(database, REF)).message_id == "next"
    [letter] = await dead_letters.list(database)
    assert (letter.id, letter.source_id) == (letter_id, "poison")
    assert (letter.payload, letter.attempts) == ({"n": 1}, 2)

    assert await dead_letters.replay(database, letter_id) == REF
    assert await drain(database) == ["next", "poison"]
    assert await dead_letters.list(database) == []
    assert len(await dead_letters.list(database, replayed=True)) == 1
    with pytest.raises(Conflict):
        await dead_letters.replay(database, letter_id)


async def test_pruning_forgets_finished_messages_only(database: Database) -> None:
    for id in ("done", "waiting", "dead"):
        await mailbox.enqueue(database, REF, id, "do", {})
    await mailbox.finish(database, "done", None)
    await mailbox.to_dead_letter(database, "dead", ERROR)
    assert await mailbox.prune(database, 3600) == 0
    ago = "now() - interval '2 hours'"
    await database.execute(f"UPDATE mailbox SET finished_at = {ago} WHERE status <> 'pending'")
    assert await mailbox.prune(database, 3600) == 1
    assert await mailbox.result_of(database, "waiting") is not None
    assert await mailbox.result_of(database, "dead") is not None


# ---- outbox ---------------------------------------------------------------------------------------


async def test_an_action_is_added_once_and_stays_until_it_is_done(database: Database) -> None:
    fence = (await entities.claim(database, REF, "cell-a", 10)).fence
    assert await outbox.add(database, fence, "a1", "start", {"n": 1})
    assert await outbox.add(database, fence, "a2", "stop", {})
    assert not await outbox.add(database, fence, "a1", "start", {"n": 1})
    assert [action.action_id for action in await outbox.pending(database, REF)] == ["a1", "a2"]
    soon = datetime.now(UTC) + timedelta(seconds=5)
    assert await outbox.failed(database, "a1", ERROR, soon) == 1
    assert await outbox.failed(database, "a1", ERROR, 3.0) == 2
    [first, _] = await outbox.pending(database, REF)
    assert (first.attempts, first.error) == (2, ERROR)
    assert await outbox.done(database, "a1")
    assert not await outbox.done(database, "a1")
    assert [action.action_id for action in await outbox.pending(database, REF)] == ["a2"]
    assert (await outbox.get(database, "a1")).status == "done"


async def test_an_action_given_up_can_be_replayed(database: Database) -> None:
    fence = (await entities.claim(database, REF, "cell-a", 10)).fence
    await outbox.add(database, fence, "a1", "start", {"n": 1})
    letter_id = await outbox.to_dead_letter(database, "a1", ERROR)
    assert await outbox.pending(database, REF) == []
    [letter] = await dead_letters.list(database, kind="agent", entity_id="one")
    assert (letter.source, letter.name) == ("outbox", "start")
    assert await dead_letters.replay(database, letter_id) == REF
    [again] = await outbox.pending(database, REF)
    assert (again.action_id, again.attempts) == ("a1", 0)


async def test_a_letter_written_by_hand_is_kept_once(database: Database) -> None:
    one = await dead_letters.add(database, "mailbox", "m", REF, "do", {}, ERROR)
    two = await dead_letters.add(database, "mailbox", "m", REF, "do", {}, ERROR)
    assert one.id == two.id


# ---- reminders ------------------------------------------------------------------------------------


async def due(database: Database, seconds_ago: float = 0.0) -> None:
    await database.execute("UPDATE reminders SET due_at = now() - make_interval(secs => $1)", seconds_ago)


async def test_a_reminder_waits_then_becomes_one_message(database: Database) -> None:
    await reminders.set_reminder(database, REF, "idle", 60)
    assert await reminders.fire_due(database, 10) == []
    await due(database)
    assert await reminders.fire_due(database, 10) == [REF]
    assert await reminders.fire_due(database, 10) == []
    row = await mailbox.next_message(database, REF)
    assert (row.method, row.payload["name"], row.payload["slot"]) == ("remind:idle", "idle", 0)
    assert await reminders.list_reminders(database, REF) == []


async def test_a_periodic_reminder_fires_once_for_missed_slots(database: Database) -> None:
    await reminders.set_reminder(database, REF, "tick", 0, every_seconds=10)
    await due(database, seconds_ago=35)
    before = (await reminders.list_reminders(database, REF))[0].due_at
    assert await reminders.fire_due(database, 10) == [REF]
    assert await reminders.fire_due(database, 10) == []
    [reminder] = await reminders.list_reminders(database, REF)
    assert reminder.slot == 1
    assert reminder.due_at - before == timedelta(seconds=40)
    await due(database)
    assert await reminders.fire_due(database, 10) == [REF]
    assert await mailbox.pending_count(database, REF) == 2


async def test_a_reminder_set_again_fires_again(database: Database) -> None:
    for _ in range(2):
        await reminders.set_reminder(database, REF, "idle", 0)
        assert await reminders.fire_due(database, 10) == [REF]
    assert await mailbox.pending_count(database, REF) == 2


async def test_a_cancelled_reminder_is_silent(database: Database) -> None:
    await reminders.set_reminder(database, REF, "idle", 0)
    assert await reminders.cancel(database, REF, "idle")
    assert not await reminders.cancel(database, REF, "idle")
    assert await reminders.fire_due(database, 10) == []


async def test_two_pollers_fire_each_slot_once(database: Database) -> None:
    refs = [Ref("agent", str(n)) for n in range(60)]
    for ref in refs:
        await reminders.set_reminder(database, ref, "idle", 0)

    async def poll() -> list[Ref]:
        fired = []
        while batch := await reminders.fire_due(database, 7):
            fired += batch
        return fired

    fired = [ref for batch in await asyncio.gather(poll(), poll(), poll()) for ref in batch]
    assert sorted(fired, key=str) == sorted(refs, key=str)
    assert [await mailbox.pending_count(database, ref) for ref in refs] == [1] * 60


async def test_a_slot_that_fired_cannot_fire_again(database: Database) -> None:
    """The firing id is the guard: even a reminder row that came back from the dead adds no second message."""
    await reminders.set_reminder(database, REF, "idle", 0)
    async with database.transaction() as connection:
        await connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM reminders")
        await reminders.fire_due(connection, 10)
        await connection.execute("INSERT INTO reminders SELECT * FROM kept")
        assert await reminders.fire_due(connection, 10) == []
    assert await mailbox.pending_count(database, REF) == 1


async def test_a_message_id_has_a_length(database: Database) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="ck_mailbox_message_id"):
        await mailbox.enqueue(database, REF, "x" * 301, "do", {})
    assert await mailbox.enqueue(database, REF, new_id(), "do", {})
