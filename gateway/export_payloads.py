"""Print the declared shapes of payloads: `python -m gateway.export_payloads > docs/payloads.md`."""

from __future__ import annotations

import sys
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints

from terminalpp.types.events import EVENTS
from terminalpp.types.messages import EFFECTS, MESSAGES

HEAD = """\
# Payloads

What events tell, and what entities store for themselves (effects) and for each other (messages), as
`terminalpp/types/events.py` and `messages.py` declare it. `?`: the field may be missing. The tests hold every
event that they meet to this.
"""


def spelled(kind: Any) -> str:
    """A type as a person reads it."""
    if kind in (None, NoneType):
        return "null"
    if kind is Any:
        return "any"
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f'"{part}"' for part in parts)
    if origin is UnionType:
        return " or ".join(spelled(part) for part in parts)
    if origin is list:
        return f"list of {spelled(parts[0])}"
    if origin is dict:
        return f"object of {spelled(parts[1])}"
    return {str: "text", int: "integer", float: "number", bool: "boolean"}.get(kind, kind.__name__)


def document() -> str:
    """The whole document."""
    out = [HEAD]
    named: dict[type, None] = {}
    for title, table in (("Events", EVENTS), ("Effects", EFFECTS), ("Messages", MESSAGES)):
        out += [f"## {title}", "", "| name | meaning | payload |", "|---|---|---|"]
        for name, shape in table.items():
            out.append(f"| `{name}` | {_line(shape)} | {_fields(shape, named)} |")
        out.append("")
    out += ["## Parts", "", "| part | meaning | fields |", "|---|---|---|"]
    for shape in list(named):
        out.append(f"| {shape.__name__} | {_line(shape)} | {_fields(shape, named)} |")
    return "\n".join(out) + "\n"


def _line(shape: type) -> str:
    return " ".join((shape.__doc__ or "").split())


def _fields(shape: type, named: dict[type, None]) -> str:
    hints = get_type_hints(shape, include_extras=True)
    for hint in hints.values():
        for part in (hint, *get_args(hint), *(inner for arg in get_args(hint) for inner in get_args(arg))):
            if isinstance(part, type) and hasattr(part, "__required_keys__"):
                named.setdefault(part)
    told = []
    for name, kind in hints.items():
        optional = get_origin(kind) is NotRequired
        told.append(f"`{name}`{'?' if optional else ''} {spelled(get_args(kind)[0] if optional else kind)}")
    return ", ".join(told) or "none"


if __name__ == "__main__":
    sys.stdout.write(document())
