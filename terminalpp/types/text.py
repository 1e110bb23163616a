"""What counts as text: all but NUL and halves of surrogate pairs, which no file, log or wire can carry.

One rule, two uses. What a *person or program* sends and is not text is refused, and the refusal names the
place (`refuse`): nothing is changed in silence. What a *model* writes, and what comes out of a sandbox,
cannot be sent back: it is scrubbed once, where it is read (`clean`), so that what the log shows, what runs
and what goes back to the provider are one text. What is already text is left as it is by both.

File names are bytes and not meant here: where they travel as text, stray bytes stand as `surrogateescape` has
them, and `clean` shows a U+FFFD for each.
"""

from __future__ import annotations

import re
from typing import Any

from terminalpp.types.errors import InvalidInput

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
PLACE_MAX = 200  # characters of a place that an error names
_UNFIT = re.compile("[\0\ud800-\udfff]")


def clean(value: Any) -> Any:
    """`value` (a string, or JSON of any depth, keys included) with a U+FFFD for each unfit character.

    Two halves that stand side by side are the one character they mean. Raises RecursionError for JSON that
    is nested some hundred levels deep.
    """
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return _UNFIT.sub(REPLACEMENT, _joined(value)) if _UNFIT.search(value) else value
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def fault(value: Any, place: str = "") -> tuple[str, str] | None:
    """`(place, what is wrong)` of the first string in `value` (JSON of any depth) that is no text, else None.

    `place` names where `value` stands; keys and indexes are added to it: `body.env.A`, `body.argv.1`.
    """
    return None if _sound(value) else _find(value, place)


def _sound(value: Any) -> bool:
    """Whether all is text: most values are, and need no places."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if not (value.isascii() and "\0" not in value) and _UNFIT.search(value):
                return False
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return True


def _find(value: Any, place: str) -> tuple[str, str] | None:
    waiting = [(value, place)]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, str):
            if found := _wrong(value):
                return place, found
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(key, str) and (found := _wrong(key)):
                    return below(place, key), f"its name {found}"
                waiting.append((item, below(place, key)))
        elif isinstance(value, list | tuple):
            waiting.extend((item, below(place, index)) for index, item in enumerate(value))
    return None


def refuse(value: Any, place: str) -> None:
    """Raises InvalidInput, naming the place, when a string in `value` is no text."""
    if found := fault(value, place):
        where, wrong = found
        listed = [{"field": where, "message": wrong, "kind": "not-text"}]
        raise InvalidInput(f"{where}: {wrong}", "", {"errors": listed})


def below(place: str, key: object) -> str:
    """The place of `key` in `place`, itself always text."""
    return clean(f"{place}.{key}" if place else str(key))[:PLACE_MAX]


def _wrong(text: str) -> str | None:
    if text.isascii() and "\0" not in text:
        return None
    found = _UNFIT.search(text)
    if found is None:
        return None
    if found.group() == "\0":
        return "must not contain the NUL character"
    return f"must not contain half of a surrogate pair (U+{ord(found.group()):04X})"


def _joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
