"""Accounts and their tokens. Only the SHA-256 of a token (64 hex digits) is ever stored."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime

from schema import rows
from schema.database import Executor
from schema.sql import Queries
from terminalpp.types.ids import derived_id

_Q = Queries("users")
OWNER_TOKEN = "owner"


@dataclass(frozen=True, slots=True)
class User:
    """An account's row."""

    id: str
    email: str
    username: str
    full_name: str | None
    role: str
    disabled_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """A token's row: whose it is, its SHA-256, and whether it was revoked."""

    id: str
    user_id: str
    name: str
    token_sha256: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


async def ensure_owner(c: Executor) -> str:
    """The id of the owner's account, which is made (role admin) if it is not there."""
    found = await c.fetchval(_Q.owner_id)
    if found is None:
        await c.execute(_Q.ensure_owner, derived_id("user", "owner"))
        found = await c.fetchval(_Q.owner_id)
    return found


async def get(c: Executor, user_id: str) -> User | None:
    """The account, or None."""
    return rows.maybe(User, await c.fetchrow(_Q.get, user_id))


async def ensure_token(
    c: Executor,
    user_id: str,
    token_sha256: str,
    name: str = OWNER_TOKEN,
    *,
    expires_at: datetime | None = None,
    only: bool = False,
) -> None:
    """Registers a token's hash. With `only`, other tokens of that user and name are revoked."""
    await c.execute(_Q.ensure_token, user_id, name, token_sha256, expires_at)
    if only:
        await c.execute(_Q.revoke_others, user_id, name, token_sha256)


async def user_of_token(c: Executor, token_sha256: str) -> str | None:
    """The user's id; None for a token that is unknown, revoked, expired, or of a disabled account."""
    return await c.fetchval(_Q.user_of_token, token_sha256)


async def touch_token(c: Executor, token_sha256: str) -> None:
    """Notes that the token was used (written at most once a minute)."""
    await c.execute(_Q.touch_token, token_sha256)


async def list_tokens(c: Executor, user_id: str) -> builtins.list[Token]:
    """The account's tokens, revoked ones too; none shows the token itself."""
    return rows.many(Token, await c.fetch(_Q.list_tokens, user_id))


async def revoke_token(c: Executor, token_sha256: str) -> bool:
    """Make the token with this SHA-256 (64 hex digits) useless; whether there was one that was not."""
    return await c.execute(_Q.revoke_token, token_sha256) == "UPDATE 1"
