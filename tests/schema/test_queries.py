"""Every named query is understood by the migrated database, described, used, and named only once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import schema
from schema import Database
from schema.sql import FOLDER, Queries, load

SOURCE = Path(schema.__file__).parent
FILES = sorted(path.stem for path in FOLDER.glob("*.sql"))
NAMED = [(file, name) for file in FILES for name in load(file)]


async def test_every_query_can_be_prepared(database: Database) -> None:
    async with database.transaction() as connection:
        for file, name in NAMED:
            try:
                await connection.prepare(load(file)[name])
            except Exception as error:
                pytest.fail(f"{file}.{name}: {error}")


@pytest.mark.parametrize("file", FILES)
def test_every_query_is_described(file: str) -> None:
    text = (FOLDER / f"{file}.sql").read_text(encoding="utf-8")
    for name in load(file):
        assert re.search(rf"^-- {name} --\n-- \S.*\n", text, re.MULTILINE), f"{file}.{name}: describe it"


def test_every_query_is_used() -> None:
    for file, name in NAMED:
        code = (SOURCE / f"{file}.py").read_text(encoding="utf-8")
        used = re.search(rf"_Q\.{name}\b", code) or f'"{name}"' in code
        assert used, f"{file}.{name} is used nowhere"


def test_there_are_fewer_queries_than_places_in_the_statement_cache() -> None:
    assert 100 < len(NAMED) < 256


def test_an_unknown_query_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no query 'nothing'"):
        _ = Queries("mailbox").nothing
