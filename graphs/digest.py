"""From the output of a test run to what matters of it: did it run, did it pass, how many, and why not.

Pure. The verdict is made from the runner's own last summary and its exit status together, and where there are
machine-readable reports, from those before any words:

- *passed*: status 0, nothing failed, and at least one test passed. A runner that is not known and says
  nothing of tests has its status alone.
- *failed*: tests failed, whatever the status says (a pipe hides it), or the status is not 0.
- *not run*: nothing could be started (126, 127, a missing module or script), or no test was executed: none
  found, all deselected, all skipped. A status other than 0 is "not run" only where it means just that, as
  pytest's 5 does.

Which words are the runner's own, and not printed by a test, is told in `graphs/runners/own.py`. The digest
holds at most 60 lines, failures first, so that a model reads causes and not logs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs import reports as reported
from graphs import runners
from graphs import verdict as verdicts
from graphs.reports import documents
from graphs.reports.tally import Tally
from graphs.runners import cases as named
from graphs.runners import command as commands
from graphs.runners import own, text
from graphs.runners.command import Started, started
from graphs.runners.summary import NO_TEST, Summary, total

MAX_LINES = 60
_LINE = 400

_IMPORTANT = re.compile(
    r"^(?:E  |FAILED |ERROR |ERROR:|FAIL:|FAIL\b|--- FAIL|not ok |\s*✕|\s*✗|\s*✖|\s*×|\s*●|AssertionError|"
    r"\s*\w*(?:Error|Exception)\b.*:|panicked at|thread '.*' panicked|error(?:\[E\d+\])?:|make: \*\*\*|"
    r"Traceback|SyntaxError|ModuleNotFoundError|.*\bFAILED\b)"
)
_BLOCK = re.compile(r"^(?:={10,}|-{10,}|_{5,} .* _{5,}|---- .* ----|\s*●|FAIL:|ERROR:|--- FAIL)")
_JSON_EVENT = re.compile(r'^\{ ?"(?:Time|Action|ImportPath|type)": ?"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Report:
    """`ran`: at least one test was executed, or tried to. `passed`: it ran and all is green. `hung`: killed.

    `counts` holds passed, failed, errors and skipped, each only when it is known and not 0. `reason`: why
    nothing ran, or why it failed when the status does not say so; None otherwise. `missing` names the
    program, module or script whose absence kept the tests from running. `cases`: test id to passed, failed,
    error or skipped, as far as reports or a verbose output name them.
    """

    ran: bool
    passed: bool
    counts: dict[str, int]
    digest: str
    hung: bool = False
    reason: str | None = None
    missing: str | None = None
    cases: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON, without its cases."""
        return {
            "ran": self.ran,
            "passed": self.passed,
            "counts": self.counts,
            "digest": self.digest,
            "hung": self.hung,
            "reason": self.reason,
            "missing": self.missing,
        }


def read(
    output: str,
    exit_code: int | None,
    *,
    command: str = "",
    reports: Sequence[bytes] = (),
    timeout_s: float | None = None,
    reason: str | None = None,
) -> Report:
    """The report of a run. `exit_code` None: it never ended; it was killed after `timeout_s` seconds.

    `command` is what was run, as the person would type it. `reports` are the bytes of the report files that
    this run wrote (JUnit XML, TRX, JSON, `go test -json`, TAP); those that cannot be read are left out.
    """
    seen = text.plain(output)
    lines = text.lines(seen)
    tallies = _tallies(seen, reports)
    begun = started(command)
    own_words = own.choose(runners.summaries(lines), begun, exit_code, commands.echoed(lines))
    said = _with_reports(own_words, tallies, begun)
    cases = _cases(lines, tallies)
    if exit_code is None:
        return _unended(lines, said, cases, timeout_s, reason)
    verdict = verdicts.judge(said, exit_code, lines, command)
    return Report(
        verdict.ran,
        verdict.passed,
        said.counts,
        _digest(lines, exit_code, verdict),
        reason=verdict.reason,
        missing=verdict.missing,
        cases=cases,
    )


def _tallies(seen: str, reports: Sequence[bytes]) -> list[Tally]:
    """The reports that can be read; an output that is itself one (`go test -json`) is among them."""
    found = [tally for data in reports if (tally := reported.read(data))]
    if found:
        return found
    if _JSON_EVENT.search(seen):
        events = documents.of_lines(seen.split("\n"))
        return [events] if events else []
    said = seen.strip()
    if said[-1:] not in ("}", ">"):
        return []
    begun = re.search(r"^(?:\{|<\?xml |<testsuites?[ >])", said, re.MULTILINE)
    whole = reported.read(said[begun.start() :].encode("utf-8", "replace")) if begun else None
    return [whole] if whole else []


def _with_reports(said: own.Said, tallies: list[Tally], begun: Started) -> own.Said:
    """Reports count more than the words of the run that they are about.

    Of a command that may start several runners, the words of another one than the report's stay.
    """
    if not tallies:
        return said
    counts = total(tally.counts for tally in tallies)
    if not counts:
        empty = Summary("report", 0, nothing=NO_TEST)
        mine = [part for part in said.parts if not begun.families or part.family in begun.families]
        if any(part.counts for part in mine):
            return said
        return own.said([empty, *(part for part in said.parts if part.red or part.frame)])
    others: list[Summary] = []
    if not begun.families:
        covered = _covered(said, counts)
        others = [part for part in said.parts if part.frame or (part.sure and part.family not in covered)]
    return own.said([Summary("report", 0, counts), *others])


def _covered(said: own.Said, counts: dict[str, int]) -> set[str]:
    """The families whose run the report is about: the only one, or those with as many tests."""
    sums: dict[str, int] = {}
    for part in said.parts:
        if not part.frame:
            sums[part.family] = sums.get(part.family, 0) + sum(part.counts.values())
    if len(sums) <= 1:
        return set(sums)
    tests = sum(counts.values())
    alike = {family for family, number in sums.items() if number == tests or not number}
    return alike or {max(sums, key=lambda family: sums[family])}


def _cases(lines: list[str], tallies: list[Tally]) -> dict[str, str]:
    if not tallies:
        return named.cases(lines)
    found: dict[str, str] = {}
    for tally in tallies:
        for name, result in tally.cases.items():
            named.add(found, name, result)
    return found


def _unended(
    lines: list[str], said: own.Said, cases: dict[str, str], timeout_s: float | None, reason: str | None
) -> Report:
    words = (
        f"The tests did not end within {timeout_s:.0f} s and were stopped; their last lines:"
        if timeout_s is not None
        else f"The tests did not end: {reason or 'unknown'}"
    )
    hung = timeout_s is not None
    why = f"the tests did not end within {timeout_s:.0f} s" if timeout_s is not None else reason
    return Report(hung, False, said.counts, _bounded([words, *lines[-40:]]), hung, why, cases=cases)


def _digest(lines: list[str], exit_code: int, verdict: verdicts.Verdict) -> str:
    if verdict.passed:
        return _bounded(text.last(lines, 3))
    why = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}." if verdict.reason else ""
    if not verdict.ran:
        return _bounded([why, *text.last(lines, 10)])
    return _bounded([f"exit code {exit_code}", *([why] if why else []), *_causes(lines)])


def _causes(lines: list[str]) -> list[str]:
    """The lines that say what failed: whole failure blocks while they fit, then single telling lines."""
    if len(lines) <= MAX_LINES - 3:
        return lines
    keep: set[int] = set(range(len(lines) - 8, len(lines)))
    for index, line in enumerate(lines):
        if len(keep) >= MAX_LINES - 5:
            break
        if _IMPORTANT.match(line) or _BLOCK.match(line):
            keep.update(range(max(0, index - 1), min(len(lines), index + 3)))
    out, last = [], -1
    for index in sorted(keep):
        if last >= 0 and index > last + 1:
            out.append("…")
        out.append(lines[index])
        last = index
    return out


def _bounded(lines: list[str]) -> str:
    """At most MAX_LINES lines, the end always kept: runners put their summary there."""
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 13], "…", *lines[-12:]]
    return "\n".join(line[:_LINE] for line in lines).strip()


def worse(after: dict[str, Any] | None, before: dict[str, Any] | None) -> bool:
    """Whether a revision lost ground: green to not green, ran to not run, or more failures than before."""
    if not before or not after:
        return False
    if before["passed"] != after["passed"]:
        return bool(before["passed"])
    if before["passed"] or before["ran"] != after["ran"]:
        return bool(before["ran"] and not after["ran"])
    if after.get("hung") and not before.get("hung"):
        return True
    return _failures(after) > _failures(before) if after["counts"] and before["counts"] else False


def _failures(report: dict[str, Any]) -> int:
    return report["counts"].get("failed", 0) + report["counts"].get("errors", 0)
