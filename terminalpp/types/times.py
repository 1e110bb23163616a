"""The one spelling of a time in JSON: RFC 3339 in UTC with microseconds, `2026-11-25T08:00:00.000000Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(value: datetime | None) -> str | None:
    """The time as JSON has it; None stays None."""
    if value is None:
        return None
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def time_of(at_ms: int) -> datetime | None:
    """The time of milliseconds since 1970; None for 0, which stands for never."""
    return datetime.fromtimestamp(at_ms / 1000, UTC) if at_ms else None


def moment_of(at_ms: int) -> str | None:
    """`time_of` as JSON has it."""
    return moment(time_of(at_ms))
