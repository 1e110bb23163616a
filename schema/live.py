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
import json
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from schema import redis_keys
from terminalpp.types.errors import Unavailable

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

    async def hold_terminal(
        self, sandbox_id: str, terminal_id: str, fields: dict[str, Any], seconds: float
    ) -> None:
        """Says for so long what a terminal is; the first of a sandbox is also the sandbox's own.

        Never raises.
        """
        value, ttl = json.dumps(fields), int(seconds * 1000)
        own = redis_keys.terminal_session(sandbox_id, terminal_id)
        primary = redis_keys.terminal_session(sandbox_id)
        with contextlib.suppress(*_AWAY):
            await self._client.set(own, value, px=ttl)
            held = await self._client.get(primary)
            if held is None or json.loads(held).get("terminal_id") == terminal_id:
                await self._client.set(primary, value, px=ttl)

    async def drop_terminal(self, sandbox_id: str, terminal_id: str) -> None:
        """It has ended. Never raises."""
        own = redis_keys.terminal_session(sandbox_id, terminal_id)
        primary = redis_keys.terminal_session(sandbox_id)
        with contextlib.suppress(*_AWAY):
            held = await self._client.get(primary)
            mine = held is not None and json.loads(held).get("terminal_id") == terminal_id
            await self._client.delete(own, *([primary] if mine else []))

    async def terminal(self, sandbox_id: str, terminal_id: str | None = None) -> dict[str, Any] | None:
        """What is known of a sandbox's primary terminal, or of one. None: nothing, or Redis is away."""
        with contextlib.suppress(*_AWAY):
            held = await self._client.get(redis_keys.terminal_session(sandbox_id, terminal_id))
            return json.loads(held) if held else None
        return None

    async def keep_ticket(self, digest: str, value: dict[str, Any], seconds: float) -> None:
        """Keep what a ticket stands for; by its digest, so that reading Redis gives no ticket.

        Raises Unavailable.
        """
        try:
            await self._client.set(redis_keys.ticket(digest), json.dumps(value), px=int(seconds * 1000))
        except _AWAY:
            raise Unavailable("redis does not answer") from None

    async def use_ticket(self, digest: str) -> dict[str, Any] | None:
        """What a ticket stands for, once. Raises Unavailable."""
        try:
            held = await self._client.getdel(redis_keys.ticket(digest))
        except _AWAY:
            raise Unavailable("redis does not answer") from None
        return json.loads(held) if held else None

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
