"""TAP, and the runners that close with its words: node --test, tap, bats, mocha and ava with `tap`, prove.

A stream is read as one run: its plan (`1..4`), its points (`not ok 3 bad`) and, where given, its closing
numbers (`# pass 3`), which count more than the points. Indented points are parts of a point. A stream that
prove sums up is prove's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from graphs.runners.summary import NO_TEST, Summary, tally
from graphs.runners.text import before

_VERSION = re.compile(r"^TAP version \d+$")
_PLAN = re.compile(r"^1\.\.(\d+)(?: *# *(.*))?$")
_POINT = re.compile(r"^(not )?ok\b(?: (\d+))?(.*)$")
_NUMBERED = re.compile(r"^(?:not )?ok \d")
_DIRECTIVE = re.compile(r"(?<!\\)#\s*(skip|todo)", re.IGNORECASE)
_CLOSING = re.compile(r"^# (tests|suites|pass|fail|cancelled|skipped|skip|todo|ok)(?: +(\d+))?$")
_CLOSING_ALL = re.compile(r"^# \{ (total: \d+(?:, \w+: \d+)*) \}$")
_BAIL = re.compile(r"^Bail out!")
_SPEC = re.compile(r"^ℹ (tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) (\d+(?:\.\d+)?)$")
_SHOWN_BY_PROVE = re.compile(r"^\S+ \.{2,}$")
_FILES = re.compile(r"^Files=(\d+), Tests=(\d+), ")
_RESULT = re.compile(r"^Result: (PASS|FAIL|NOTESTS)$")
_FILE_OF_PROVE = re.compile(r"^\S.*\(Wstat: .*Tests: (\d+) Failed: (\d+)\)$")
_TODO_OR_SKIP = {"skip": "skipped", "todo": "skipped"}


@dataclass
class Stream:
    """One TAP stream while it is read."""

    planned: int | None = None
    nothing: str | None = None
    versioned: bool = False
    bailed: bool = False
    points: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    numbered: bool = False
    closing: dict[str, int] = field(default_factory=dict)
    first: int = 0
    last: int = 0

    @property
    def begun(self) -> bool:
        """Whether there is anything of TAP."""
        return self.planned is not None or self.versioned or bool(self.points) or "tests" in self.closing

    @property
    def complete(self) -> bool:
        """Whether the closing numbers are there."""
        return {"tests", "pass", "fail"} <= self.closing.keys() or "total" in self.closing

    def add(self, name: str, result: str, *, numbered: bool) -> None:
        """One more point. Where points are numbered, one without a number is a test's own print."""
        if self.numbered and not numbered:
            return
        if numbered and not self.numbered:
            self.names, self.points, self.numbered = [], [], True
        self.names.append(name)
        self.points.append(result)

    def summary(self) -> Summary | None:
        """What the stream says; None when it is no TAP."""
        sure = self.complete or (self.planned is not None and (len(self.points) > 0 or self.planned == 0))
        if not self.begun or not (sure or self.versioned or self.closing or self.numbered):
            return None
        if self.complete:
            counts = self._closing()
        else:
            missing = max(0, (self.planned or 0) - len(self.points))
            if self.planned == 0:
                self.points = [result for result in self.points if result == "failed"]
            counts = tally(
                passed=self.points.count("passed"),
                failed=self.points.count("failed"),
                skipped=self.points.count("skipped"),
                errors=missing + self.bailed,
            )
        return Summary(
            "tap", self.last, counts, nothing=None if counts else self.nothing or NO_TEST, sure=sure
        )

    def _closing(self) -> dict[str, int]:
        said = self.closing
        skipped = said.get("skipped", said.get("skip", 0)) + said.get("todo", 0)
        return tally(
            passed=said.get("pass", 0),
            failed=said.get("fail", 0) + said.get("cancelled", 0),
            skipped=skipped,
            errors=self.bailed,
        )


def point(line: str) -> tuple[str, str] | None:
    """The name and the result of a line such as `not ok 3 bad # TODO`; None when it is none."""
    match = _POINT.match(line)
    if match is None:
        return None
    rest = match.group(3)
    if rest and (not rest[0].isspace() or rest.lstrip(" ").startswith("\t")):
        return None  # the second is go's closing word for a package
    directive = _DIRECTIVE.search(rest)
    name = (rest[: directive.start()] if directive else rest).strip().removeprefix("- ").strip()
    if directive:
        return name, _TODO_OR_SKIP[directive.group(1).lower()]
    return name, "failed" if match.group(1) else "passed"


def streams(said: list[str]) -> Iterator[Stream]:
    """Each stream of the output, in order."""
    stream = Stream()
    for index, line in enumerate(said):
        if _VERSION.match(line):
            if stream.begun:
                yield stream
            stream = Stream(versioned=True, first=index, last=index)
        elif plan := _PLAN.match(line):
            if stream.planned is not None or stream.complete:
                yield stream
                stream = Stream()
            stream.first = stream.first or index
            stream.planned, stream.last = int(plan.group(1)), index
            if plan.group(2):
                stream.nothing = f"every test was skipped: {plan.group(2).removeprefix('SKIP').strip()[:80]}"
        elif found := point(line):
            over = stream.planned is not None and len(stream.points) >= stream.planned > 0
            if (stream.complete or over) and not stream.versioned:
                yield stream
                stream = Stream()
            stream.first = stream.first or index
            stream.add(*found, numbered=bool(_NUMBERED.match(line)))
            stream.last = index
        elif closing := _CLOSING.match(line):
            if closing.group(1) == "tests" and stream.complete:
                yield stream
                stream = Stream()
            if closing.group(2):
                stream.closing[closing.group(1)] = int(closing.group(2))
                stream.last = index
        elif closed := _CLOSING_ALL.match(line):
            stream.closing.update({k: int(v) for k, v in re.findall(r"(\w+): (\d+)", closed.group(1))})
            stream.last = index
        elif _BAIL.match(line) and stream.begun:
            stream.bailed = True
    if stream.begun:
        yield stream


def tap(said: list[str]) -> Iterator[Summary]:
    """The summaries of streams of TAP."""
    proved = max((index for index, line in enumerate(said) if _FILES.match(line)), default=-1)
    for stream in streams(said):
        summary = stream.summary()
        shown = any(map(_SHOWN_BY_PROVE.match, before(said, stream.first, 5))) and proved > stream.last
        if summary and not shown:
            yield summary


def spec(said: list[str]) -> Iterator[Summary]:
    """The closing numbers of node's `spec` reporter."""
    numbers: dict[str, int] = {}
    for index, line in enumerate(said):
        match = _SPEC.match(line)
        if match is None:
            continue
        name, number = match.groups()
        if name == "tests":
            numbers = {}
        numbers[name] = int(float(number))
        if name == "todo" and {"tests", "pass", "fail"} <= numbers.keys():
            counts = tally(
                passed=numbers["pass"],
                failed=numbers["fail"] + numbers.get("cancelled", 0),
                skipped=numbers.get("skipped", 0) + numbers["todo"],
            )
            yield Summary("node", index, counts, nothing=None if counts else NO_TEST)


def prove(said: list[str]) -> Iterator[Summary]:
    """prove's summaries."""
    begun = 0
    for index, line in enumerate(said):
        match = _FILES.match(line)
        result = _RESULT.match(said[index + 1]) if match and index + 1 < len(said) else None
        if match is None or result is None:
            continue
        run = said[begun:index]
        begun = index
        failed, errors, skipped = _of_prove(run)
        inner = _skipped_points(run)
        passed = max(0, int(match.group(2)) - failed - inner)
        counts = tally(passed=passed, failed=failed, errors=errors, skipped=skipped + inner)
        nothing = None if counts else NO_TEST
        yield Summary("prove", index, counts, result.group(1) == "PASS" or None, nothing)
        if result.group(1) == "FAIL" and not failed and not errors:
            yield Summary("prove", index, {}, False)


def _of_prove(run: list[str]) -> tuple[int, int, int]:
    """Failed tests, files that broke otherwise, and skipped files, from the lines above the closing ones."""
    failed = errors = skipped = 0
    for line in run:
        if match := _FILE_OF_PROVE.match(line):
            failed += int(match.group(2))
            errors += match.group(2) == "0"
        elif re.match(r"^\S+\s\.{2,}\s*skipped: ", line):
            skipped += 1
    return failed, errors, skipped


def _skipped_points(run: list[str]) -> int:
    """With -v, prove shows the points; skipped ones count among its tests."""
    return sum(1 for line in run if (found := point(line)) and found[1] == "skipped")
