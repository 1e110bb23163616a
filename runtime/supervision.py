"""Pure core of supervision: what follows a failed message, a failed effect and a failing entity.

Every failure has one cause, whatever the place it came from:

- `FENCED`: another owner has the entity. It is forgotten here at once.
- `REFUSAL`: an error raised on purpose, which trying again cannot cure, or bad input. It is a result:
  stored, given to the caller, and nothing is counted.
- `WEATHER`: trouble outside (the database away, a time-out, a full disk, no descriptors left). It says
  nothing about the message or the entity: waited out, never counted.
- `DEFECT`: anything else. A message is tried again from the committed state a few times and then put aside
  as a dead letter; the mailbox goes on. Each defect also counts against the entity (all tries of one message
  as one): too many within the window and it is quarantined.

    place         | refusal              | weather                    | defect
    a turn        | the message's answer | tried again, without end   | 3 tries, dead letter; counted
    a call        | the caller's answer  | the caller's answer        | the caller's answer
    an effect     | dead letter          | tried again (see below)    | 8 tries, dead letter
    a spawned task| logged               | logged                     | restart; counted
    `activated`   | the caller's answer  | the caller's answer        | the caller's answer; counted

An effect waits out a full disk without end and other trouble for about ten minutes: somebody waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runtime import wire
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


class Cause(StrEnum):
    """Why something failed; each failure has one."""

    FENCED = "fenced"
    REFUSAL = "refusal"
    WEATHER = "weather"
    DEFECT = "defect"


class Verdict(StrEnum):
    """The ruling on a message or an action that failed."""

    REFUSED = "refused"  # store the error as the message's result
    RETRY = "retry"      # run it again after the pause
    DEAD = "dead"        # dead letter
    DROP = "drop"        # another owner has the entity: forget it at once


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict, with how long to wait before the next try in seconds."""

    verdict: Verdict
    pause_seconds: float = 0.0
    defect: bool = False  # counts as a failed attempt and against the entity


def backoff(attempt: int) -> float:
    """Seconds before attempt number `attempt` + 1: 0.1, 0.2, 0.4 … at most 30."""
    return min(BACKOFF_FIRST_SECONDS * 2 ** min(attempt - 1, 20), BACKOFF_MAX_SECONDS)


def cause_of(error: BaseException) -> Cause:
    """The cause of a failure; see the head of this file."""
    ours = wire.as_terminal(error)
    if isinstance(ours, (Fenced, NotOwner)):
        return Cause.FENCED
    if type(ours) is TerminalError:
        return Cause.DEFECT
    return Cause.WEATHER if ours.retryable or isinstance(ours, DiskFull) else Cause.REFUSAL


def judge_message(error: Exception, attempt: int, outside_failures: int = 0) -> Ruling:
    """`attempt`: defects of this message so far, this one included; `outside_failures`: likewise."""
    match cause_of(error):
        case Cause.FENCED:
            return Ruling(Verdict.DROP)
        case Cause.REFUSAL:
            return Ruling(Verdict.REFUSED)
        case Cause.WEATHER:
            return Ruling(Verdict.RETRY, min(backoff(max(outside_failures, 1)), 2.0))
    if attempt >= MESSAGE_ATTEMPTS:
        return Ruling(Verdict.DEAD, defect=True)
    return Ruling(Verdict.RETRY, backoff(attempt), defect=True)


def judge_effect(error: Exception, attempt: int) -> Ruling:
    """An effect reaches outside, so weather is counted too, but nothing is counted against the entity.
    A full disk is waited out without end: until there is room nothing can go on, and then all of it can."""
    cause = cause_of(error)
    if cause is Cause.FENCED:
        return Ruling(Verdict.DROP)
    if isinstance(wire.as_terminal(error), DiskFull):
        return Ruling(Verdict.RETRY, min(backoff(attempt), ROOM_PAUSE_SECONDS))
    limit = EFFECT_ATTEMPTS_OUTSIDE if cause is Cause.WEATHER else EFFECT_ATTEMPTS
    if cause is Cause.REFUSAL or attempt >= limit:
        return Ruling(Verdict.DEAD)
    return Ruling(Verdict.RETRY, backoff(attempt))
