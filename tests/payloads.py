"""Holds payloads to their declared shapes (`terminalpp.types.events` and `messages`)."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints

from terminalpp.types.events import EVENTS


def check_event(type: str, payload: Any) -> None:
    """Fails unless it is of a declared type and shape."""
    assert type in EVENTS, f"no shape is declared for {type}"
    check(EVENTS[type], payload, type)


def check(kind: Any, value: Any, at: str) -> None:
    """Fails with the place unless `value` is of that type, with no other fields."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if hasattr(kind, "__required_keys__"):
        assert isinstance(value, dict), f"{at}: {value!r} is no object"
        hints = _hints(kind)
        assert not set(value) - set(hints), f"{at}: undeclared {sorted(set(value) - set(hints))}"
        for name, inner in hints.items():
            optional = get_origin(inner) is NotRequired
            assert optional or name in value, f"{at}.{name} is missing"
            if name in value:
                check(get_args(inner)[0] if optional else inner, value[name], f"{at}.{name}")
    elif origin is UnionType:
        assert any(_fits(part, value) for part in parts), f"{at}: {value!r} is not {kind}"
    elif origin is Literal:
        assert value in parts, f"{at}: {value!r} is none of {parts}"
    elif origin is list:
        assert isinstance(value, list), f"{at}: {value!r} is no list"
        for index, item in enumerate(value):
            check(parts[0], item, f"{at}[{index}]")
    elif origin is dict:
        assert isinstance(value, dict), f"{at}: {value!r} is no object"
        for name, item in value.items():
            check(parts[1], item, f"{at}.{name}")
    else:
        wanted = (int, float) if kind is float else NoneType if kind is None else kind
        fits = isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))
        assert fits, f"{at}: {value!r} is not {kind}"


@cache
def _hints(shape: Any) -> dict[str, Any]:
    return get_type_hints(shape, include_extras=True)


def _fits(kind: Any, value: Any) -> bool:
    try:
        check(kind, value, "")
    except AssertionError:
        return False
    return True
