"""pytest, unittest and its kin, tox, nox: how each closes a run.

A bare `2 passed in 0.01s` may be a test's own print. It counts as pytest's when something that only a run of
pytest writes stands before it since the last such line; unittest's `Ran 2 tests` needs its rule of dashes.
What pytest shows as a test's captured output is not its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphs.runners.summary import ALL_DESELECTED, NO_TEST, NO_TEST_RUN, Summary, tally
from graphs.runners.text import before

_END = re.compile(
    r"^(?:=+ )?([\w/(),. ]{1,200}?) in (\d+(?:\.\d+)?)(?:s| seconds)(?: \([\d:, days]+\))?(?: =+)?$"
)
_ITEM = re.compile(
    r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed|warnings?|reruns?|rerun|"
    r"subtests? (?:passed|failed|skipped)|subtests?|snapshots? \w+)"
)
_NONE = re.compile(r"no tests (?:ran|collected)(?: \((\d+) deselected\))?(?:, .*)?")
_COLLECTED = re.compile(r"\d+(?:/\d+)? tests? collected(?: \(\d+ deselected\))?(?:, (\d+) errors?)?")
_BEGUN = re.compile(
    r"^=+ test session starts =+$|^collected \d+ items?|^collecting \.\.\. |.*\[ *\d+%\]$|"
    r"^[.FEsxXRp]+$|^gw\d+ \["
)
_SECTION = re.compile(
    r"^=+ (?:FAILURES|ERRORS|PASSES|XFAILURES|warnings summary.*|short test summary info) =+$"
)
CAPTURED = 2000  # lines of a test's output that may hold other runs
_CAPTURED = re.compile(r"^-+ Captured .* -+$")
_OUT_OF_CAPTURED = re.compile(r"^_{3,} .+ _{3,}$")
_BROKEN = re.compile(
    r"^(?:ImportError while loading conftest |INTERNALERROR> |ERROR: usage: |"
    r"ERROR: (?:file or directory not found|not found): )"
)
_SUGAR = re.compile(r"^Results \((\d+(?:\.\d+)?)s.*\):$")
_SUGAR_ITEM = re.compile(r"^ +(\d+) (passed|failed|errors?|error|skipped|xfailed|xpassed|deselected)\b")
_PYTEST = {
    "passed": "passed",
    "xpassed": "passed",
    "failed": "failed",
    "error": "errors",
    "errors": "errors",
    "skipped": "skipped",
    "xfailed": "skipped",
}

_RAN = re.compile(r"^(.*)Ran (\d+) tests? in (\d+(?:\.\d+)?)s$")
_RULE = re.compile(r"^.*-{60,}$")
_VERDICT = re.compile(r"^(OK|FAILED|PASSED|NO TESTS RAN)(?: \(([^)]*)\))?$")
_DETAIL = re.compile(r"([a-z][a-zA-Z ]*)=(\d+)")
_UNITTEST = {
    "failures": "failed",
    "unexpected successes": "failed",
    "unexpectedSuccesses": "failed",
    "errors": "errors",
    "skipped": "skipped",
    "skips": "skipped",
    "expected failures": "skipped",
    "expectedFailures": "skipped",
}

_TOX_ENV = re.compile(r"^ {2}(\S+): (OK|FAIL|SKIP)\b")
_TOX_END = re.compile(r"^ {2}(congratulations :\)|evaluation failed :\()")
_TOX3 = re.compile(r"^(?:ERROR: |SKIPPED:)? {2}\S+: (commands succeeded|commands failed|skipped|ignored)")
_NOX = re.compile(r"^nox > Session (\S+) (was successful|failed|aborted|skipped)\b")


def pytest(said: list[str]) -> Iterator[Summary]:
    """pytest's summaries."""
    begun = captured = framed = broken = False
    for index, line in enumerate(said):
        if _BEGUN.match(line):
            begun, captured = True, False
            framed = framed or "test session starts" in line
        elif _SECTION.match(line) or _OUT_OF_CAPTURED.match(line):
            begun, captured = True, False
        elif _CAPTURED.match(line):
            captured = True
        elif _RAN.match(line):
            begun = False  # the dots were unittest's
        elif found := _pytest_end(line, index):
            counts, nothing = found
            inner = captured and _another_end(said, index)
            inner = inner or (framed and line.startswith("=") and _closed_later(said, index))
            sure = begun and not inner and (line.startswith("=") or not framed)
            ok = False if broken and nothing else None
            yield Summary("pytest", index, counts, ok, nothing, sure, seconds=_seconds(line))
            if sure:
                begun = framed = broken = False
        elif _BROKEN.match(line) and not captured:
            broken = True
            yield Summary("pytest", index, ok=False)
        elif match := _SUGAR.match(line):
            counts = _sugar(said[index + 1 : index + 8])
            yield Summary("pytest", index, counts, seconds=float(match.group(1)), sure=begun)


def _pytest_end(line: str, index: int) -> tuple[dict[str, int], str | None] | None:
    match = _END.match(line)
    if match is None:
        return None
    said = match.group(1)
    if none := _NONE.fullmatch(said):
        return {}, ALL_DESELECTED if none.group(1) else NO_TEST
    if only := _COLLECTED.fullmatch(said):
        return tally(errors=only.group(1)), "tests were collected, and none was run"
    items = [_ITEM.fullmatch(item) for item in said.split(", ")]
    if not all(items):
        return None
    numbers: dict[str, int] = {}
    words = set()
    for item in items:
        assert item is not None
        words.add(item.group(2))
        if kind := _PYTEST.get(item.group(2)):
            numbers[kind] = numbers.get(kind, 0) + int(item.group(1))
    if numbers:
        return tally(**numbers), None
    return {}, ALL_DESELECTED if "deselected" in words else NO_TEST_RUN


def _another_end(said: list[str], index: int) -> bool:
    """Whether the run whose captured output this is closes later, before another one begins."""
    for at in range(index + 1, min(len(said), index + CAPTURED)):
        if _pytest_end(said[at], at):
            return True
        if _BEGUN.match(said[at]):
            return False
    return False


def _closed_later(said: list[str], index: int) -> bool:
    """Whether the session that this line stands in closes later, in its own frame, and lasted as long."""
    for line in said[index + 1 : index + CAPTURED]:
        if "test session starts" in line:
            return False
        if line.startswith("=") and _pytest_end(line, index):
            return _seconds(line) >= _seconds(said[index])
    return False


def _seconds(line: str) -> float:
    match = _END.match(line)
    return float(match.group(2)) if match else 0.0


def _sugar(following: list[str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for line in following:
        if (match := _SUGAR_ITEM.match(line)) and (kind := _PYTEST.get(match.group(2))):
            numbers[kind] = numbers.get(kind, 0) + int(match.group(1))
    return tally(**numbers)


def unittest(said: list[str]) -> Iterator[Summary]:
    """unittest's summaries."""
    for index, line in enumerate(said):
        match = _RAN.match(line)
        if match is None or (match.group(1) and not match.group(1).endswith("-" * 60)):
            continue
        ruled = bool(match.group(1)) or any(_RULE.match(one) for one in before(said, index, 1))
        verdict = next(filter(None, map(_VERDICT.match, said[index + 1 : index + 8])), None)
        numbers: dict[str, int] = {}
        for name, number in _DETAIL.findall(verdict.group(2) or "") if verdict else ():
            if kind := _UNITTEST.get(name.strip()):
                numbers[kind] = numbers.get(kind, 0) + int(number)
        ran = int(match.group(2))
        numbers["passed"] = max(0, ran - sum(numbers.values()))
        counts = tally(**numbers)
        ok = verdict.group(1) in ("OK", "PASSED") if verdict else None
        if verdict and verdict.group(1) == "NO TESTS RAN":
            ok = None
        nothing = None if counts else NO_TEST
        yield Summary("unittest", index, counts, ok, nothing, ruled, seconds=float(match.group(3)))


def tox(said: list[str]) -> Iterator[Summary]:
    """tox' summaries."""
    states: list[str] = []
    for index, line in enumerate(said):
        if match := _TOX_ENV.match(line) or _TOX3.match(line):
            states.append(match.group(match.lastindex or 1))
        elif match := _TOX_END.match(line):
            skipped = bool(states) and all(state in ("SKIP", "skipped", "ignored") for state in states)
            failed = match.group(1).startswith("evaluation")
            nothing = "every environment was skipped" if skipped else None
            yield Summary("tox", index, {}, None if skipped else not failed, nothing, frame=True)
            states = []


def nox(said: list[str]) -> Iterator[Summary]:
    """nox' summaries."""
    states: dict[str, str] = {}
    last = 0
    for index, line in enumerate(said):
        if match := _NOX.match(line):
            states[match.group(1)] = match.group(2)
            last = index
    if states:
        skipped = all(state == "skipped" for state in states.values())
        failed = any(state in ("failed", "aborted") for state in states.values())
        nothing = "every session was skipped" if skipped else None
        yield Summary("nox", last, {}, None if skipped else not failed, nothing, frame=True)
