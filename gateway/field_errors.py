"""Errors of fields in our words: pydantic finds them, and no sentence of pydantic's leaves the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from terminalpp.types import text

SHOWN = 20
NOT_BLANK = r"[^\x00-\x20]"
ONE_LINE = r"^[^\r\n]+$"
WORD = r"^[!-~]+$"
ABSOLUTE = r"^/(?![\s\S]*/\.\./)(?!\.\./)(?![\s\S]*/\.\.$)(?!\.\.$)"
WORKSPACE = r"^/home/user(/(?!([\s\S]*/)?\.\.(/|$))[\s\S]*)?$"
VARIABLE = r"^[^=]{1,255}$"
CPUS = r"^[0-9]{1,4}(\.[0-9]{1,3})?m?$"
SIZE = r"^[0-9]{1,16}(\.[0-9]{1,3})? ?([KMGTkmgt][Ii]?)?[Bb]?$"
OCTAL = r"^[0-7]{3,4}$"
_DAY, _TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
MOMENT = rf"^{_DAY}[Tt]{_TIME}([Zz]|[+-][0-9]{{2}}:[0-9]{{2}})$"
FORMS = {
    OCTAL: "must be three or four octal digits, such as 644",
    MOMENT: "must be a time with its offset, such as 2026-11-22T10:00:00Z",
    NOT_BLANK: "must not be blank",
    ONE_LINE: "must be one line, not empty",
    WORD: "must be one word of printable ASCII characters",
    ABSOLUTE: "must be an absolute path without `..`",
    WORKSPACE: "must be a path at or below /home/user, without `..`",
    VARIABLE: "the name of a variable has 1 to 255 characters and no `=`",
    CPUS: "must be a number of CPUs, such as 1, 0.5 or 500m",
    SIZE: "must be a size, such as 512MB or 2GB",
}
# pydantic's name -> (our kind, our words; its context fills the braces). Equal kinds are one for a program.
WORDS = {
    "missing": ("missing", "is missing"),
    "extra_forbidden": ("unknown", "there is no such field"),
    "string_type": ("type", "text"),
    "int_type": ("type", "a whole number"),
    "int_from_float": ("type", "a whole number"),
    "int_parsing": ("type", "a whole number"),
    "int_parsing_size": ("range", "is too large a number"),
    "float_type": ("type", "a number"),
    "bool_type": ("type", "true or false"),
    "bool_parsing": ("type", "true or false"),
    "list_type": ("type", "a list"),
    "dict_type": ("type", "an object"),
    "model_type": ("type", "an object"),
    "model_attributes_type": ("type", "an object"),
    "none_required": ("type", "null"),
    "uuid_type": ("type", "a UUID"),
    "uuid_parsing": ("type", "a UUID"),
    "finite_number": ("range", "must be a finite number"),
    "string_too_short": ("length", "must have at least {min_length} characters"),
    "string_too_long": ("length", "must have at most {max_length} characters"),
    "too_short": ("length", "must have at least {min_length} entries"),
    "too_long": ("length", "must have at most {max_length} entries"),
    "greater_than": ("range", "must be greater than {gt}"),
    "greater_than_equal": ("range", "must be at least {ge}"),
    "less_than": ("range", "must be less than {lt}"),
    "less_than_equal": ("range", "must be at most {le}"),
    "literal_error": ("choice", "must be one of {expected}"),
    "string_pattern_mismatch": ("form", "has another form"),
    "value_error": ("invalid", "{error}"),
}


def listed(found: Iterable[Mapping[str, Any]], body: Any) -> list[dict[str, str]]:
    """`[{field, message, kind}]` for pydantic's errors, one for each field; the values are not echoed (they
    may be secret or huge). What a union's branches say of one value is joined."""
    fields: dict[str, list[tuple[str, str]]] = {}
    for item in found:
        place = _place(item["loc"], body, item["type"])
        kind, words = WORDS.get(item["type"], ("invalid", "is not valid"))
        if item["type"] == "string_too_short" and item["ctx"]["min_length"] == 1:
            words = "must not be empty"
        context = item.get("ctx") or {}
        said = FORMS.get(context.get("pattern"), "") or words.format_map(context)
        if (kind, said) not in fields.setdefault(place, []):
            fields[place].append((kind, said))
    return [
        {"field": place, "message": _joined(said), "kind": said[0][0]}
        for place, said in list(fields.items())[:SHOWN]
    ]


def _joined(said: list[tuple[str, str]]) -> str:
    types = [words for kind, words in said if kind == "type"]
    rest = [words for kind, words in said if kind != "type"]
    return ", or ".join([*rest, *(["must be " + " or ".join(types)] if types and not rest else [])])


def _place(loc: tuple[str | int, ...], body: Any, kind: str) -> str:
    """Where the value stands. A part that the value does not have is a union's branch, and is left out."""
    if not loc or loc[0] != "body":
        return ".".join(str(part) for part in loc)
    place, value = "body", body
    for index, part in enumerate(loc[1:], 1):
        last = index == len(loc) - 1
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if not inside and not (last and kind == "missing"):
            break
        place = text.below(place, part)
        value = value[part] if inside else None
    return place
