"""docs/schema.md names every object that migrations 2 and 3 add."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schema import migrations, redis_keys

DOCS = (Path(__file__).parents[2] / "docs" / "schema.md").read_text(encoding="utf-8")
ADDED = "\n".join(migration.sql for migration in migrations.known()[1:])
CODE = re.sub(r"--.*", "", ADDED)
NAMES = set(re.findall(r"\b((?:ck|uq|fk|idx|trg)_\w+)", CODE)) | set(
    re.findall(r"CREATE (?:TABLE|FUNCTION) (\w+)", CODE)
)
COLUMNS = set(re.findall(r"ADD COLUMN (\w+)", CODE))


@pytest.mark.parametrize("name", sorted(NAMES | COLUMNS))
def test_it_is_documented(name: str) -> None:
    found = re.search(rf"`(?:\w+\.)?{name}`", DOCS)
    assert found is not None, f"{name} is not named in docs/schema.md"


def test_what_is_documented_exists() -> None:
    named = set(re.findall(r"`((?:ck|uq|fk|idx|trg)_\w+)`", DOCS))
    everything = "\n".join(migration.sql for migration in migrations.known())
    assert {name for name in named if name not in everything} == set()
    assert len(NAMES) > 90


def test_the_redis_channel_is_documented() -> None:
    assert f"`{redis_keys.conversation_channel('{conversation_id}')}`" in DOCS
