"""Entity tags, conditions and ranges of RFC 9110, without the web around them.

A tag is a stamp (`actors.sandbox.tppd.files`) in quotes. It is strong when the stamp is settled; a file that
is written to all the time gets a weak one, which no If-Match and no If-Range accepts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from actors.sandbox.tppd.files import Conditions, State
from terminalpp.types.errors import BadRequest

_TAG = r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"'
_ONE = re.compile(_TAG)
_LIST = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t]*(?:{_TAG})?)*[ \t]*")
_RANGE = re.compile(r"bytes=[ \t]*(\d{0,30})-(\d{0,30})[ \t]*", re.IGNORECASE | re.ASCII)
_NOBODY = "-"  # no stamp


def tag_of(state: State) -> str | None:
    """The ETag of what is there; None for what is no regular file."""
    if state.stamp is None:
        return None
    return f'"{state.stamp}"' if state.settled else f'W/"{state.stamp}"'


def _tags(name: str, value: str) -> list[tuple[bool, str]]:
    """(weak, content) of each. Raises BadRequest."""
    if not _LIST.fullmatch(value):
        raise BadRequest(f"{name} is neither `*` nor a list of entity tags", 'Send it as it came: `"…"`.')
    return [(bool(found[1]), found[2]) for found in _ONE.finditer(value)]


def conditions_of(headers: Mapping[str, str]) -> Conditions:
    """If-Match, which weak tags never meet, and If-None-Match. Raises BadRequest."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    wanted: tuple[str, ...] = ()
    if match is not None:
        strong = [stamp for weak, stamp in _tags("If-Match", match) if not weak] if match != "*" else ["*"]
        wanted = tuple(strong) or (_NOBODY,)
    refused: tuple[str, ...] = ()
    if none_match is not None:
        refused = tuple(s for _, s in _tags("If-None-Match", none_match)) if none_match != "*" else ("*",)
    return Conditions(wanted, refused)


def verdict(conditions: Conditions, state: State) -> Literal[200, 304, 412]:
    """The outcome of the conditions of a GET or HEAD of `state`."""
    if not Conditions(match=conditions.match).met_by(state):
        return 412
    return 200 if conditions.met_by(state) else 304


def range_counts(headers: Mapping[str, str], state: State) -> bool:
    """Whether a Range is for this state: there is no If-Range, or it is its strong tag. A date never is."""
    wanted = headers.get("if-range")
    return wanted is None or (state.settled and wanted.strip() == tag_of(state))


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one behind the last; None: the whole, because there is no range, or one that
    is not understood (several, another unit), which is to be ignored.

    Raises ValueError for a range of which the file has no byte."""
    found = _RANGE.fullmatch(header or "")
    if not found or found[1] == found[2] == "":
        return None
    if not found[1]:
        length = int(found[2])
        if length == 0:
            raise ValueError("no last bytes are asked for")
        return (max(0, size - length), size) if size else None
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise ValueError("it begins behind the end")
    return first, min(last, size - 1) + 1
