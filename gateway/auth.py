"""Authentication by bearer tokens, which the database knows by their SHA-256 only.

The look-up is by hash, so no comparison's timing says anything about a stored token. A positive
answer is kept in this process for `CACHE_S`: a revoked token works that much longer at most.
A negative answer is not kept: a token made a moment ago works at once. At most `LOOKUPS` tokens that were
never known are looked up at once, and `LOOKUPS_WAITING` wait for it: guessing takes no connection away from
those who have a token.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from schema import Database, users
from terminalpp.types import errors
from terminalpp.types.proof import digest

CACHE_S = 30.0
CACHE_SIZE = 1024
LOOKUPS = 4
LOOKUPS_WAITING = 256
TOKEN_MAX = 512


def bearer(headers: list[tuple[bytes, bytes]]) -> str:
    """The token of a request. Raises Unauthorized."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        raise errors.Unauthorized("the request carries no Authorization header" if not values else "")
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_MAX:
        raise errors.Unauthorized("the Authorization header is not `Bearer <token>`")
    return token


@dataclass(frozen=True, slots=True)
class Principal:
    """The account that a request comes from. The database is asked for its rights where they matter: one that
    was taken away ends at once.
    """

    user_id: str


class Tokens:
    """Tokens to their holders, with a short memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()  # those looked up last
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._waiting = 0

    async def principal(self, token: str) -> Principal:
        """The holder of the token. Raises Unauthorized, Overloaded, Unavailable (no answer from Postgres)."""
        key = digest(token)
        now = time.monotonic()
        known = self._known.get(key)
        if known and known[1] > now:
            return known[0]
        user_id = await users.user_of_token(self._database, key) if known else await self._meet(key)
        self._known.pop(key, None)
        if user_id is None:
            raise errors.Unauthorized("the token is not known")
        found = Principal(str(user_id))
        self._known[key] = (found, now + CACHE_S)
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)
        return found

    async def _meet(self, key: str) -> str | None:
        if self._waiting >= LOOKUPS_WAITING:
            raise errors.Overloaded("too many tokens that are not known are being looked up")
        self._waiting += 1
        try:
            async with self._lookups:
                return await users.user_of_token(self._database, key)
        finally:
            self._waiting -= 1
