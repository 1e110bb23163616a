"""Notices an agent that runs in circles, from what it did and what it saw.

Thresholds are those of OpenHands' detector (four equal actions with equal results, three with equal
errors, six steps that alternate between two). The first finding gives a nudge, the next one stops the
agent: actions from before the nudge no longer count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SAME_RESULT, SAME_ERROR, ALTERNATING = 4, 3, 6


@dataclass(frozen=True, slots=True)
class Deed:
    """One tool call: a digest of tool and arguments, a digest of what came back, and its success."""

    action: str
    result: str
    ok: bool

    @classmethod
    def of(cls, tool: str, arguments: Any, output: str, ok: bool) -> Deed:
        """The digest of a call and its result."""
        return cls(_digest([tool, arguments]), _digest(output), ok)


def circling(deeds: Sequence[Deed]) -> str | None:
    """The repetition that the agent is caught in, in words for the agent itself; None while it moves."""
    if len(deeds) >= SAME_RESULT and len({(d.action, d.result) for d in deeds[-SAME_RESULT:]}) == 1:
        return f"the same call gave the same result {SAME_RESULT} times in a row"
    last = deeds[-SAME_ERROR:]
    if len(last) == SAME_ERROR and not any(d.ok for d in last) and len({d.action for d in last}) == 1:
        return f"the same call failed {SAME_ERROR} times in a row"
    last = deeds[-ALTERNATING:]
    if len(last) == ALTERNATING:
        pairs = [(d.action, d.result) for d in last]
        if len(set(pairs)) == 2 and pairs == pairs[:2] * (ALTERNATING // 2):
            return f"two calls alternated for {ALTERNATING} steps with the same results"
    return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
