"""How a method of an entity is called: `@durable`, `@volatile`, `@readonly`, `@effect`.

The decorators only mark; the rules they stand for are kept by `runtime.activation`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])
_MARK = "__terminalpp_kind__"


class Kind(StrEnum):
    """How a method is called."""

    DURABLE = "durable"    # stored first, applied in order, at most once per message id, in one transaction
    VOLATILE = "volatile"  # not stored; made again when its cell is lost, so safe to repeat; beside the turns
    READONLY = "readonly"  # may not write (the context refuses); beside the turns
    EFFECT = "effect"      # performs an action after its commit, at least once, under a stable key


def _marker(kind: Kind) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        if not inspect.iscoroutinefunction(method):
            raise TypeError(f"{method.__qualname__} must be `async def`: a plain method would block the cell")
        setattr(method, _MARK, kind)
        return method

    return mark


durable = _marker(Kind.DURABLE)
volatile = _marker(Kind.VOLATILE)
readonly = _marker(Kind.READONLY)
effect = _marker(Kind.EFFECT)


def methods_of(cls: type) -> dict[str, Kind]:
    """The marked methods of `cls` and its bases by name."""
    found: dict[str, Kind] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            kind = getattr(value, _MARK, None)
            if isinstance(kind, Kind):
                found[name] = kind
            else:
                found.pop(name, None)  # overridden without a mark: no longer callable from outside
    return found
