"""Lists in pages: `limit` and an opaque `cursor`, answered as `{items, next_cursor}`.

The cursor is the place of the last item in the list's order, which is by creation, the newest first, and
never changes: each item that is there all the while comes exactly once, whatever is made or removed
meanwhile. An item that was removed can still be gone on behind.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from gateway import field_errors
from gateway.routes import refused
from schema.rows import Place
from terminalpp.types.errors import InvalidInput

Limit = Annotated[int, Query(ge=1, le=500, description="Most items of one page.")]
Cursor = Annotated[
    str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,100}$", description="`next_cursor` of the page before.")
]
# Of a list that is ordered by paths.
PathCursor = Annotated[
    str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,5464}$", description="`next_cursor` of the page before.")
]
Since = Annotated[
    str | None,
    Query(
        pattern=field_errors.MOMENT,
        description="Made at or after this time (RFC 3339).",
        examples=["2026-11-22T10:00:00Z"],
    ),
]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"(-?[0-9]{1,16})\.([0-9])\.([0-9a-f]{32})")


def place_of(row: Any) -> Place:
    """Where a row stands in a list that is ordered by time."""
    return Place(row.created_at, row.id)


async def page(
    read: Callable[[int, Place | None], Awaitable[Sequence[Any]]],
    shape: Callable[[Any], dict[str, Any]],
    limit: int,
    cursor: str | None,
    place: Callable[[Any], Place] = place_of,
) -> dict[str, Any]:
    """One page; `read(limit, after)` is asked for one row more than is shown. Raises InvalidInput."""
    rows = await read(limit + 1, None if cursor is None else _read(cursor))
    following = _written(place(rows[limit - 1])) if len(rows) > limit else None
    return {"items": [shape(row) for row in rows[:limit]], "next_cursor": following}


def moment_of(since: str | None) -> datetime | None:
    """Raises InvalidInput for a time that does not exist."""
    try:
        return None if since is None else datetime.fromisoformat(since.upper())
    except ValueError:
        raise refused("query.since", "there is no such time") from None


def encoded(place: bytes) -> str:
    """A place in a list as a cursor."""
    return base64.urlsafe_b64encode(place).rstrip(b"=").decode()


def decoded(cursor: str) -> bytes:
    """The place that `encoded` made this of. Raises InvalidInput."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
    except binascii.Error:
        raise odd_cursor() from None


def odd_cursor() -> InvalidInput:
    """The refusal of a cursor that was never given."""
    return refused("query.cursor", "it is not one that was given", "Begin again without it.")


def _written(place: Place) -> str:
    micros = (place.created_at - _EPOCH) // timedelta(microseconds=1)
    text = f"{micros}.{place.rank}.{UUID(place.id).hex}"
    return encoded(text.encode())


def _read(cursor: str) -> Place:
    found = _PLACE.fullmatch(decoded(cursor).decode("latin-1"))
    if found is None:
        raise odd_cursor()
    micros, rank, id = found.groups()
    return Place(_EPOCH + timedelta(microseconds=int(micros)), str(UUID(id)), int(rank))
