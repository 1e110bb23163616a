"""A request's body as JSON, read more strictly than Python's reader does, and every refusal by its place.

JSON leaves open what a name that stands twice means, and Python adds NaN, Infinity and numbers without bound.
Here each is refused with the field that holds it (422), as is what is no text. What is no JSON at all, or is
nested beyond any sense, is 400; a body of another kind 415.

Taken as JSON: `application/json`, any `+json`, no type at all, and the type of a web form when the body is a
JSON object, because that is what `curl -d '{…}'` sends. A form is also what any web page can make a browser
post, but such a page cannot add our bearer token (no cookie holds it), and a browser's `Origin` that is not
ours is refused before (`origin_checks`).
"""

from __future__ import annotations

import json
import math
from typing import Any

from terminalpp.types import errors, text

FORM = "application/x-www-form-urlencoded"
DIGITS_MAX = 19  # of an integer: 64 bits
_HINT = "Send it with `Content-Type: application/json`: `curl --json '{…}'` does."


class _Odd:
    """Stands in the value for a part that is refused."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong


def read(body: bytes) -> Any:
    """The value. Raises BadRequest for what is no JSON, InvalidInput for what no field may hold."""
    odd: list[_Odd] = []

    def note(wrong: str) -> _Odd:
        odd.append(_Odd(wrong))
        return odd[-1]

    def pairs(found: list[tuple[str, Any]]) -> Any:
        made = dict(found)
        if len(made) < len(found):
            names = [name for name, _ in found]
            twice = next(name for name in made if names.count(name) > 1)
            return note(f"the field {text.clean(twice)[: text.PLACE_MAX]!r} stands in it twice")
        return made

    def integer(digits: str) -> Any:
        return int(digits) if len(digits) <= DIGITS_MAX else note("the number is too large")

    def fraction(digits: str) -> Any:
        number = float(digits)
        if not math.isfinite(number):
            return note("the number is too large")
        return int(number) if number.is_integer() and abs(number) <= 2**53 else number  # JSON's 7.0 is 7

    try:
        value = json.loads(
            body.decode(), object_pairs_hook=pairs, parse_int=integer, parse_float=fraction,
            parse_constant=lambda name: note(f"{name} is no number in JSON"),
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise errors.BadRequest(f"the body is not UTF-8 text (byte {error.start})", _HINT) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise errors.BadRequest(f"the body is not JSON ({where})", "Correct it and send it again.") from None
    except RecursionError:
        raise errors.BadRequest("the body is nested too deeply", "Correct it and send it again.") from None
    if odd:
        _refuse_odd(value)
    if b"\\u" in body:  # without an escape UTF-8 holds no half of a pair, and JSON no NUL
        text.refuse(value, "body")
    return value


def of_type(content_type: str, body: bytes) -> bool:
    """Whether a body with that `Content-Type` is taken as JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json"):
        return True
    if kind == FORM:
        return body.lstrip(b" \t\r\n").startswith(b"{")
    return kind.startswith("application/") and kind.endswith("+json")


def refuse_type(content_type: str) -> errors.UnsupportedMediaType:
    """The error for a body of that type."""
    kind = text.clean(content_type.partition(";")[0].strip())[: text.PLACE_MAX]
    return errors.UnsupportedMediaType(f"the body is {kind}, and this path takes JSON", _HINT)


def _refuse_odd(value: Any) -> None:
    """Raises InvalidInput with the place of the first odd part."""
    waiting = [(value, "body")]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, _Odd):
            listed = [{"field": place, "message": value.wrong, "kind": "not-json"}]
            raise errors.InvalidInput(f"{place}: {value.wrong}", "", {"errors": listed})
        if isinstance(value, dict):
            waiting.extend((item, text.below(place, key)) for key, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, text.below(place, index)) for index, item in enumerate(value))
