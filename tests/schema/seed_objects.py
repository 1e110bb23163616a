"""The seed's specification (`seed.md`, a verbatim copy) taken apart: its SQL blocks and named objects."""

from __future__ import annotations

import re
from pathlib import Path

SPEC = (Path(__file__).parent / "seed.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sql\n(.*?)\n?```", SPEC, re.DOTALL)
_STATEMENT = re.compile(r"^CREATE (?:TABLE|INDEX|VIEW) (\w+).*?;$", re.DOTALL | re.MULTILINE)
OBJECTS = {match[1]: match[0] for block in BLOCKS[:-1] for match in _STATEMENT.finditer(block)}
TABLES = [name for name, text in OBJECTS.items() if text.startswith("CREATE TABLE")]
INDEXES = [name for name, text in OBJECTS.items() if text.startswith("CREATE INDEX")]
VIEWS = [name for name, text in OBJECTS.items() if text.startswith("CREATE VIEW")]
