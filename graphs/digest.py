"""From the output of a test run to what matters of it: did it run, did it pass, how many, and why not.

Pure. `passed` follows the exit code; a run that found no test at all did not pass, it did not happen.
The digest holds at most 60 lines, failures first, so that a model reads causes and not logs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MAX_LINES = 60
_LINE = 400
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_NOT_RUN = {126: "the test command could not be run", 127: "the test command was not found"}

_COUNTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("passed", re.compile(r"(?<![\w.])(\d+) pass(?:ed|ing)\b")),
    ("failed", re.compile(r"(?<![\w.])(\d+) fail(?:ed|ing|ures?)\b")),
    ("errors", re.compile(r"(?<![\w.])(\d+) errors?\b")),
    ("skipped", re.compile(r"(?<![\w.])(\d+) (?:skipped|ignored|pending|todo)\b")),
)
_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
_UNITTEST_END = re.compile(r"^(?:OK|FAILED)(?: \(([^)]*)\))?\s*$", re.MULTILINE)
_GO_RESULT = re.compile(r"^\s*--- (PASS|FAIL|SKIP): ", re.MULTILINE)
_GO_PACKAGE = re.compile(r"^(ok|FAIL)\s+\S+\s", re.MULTILINE)
_TAP = re.compile(r"^# (pass|fail|skipped) (\d+)\s*$", re.MULTILINE)

_IMPORTANT = re.compile(
    r"^(?:E  |FAILED |ERROR |ERROR:|FAIL:|FAIL\b|--- FAIL|not ok |\s*✕|\s*✗|\s*×|\s*●|AssertionError|"
    r"\s*\w*(?:Error|Exception)\b.*:|panicked at|thread '.*' panicked|error(?:\[E\d+\])?:|make: \*\*\*|"
    r"Traceback|SyntaxError|ModuleNotFoundError|.*\bFAILED\b)"
)
_BLOCK = re.compile(r"^(?:={10,}|-{10,}|_{5,} .* _{5,}|---- .* ----|\s*●|FAIL:|ERROR:|--- FAIL)")


@dataclass(frozen=True, slots=True)
class Report:
    """`ran`: at least one test was executed. `passed`: it ran and all is green. `hung`: it was killed."""

    ran: bool
    passed: bool
    counts: dict[str, int]
    digest: str
    hung: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "ran": self.ran,
            "passed": self.passed,
            "counts": self.counts,
            "digest": self.digest,
            "hung": self.hung,
        }


def read(
    output: str, exit_code: int | None, *, timeout_s: float | None = None, reason: str | None = None
) -> Report:
    """The report of a run. `exit_code` None: it never ended; it was killed after `timeout_s` seconds."""
    text = _ANSI.sub("", output.replace("\r\n", "\n"))
    counts = count(text)
    if exit_code is None:
        words = (
            f"The tests did not end within {timeout_s:.0f} s and were stopped; their last lines:"
            if timeout_s is not None
            else f"The tests did not end: {reason or 'unknown'}"
        )
        return Report(
            timeout_s is not None,
            False,
            counts,
            _bounded([words, *text.splitlines()[-40:]]),
            timeout_s is not None,
        )
    if exit_code in _NOT_RUN:
        return Report(False, False, counts, _bounded([_NOT_RUN[exit_code] + ":", *text.splitlines()[-10:]]))
    nothing = (exit_code == 5 and re.search(r"no tests ran|NO TESTS RAN", text)) or _found_none(text, counts)
    if nothing:
        return Report(False, False, counts, _bounded(["No test was found.", *text.splitlines()[-10:]]))
    if exit_code == 0:
        return Report(True, True, counts, _bounded(text.splitlines()[-3:]))
    return Report(True, False, counts, _bounded([f"exit code {exit_code}", *_causes(text)]))


def count(text: str) -> dict[str, int]:
    """Numbers of tests by result, from the summary that the known runners print; {} when there is none."""
    if ran := _UNITTEST_RAN.findall(text):
        total = sum(int(number) for number in ran)
        bad: dict[str, int] = {}
        for detail in _UNITTEST_END.findall(text):
            for name, number in re.findall(r"(\w[\w ]*)=(\d+)", detail):
                key = {"failures": "failed", "errors": "errors", "skipped": "skipped"}.get(name.strip())
                if key:
                    bad[key] = bad.get(key, 0) + int(number)
        return {"passed": max(0, total - sum(bad.values())), **bad}
    if tap := _TAP.findall(text):
        names = {"pass": "passed", "fail": "failed", "skipped": "skipped"}
        return {names[word]: int(number) for word, number in tap}
    if results := _GO_RESULT.findall(text):
        names = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
        return {names[word]: results.count(word) for word in dict.fromkeys(results)}
    if re.search(r"^test result: ", text, re.MULTILINE):  # cargo: one line per crate
        text = "\n".join(line for line in text.splitlines() if line.startswith("test result: "))
        return {
            name: sum(map(int, pattern.findall(text))) for name, pattern in _COUNTS if pattern.search(text)
        }
    for line in reversed(text.splitlines()[-40:]):
        if re.search(r"\b\d+ (?:passed|failed|passing|failing|errors?)\b", line):
            near = "\n".join(text.splitlines()[-40:]) if "passing" in line or "failing" in line else line
            return {name: int(match.group(1)) for name, pattern in _COUNTS if (match := pattern.search(near))}
    return {}


def _found_none(text: str, counts: dict[str, int]) -> bool:
    if re.search(r"^Ran 0 tests in ", text, re.MULTILINE):
        return True
    packages = _GO_PACKAGE.findall(text)
    if not packages and re.search(r"\[no test files\]", text) and not re.search(r"^FAIL", text, re.MULTILINE):
        return True
    return bool(counts) and not any(counts.values()) and "test result" in text


def _causes(text: str) -> list[str]:
    """The lines that say what failed: whole failure blocks while they fit, then single telling lines."""
    lines = text.splitlines()
    if len(lines) <= MAX_LINES - 2:
        return lines
    keep: set[int] = set(range(len(lines) - 8, len(lines)))
    for index, line in enumerate(lines):
        if len(keep) >= MAX_LINES - 4:
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
    return _bad(after) > _bad(before) if after["counts"] and before["counts"] else False


def _bad(report: dict[str, Any]) -> int:
    return report["counts"].get("failed", 0) + report["counts"].get("errors", 0)
