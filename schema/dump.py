"""The whole schema of a database as text in a stable order, to compare a live one with `schema.sql`.

    python -m schema.dump URL > schema/schema.sql

`schema.sql` is written from a freshly migrated database and never by hand; a test proves them equal.
"""

from __future__ import annotations

import asyncio
import difflib
import sys
from pathlib import Path
from typing import Any

from schema import connection as connections
from schema.sql import Queries

FILE = Path(__file__).parent / "schema.sql"
_Q = Queries("dump")
_HEAD = "-- The result of all migrations, written by `python -m schema.dump`.\n"


async def _lines(connection: Any, query: str, *args: Any) -> list[str]:
    return [record["line"] for record in await connection.fetch(query, *args)]


async def _table(connection: Any, table: Any) -> str:
    oid, name = table["oid"], table["relname"]
    parts = await _lines(connection, _Q.columns, oid) + await _lines(connection, _Q.constraints, oid)
    options = f" WITH ({', '.join(sorted(table['reloptions']))})" if table["reloptions"] else ""
    text = f"CREATE TABLE {name} (\n    " + ",\n    ".join(parts) + f"\n){options};\n"
    for query in (_Q.indexes, _Q.triggers, _Q.comments):
        text += "".join(line + "\n" for line in await _lines(connection, query, oid))
    return text


async def dump(connection: Any) -> str:
    """Extensions, functions, tables (columns, constraints, indexes, triggers, comments) and views."""
    # Definitions are printed relative to the search path; everything of ours is in `public`.
    await connection.execute("SET search_path TO public")
    sections = [_HEAD, "\n".join(await _lines(connection, _Q.extensions)) + "\n"]
    sections += [line.rstrip() + ";\n" for line in await _lines(connection, _Q.functions)]
    sections += [await _table(connection, table) for table in await connection.fetch(_Q.tables)]
    for view in await connection.fetch(_Q.views):
        sections.append(f"CREATE VIEW {view['relname']} AS\n{view['line']}\n")
    return "\n".join(sections)


def expected() -> str:
    """The text of `schema.sql`."""
    return FILE.read_text(encoding="utf-8")


def difference(wanted: str, found: str) -> list[str]:
    """Lines of a unified diff from `schema.sql` to the live database; empty when they are equal."""
    lines = (wanted.splitlines(), found.splitlines())
    return list(difflib.unified_diff(*lines, "schema.sql", "database", lineterm="", n=2))


async def main(url: str) -> None:
    """Print the schema of the database at `url`."""
    connection = await connections.connect(url)
    try:
        sys.stdout.write(await dump(connection))
    finally:
        await connections.close(connection)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
