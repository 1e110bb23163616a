from __future__ import annotations

from terminalpp.types.providers import DEFAULTS, provided


def test_the_first_key_that_is_set_decides() -> None:
    first, second = list(DEFAULTS)[:2]
    assert provided({}) is None
    assert provided({first: "", second: "key"}) == (DEFAULTS[second], second)
    assert provided({second: "key", first: "key"}) == (DEFAULTS[first], first)
