"""Who is asking: a bearer token, known to the database by its SHA-256 only.

The look-up is by hash, so no comparison's timing says anything about a stored token. A positive
answer is kept in this process for `CACHE_S`: a revoked token works that much longer at most.
A negative answer is not kept: a token made a moment ago works at once.
"""

from __future__ import annotations

import hashlib
import time

from schema import Database, users
from terminalpp.types import errors

CACHE_S = 30.0
CACHE_SIZE = 1024
TOKEN_MAX = 512


def digest(token: str) -> str:
    """What the database knows of a token: hexadecimal SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


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


class Tokens:
    """Token to user id, with a short memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[str, float]] = {}

    async def user_of(self, token: str) -> str:
        """The user's id. Raises Unauthorized, or Unavailable when the database does not answer."""
        key = digest(token)
        now = time.monotonic()
        known = self._known.get(key)
        if known and known[1] > now:
            return known[0]
        async with self._database.acquire() as connection:
            user_id = await users.user_of_token(connection, key)
        if user_id is None:
            self._known.pop(key, None)
            raise errors.Unauthorized("the token is not known")
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        self._known[key] = (str(user_id), now + CACHE_S)
        return str(user_id)
