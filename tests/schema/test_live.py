"""Live signals: quick while Redis is there, harmless while it is not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from schema import Live
from terminalpp.types.ids import new_id
from tests.eventually import eventually
from tests.services import RedisServer


@pytest.fixture
async def live(redis_url: str) -> AsyncIterator[Live]:
    live = Live(redis_url)
    yield live
    await live.close()


class Follower:
    """Collects what a subscription yields."""

    def __init__(self, live: Live, conversation_id: str) -> None:
        self.seen: list[int] = []
        self._task = asyncio.create_task(self._follow(live, conversation_id))

    async def _follow(self, live: Live, conversation_id: str) -> None:
        async with contextlib.aclosing(live.subscribe(conversation_id)) as signals:
            async for seq in signals:
                self.seen.append(seq)

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def test_signals_reach_every_subscriber_of_that_conversation(live: Live) -> None:
    one, two = new_id(), new_id()
    followers = [Follower(live, one), Follower(live, one), Follower(live, two)]

    async def heard() -> bool:
        await live.publish(one, 5)
        return all(follower.seen for follower in followers[:2])

    await eventually(heard)
    assert set(followers[0].seen) == {5}
    assert followers[2].seen == []
    for follower in followers:
        await follower.stop()


async def test_redis_may_die_and_come_back() -> None:
    server = RedisServer()
    server.start()
    await server.answer()
    live = Live(server.url)
    follower = Follower(live, "c")

    async def heard(seq: int) -> bool:
        await live.publish("c", seq)
        return seq in follower.seen

    await eventually(lambda: heard(1))
    server.stop()
    started = time.monotonic()
    assert [await live.publish("c", n) for n in range(100)] == [False] * 100
    assert time.monotonic() - started < 2, "writers must not wait for a dead Redis again and again"
    assert (await live.rate_limit_user("u", "a", 1, 60)).allowed
    assert not await live.ping()
    server.start()
    await server.answer()
    await eventually(lambda: heard(2), timeout_s=20)
    await follower.stop()
    await live.close()
    server.stop()


async def test_a_slow_subscriber_gets_the_newest(live: Live) -> None:
    conversation = new_id()
    signals = live.subscribe(conversation)
    first = asyncio.ensure_future(anext(signals))

    async def begun() -> bool:
        await live.publish(conversation, 1)
        return first.done()

    await eventually(begun)
    for seq in range(2, 200):
        await live.publish(conversation, seq)

    async def newest() -> bool:
        return await anext(signals) == 199

    await eventually(newest)
    await signals.aclose()


async def test_a_limit_counts_and_its_window_ends(live: Live) -> None:
    user = new_id()
    answers = [await live.rate_limit_user(user, "run", 3, 0.5) for _ in range(5)]
    assert [answer.allowed for answer in answers] == [True, True, True, False, False]
    assert [answer.remaining for answer in answers] == [2, 1, 0, 0, 0]
    assert 0 < answers[-1].reset_ms <= 500
    assert (await live.rate_limit_user(user, "other", 3, 60)).allowed
    assert (await live.rate_limit_ip(user, "run", 3, 60)).allowed

    async def again() -> bool:
        return (await live.rate_limit_user(user, "run", 3, 0.5)).allowed

    await eventually(again)


async def test_many_at_once_are_counted_exactly(live: Live) -> None:
    user = new_id()
    answers = await asyncio.gather(*(live.rate_limit_user(user, "run", 10, 60) for _ in range(40)))
    assert sum(answer.allowed for answer in answers) == 10
