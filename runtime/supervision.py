"""Pure core of supervision: what follows a failed message, a failed effect and a failing entity.

- A refusal (an error raised on purpose, which trying again cannot cure) is a result: it is stored and given
  to the caller, and nothing is counted.
- Trouble outside (the database away, a queue full) is waited out, without end: it says nothing about the
  message.
- Anything else is a defect. The message is tried again from the committed state a few times and then put
  aside as a dead letter; the mailbox goes on. Each defect also counts against the entity: too many within
  the window and it is quarantined.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runtime.disk import full
from terminalpp.types.errors import DiskFull, Fenced, NotOwner, TerminalError

MESSAGE_ATTEMPTS = 3
CRASHES_PER_MESSAGE = 5    # cells that died while the message was at the head of the mailbox
EFFECT_ATTEMPTS = 8
EFFECT_ATTEMPTS_OUTSIDE = 30  # for trouble outside: about ten minutes
ROOM_PAUSE_SECONDS = 5.0
BUDGET_FAILURES = 10       # so that one poison message alone (3) never reaches it
BUDGET_WINDOW_SECONDS = 120.0
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 30.0


class Verdict(StrEnum):
    REFUSED = "refused"  # store the error as the message's result
    RETRY = "retry"      # run it again after the pause
    DEAD = "dead"        # dead letter
    DROP = "drop"        # another owner has the entity: forget it at once


@dataclass(frozen=True, slots=True)
class Ruling:
    verdict: Verdict
    pause_seconds: float = 0.0
    defect: bool = False  # counts as a failed attempt and against the entity


def backoff(attempt: int) -> float:
    """Seconds before attempt number `attempt` + 1: 0.1, 0.2, 0.4 … at most 30."""
    return min(BACKOFF_FIRST_SECONDS * 2 ** min(attempt - 1, 20), BACKOFF_MAX_SECONDS)


def judge_message(error: Exception, attempt: int, outside_failures: int = 0) -> Ruling:
    """`attempt`: defects of this message so far, this one included; `outside_failures`: likewise."""
    error = full(error) or error
    if isinstance(error, (Fenced, NotOwner)):
        return Ruling(Verdict.DROP)
    if isinstance(error, TerminalError) and type(error) is not TerminalError:
        if error.retryable:
            return Ruling(Verdict.RETRY, min(backoff(max(outside_failures, 1)), 2.0))
        return Ruling(Verdict.REFUSED)
    if attempt >= MESSAGE_ATTEMPTS:
        return Ruling(Verdict.DEAD, defect=True)
    return Ruling(Verdict.RETRY, backoff(attempt), defect=True)


def judge_effect(error: Exception, attempt: int) -> Ruling:
    """An effect reaches outside, so a retryable error is counted too, but never against the entity.
    A full disk is waited out without end: until there is room nothing can go on, and then all of it can."""
    error = full(error) or error
    if isinstance(error, (Fenced, NotOwner)):
        return Ruling(Verdict.DROP)
    if isinstance(error, DiskFull):
        return Ruling(Verdict.RETRY, min(backoff(attempt), ROOM_PAUSE_SECONDS))
    on_purpose = isinstance(error, TerminalError) and type(error) is not TerminalError
    if on_purpose and not error.retryable:  # type: ignore[attr-defined]
        return Ruling(Verdict.DEAD)
    if attempt >= (EFFECT_ATTEMPTS_OUTSIDE if on_purpose else EFFECT_ATTEMPTS):
        return Ruling(Verdict.DEAD)
    return Ruling(Verdict.RETRY, backoff(attempt))
