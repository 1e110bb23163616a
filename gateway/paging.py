"""Lists in pages: `limit` and an opaque `cursor`, answered as `{items, next_cursor}`.

The cursor is a position in the list's order. Something made or removed between two pages can shift the
list by one; a client that needs each item once compares ids.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import Query

from gateway.answers import Answer, from_row

Limit = Annotated[int, Query(ge=1, le=500, description="Most items of one page.")]
Cursor = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,9}$", description="`next_cursor` of the page before.")
]


async def page(
    read: Callable[..., Awaitable[Sequence[Any]]],
    shape: Callable[[Any], dict[str, Any]],
    limit: int,
    cursor: str | None,
) -> dict[str, Any]:
    """One page; `read(limit=…, offset=…)` is asked for one row more than is shown."""
    offset = int(cursor or 0)
    rows = await read(limit=limit + 1, offset=offset)
    following = str(offset + limit) if len(rows) > limit else None
    return {"items": [shape(row) for row in rows[:limit]], "next_cursor": following}


def plain(kind: type[Answer]) -> Callable[[Any], dict[str, Any]]:
    """Rows whose columns are the answer's fields."""
    return lambda row: from_row(kind, row)
