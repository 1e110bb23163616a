"""Ends of a run that no success has, for runs whose exit status a pipe may hide.

Only the very last lines are looked at, and only where no runner closed: a test that prints a traceback is
followed by its runner's own words.
"""

from __future__ import annotations

import re

_LAST = (
    re.compile(r"^Node\.js v\d+\.\d+\.\d+$"),
    re.compile(r"^\S*make(?:\[\d+\])?: \*\*\* .+"),
    re.compile(r"^(?:.*: (?:line \d+: +\d+ )?)?(?:Segmentation fault|Aborted|Killed|Bus error)\b.*$"),
    re.compile(r"^(?:PHP )?(?:Fatal|Parse) error: .+"),
    re.compile(r"^npm (?:ERR!|error) .+"),
    re.compile(r"^ninja: build stopped: .+"),
    re.compile(r"^.+: (?:fatal error|error): .+"),
)
_ANYWHERE = (
    re.compile(r"^(?: Exception during run: |✖ ERROR: )"),
    re.compile(r"^(?:PHP )?Fatal error: +Uncaught "),
    re.compile(r"^thread '.*' .*panicked at "),
    re.compile(r"^panic: "),
)
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit|Warning)(?:: .*)?$")
NEAR = 40


def crashed(said: list[str]) -> bool:
    """Whether the output ends in a crash."""
    near = [line for line in said if line.strip()][-NEAR:]
    if not near:
        return False
    if any(pattern.match(near[-1]) for pattern in _LAST):
        return True
    if any(pattern.match(line) for line in near for pattern in _ANYWHERE):
        return True
    return _TRACEBACK in near and _uncaught(near)


def _uncaught(near: list[str]) -> bool:
    """Whether the last traceback goes to the end: indented lines, then what was raised."""
    at = len(near) - 1 - near[::-1].index(_TRACEBACK)
    body = near[at + 1 :]
    raised = next((n for n, line in enumerate(body) if not line.startswith(" ")), None)
    return raised is not None and bool(_RAISED.match(body[raised])) and raised >= len(body) - 3
