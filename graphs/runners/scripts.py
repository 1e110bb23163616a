"""RSpec, minitest, test-unit, PHPUnit, Pest, mix test, bats: how each closes a run.

Their closing lines are short enough for a test to print; the line that the runner writes above its own
(`Finished in`, `Time:`) is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphs.runners.summary import ALL_DESELECTED, NO_TEST, Summary, tally
from graphs.runners.text import before

_RSPEC = re.compile(
    r"^(\d+) examples?, (\d+) failures?(?:, (\d+) pending)?(?:, (\d+) errors? occurred outside of examples)?$"
)
_MINITEST = re.compile(
    r"^(\d+) (?:runs|tests), \d+ assertions, (\d+) failures, (\d+) errors(?:, (\d+) skips)?"
    r"(?:, (\d+) pendings, (\d+) omissions, \d+ notifications)?$"
)
_PHPUNIT_OK = re.compile(r"^OK \((\d+) tests?, \d+ assertions?\)$")
_PHPUNIT = re.compile(r"^Tests: (\d+), Assertions: \d+(.*?)\.?$")
_PHPUNIT_NONE = re.compile(r"^No tests executed!$")
_PEST = re.compile(r"^ *Tests: +((?:\d+ [a-z]+(?:, )?)+) \(\d+ assertions?\)$")
_EXUNIT = re.compile(
    r"^(?:(\d+) doctests?, )?(?:(\d+) propert(?:y|ies), )?(\d+) tests?, (\d+) failures?((?:, \d+ [a-z]+)*)$"
)
_EXUNIT_NONE = re.compile(r"^There are no tests to run$")
_MIX_BROKEN = re.compile(r"^== Compilation error in file .* ==$|^\*\* \(Mix\) ")
_BATS_MARK = re.compile(r"^ [✓✗-] ")
FURTHEST = 2000  # lines between `Finished in` and the numbers, where failures are told
_CLOSED = re.compile(r"^(?:Finished (?:in|tests in) |Time: )")


def _closed(said: list[str], index: int, number: int = 3) -> bool:
    return any(_CLOSED.match(line) for line in before(said, index, number))


def rspec(said: list[str]) -> Iterator[Summary]:
    """RSpec's summaries."""
    for index, line in enumerate(said):
        if match := _RSPEC.match(line):
            examples, failed, pending, errors = (int(number or 0) for number in match.groups())
            counts = tally(passed=examples - failed - pending, failed=failed, errors=errors, skipped=pending)
            near = before(said, index, 4)
            filtered = any(one.startswith("All examples were filtered out") for one in near)
            none = ALL_DESELECTED if filtered else NO_TEST
            yield Summary("rspec", index, counts, nothing=None if counts else none, sure=_closed(said, index))


def minitest(said: list[str]) -> Iterator[Summary]:
    """minitest's summaries."""
    for index, line in enumerate(said):
        if match := _MINITEST.match(line):
            runs, failed, errors, skips, pendings, omissions = (int(number or 0) for number in match.groups())
            skipped = skips + pendings + omissions
            counts = tally(
                passed=runs - failed - errors - skipped, failed=failed, errors=errors, skipped=skipped
            )
            sure = any(_CLOSED.match(one) for one in _back(said, index))
            yield Summary("minitest", index, counts, nothing=None if counts else NO_TEST, sure=sure)


def _back(said: list[str], index: int) -> Iterator[str]:
    """The lines above, up to where this runner or another one began or closed; its failures stand between."""
    for line in reversed(said[max(0, index - FURTHEST) : index]):
        if line.startswith(("# Running", "Started")) or _MINITEST.match(line):
            return
        yield line


def phpunit(said: list[str]) -> Iterator[Summary]:
    """PHPUnit's summaries."""
    for index, line in enumerate(said):
        if match := _PHPUNIT_OK.match(line):
            counts = tally(passed=match.group(1))
            none = None if counts else NO_TEST
            yield Summary("phpunit", index, counts, None if none else True, none, sure=_closed(said, index))
        elif match := _PHPUNIT.match(line):
            numbers = dict(re.findall(r", ([A-Z][\w ]*?): (\d+)", match.group(2)))
            errors, failed = int(numbers.get("Errors", 0)), int(numbers.get("Failures", 0))
            skipped = int(numbers.get("Skipped", 0)) + int(numbers.get("Incomplete", 0))
            tests = int(match.group(1))
            counts = tally(
                passed=tests - errors - failed - skipped, failed=failed, errors=errors, skipped=skipped
            )
            verdict = before(said, index, 1)
            sure = bool(verdict) and verdict[0].startswith(("FAILURES!", "ERRORS!", "OK, but", "WARNINGS!"))
            ok = False if sure and verdict[0].startswith(("FAIL", "ERR")) else None
            yield Summary("phpunit", index, counts, ok, None if counts else NO_TEST, sure)
        elif _PHPUNIT_NONE.match(line):
            yield Summary("phpunit", index, nothing=NO_TEST)
        elif match := _PEST.match(line):
            numbers = dict((word, number) for number, word in re.findall(r"(\d+) ([a-z]+)", match.group(1)))
            skipped = sum(int(numbers.get(word, 0)) for word in ("skipped", "todos", "todo", "incomplete"))
            passed = sum(int(numbers.get(word, 0)) for word in ("passed", "risky", "warnings", "deprecated"))
            counts = tally(passed=passed, failed=numbers.get("failed"), skipped=skipped)
            yield Summary("phpunit", index, counts, nothing=None if counts else NO_TEST)


def mix(said: list[str]) -> Iterator[Summary]:
    """The summaries of `mix test`."""
    for index, line in enumerate(said):
        if match := _EXUNIT.match(line):
            near = before(said, index, 3)
            if near and _BATS_MARK.match(near[0]):
                continue
            doctests, properties, tests, failed = (int(number or 0) for number in match.groups()[:4])
            rest = dict((word, int(number)) for number, word in re.findall(r"(\d+) ([a-z]+)", match.group(5)))
            skipped, invalid = rest.get("skipped", 0) + rest.get("excluded", 0), rest.get("invalid", 0)
            ran = doctests + properties + tests
            counts = tally(
                passed=ran - failed - skipped - invalid, failed=failed, errors=invalid, skipped=skipped
            )
            sure = _closed(said, index)
            yield Summary("mix", index, counts, nothing=None if counts else NO_TEST, sure=sure)
        elif _EXUNIT_NONE.match(line):
            yield Summary("mix", index, nothing=NO_TEST)
        elif _MIX_BROKEN.match(line):
            yield Summary("mix", index, ok=False)


def bats(said: list[str]) -> Iterator[Summary]:
    """The pretty formatter's end; the other one speaks TAP."""
    marked = False
    for index, line in enumerate(said):
        marked = marked or bool(_BATS_MARK.match(line))
        if marked and (match := re.match(r"^(\d+) tests?, (\d+) failures?(?:, (\d+) skipped)?(.*)$", line)):
            if _closed(said, index):
                continue
            tests, failed, skipped = (int(number or 0) for number in match.groups()[:3])
            counts = tally(passed=tests - failed - skipped, failed=failed, skipped=skipped)
            yield Summary("bats", index, counts, nothing=None if counts else NO_TEST)
            marked = False
