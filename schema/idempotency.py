"""Idempotency keys of the HTTP interface: one key, one request, one response, kept in Postgres."""

from __future__ import annotations

from dataclasses import dataclass

from schema.database import Executor
from schema.sql import Queries
from terminalpp.types import errors

_Q = Queries("idempotency")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The first answer to a request with an Idempotency-Key: its HTTP status, headers and body."""

    status: int
    headers: dict[str, str]
    body: bytes


async def begin(
    c: Executor,
    user_id: str,
    key: str,
    method: str,
    path: str,
    body_sha256: str,
    *,
    stale_after_s: float = 60.0,
) -> StoredResponse | None:
    """None: the key is ours now, carry the request out, then `finish` or `abandon`. Else the kept response.

    A try that neither finished nor was abandoned within `stale_after_s` seconds is taken over, because its
    process must have died; what it did is recognised by derived ids. Raises IdempotencyInFlight,
    IdempotencyMismatch.
    """
    args = (user_id, key, method, path, body_sha256)
    if await c.fetchval(_Q.begin, *args, float(stale_after_s)) is not None:
        return None
    record = await c.fetchrow(_Q.get, user_id, key)
    if record is None:
        # Abandoned between the two statements.
        raise errors.IdempotencyInFlight()
    if (record["method"], record["path"], record["body_sha256"]) != (method, path, body_sha256):
        raise errors.IdempotencyMismatch()
    if record["finished_at"] is None:
        raise errors.IdempotencyInFlight()
    return StoredResponse(
        record["response_status"], record["response_headers"] or {}, record["response_body"] or b""
    )


async def finish(
    c: Executor, user_id: str, key: str, status: int, headers: dict[str, str], body: bytes
) -> bool:
    """Keeps the response; False when one was kept before (that one stays)."""
    return await c.execute(_Q.finish, user_id, key, status, headers, body) == "UPDATE 1"


async def abandon(c: Executor, user_id: str, key: str) -> bool:
    """Frees the key of a request that changed nothing (refused input, overload)."""
    return await c.execute(_Q.abandon, user_id, key) == "DELETE 1"


async def prune(c: Executor, older_than_s: float = 7 * 86400.0, limit: int = 5000) -> int:
    """Forgets old keys; how many."""
    return int((await c.execute(_Q.prune, float(older_than_s), limit)).split()[-1])
