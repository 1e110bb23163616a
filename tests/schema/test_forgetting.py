"""What is forgotten about the deleted, and what is not."""

from __future__ import annotations

from schema import (
    Database,
    dead_letters,
    entities,
    forgetting,
    mailbox,
    outbox,
    reminders,
    retention,
    sandboxes,
    users,
)
from terminalpp.types.ids import Ref, new_id


async def left(database: Database, ref: Ref) -> dict[str, int]:
    asked = dict.fromkeys(("entities", "mailbox", "outbox", "reminders"), "id")
    asked["dead_letters"] = "entity_id"
    query = "SELECT count(*) FROM {} WHERE kind = $1 AND {} = $2"
    return {
        table: await database.fetchval(query.format(table, id), ref.kind, ref.id)
        for table, id in asked.items()
    }


async def lived(database: Database, *, finish: bool = True) -> Ref:
    """A sandbox's entity that has had a message, an effect and a reminder, and was given up."""
    ref = Ref("sandbox", new_id())
    fence = (await entities.claim(database, ref, f"cell@{new_id()}", 60.0, None)).fence
    await mailbox.enqueue(database, ref, f"{ref.id}:m", "create", {})
    await outbox.add(database, fence, f"{ref.id}:a", "remove", {})
    await reminders.set_reminder(database, ref, "tend", 1000)
    if finish:
        await mailbox.finish(database, f"{ref.id}:m", None)
        await outbox.done(database, f"{ref.id}:a")
    await entities.release(database, fence)
    return ref


async def test_the_deleted_is_forgotten_when_nothing_is_left_to_do(database: Database) -> None:
    gone = await lived(database)
    busy = await lived(database, finish=False)
    alive = await lived(database)
    owner = await users.ensure_owner(database)
    await sandboxes.create(database, alive.id, owner, "box")
    assert await forgetting.sweep(database) == []  # just now is too early
    assert await forgetting.sweep(database, grace_s=0) == [gone]
    assert set((await left(database, gone)).values()) == {0}
    for ref in (busy, alive):
        assert (await left(database, ref))["outbox"] == 1
    await outbox.done(database, f"{busy.id}:a")
    await mailbox.finish(database, f"{busy.id}:m", None)
    assert await forgetting.sweep(database, grace_s=0) == [busy]


async def test_what_is_owned_or_failed_to_go_is_kept(database: Database) -> None:
    owned, failed = await lived(database), await lived(database)
    fence = (await entities.claim(database, owned, "cell@2", 60.0, None)).fence
    again = (await entities.claim(database, failed, "cell@3", 60.0, None)).fence
    await outbox.add(database, again, f"{failed.id}:b", "remove", {})
    letter = await outbox.to_dead_letter(database, f"{failed.id}:b", {"code": "internal"})
    await entities.release(database, again)
    assert await forgetting.sweep(database, grace_s=0) == []
    await entities.release(database, fence)
    assert await forgetting.sweep(database, grace_s=0) == [owned]
    await database.execute("UPDATE dead_letters SET replayed_at = now() WHERE id = $1", letter)
    assert await forgetting.sweep(database, grace_s=0) == [failed]
    assert set((await left(database, failed)).values()) == {0}


async def test_finished_rows_have_a_bounded_age_however_many_there_are(database: Database) -> None:
    ref = Ref("sandbox", new_id())
    await database.execute(
        "INSERT INTO mailbox (message_id, kind, id, method, payload, status, finished_at) "
        "SELECT 'm' || n, 'sandbox', $1, CASE WHEN n % 2 = 0 THEN 'remind:tend' ELSE 'create' END, '{}', "
        "'done', now() - CASE WHEN n % 4 < 2 THEN interval '8 days' ELSE interval '2 hours' END "
        "FROM generate_series(1, 24000) n", ref.id)  # fmt: skip
    await dead_letters.add(database, "mailbox", "open", ref, "create", {}, {}, 1)
    await dead_letters.add(database, "mailbox", "old", ref, "create", {}, {}, 1)
    await database.execute(
        "UPDATE dead_letters SET replayed_at = now() - interval '8 days' WHERE source_id = 'old'"
    )
    touched = await retention.run(database)
    assert touched["mailbox"] + touched["firings"] == 18_000
    kept = await database.fetch(
        "SELECT DISTINCT method, now() - finished_at < interval '1 day' AS young FROM mailbox"
    )
    assert [tuple(row) for row in kept] == [("create", True)]
    assert touched["dead_letters"] == 1
    assert [row.source_id for row in await dead_letters.list(database)] == ["open"]
