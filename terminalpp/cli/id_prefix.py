"""The one record that a person means by the beginning of its id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from terminalpp.types.errors import InvalidInput, NotFound

Row = TypeVar("Row", bound=Mapping[str, Any])


def chosen(rows: Iterable[Row], beginning: str, what: str, hint: str) -> Row:
    """The row whose id begins so; `what` names its kind in errors. Raises NotFound, InvalidInput."""
    found = [row for row in rows if beginning and str(row["id"]).startswith(beginning.lower())]
    if not found:
        raise NotFound(f"{beginning!r} is not the beginning of the id of {what}", hint)
    if len(found) > 1:
        raise InvalidInput(f"{beginning} is the beginning of {len(found)} ids", "Give more of it.")
    return found[0]
