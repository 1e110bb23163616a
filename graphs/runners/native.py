"""go test, gotestsum, cargo test, cargo nextest, ctest, swift test: how each closes a run.

go speaks per package and cargo per crate: each closing line is a summary of its own, and they are summed.
A result that stands where a test's output stands is not the runner's: in go between `=== RUN` and its
`---`, in cargo where its number of tests is not the one that the last `running N tests` announced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphs.runners.summary import ALL_DESELECTED, NO_TEST, Summary, tally
from graphs.runners.text import after, before

_GO_RUN = re.compile(r"^=== RUN +(\S+)$")
_GO_RESULT = re.compile(r"^( *)--- (PASS|FAIL|SKIP): (\S+) \(\d[\d.]*s\)$")
_GO_OK = re.compile(r"^ok +\t(\S+)\t(\d[\d.]*s|\(cached\))(.*)$")
_GO_FAIL = re.compile(r"^FAIL\t(\S+)(?:\t\d[\d.]*s| \[(?:build|setup) failed\])$")
_GO_NONE = re.compile(r"^\?   \t(\S+)\t\[no test files\]$|^\t(\S+)\t\tcoverage: 0\.0% of statements$")
_GOTESTSUM = re.compile(
    r"^DONE (?:\d+ runs, )?(\d+) tests(?:, (\d+) skipped)?(?:, (\d+) failures?)?(?:, (\d+) errors?)?"
    r" in \d[\d.]*s$"
)
GO = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}

_CARGO_RUNNING = re.compile(r"^running (\d+) tests?$")
_CARGO = re.compile(
    r"^test result: (ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored; (\d+) measured; "
    r"(\d+) filtered out"
)
_CARGO_BROKEN = re.compile(
    r"^error: (?:could not compile `|test failed, to rerun pass|\d+ targets? failed:|doctest failed|"
    r"linking with|failed to (?:parse|load) manifest|no test target named)"
)
_NEXTEST = re.compile(r"^ *Summary \[ *(\d[\d.]*)s\] (?:\d+/)?(\d+) tests? run: (.*)$")
_NEXTEST_NONE = re.compile(r"^error: no tests to run$")
_NEXTEST_WORDS = {
    "passed": "passed", "failed": "failed", "timed out": "failed", "exec failed": "failed",
    "skipped": "skipped",
}  # fmt: skip

_CTEST = re.compile(r"^(?:\d+% tests passed, )(\d+) tests? failed out of (\d+)$")
LIST = 1000  # lines; the longest list of tests under a closing line that is read
_CTEST_LIST = re.compile(r"^The following tests (did not run|FAILED):$")
_CTEST_ITEM = re.compile(r"^\t *\d+ - .* \(([\w *]+)\)(?: +\S.*)?$")

_XCTEST_SUITE = re.compile(r"^Test Suite '(All tests|Selected tests)' (passed|failed) at ")
_XCTEST = re.compile(
    r"^\t ?Executed (\d+) tests?, with (?:(\d+) tests? skipped and )?(\d+) failures? \((\d+) unexpected\) in "
)
_SWIFT = re.compile(
    r"^\S* ?Test run with (\d+) tests?(?: in \d+ suites?)? (passed|failed) after (\d[\d.]*) seconds?(.*)$"
)
_SWIFT_RESULT = re.compile(
    r"^\S+ +Test (?!run with|case )(.+?)(?: with \d+ test cases?)? "
    r"(?:(passed|failed)(?= after \d)|(skipped)(?=[.:]))"
)
_SWIFT_BROKEN = re.compile(
    r"^error: (?:fatalError|terminated\(|Exited with|emit-module command failed|.*build)"
)


def leaves(results: dict[str, str]) -> dict[str, str]:
    """The tests that have no parts: a parent of skipped parts passes, and proves nothing."""
    parents = {name[:at] for name in results for at, letter in enumerate(name) if letter == "/"}
    return {name: result for name, result in results.items() if name not in parents}


def go(said: list[str]) -> Iterator[Summary]:
    """The summaries of `go test`."""
    results: dict[str, str] = {}
    seen: set[str] = set()
    running: set[str] = set()
    for index, line in enumerate(said):
        if line == "no packages to test":
            yield Summary("go", index, nothing=NO_TEST)
        elif match := _GO_RUN.match(line):
            seen.add(match.group(1))
            running.add(match.group(1))
        elif match := _GO_RESULT.match(line):
            name = match.group(3)
            if name in seen or (not seen and match.group(2) == "FAIL"):
                results[name] = GO[match.group(2)]
                running.discard(name)
        elif match := _GO_OK.match(line):
            if running:
                continue
            results = {name: result for name, result in results.items() if result != "failed"}
            counts = _of_go(results)
            nothing = NO_TEST if "[no tests to run]" in match.group(3) else None
            yield Summary("go", index, counts, None if nothing else True, nothing)
            results, seen, running = {}, set(), set()
        elif _GO_FAIL.match(line):
            counts = _of_go(results)
            if not counts.get("failed"):
                counts = {**counts, "errors": 1}
            yield Summary("go", index, counts, False)
            results, seen, running = {}, set(), set()
        elif _GO_NONE.match(line) and not running:
            yield Summary("go", index, nothing="there are no test files")
        elif match := _GOTESTSUM.match(line):
            tests, skipped, failed, errors = (int(number or 0) for number in match.groups())
            counts = tally(passed=tests - skipped - failed, failed=failed, skipped=skipped, errors=errors)
            yield Summary("gotestsum", index, counts, nothing=None if counts else NO_TEST)
            results, seen, running = {}, set(), set()


def _of_go(results: dict[str, str]) -> dict[str, int]:
    found = list(leaves(results).values())
    return tally(passed=found.count("passed"), failed=found.count("failed"), skipped=found.count("skipped"))


def cargo(said: list[str]) -> Iterator[Summary]:
    """The summaries of `cargo test`."""
    announced: list[int] = []
    for index, line in enumerate(said):
        if match := _CARGO_RUNNING.match(line):
            announced.append(int(match.group(1)))
        elif match := _CARGO.match(line):
            passed, failed, ignored, measured, filtered = map(int, match.groups()[1:])
            number = passed + failed + ignored + measured
            if announced and number not in announced:
                continue
            sure = bool(announced)
            while announced and announced.pop() != number:
                pass
            counts = tally(passed=passed + measured, failed=failed, skipped=ignored)
            none = ALL_DESELECTED if filtered else NO_TEST
            ok = match.group(1) == "ok"
            yield Summary("cargo", index, counts, ok, None if counts else none, sure)
        elif _CARGO_BROKEN.match(line):
            yield Summary("cargo", index, ok=False)


def nextest(said: list[str]) -> Iterator[Summary]:
    """The summaries of `cargo nextest`."""
    for index, line in enumerate(said):
        if match := _NEXTEST.match(line):
            numbers: dict[str, int] = {}
            for number, word in re.findall(
                r"(\d+) (passed|failed|timed out|exec failed|skipped)", match.group(3)
            ):
                kind = _NEXTEST_WORDS[word]
                numbers[kind] = numbers.get(kind, 0) + int(number)
            counts = tally(**numbers)
            nothing = None if counts else NO_TEST
            yield Summary("nextest", index, counts, nothing=nothing, seconds=float(match.group(1)))
        elif _NEXTEST_NONE.match(line) and not any(map(_NEXTEST.match, before(said, index, 2))):
            yield Summary("nextest", index, nothing=NO_TEST)


def ctest(said: list[str]) -> Iterator[Summary]:
    """CTest's summaries."""
    for index, line in enumerate(said):
        if match := _CTEST.match(line):
            closed = after(said, index, 1)
            sure = bool(closed) and closed[0].startswith(("Total Test time", "Label Time", "Subproject Time"))
            failed, tests = map(int, match.groups())
            skipped, disabled = _did_not_run(said[index : index + LIST]) if sure else (0, 0)
            counts = tally(passed=tests - failed - skipped, failed=failed, skipped=skipped + disabled)
            yield Summary("ctest", index, counts, nothing=None if counts else NO_TEST, sure=sure)
        elif line.startswith("No tests were found!!!"):
            near = said[max(0, index - LIST) : index]
            disabled = sum(one.endswith(" sec") and "***Not Run (Disabled)" in one for one in near)
            counts = tally(skipped=disabled)
            yield Summary("ctest", index, counts, nothing=None if counts else NO_TEST)


def _did_not_run(said: list[str]) -> tuple[int, int]:
    """Skipped tests, which ctest counts as passed, and disabled ones, which it does not count."""
    skipped = disabled = 0
    listing = False
    for line in said:
        if heading := _CTEST_LIST.match(line):
            listing = heading.group(1) == "did not run"
        elif item := _CTEST_ITEM.match(line):
            skipped += listing and item.group(1) == "Skipped"
            disabled += listing and item.group(1) == "Disabled"
        elif line.startswith("Test project "):
            break
    return skipped, disabled


def swift(said: list[str]) -> Iterator[Summary]:
    """The summaries of `swift test`."""
    results: dict[str, str] = {}
    for index, line in enumerate(said):
        if suite := _XCTEST_SUITE.match(line):
            numbers = next(filter(None, map(_XCTEST.match, said[index + 1 : index + 3])), None)
            if numbers:
                ran, skipped, failed, _ = (int(number or 0) for number in numbers.groups())
                counts = tally(passed=ran - skipped - min(failed, ran), failed=failed, skipped=skipped)
                ok = suite.group(2) == "passed" if counts else None
                yield Summary("swift", index, counts, ok, None if counts else NO_TEST)
        elif match := _SWIFT.match(line):
            ran = int(match.group(1))
            found = list(results.values())
            skipped, failed = found.count("skipped"), found.count("failed")
            if match.group(2) == "failed":
                failed = max(1, failed)
            counts = tally(passed=max(0, ran - failed - skipped), failed=failed, skipped=skipped)
            ok = match.group(2) == "passed" if counts else None
            yield Summary("swift", index, counts, ok, None if counts else NO_TEST)
            results = {}
        elif match := _SWIFT_RESULT.match(line):
            results[match.group(1)] = match.group(2) or match.group(3)
        elif _SWIFT_BROKEN.match(line):
            yield Summary("swift", index, ok=False)
