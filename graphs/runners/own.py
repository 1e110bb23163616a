"""Which of the closing words in an output are the runner's own, and what they come to together.

One runner started by name closes once: with its status it says which of several closing words are its own.
A command that may start several (make, npm, tox) has all its full closing words summed; where one of those
says failed and the exit status says 0, the words stand. Of a runner that it wrote down once, one closing
counts. Words that are not sure count only where nothing surer is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.runners.command import SUMMED, Started
from graphs.runners.summary import ALL_SKIPPED, NO_TEST_RUN, Summary, total

# Statuses that mean «no test ran» and nothing else, by whose closing words stand with them.
NOTHING_RAN = {("pytest", 5), ("unittest", 5), ("nextest", 4), ("jasmine", 2), ("dotnet", 8)}


@dataclass(frozen=True, slots=True)
class Said:
    """The summaries of all runners together."""

    parts: tuple[Summary, ...]
    counts: dict[str, int]

    @property
    def red(self) -> bool:
        """Whether one of them says that a test failed."""
        return any(part.red for part in self.parts)

    @property
    def green(self) -> bool:
        """Whether one that counts says that a test passed."""
        numbered = [part for part in self.parts if not part.frame]
        if numbered:
            return any(part.green for part in numbered)
        return any(part.green for part in self.parts) and not any(part.nothing for part in self.parts)

    @property
    def known(self) -> bool:
        """Whether any runner said anything."""
        return bool(self.parts)

    def nothing(self) -> str:
        """Why no test ran, in words for a person."""
        if skipped := self.counts.get("skipped"):
            return f"{ALL_SKIPPED} ({skipped})"
        said = [part.nothing for part in self.parts if part.nothing and not part.frame]
        said = said or [part.nothing for part in self.parts if part.nothing]
        return said[-1] if said else NO_TEST_RUN

    def only_nothing(self, exit_code: int) -> bool:
        """Whether this status, with these words, means that no test ran."""
        families = {part.family for part in self.parts}
        return (
            not self.red and not self.green and any((family, exit_code) in NOTHING_RAN for family in families)
        )


def said(parts: list[Summary]) -> Said:
    """What these summaries say together."""
    return Said(tuple(parts), total(part.counts for part in parts))


def choose(
    found: list[Summary], started: Started, exit_code: int | None, echoed: Sequence[Started] = ()
) -> Said:
    """The runner's own among `found`; `echoed` are the starts that the output itself shows."""
    frames = [summary for summary in found if summary.frame]
    closed = [summary for summary in found if not summary.frame]
    sure = [summary for summary in closed if summary.sure]
    if started.families:
        mine = [summary for summary in closed if summary.family in started.families]
        mine = [summary for summary in mine if summary.sure] or mine
        if len(mine) > 1 and started.families[0] not in SUMMED:
            mine = [_one(mine, started, exit_code)]
        return said(mine)
    if sure:
        return said([*_as_echoed(sure, echoed, exit_code), *frames])
    if any(frame.nothing for frame in frames):
        return said(frames)
    return said([*_last_unsure(closed), *frames])


def _one(mine: list[Summary], started: Started, exit_code: int | None) -> Summary:
    """The own one of several: it fits the status and stands last.

    unittest writes to the unbuffered stream, so that a test's print may come after it: there the longest.
    """
    fitting = mine
    if exit_code:
        fitting = [summary for summary in mine if summary.red] or mine
    elif exit_code == 0 and started.status:
        fitting = [summary for summary in mine if not summary.red] or mine
    by_time = started.families[0] == "unittest"
    return max(fitting, key=lambda summary: (by_time * summary.seconds, summary.line))


def _as_echoed(sure: list[Summary], echoed: Sequence[Started], exit_code: int | None) -> list[Summary]:
    """Without the closing words that a test printed of the very runner that was started once.

    They stay when they cannot be a part of the run: one that is inside another takes no longer than it.
    """
    kept = list(sure)
    for family in dict.fromkeys(summary.family for summary in sure):
        starts = [begun for begun in echoed if family in begun.families]
        mine = [summary for summary in sure if summary.family == family]
        if family in SUMMED or len(starts) != 1 or len(mine) < 2:
            continue
        one = _one(mine, Started((family,)), exit_code)
        if one.seconds >= sum(summary.seconds for summary in mine if summary is not one):
            kept = [summary for summary in kept if summary is one or summary.family != family]
    return kept


def _last_unsure(closed: list[Summary]) -> list[Summary]:
    """The last words that are not sure; those of a known runner before a mere «no tests»."""
    said_more = [summary for summary in closed if summary.family != "plain" or summary.counts]
    closed = said_more or closed
    return [max(closed, key=lambda summary: summary.line)] if closed else []
