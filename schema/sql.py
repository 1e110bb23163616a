"""Loads named queries from `schema/queries/<file>.sql` at their first use (importing reads nothing)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "queries"
_NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def load(file: str) -> dict[str, str]:
    """Query text by name. Each entry of a file is `-- name --`, a description in comments, the query.

    Comments are left out of the text that the server sees, so that it is the same for every caller
    and starts with its verb (`Database` reads that verb to know what may be sent again).
    """
    pieces = _NAME.split((FOLDER / f"{file}.sql").read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if name in found:
            raise ValueError(f"query {name!r} appears twice in {file}.sql")
        lines = [line for line in body.strip().splitlines() if not line.lstrip().startswith("--")]
        found[name] = "\n".join(lines).strip().rstrip(";")
    return found


class Queries:
    """The queries of one file as attributes: `Queries("mailbox").enqueue`."""

    def __init__(self, file: str) -> None:
        self._file = file

    def __getattr__(self, name: str) -> str:
        try:
            return load(self._file)[name]
        except KeyError:
            raise AttributeError(f"no query {name!r} in queries/{self._file}.sql") from None
