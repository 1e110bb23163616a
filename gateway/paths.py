"""Paths of files in a sandbox, as they are asked for and as they are shown: any bytes but NUL.

In a request a path stands in the query, its bytes percent-encoded. In an answer it stands twice: as text, in
which what is not UTF-8 is U+FFFD, and as `…_raw`, percent-encoded, which can be sent back as it is.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote_from_bytes

from fastapi import Query, Request

from actors.sandbox.tppd.files import State
from gateway import field_errors
from gateway.routes import refused
from terminalpp.types.times import moment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -(2**63), 2**63 - 1  # tppd says these for what is beyond them
_ABOUT = "Absolute path in the sandbox; bytes that are no UTF-8 percent-encoded as they are."

_FORM = {"pattern": field_errors.ABSOLUTE}  # told, not checked here: `raw_path` sees the bytes

PathQuery = Annotated[
    str, Query(description=_ABOUT, examples=["/home/user/project"], json_schema_extra=_FORM)
]
FromQuery = Annotated[
    str, Query(description=_ABOUT, examples=["/home/user/a"], json_schema_extra=_FORM, alias="from")
]
ToQuery = Annotated[str, Query(description=_ABOUT, examples=["/home/user/b"], json_schema_extra=_FORM)]
Octal = Annotated[
    str | None,
    Query(pattern=field_errors.OCTAL, description="Octal digits, such as `644`.", examples=["755"]),
]


def raw_path(request: Request, parameter: str = "path") -> str:
    """The query's `parameter`, its bytes kept as they are (as surrogates). Raises InvalidInput."""
    query = request.scope["query_string"].decode("latin-1")
    found = [value for name, value in parse_qsl(query, True, errors="surrogateescape") if name == parameter]
    if len(found) != 1 or not found[0].startswith("/") or "\0" in found[0] or ".." in found[0].split("/"):
        raise refused(f"query.{parameter}", "must be given once, absolute, without `..`")
    return found[0]


def text_of(raw: bytes) -> str:
    """The bytes as text; what is no UTF-8 is U+FFFD."""
    return raw.decode("utf-8", "replace")


def quoted(raw: bytes) -> str:
    """As it can stand in a query."""
    return quote_from_bytes(raw, safe="/")


def below(base: str, relative: bytes) -> bytes:
    """The path of `relative` below `base`, in bytes."""
    return os.fsencode(base).rstrip(b"/") + b"/" + relative


def mode_of(octal: str | None) -> int | None:
    """The number of an octal mode."""
    return None if octal is None else int(octal, 8)


def shown(path: bytes, state: State) -> dict[str, Any]:
    """The fields of `responses.AnyFile`."""
    target = state.target
    return {
        "path": text_of(path),
        "path_raw": quoted(path),
        "name": text_of(path.rstrip(b"/").rpartition(b"/")[2] or b"/"),
        "type": state.kind,
        "size": state.size_bytes,
        "mode": f"{state.mode:04o}",
        "modified_at": _moment(state.mtime_ns),
        "target": None if target is None else text_of(target),
        "target_raw": None if target is None else quoted(target),
    }


def _moment(ns: int) -> str | None:
    """None for a time beyond what can be told: before 1678 or after 2261."""
    return moment(_EPOCH + timedelta(microseconds=ns // 1000)) if _FIRST < ns < _LAST else None


def nanoseconds(text: str) -> int:
    """Since 1970, of an RFC 3339 time, to the microsecond. Raises InvalidInput for what no calendar has, and
    for a time before 1678 or after 2261."""
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH
    except ValueError:
        raise refused("body.modified_at", "there is no such time") from None
    ns = ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
    if not _FIRST < ns < _LAST:
        raise refused("body.modified_at", "must be a time between 1678 and 2261")
    return ns
