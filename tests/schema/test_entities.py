"""Single activation by fencing: of two claimers one wins, and whoever was claimed over writes no more."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from schema import Database, entities, events, mailbox, outbox, quarantines
from schema.conversations import Conversation
from terminalpp.types.errors import Fenced, NotFound, Quarantined
from terminalpp.types.ids import Fence, Ref, new_id

REF = Ref("sandbox", "one")
ERROR = {"code": "internal", "detail": "it broke"}


async def expire(database: Database, ref: Ref) -> None:
    """Lets the lease run out by moving its end, which is what waiting would do."""
    await database.execute(
        "UPDATE entities SET lease_expires_at = now() - interval '1 second' WHERE kind = $1 AND id = $2",
        ref.kind,
        ref.id,
    )


async def test_a_first_claim_creates_the_entity(database: Database) -> None:
    assert await entities.load(database, REF) is None
    assert await entities.owner_of(database, REF) is None
    claimed = await entities.claim(database, REF, "cell-a", 10)
    assert claimed.epoch == 1
    assert claimed.state == {}
    owner = await entities.owner_of(database, REF)
    assert (owner.owner, owner.epoch, owner.live) == ("cell-a", 1, True)


async def test_a_live_lease_is_not_taken(database: Database) -> None:
    await entities.claim(database, REF, "cell-a", 10)
    assert await entities.claim(database, REF, "cell-b", 10) is None


async def test_an_expired_lease_is_taken_and_the_epoch_grows(database: Database) -> None:
    first = await entities.claim(database, REF, "cell-a", 10)
    await entities.save_state(database, first.fence, {"n": 1})
    await expire(database, REF)
    assert (await entities.owner_of(database, REF)).live is False
    second = await entities.claim(database, REF, "cell-b", 10)
    assert (second.epoch, second.state) == (2, {"n": 1})


async def test_a_lease_ends_by_itself(database: Database) -> None:
    await entities.claim(database, REF, "cell-a", 0.0)
    assert (await entities.claim(database, REF, "cell-b", 10)).epoch == 2


async def test_a_dead_owner_is_not_waited_for(database: Database) -> None:
    await entities.claim(database, REF, "cell-a@1", 10)
    assert await entities.claim(database, REF, "cell-a@2", 10, takeover_from="cell-x@1") is None
    assert (await entities.claim(database, REF, "cell-a@2", 10, takeover_from="cell-a@1")).epoch == 2


async def test_the_same_owner_may_claim_again(database: Database) -> None:
    """The answer to its first claim may have been lost; waiting for its own lease would be silly."""
    await entities.claim(database, REF, "cell-a", 10)
    assert (await entities.claim(database, REF, "cell-a", 10)).epoch == 2


async def test_of_many_claimers_one_wins(database: Database) -> None:
    for round_ in range(5):
        ref = Ref("sandbox", f"race-{round_}")
        claims = await asyncio.gather(
            *(entities.claim(database, ref, f"cell-{n}", 10) for n in range(12))
        )
        winners = [claim for claim in claims if claim is not None]
        assert [winner.epoch for winner in winners] == [1]


async def test_of_many_who_take_an_expired_lease_one_wins(database: Database) -> None:
    await entities.claim(database, REF, "cell-old", 10)
    await expire(database, REF)
    claims = await asyncio.gather(*(entities.claim(database, REF, f"cell-{n}", 10) for n in range(12)))
    assert [claim.epoch for claim in claims if claim is not None] == [2]


async def test_every_write_of_a_zombie_is_refused(
    database: Database, conversation: Conversation, fence: Fence
) -> None:
    await expire(database, Ref(fence.kind, fence.id))
    await entities.claim(database, Ref(fence.kind, fence.id), "cell-b", 10)
    with pytest.raises(Fenced):
        await entities.save_state(database, fence, {"zombie": True})
    with pytest.raises(Fenced):
        await outbox.add(database, fence, "action", "start", {})
    with pytest.raises(Fenced):
        await entities.delete(database, fence)
    with pytest.raises(Fenced):
        async with database.fenced(fence) as connection:
            await events.append(connection, conversation.id, [("x", "system", {})])
    assert await entities.release(database, fence) is False
    assert await entities.renew(database, "cell-a", 10) == set()
    assert await events.last_seq(database, conversation.id) == 0
    assert (await entities.load(database, Ref(fence.kind, fence.id))).state == {}


async def test_a_claim_waits_for_a_fenced_transaction(database: Database, fence: Fence) -> None:
    """The race that the row lock prevents: a claim between the check of the fence and the commit."""
    ref = Ref(fence.kind, fence.id)
    await expire(database, ref)
    async with database.fenced(fence) as connection:
        claiming = asyncio.create_task(entities.claim(database, ref, "cell-b", 10))
        done, _ = await asyncio.wait({claiming}, timeout=0.3)
        assert not done
        await entities.save_state(connection, fence, {"last": "word"})
    claimed = await claiming
    assert (claimed.epoch, claimed.state) == (fence.epoch + 1, {"last": "word"})


async def test_a_claim_that_came_first_fences(database: Database, fence: Fence) -> None:
    ref = Ref(fence.kind, fence.id)

    async def write() -> None:
        async with database.fenced(fence) as connection:
            await entities.save_state(connection, fence, {"zombie": True})

    async with database.transaction() as connection:
        await entities.claim(connection, ref, "cell-b", 10, takeover_from="cell-a")
        writing = asyncio.create_task(write())
        done, _ = await asyncio.wait({writing}, timeout=0.3)
        assert not done
    with pytest.raises(Fenced):
        await writing
    assert (await entities.load(database, ref)).state == {}


async def test_a_released_entity_takes_no_more_writes(database: Database, fence: Fence) -> None:
    assert await entities.release(database, fence)
    with pytest.raises(Fenced):
        await entities.save_state(database, fence, {"late": True})
    owner = await entities.owner_of(database, Ref(fence.kind, fence.id))
    assert (owner.owner, owner.live) == (None, False)
    assert (await entities.claim(database, Ref(fence.kind, fence.id), "cell-b", 10)).epoch == 2


async def test_renewing_names_what_is_still_ours(database: Database) -> None:
    for n in range(3):
        await entities.claim(database, Ref("agent", str(n)), "cell-a", 10)
    await entities.claim(database, Ref("agent", "1"), "cell-b", 10, takeover_from="cell-a")
    assert await entities.renew(database, "cell-a", 10) == {("agent", "0", 1), ("agent", "2", 1)}
    assert await entities.release_all(database, "cell-a") == 2


async def test_an_expired_lease_that_nobody_took_is_renewed(database: Database) -> None:
    await entities.claim(database, REF, "cell-a", 10)
    await expire(database, REF)
    assert await entities.renew(database, "cell-a", 10) == {("sandbox", "one", 1)}
    assert await entities.claim(database, REF, "cell-b", 10) is None


async def test_failures_are_counted_in_a_window(database: Database) -> None:
    counts = [await entities.record_failure(database, REF, ERROR, window_s=60) for _ in range(3)]
    assert counts == [1, 2, 3]
    assert await entities.record_failure(database, REF, ERROR, window_s=0) == 1
    claimed = await entities.claim(database, REF, "cell-a", 10)
    await entities.save_state(database, claimed.fence, {})
    assert (await entities.load(database, REF)).failures == 0


async def test_quarantine_fences_its_owner_and_so_does_the_release(database: Database, fence: Fence) -> None:
    ref = Ref(fence.kind, fence.id)
    await entities.quarantine(database, ref, ERROR)
    with pytest.raises(Fenced):
        await entities.save_state(database, fence, {})
    assert [entity.ref for entity in await entities.list_entities(database, quarantined=True)] == [ref]
    aside = await entities.claim(database, ref, "cell-b", 10)
    assert "it broke" in str(aside.quarantine())
    assert isinstance(aside.quarantine(), Quarantined)
    assert await entities.release_quarantine(database, ref)
    assert not await entities.release_quarantine(database, ref)
    with pytest.raises(Fenced):
        await entities.save_state(database, aside.fence, {})
    whole = await entities.claim(database, ref, "cell-c", 10)
    assert whole.quarantined_at is None
    assert whole.epoch > aside.epoch


async def test_what_is_in_quarantine_is_woken_once_and_then_seldom(database: Database) -> None:
    """It may have mail that it must leave for its release: else the sweeper would wake it each second."""
    ref = Ref("agent", "aside")
    await mailbox.enqueue(database, ref, new_id(), "do", {})
    await entities.quarantine(database, ref, ERROR)
    assert await entities.orphans_with_work(database, 10) == [ref]
    await entities.release(database, (await entities.claim(database, ref, "cell-a", 10)).fence)
    assert await entities.orphans_with_work(database, 10) == []
    await entities.release_quarantine(database, ref)
    assert await entities.orphans_with_work(database, 10) == [ref]


async def test_quarantines_are_listed_by_key_with_what_waits(database: Database) -> None:
    refs = [Ref("agent", "a"), Ref("agent", "b"), Ref("sandbox", "a")]
    for ref in refs:
        await entities.quarantine(database, ref, ERROR)
    await mailbox.enqueue(database, refs[1], new_id(), "do", {})
    found = await quarantines.list(database, limit=2)
    assert [Ref(row.kind, row.id) for row in found] == refs[:2]
    assert [row.messages for row in found] == [0, 1]
    assert [row.kind for row in await quarantines.list(database, ("agent", "b"))] == ["sandbox"]
    assert await quarantines.count_by_kind(database) == {"agent": 2, "sandbox": 1}
    assert await quarantines.reasons(database, "agent", ["a", "c"]) == {"a": "it broke"}
    assert (await quarantines.get(database, refs[2])).error == ERROR
    with pytest.raises(NotFound):
        await quarantines.get(database, Ref("agent", "c"))


async def test_owners_on_record_are_named_however_many_entities_they_hold(database: Database) -> None:
    await database.execute(
        "INSERT INTO entities (kind, id, owner, lease_expires_at) SELECT 'agent', n::text, "
        "'cell/a/' || n % 3, now() FROM generate_series(1, 1500) n")
    await entities.claim(database, Ref("agent", "z"), "cell/b/1", 10)
    assert sorted(await entities.owners(database, "cell/a/")) == ["cell/a/0", "cell/a/1", "cell/a/2"]


async def test_orphans_are_those_with_work_and_no_live_owner(database: Database) -> None:
    async def mail(id: str) -> Ref:
        ref = Ref("agent", id)
        await mailbox.enqueue(database, ref, new_id(), "do", {})
        return ref

    never_claimed = await mail("new")
    held = await mail("held")
    await entities.claim(database, held, "cell-a", 10)
    expired = await mail("expired")
    await entities.claim(database, expired, "cell-a", 10)
    await expire(database, expired)
    backing_off = await mail("backing-off")
    await entities.record_failure(database, backing_off, ERROR, backoff_s=60)
    acting = await entities.claim(database, Ref("agent", "acting"), "cell-z", 10)
    await outbox.add(database, acting.fence, "a", "start", {})
    await outbox.failed(database, "a", ERROR, 60.0)
    await entities.release(database, acting.fence)

    assert await entities.orphans_with_work(database, 10) == [never_claimed, expired]
    assert await entities.orphans_with_work(database, 1) == [never_claimed]
    assert await entities.orphans_with_work(database, 10, ["cell-a"]) == [never_claimed, held, expired]
    await database.execute("UPDATE outbox SET retry_at = now() - interval '1 second'")
    assert acting.ref in await entities.orphans_with_work(database, 10)
    assert await entities.owned_with_work(database, "cell-a") == [expired, held]


async def test_an_owner_without_a_lease_is_no_state(database: Database) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="ck_entities_lease"):
        await database.execute("INSERT INTO entities (kind, id, owner) VALUES ('agent', 'x', 'cell')")
