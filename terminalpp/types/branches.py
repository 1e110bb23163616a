"""The branch of a conversation that is the present one, from its event log. Pure.

The log only grows. A rewind is an event itself: from there on the conversation goes on behind an earlier
number, and what lies between is another branch, which another rewind may come back to.
"""

from __future__ import annotations

from collections.abc import Iterable

REWOUND = "conversation.rewound"


def ranges(rewinds: Iterable[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """The numbers of the events on the present branch, as ranges (first, last) in order.

    `rewinds`: (number of the event, the number behind which it goes on) of each. `last`: the log's last
    number.
    """
    back = dict(rewinds)
    found: list[tuple[int, int]] = []
    until = last
    while until > 0:
        at = max((seq for seq in back if seq <= until), default=0)
        if not at:
            found.append((1, until))
            break
        found.append((at, until))
        until = back[at]
    return found[::-1]


def holds(found: Iterable[tuple[int, int]], seq: int) -> bool:
    """Whether an event is on it."""
    return any(first <= seq <= last for first, last in found)
