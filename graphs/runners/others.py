"""Runners met inside other people's `make test`: GoogleTest, Catch2, doctest, Karma, Dart, testthat."""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphs.runners.summary import NO_TEST, Summary, tally
from graphs.runners.text import after

_GTEST = re.compile(r"^\[=+\] (\d+) tests? from \d+ test (?:suites?|cases?|programs?) ran\.")
_GTEST_MORE = re.compile(r"^\[  (PASSED |SKIPPED|FAILED ) \] (\d+) tests?")
_CATCH_OK = re.compile(r"^All tests passed \(\d+ assertions? in (\d+) test cases?\)$")
_CATCH = re.compile(r"^(?:\[doctest\] )?test cases: +(\d+)((?: +\| +\d+ [a-z ]+)+)$")
_CATCH_NONE = re.compile(r"^No tests ran$|^No test cases matched ")
_CATCH_KINDS = {
    "passed": "passed",
    "failed": "failed",
    "skipped": "skipped",
    "failed as expected": "skipped",
}
_KARMA = re.compile(
    r"^.*: Executed (\d+) of \d+(?: \((\d+) FAILED\))?(?: \(skipped (\d+)\))?"
    r"(?: SUCCESS| ERROR| DISCONNECTED)? ?\([\d.]+ \w+ / [\d.]+ \w+\)$"
)
_DART = re.compile(
    r"^\d\d:\d\d \+(\d+)(?: ~(\d+))?(?: -(\d+))?: "
    r"(?:All tests passed!|Some tests failed\.|All tests skipped\.|No tests ran\.)$"
)
_TESTTHAT = re.compile(r"^\[ FAIL (\d+) \| WARN \d+ \| SKIP (\d+) \| PASS (\d+) \]$")


def googletest(said: list[str]) -> Iterator[Summary]:
    """GoogleTest's summaries."""
    for index, line in enumerate(said):
        if _GTEST.match(line):
            numbers: dict[str, int] = {}
            for more in after(said, index, 40):
                if match := _GTEST_MORE.match(more):
                    numbers.setdefault(match.group(1).strip().lower(), int(match.group(2)))
                if _GTEST.match(more):
                    break
            counts = tally(**numbers)
            yield Summary("googletest", index, counts, nothing=None if counts else NO_TEST)


def catch(said: list[str]) -> Iterator[Summary]:
    """Catch2 and doctest, whose numbers of test cases count and not those of assertions."""
    for index, line in enumerate(said):
        if match := _CATCH_OK.match(line):
            yield Summary("catch", index, tally(passed=match.group(1)))
        elif match := _CATCH.match(line):
            found = re.findall(r"\| +(\d+) ([a-z ]+?)(?= *(?:\||$))", match.group(2))
            numbers: dict[str, int] = {}
            for number, word in found:
                if kind := _CATCH_KINDS.get(word):
                    numbers[kind] = numbers.get(kind, 0) + int(number)
            if line.startswith("[doctest]") and not int(match.group(1)):
                numbers = {}
            counts = tally(**numbers)
            yield Summary("catch", index, counts, nothing=None if counts else NO_TEST)
        elif _CATCH_NONE.match(line):
            yield Summary("catch", index, nothing=NO_TEST)


def karma(said: list[str]) -> Iterator[Summary]:
    """karma's summaries."""
    last: Summary | None = None
    for index, line in enumerate(said):
        if match := _KARMA.match(line):
            ran, failed, skipped = (int(number or 0) for number in match.groups())
            counts = tally(passed=ran - failed, failed=failed, skipped=skipped)
            last = Summary("karma", index, counts, nothing=None if counts else NO_TEST)
    if last:
        yield last


def dart(said: list[str]) -> Iterator[Summary]:
    """Dart's summaries."""
    for index, line in enumerate(said):
        if match := _DART.match(line):
            counts = tally(passed=match.group(1), skipped=match.group(2), failed=match.group(3))
            yield Summary("dart", index, counts, nothing=None if counts else NO_TEST)


def testthat(said: list[str]) -> Iterator[Summary]:
    """testthat's summaries."""
    last: Summary | None = None
    for index, line in enumerate(said):
        if match := _TESTTHAT.match(line):
            counts = tally(failed=match.group(1), skipped=match.group(2), passed=match.group(3))
            last = Summary("testthat", index, counts, nothing=None if counts else NO_TEST)
    if last:
        yield last
