"""The limits of a turn, and the check that runs before every model call.

Pure: what was spent is folded from the event log, so a resumed turn goes on counting where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from terminalpp.types.errors import InvalidInput

MALFORMED_IN_A_ROW = 3  # unknown tools, bad arguments or unusable replies; then the agent stops


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one turn. Seconds, tokens and US dollars; None means that there is no such bound."""

    max_steps: int = 60
    max_seconds: float = 3600.0
    max_tokens: int | None = 2_000_000
    max_usd: float | None = 5.0
    repair_rounds: int = 3
    tool_timeout_seconds: float = 120.0
    test_timeout_seconds: float = 900.0
    observation_max_bytes: int = 16_000

    @classmethod
    def of(cls, settings: Any, overrides: Mapping[str, Any] | None = None) -> Limits:
        """The limits of `settings` (attributes `turn_max_steps`, …) with a conversation's own on top.

        Raises InvalidInput for an unknown name or a value that is not a positive number.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            for name in (f"turn_{field.name}", field.name):
                if hasattr(settings, name):
                    values[field.name] = getattr(settings, name)
        return replace(cls(**values), **checked(overrides or {}))

    def to_json(self) -> dict[str, Any]:
        """The limits as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Limits:
        """The limits that `to_json` wrote."""
        return cls(**value)


def checked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides under their field names (`turn_max_steps` is `max_steps`). Raises InvalidInput."""
    known = {field.name for field in fields(Limits)}
    whole = {"max_steps", "max_tokens", "repair_rounds", "observation_max_bytes"}
    out: dict[str, Any] = {}
    for given, value in overrides.items():
        name = given.removeprefix("turn_")
        if name not in known:
            raise InvalidInput(f"limits.{given} is not a limit", f"Known limits: {', '.join(sorted(known))}.")
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and name != "repair_rounds"):
            raise InvalidInput(f"limits.{given} must be a positive number, not {value!r}")
        out[name] = int(value) if name in whole else float(value)
    return out


@dataclass(frozen=True, slots=True)
class Spent:
    """The use of a turn so far: model calls, tokens in and out, dollars where prices are known."""

    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None

    def plus(self, reply: Mapping[str, Any]) -> Spent:
        """With one more `model.finished` payload. An unknown price adds nothing to a known sum."""
        usage = reply.get("usage") or {}
        cost = reply.get("cost_usd")
        total = self.cost_usd if cost is None else (self.cost_usd or 0.0) + float(cost)
        return Spent(
            self.steps + 1,
            self.input_tokens + int(usage.get("input_tokens") or 0),
            self.output_tokens + int(usage.get("output_tokens") or 0),
            self.cached_tokens + int(usage.get("cached_tokens") or 0),
            total,
        )

    def to_json(self) -> dict[str, Any]:
        """The use as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Spent:
        """The use that `to_json` wrote; None is nothing."""
        return cls(**(value or {}))


@dataclass(frozen=True, slots=True)
class Reached:
    """The limit that forbids the next model call, and the value that reached it."""

    limit: str
    value: float


def check(limits: Limits, spent: Spent, elapsed_seconds: float) -> Reached | None:
    """The first limit that the turn has used up, or None when another model call is allowed."""
    tokens = spent.input_tokens + spent.output_tokens
    if spent.steps >= limits.max_steps:
        return Reached("steps", spent.steps)
    if elapsed_seconds >= limits.max_seconds:
        return Reached("seconds", round(elapsed_seconds, 1))
    if limits.max_tokens is not None and tokens >= limits.max_tokens:
        return Reached("tokens", tokens)
    if limits.max_usd is not None and spent.cost_usd is not None and spent.cost_usd >= limits.max_usd:
        return Reached("usd", round(spent.cost_usd, 4))
    return None
