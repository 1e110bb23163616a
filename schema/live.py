"""Live signals through Redis: "conversation X has events up to N", and rate limits.

Nothing is kept here and nothing depends on it. Postgres holds the events; a signal only says "read now". When
Redis is away, publishing does nothing (and does not try again for a second, so that no writer waits for a
dead server), subscribing is silent until it is back, and rate limits let everything pass. Callers
therefore also look into Postgres once a second. A slow subscriber misses numbers, never the last one: the
newest replaces all that it has not taken yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from schema import redis_keys

_log = logging.getLogger(__name__)
_AWAY = (RedisError, OSError, TimeoutError)
_QUIET_SECONDS = 1.0

# INCR and EXPIRE in one step: with two, a crash between them leaves a count that never ends.
_COUNT = """
local n = redis.call('INCRBY', KEYS[1], ARGV[1])
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]); ttl = tonumber(ARGV[2]) end
return {n, ttl}
"""


@dataclass(frozen=True, slots=True)
class Allowance:
    """`remaining` calls are left in this window, which ends in `reset_ms` milliseconds."""

    allowed: bool
    remaining: int
    reset_ms: int


class Live:
    """One client of Redis. Creating it connects to nothing; `close` ends its connections."""

    def __init__(self, url: str, *, timeout_s: float = 0.5) -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            health_check_interval=0,
        )
        # A subscriber waits for messages without end, so its reads have no timeout of their own.
        self._listener = redis.Redis.from_url(
            url, socket_timeout=None, socket_connect_timeout=timeout_s, decode_responses=True
        )
        self._quiet_until = 0.0

    async def publish(self, conversation_id: str, last_seq: int) -> bool:
        """Signals the number of the last committed event; False when Redis did not take it. Never raises."""
        if time.monotonic() < self._quiet_until:
            return False
        try:
            await self._client.publish(redis_keys.conversation_channel(conversation_id), str(last_seq))
        except _AWAY as error:
            self._silence(error)
            return False
        return True

    async def subscribe(self, conversation_id: str) -> AsyncIterator[int]:
        """Numbers of last events as they are signalled, without end, newest only. Never raises.

        Close the iterator (`aclose`) to unsubscribe; signals sent before the first `anext` are not seen.
        """
        newest: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        listening = asyncio.create_task(self._listen(conversation_id, newest))
        try:
            while True:
                yield await newest.get()
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _listen(self, conversation_id: str, newest: asyncio.Queue[int]) -> None:
        channel = redis_keys.conversation_channel(conversation_id)
        while True:
            pubsub = self._listener.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(channel)
                async for message in pubsub.listen():
                    if not newest.empty():
                        newest.get_nowait()
                    newest.put_nowait(int(message["data"]))
            except _AWAY as error:
                _log.debug("redis is away, live signals pause: %s", error)
            finally:
                with contextlib.suppress(*_AWAY):
                    await pubsub.aclose()
            await asyncio.sleep(random.uniform(0.2, 0.6))

    async def rate_limit_user(self, user_id: str, action: str, limit: int, window_s: float) -> Allowance:
        """Counts one `action` of a user in a window of `window_s` seconds from the first one."""
        return await self._count(redis_keys.rate_limit_user(user_id, action), limit, window_s)

    async def rate_limit_ip(self, ip_address: str, action: str, limit: int, window_s: float) -> Allowance:
        """The same by network address."""
        return await self._count(redis_keys.rate_limit_ip(ip_address, action), limit, window_s)

    async def _count(self, key: str, limit: int, window_s: float) -> Allowance:
        window_ms = int(window_s * 1000)
        if time.monotonic() < self._quiet_until:
            return Allowance(True, limit, window_ms)
        try:
            count, reset_ms = await self._client.eval(_COUNT, 1, key, 1, window_ms)
        except _AWAY as error:
            self._silence(error)
            return Allowance(True, limit, window_ms)
        return Allowance(count <= limit, max(0, limit - count), reset_ms)

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            return bool(await self._client.ping())
        except _AWAY:
            return False

    def _silence(self, error: BaseException) -> None:
        _log.warning("redis does not answer, live signals pause for %.0f s: %s", _QUIET_SECONDS, error)
        self._quiet_until = time.monotonic() + _QUIET_SECONDS

    async def close(self) -> None:
        """End the connections to Redis. Never raises."""
        for client in (self._client, self._listener):
            with contextlib.suppress(*_AWAY):
                await client.aclose()
