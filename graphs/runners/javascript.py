"""mocha, jest, vitest, ava, jasmine, Playwright, bun, deno: how each closes a run.

node --test and tap close in TAP's words: tap.py. What a test prints stands indented (jest), or lacks the
lines around the closing ones, which are asked for here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphs.runners.summary import ALL_DESELECTED, NO_TEST, Summary, tally
from graphs.runners.text import after, before

_WORDS = {
    "passed": "passed", "pass": "passed", "passing": "passed", "flaky": "passed",
    "failed": "failed", "fail": "failed", "failing": "failed", "timed out": "failed", "interrupted": "failed",
    "skipped": "skipped", "skip": "skipped", "todo": "skipped", "pending": "skipped", "ignored": "skipped",
    "did not run": "skipped", "did": "skipped", "error": "errors", "errors": "errors",
}  # fmt: skip

_MOCHA = re.compile(r"^ {2}(?:✔ )?(\d+) passing(?: \((\d+)(ms|s|m|h)\))?$")
_MOCHA_MORE = re.compile(r"^ {2}(?:✖ )?(\d+) (pending|failing)$")
_JEST = re.compile(r"^Tests: +((?:\d+ [a-z]+, )*)(\d+) total$")
_JEST_SUITES = re.compile(r"^Test Suites: +(.*?)\d+ (?:of \d+ )?total$")
_JEST_NONE = re.compile(r"^No tests found(?:, exiting with code ([01])| related to files changed since .*)$")
_VITEST_FILES = re.compile(r"^ *Test Files {2}(.*?)(?: \(\d+\))?$")
_VITEST = re.compile(r"^ *Tests {2}(.*?)(?: \(\d+\))?$")
_VITEST_ERRORS = re.compile(r"^ *(?:Type )?Errors {2}(\d+) ")
_VITEST_SUITES = re.compile(r"^⎯+ Failed Suites (\d+) ⎯+$")
_VITEST_NONE = re.compile(r"^No test files found, exiting with code ([01])$")
_AVA = re.compile(
    r"^ {2}(\d+) (?:tests? (passed|failed|skipped|todo)|(known|uncaught|unhandled|)"
    r" ?(?:failures?|exceptions?|rejections?))$"
)
_AVA_RULE = re.compile(r"^ {2}─+$")
_AVA_NONE = re.compile(r"^ {2}[✘✖×] Couldn[’']t find any (?:matching tests|files to test)")
_JASMINE = re.compile(r"^(\d+) specs?, (\d+) failures?(?:, (\d+) pending specs?)?(?:, (\d+) errors?.*)?$")
_JASMINE_NONE = re.compile(r"^Incomplete: No specs found")
_PLAYWRIGHT = re.compile(r"^ {2}(\d+) (passed|failed|flaky|skipped|interrupted|did not run)(?: \((.*)\))?$")
_PLAYWRIGHT_BEGUN = re.compile(r"^Running \d+ tests? using \d+ workers?")
_BUN_RAN = re.compile(r"^Ran (\d+) tests? across \d+ files?\.")
_BUN = re.compile(r"^ *(\d+) (pass|fail|skip|todo|errors?)$")
_DENO = re.compile(r"^(ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(.*)$")


def _items(text: str, separator: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, word in re.findall(r"(\d+) ([a-z]+(?: [a-z]+)?)", text.replace(separator, "\n")):
        kind = _WORDS.get(word) or _WORDS.get(word.split(" ")[0])
        if kind:
            numbers[kind] = numbers.get(kind, 0) + int(number)
    return numbers


def mocha(said: list[str]) -> Iterator[Summary]:
    """mocha's summaries."""
    for index, line in enumerate(said):
        if match := _MOCHA.match(line):
            numbers = {"passing": match.group(1)}
            for more in said[index + 1 : index + 3]:
                if found := _MOCHA_MORE.match(more):
                    numbers[found.group(2)] = found.group(1)
            counts = tally(
                passed=numbers["passing"], failed=numbers.get("failing"), skipped=numbers.get("pending")
            )
            nothing = None if counts else NO_TEST
            yield Summary("mocha", index, counts, nothing=nothing, sure=match.group(2) is not None)
        elif line.startswith("Error: No test files found"):
            yield Summary("mocha", index, nothing=NO_TEST)


def jest(said: list[str]) -> Iterator[Summary]:
    """jest's summaries."""
    broken = 0
    for index, line in enumerate(said):
        broken += line.strip() == "● Test suite failed to run"
        if match := _JEST.match(line):
            suites = next(filter(None, map(_JEST_SUITES.match, before(said, index, 2))), None)
            numbers = _items(match.group(1), ", ")
            fallen = _items(suites.group(1), ", ").get("failed", 0) if suites else 0
            if fallen:
                numbers["errors"] = min(broken, fallen) if numbers.get("failed") else fallen
            counts = tally(**numbers)
            yield Summary("jest", index, counts, nothing=None if counts else NO_TEST, sure=suites is not None)
            broken = 0
        elif _JEST_NONE.match(line):
            yield Summary("jest", index, nothing=NO_TEST)


def vitest(said: list[str]) -> Iterator[Summary]:
    """vitest's summaries."""
    broken = 0
    for index, line in enumerate(said):
        if suites := _VITEST_SUITES.match(line):
            broken = int(suites.group(1))
        elif _VITEST_NONE.match(line):
            yield Summary("vitest", index, nothing=NO_TEST)
        elif match := _VITEST.match(line):
            files = next(filter(None, map(_VITEST_FILES.match, before(said, index, 1))), None)
            if files is None:
                continue
            numbers = _items(match.group(1), " | ")
            fallen = _items(files.group(1), " | ").get("failed", 0)
            if fallen:
                numbers["errors"] = min(broken, fallen) if numbers.get("failed") else fallen
            for more in after(said, index, 2):
                if errors := _VITEST_ERRORS.match(more):
                    numbers["errors"] = numbers.get("errors", 0) + int(errors.group(1))
            counts = tally(**numbers)
            yield Summary("vitest", index, counts, nothing=None if counts else NO_TEST)
            broken = 0


def ava(said: list[str]) -> Iterator[Summary]:
    """ava's summaries."""
    kinds = {
        "passed": "passed",
        "failed": "failed",
        "skipped": "skipped",
        "todo": "skipped",
        "known": "skipped",
    }
    index = 0
    while index < len(said):
        numbers: dict[str, int] = {}
        ruled = any(_AVA_RULE.match(line) for line in before(said, index, 1))
        first = index
        while index < len(said) and (match := _AVA.match(said[index])):
            kind = kinds.get(match.group(2) or match.group(3) or "", "errors")
            numbers[kind] = numbers.get(kind, 0) + int(match.group(1))
            index += 1
        if numbers:
            yield Summary("ava", first, tally(**numbers), sure=ruled)
        else:
            if _AVA_NONE.match(said[index]):
                yield Summary("ava", index, nothing=NO_TEST)
            index += 1


def jasmine(said: list[str]) -> Iterator[Summary]:
    """jasmine's summaries."""
    for index, line in enumerate(said):
        if match := _JASMINE.match(line):
            specs, failed, pending, errors = (int(number or 0) for number in match.groups())
            counts = tally(passed=specs - failed - pending, failed=failed, skipped=pending, errors=errors)
            sure = any(one.startswith("Finished in ") for one in after(said, index, 1))
            yield Summary("jasmine", index, counts, nothing=None if counts else NO_TEST, sure=sure)
        elif _JASMINE_NONE.match(line):
            yield Summary("jasmine", index, nothing=NO_TEST)
        elif line.startswith("Incomplete: "):
            yield Summary("jasmine", index, ok=False)


def playwright(said: list[str]) -> Iterator[Summary]:
    """Playwright's summaries."""
    begun, numbers, last = False, dict[str, int](), 0
    for index, line in enumerate(said):
        if _PLAYWRIGHT_BEGUN.match(line):
            if numbers:
                yield Summary("playwright", last, tally(**numbers))
            begun, numbers = True, {}
        elif begun and (match := _PLAYWRIGHT.match(line)):
            kind = _WORDS[match.group(2)]
            numbers[kind] = numbers.get(kind, 0) + int(match.group(1))
            last = index
        elif line.strip() == "Error: No tests found":
            yield Summary("playwright", index, nothing=NO_TEST)
    if numbers:
        yield Summary("playwright", last, tally(**numbers))


def bun(said: list[str]) -> Iterator[Summary]:
    """bun's summaries."""
    for index, line in enumerate(said):
        if _BUN_RAN.match(line):
            numbers: dict[str, int] = {}
            for one in before(said, index, 8):
                if match := _BUN.match(one):
                    kind = _WORDS[match.group(2)]
                    numbers[kind] = numbers.get(kind, 0) + int(match.group(1))
            counts = tally(**numbers)
            yield Summary("bun", index, counts, nothing=None if counts else NO_TEST)
        elif line in ("No tests found!", "error: No tests found!"):
            yield Summary("bun", index, nothing=NO_TEST)


def deno(said: list[str]) -> Iterator[Summary]:
    """deno's summaries."""
    for index, line in enumerate(said):
        if match := _DENO.match(line):
            numbers = _items(match.group(4), " | ")
            numbers |= {"passed": int(match.group(2)), "failed": int(match.group(3))}
            counts = tally(**numbers)
            none = ALL_DESELECTED if "filtered out" in match.group(4) else NO_TEST
            yield Summary("deno", index, counts, match.group(1) == "ok", None if counts else none)
        elif line == "error: No test modules found":
            yield Summary("deno", index, nothing=NO_TEST)
