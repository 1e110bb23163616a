"""Maven's surefire, Gradle, dotnet test: builds that run tests, module by module, each closed on its own.

dotnet speaks the language of the machine, so its line is read by its shape: four numbers, the fourth being
the sum of the first three. Gradle gives numbers only when it logs its tests, or when some failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphs.runners.summary import ALL_DESELECTED, NO_TEST, NO_TEST_RUN, Summary, tally
from graphs.runners.text import before

_LEVEL = r"^(?:\[(?:INFO|WARNING|ERROR)\] )?"
_SUREFIRE = re.compile(
    _LEVEL + r"Tests run: (\d+), Failures: (\d+), Errors: (\d+), Skipped: (\d+)(?:, Flakes: \d+)?$"
)
_SUREFIRE_HEAD = re.compile(_LEVEL + r"Results ?:$")
_SUREFIRE_NONE = re.compile(_LEVEL + r"(No tests to run\.|Tests are skipped\.|No tests were executed!.*)$")
_SUREFIRE_GOAL = re.compile(
    r"^\[INFO\] --- (?:maven-)?(?:surefire|failsafe)(?:-plugin)?:\S+:(?:test|integration-test) "
)
_MAVEN_GOOD = re.compile(_LEVEL + r"BUILD SUCCESS$")
_MAVEN_BROKEN = re.compile(
    _LEVEL + r"(?:BUILD FAILURE|COMPILATION ERROR ?:.*|There (?:are|were) test failures\.|"
    r"Failed to execute goal .*)$"
)

_GRADLE_TASK = re.compile(
    r"^(?:> Task )?((?::[\w.-]+)*:\w*[tT]est)(?: (NO-SOURCE|SKIPPED|FAILED|UP-TO-DATE|FROM-CACHE))?$"
)
_GRADLE_TEST = re.compile(r"^\S[^>]* > .+ (PASSED|FAILED|SKIPPED)$")
_GRADLE_NUMBERS = re.compile(r"^(\d+) tests? completed(?:, (\d+) failed)?(?:, (\d+) skipped)?$")
_GRADLE_END = re.compile(r"^BUILD (SUCCESSFUL|FAILED)(?: in .+)?$")
_GRADLE = {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped"}

_VSTEST = re.compile(
    r"^ *[^\s!]+(?: ?!)? *[-:] *[^:,]{1,40}: *(\d+), *[^:,]{1,40}: *(\d+)"
    r", *[^:,]{1,40}: *(\d+), *[^:,]{1,40}: *(\d+)"
    r"(?:,.*|)$"
)
_VSTEST_LONG = re.compile(r"^Total tests: (\d+)(?:\. Passed: (\d+)\. Failed: (\d+)\. Skipped: (\d+)\.)?$")
_VSTEST_MORE = re.compile(r"^ +(Passed|Failed|Skipped): (\d+)$")
_VSTEST_NONE = re.compile(r"^(?:No test is available in |No test matches the given testcase filter )")
_MTP = re.compile(r"^ *(total|failed|succeeded|skipped): (\d+)$")
_MTP_LINE = re.compile(r"^Test summary: total: (\d+), failed: (\d+), succeeded: (\d+), skipped: (\d+)")
_MTP_LINE_2 = re.compile(r"^Test summary: total: (\d+); failed: (\d+); succeeded: (\d+); skipped: (\d+)")
_MSBUILD_BROKEN = re.compile(r"^.*\bBuild FAILED\.$|^.*: error (?:CS|MSB|NU|NETSDK)\d+: ")


def maven(said: list[str]) -> Iterator[Summary]:
    """Maven's summaries."""
    asked = answered = False
    for index, line in enumerate(said):
        asked = asked or bool(_SUREFIRE_GOAL.match(line))
        if match := _SUREFIRE.match(line):
            ran, failed, errors, skipped = map(int, match.groups())
            counts = tally(
                passed=ran - failed - errors - skipped, failed=failed, errors=errors, skipped=skipped
            )
            if _closes_surefire(said, index):
                answered = True
                yield Summary("maven", index, counts, nothing=None if counts else NO_TEST)
        elif match := _SUREFIRE_NONE.match(line):
            answered = True
            skipped_all = match.group(1).startswith("Tests are skipped")
            yield Summary("maven", index, nothing="the tests were left out" if skipped_all else NO_TEST)
        elif asked and not answered and _MAVEN_GOOD.match(line):
            yield Summary("maven", index, nothing=NO_TEST)
        elif _MAVEN_BROKEN.match(line):
            yield Summary("maven", index, ok=False)


def _closes_surefire(said: list[str], index: int) -> bool:
    """Whether the numbers are of a module: marked with a level, or, as before Maven 3, under `Results`."""
    if said[index].startswith("["):
        return True
    for line in reversed(said[max(0, index - 200) : index]):
        if _SUREFIRE_HEAD.match(line):
            return True
        if line.startswith("Running ") or _SUREFIRE.match(line):
            return False
    return False


def gradle(said: list[str]) -> Iterator[Summary]:
    """Gradle's summaries."""
    results: list[str] = []
    tasks: list[str | None] = []
    completed: dict[str, int] = {}
    for index, line in enumerate(said):
        if match := _GRADLE_TASK.match(line):
            tasks.append(match.group(2))
        elif match := _GRADLE_TEST.match(line):
            results.append(_GRADLE[match.group(1)])
        elif match := _GRADLE_NUMBERS.match(line):
            tests, failed, skipped = (int(number or 0) for number in match.groups())
            for kind, number in tally(
                passed=tests - failed - skipped, failed=failed, skipped=skipped
            ).items():
                completed[kind] = completed.get(kind, 0) + number
        elif match := _GRADLE_END.match(line):
            counts = tally(**{kind: results.count(kind) for kind in ("passed", "failed", "skipped")})
            counts = counts if sum(counts.values()) >= sum(completed.values()) else completed
            good = match.group(1) == "SUCCESSFUL"
            none = bool(tasks) and all(state in ("NO-SOURCE", "SKIPPED") for state in tasks)
            nothing = NO_TEST if none and not counts and good else None
            silent = good and not tasks and not counts  # it built something, or kept quiet about its tests
            yield Summary("gradle", index, counts, None if nothing else good, nothing, frame=silent)
            results, tasks, completed = [], [], {}


def dotnet(said: list[str]) -> Iterator[Summary]:
    """dotnet's summaries."""
    mtp: dict[str, int] = {}
    for index, line in enumerate(said):
        if match := _VSTEST.match(line):
            failed, passed, skipped, all_of_them = map(int, match.groups())
            if failed + passed + skipped == all_of_them:
                counts = tally(passed=passed, failed=failed, skipped=skipped)
                yield Summary("dotnet", index, counts, nothing=None if counts else NO_TEST)
        elif match := _MTP_LINE.match(line) or _MTP_LINE_2.match(line):
            yield _of_mtp(index, *map(int, match.groups()))
        elif match := _MTP.match(line):
            mtp = (
                {match.group(1): int(match.group(2))}
                if match.group(1) == "total"
                else mtp | {match.group(1): int(match.group(2))}
            )
            if match.group(1) == "skipped" and len(mtp) == 4:
                yield _of_mtp(index, mtp["total"], mtp["failed"], mtp["succeeded"], mtp["skipped"])
        elif match := _VSTEST_LONG.match(line):
            yield _of_vstest(said, index, match)
        elif _VSTEST_NONE.match(line):
            none = ALL_DESELECTED if "filter" in line[:50] else NO_TEST
            yield Summary("dotnet", index, nothing=none)
        elif _MSBUILD_BROKEN.match(line):
            yield Summary("dotnet", index, ok=False)


def _of_mtp(index: int, tests: int, failed: int, passed: int, skipped: int) -> Summary:
    counts = tally(passed=passed, failed=failed, skipped=skipped)
    return Summary("dotnet", index, counts, nothing=None if counts else NO_TEST if not tests else NO_TEST_RUN)


def _of_vstest(said: list[str], index: int, match: re.Match[str]) -> Summary:
    """The older and the longer form: all on one line, or one number a line below it."""
    if match.group(2):
        counts = tally(passed=match.group(2), failed=match.group(3), skipped=match.group(4))
        return Summary("dotnet", index, counts, nothing=None if counts else NO_TEST)
    numbers = dict(
        found.groups() for line in said[index + 1 : index + 4] if (found := _VSTEST_MORE.match(line))
    )
    counts = tally(passed=numbers.get("Passed"), failed=numbers.get("Failed"), skipped=numbers.get("Skipped"))
    sure = any(line.startswith("Test Run ") for line in before(said, index, 2))
    return Summary("dotnet", index, counts, nothing=None if counts else NO_TEST, sure=sure)
