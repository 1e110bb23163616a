"""`Idempotency-Key`: the same key, the same request, one effect, the same answer.

Two means, neither of which costs anything when no key is sent. Ids are derived from the key (`id_for`), so
whatever a request creates or sends has the same id when it is sent again: that holds over every crash, for
ever. `once` also keeps the answer in Postgres for a week and refuses the same key with another request
(422) or while the first is under way (409; a request whose process died is given up after 60 s). An error
is not kept: the same key may be tried again. Commands and messages need the ids alone, because
their own rows remember them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import Response

from gateway.state import app_state, user_of
from schema import idempotency
from terminalpp.types.errors import InvalidInput, TerminalError
from terminalpp.types.ids import derived_id, new_id

KEY_MAX = 255
ABANDON_S = 1.0
REPLAYED = "idempotency-replayed"


def key_of(request: Request) -> str | None:
    """The key, if one was sent. Raises InvalidInput unless it is 1 to 255 printable ASCII characters."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        wrong = f"must be 1 to {KEY_MAX} printable ASCII characters"
        listed = [{"field": "header.idempotency-key", "message": wrong, "kind": "form"}]
        raise InvalidInput(f"header.idempotency-key: {wrong}", "", {"errors": listed})
    return key


def id_for(request: Request, purpose: str) -> str:
    """The id of what this request makes: derived from its key and path, or a new one without a key."""
    key = key_of(request)
    if key is None:
        return new_id()
    return derived_id("request", purpose, user_of(request), request.url.path, key)


async def once(request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
    """The answer of `work`, done once per key. Raises IdempotencyMismatch, IdempotencyInFlight."""
    key = key_of(request)
    if key is None:
        return await work()
    database, user_id = app_state(request).database, user_of(request)
    target = request.url.path + ("?" + request.url.query if request.url.query else "")
    body = hashlib.sha256(await request.body()).hexdigest()
    kept = await idempotency.begin(database, user_id, key, request.method, target, body)
    if kept is not None:
        return Response(kept.body or None, kept.status, {**kept.headers, REPLAYED: "true"})
    try:
        response = await work()
    except BaseException:
        # Also when cancelled: whatever was done has ids derived from the key, so doing it again is safe.
        # A database that is gone cannot free the key; it frees itself after a minute.
        with contextlib.suppress(TerminalError, TimeoutError):
            async with asyncio.timeout(ABANDON_S):
                await idempotency.abandon(database, user_id, key)
        raise
    kept_names = ("content-type", "location", "etag")
    headers = {name: response.headers[name] for name in kept_names if name in response.headers}
    await idempotency.finish(database, user_id, key, response.status_code, headers, bytes(response.body))
    return response
