"""What a verb's exit status means, and how an error is told.

| status | meaning |
|---|---|
| 0 | done; for `run` and `demo`: the tests that the team ran passed |
| 1 | the team ended without green tests; for `doctor`, `status`, `test`: something is red |
| 2 | wrong usage: an option, a path, an id or a task that cannot be |
| 3 | the machine or the server: not installed, not started, unreachable, no isolation, no disk |
| 4 | the work is done but could not be applied; the patch is kept |
| 130 | cancelled with Ctrl-C |
"""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import Any

from terminalpp.types.errors import TerminalError


class Exit(IntEnum):
    """The exit status of every verb."""

    OK = 0
    NOT_GREEN = 1
    USAGE = 2
    ENVIRONMENT = 3
    NOT_APPLIED = 4
    CANCELLED = 130


_USAGE_CODES = frozenset({"invalid-input", "not-found", "too-large", "file-problem", "conflict",
                          "idempotency-mismatch", "model-unknown", "forbidden"})


class NotApplied(Exception):
    """The patch was not applied; it is kept at `path`."""

    def __init__(self, error: TerminalError, path: str) -> None:
        super().__init__(error.detail)
        self.error = error
        self.path = path


def of(error: BaseException) -> Exit:
    """The exit status for an error that ended a verb."""
    if isinstance(error, NotApplied):
        return Exit.NOT_APPLIED
    if isinstance(error, KeyboardInterrupt):
        return Exit.CANCELLED
    if isinstance(error, TerminalError) and error.code in _USAGE_CODES:
        return Exit.USAGE
    return Exit.ENVIRONMENT


def of_outcome(outcome: str) -> Exit:
    """The exit status for how a turn ended."""
    return {"passed": Exit.OK, "cancelled": Exit.CANCELLED}.get(outcome, Exit.NOT_GREEN)


def tell(error: TerminalError, as_json: bool) -> None:
    """One line and the next step on stderr, or one object on stdout."""
    from terminalpp.cli.sanitize import clean

    if as_json:
        value: dict[str, Any] = {"type": "cli.error", "payload": error.to_json()}
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()
        return
    sys.stderr.write(f"error: {clean(error.detail)}\n")
    for problem in error.extra.get("errors") or []:
        sys.stderr.write(f"  {clean(json.dumps(problem), one_line=True)}\n")
    if error.next_step:
        sys.stderr.write(f"  → {clean(error.next_step)}\n")
    if error.extra.get("request_id"):
        sys.stderr.write(f"  request {clean(str(error.extra['request_id']), one_line=True)}\n")
    sys.stderr.flush()
