"""The verdict of a runner's own words and its exit status together: passed, failed, or not run, and why.

The words were chosen before (`graphs/runners/own.py`). Failed tests outrank a status of 0. Another
status never passes, and is "not run" only where something could not be started or the status means just that.
A status of 0 without words is believed, but where a known runner's status is hidden by a pipe, or the output
ends in a crash, it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphs.runners import crash, own, text
from graphs.runners import missing as absent
from graphs.runners.command import SILENT, started

_CANNOT_RUN = (126, 127)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason`: why it did not run, or why it failed when the status does not say so."""

    ran: bool
    passed: bool
    reason: str | None = None
    missing: str | None = None


def judge(said: own.Said, exit_code: int, lines: list[str], command: str) -> Verdict:
    """The verdict of the words and the status together."""
    if exit_code in _CANNOT_RUN and not said.red:
        lacks = absent.with_status(exit_code, lines, command)
        return Verdict(False, False, lacks.words, lacks.name)
    if exit_code == 0 and said.red:
        return Verdict(True, False, f"the exit status is 0 but the runner's summary says {_bad(said)}")
    if not said.red and (lacks := _lacks(said, exit_code, lines, command)):
        return Verdict(False, False, lacks.words, lacks.name)
    if exit_code == 0:
        if not _closed(said) and (doubt := _doubt(said, lines, command)):
            return Verdict(True, False, doubt)
        if said.green or not said.known:
            return Verdict(True, True)
        return Verdict(False, False, said.nothing())
    if said.only_nothing(exit_code):
        return Verdict(False, False, said.nothing())
    return Verdict(True, False, _why_failed(said, exit_code))


def _lacks(said: own.Said, exit_code: int, lines: list[str], command: str) -> absent.Missing | None:
    """What kept the tests from starting. With status 0 (a pipe hid it) only when it is the last word."""
    families = started(command).families
    spoke = [part for part in said.parts if part.sure and not part.frame]
    if any(not families or part.family in (*families, "report") for part in spoke):
        return None
    if exit_code:
        return None if said.green else absent.find(lines, command)
    return absent.find(text.last(lines, 3 if families else 1), command)


def _doubt(said: own.Said, lines: list[str], command: str) -> str | None:
    """Why a status of 0 is not believed where no runner closed: a pipe gives the status of its last part."""
    begun = started(command)
    if not said.known and begun.families and not begun.status and begun.families[0] not in SILENT:
        return "the runner gave no summary, and its exit status is hidden"
    if crash.crashed(lines):
        return "the exit status is 0 but the output ends in a crash"
    return None


def _closed(said: own.Said) -> bool:
    return any(part.sure and not part.frame for part in said.parts)


def _why_failed(said: own.Said, exit_code: int) -> str | None:
    if said.red:
        return None
    if said.green:
        words = _words(said.counts) or "that all passed"
        return f"the exit status is {exit_code}, though the runner's summary says {words}"
    return f"the exit status is {exit_code}; {said.nothing()}" if said.known else None


def _bad(said: own.Said) -> str:
    bad = {kind: number for kind, number in said.counts.items() if kind in ("failed", "errors")}
    return _words(bad) or "that it failed"


def _words(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{number} {'error' if kind == 'errors' and number == 1 else kind}" for kind, number in counts.items()
    )
