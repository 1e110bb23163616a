"""Rows as frozen dataclasses, and values as Postgres can hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

from terminalpp.types.errors import InvalidInput
from terminalpp.types.text import clean

T = TypeVar("T")


class Place(NamedTuple):
    """A row's place in a list, the newest first; the higher `rank` first among those made at once."""

    created_at: datetime
    id: str
    rank: int = 0


# Before the first.
NOWHERE = Place(datetime.max.replace(tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff", 9)

_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


def one(cls: type[T], record: Mapping[str, Any]) -> T:
    """The record's columns as `cls`, by name; columns that `cls` does not have are left out."""
    return cls(**{name: record[name] for name in _names(cls)})


def maybe(cls: type[T], record: Mapping[str, Any] | None) -> T | None:
    """The record as a `cls`, or None when there is none."""
    return None if record is None else one(cls, record)


def many(cls: type[T], records: Iterable[Mapping[str, Any]]) -> list[T]:
    """The records as a list of `cls`."""
    return [one(cls, record) for record in records]


def text(value: str) -> str:
    """`value` with what a Postgres text cannot hold (NUL, lone surrogates) shown as U+FFFD.

    Command output may contain any byte; the journal keeps the bytes, rows keep readable text.
    """
    return clean(value)


def to_json(value: Any) -> str:
    """JSON text for a jsonb column. Raises InvalidInput for what is not JSON (NaN included)."""
    try:
        encoded = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        # A pair of surrogates is an ordinary character; only the slow pass can tell a lone one.
        if _ESCAPED.search(encoded):
            encoded = json.dumps(clean(value), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"not a JSON value: {error}") from error
    return encoded


def stored(value: Any) -> Any:
    """`value` as it comes back from a jsonb column."""
    return json.loads(to_json(value))
