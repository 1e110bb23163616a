"""Finds what a change did to the tests, so that green after it means what green meant before.

Three things are compared: the test files before and after (`cases_python`, `cases_pattern`), how the tests
are run (`runner_settings`), and what the two runs report test by test. A finding is

    {kind, file, test, claim, severity, blocks}

with `kind` deleted, skipped, emptied, rows, assertions, expectation, focused, switch, command, config,
conftest, ci, gone (by the reports alone), or uncompared. `severity` is high for what makes the tests weaker,
medium for what may, low for what the task asked for. `blocks`: a test which counted before does not count any
more. With such a finding a turn is not `passed`, whatever the runner says.

A test that moved, got another name, or was merged into a table of rows is no finding: a test is recognised by
what it holds. A new test is none, nor is a skip taken away. A test that was skipped or empty before may go.

What it cannot decide: an expectation that was changed together with the code is told (medium) and never
forbids `passed`, because that is what many honest changes do. Languages that `cases_pattern` does not know
are seen by their reports only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from graphs import cases, cases_pattern, cases_python, runner_settings, task_requests
from graphs.cases import Case, Suite
from graphs.runner_settings import Change, Finding

MOST = 20  # findings told one by one
_RAN = ("passed", "failed", "error")
_Place = tuple[str, str]  # path, name


_SETTINGS = re.compile(
    r"(^|/)(?:[^/]*\.(?:toml|ini|cfg|jsonc?|ya?ml|xml|gradle|kts|mk|sh|bash|exs|dist|config\.\w+)|"
    r"\.rspec|[^/.]+|CMakeLists\.txt)$"
)


def wanted(path: str) -> bool:
    """Whether a changed file must be looked at: a test file, or one that may say how tests are run."""
    return cases.may_hold_tests(path) or bool(_SETTINGS.search(path))


def first(path: str) -> bool:
    """Whether a file matters more than others where not all can be read."""
    return cases.is_test_file(path) or path.endswith("package.json")


def find(
    changes: Sequence[Change],
    task: str,
    *,
    command: str | None = None,
    before: Mapping[str, str] | None = None,
    after: Mapping[str, str] | None = None,
    numbers: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """The findings, the gravest first, at most MOST. `before` and `after` map a test's id to its result;
    `numbers` are how many ran before and after, as the runner counts them.

    Give them only for a run that came to its end: one that stopped early says nothing about the rest.
    """
    before, after = before or {}, after or {}
    pairs = _Pairs(changes)
    found = [
        *pairs.findings(_results(after)),
        *runner_settings.find(changes, command),
    ]
    found += _by_reports(before, after, found, pairs.known)
    if numbers and not found and not (before and after) and (numbers[1] == 0 or not pairs.old):
        found += _by_numbers(*numbers)
    told = [_to_json(finding, task) for finding in found]
    told.sort(key=lambda one: (not one["blocks"], ("high", "medium", "low").index(one["severity"])))
    return told[:MOST]


def uncompared(why: str) -> dict[str, Any]:
    """The finding that nothing could be found out: so nobody can say what green is worth."""
    about = {"kind": "uncompared", "file": "", "test": "", "claim": why[:300]}
    return {**about, "severity": "medium", "blocks": True}


def words(found: Iterable[Mapping[str, Any]]) -> str:
    """One line per finding."""
    return "\n".join(
        f"- [{one['severity']}] {one['file']} {one['claim']}".replace("  ", " ") for one in found
    )


def _to_json(finding: Finding, task: str) -> dict[str, Any]:
    wished = task_requests.asked(task, finding)
    severity = "low" if wished else "medium" if finding.kind in ("expectation", "ci") else "high"
    return {
        "kind": finding.kind,
        "file": finding.file[:300],
        "test": finding.test[:200],
        "claim": finding.claim[:300],
        "severity": severity,
        "blocks": finding.blocks and not wished,
    }


# ---- the files ---------------------------------------------------------------------------------


class _Pairs:
    """The tests of the changed files, each old one with what became of it."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.old: dict[_Place, Case] = {}
        self.new: dict[_Place, Case] = {}
        self.switches: list[Finding] = []
        self.gone_files = {change.path for change in changes if change.new is None}
        for change in changes:
            if cases.may_hold_tests(change.path):
                self._read(change)
        self.pairs = {place: place for place in self.old if place in self.new}
        self._match()
        self.known = {case.leaf for case in [*self.old.values(), *self.new.values()]}

    def _read(self, change: Change) -> None:
        old, new = _suites(change)
        self.old |= {(change.path, name): case for name, case in old.cases.items()}
        self.new |= {(change.path, name): case for name, case in new.cases.items()}
        if not (
            old.cases or new.cases or cases.is_test_file(change.path) or change.path.endswith("conftest.py")
        ):
            return
        left = list(old.switches)
        for line, what in new.switches:
            if (line, what) in left:
                left.remove((line, what))
            elif change.old is not None or not line.startswith("//go:build"):
                self.switches.append(Finding("switch", change.path, "", f"`{line}` {what}", True))

    def _match(self) -> None:
        """Find moved tests by name, renamed and merged ones by what they hold."""
        fresh = [place for place in self.new if place not in self.old]
        for place, case in self.old.items():
            if place in self.pairs:
                continue
            for other in fresh:
                if self.new[other].leaf == case.leaf and cases.same(case, self.new[other]):
                    self.pairs[place] = other
                    fresh.remove(other)
                    break
        for place, case in self.old.items():
            if place not in self.pairs:
                heir = self._heir(case, fresh)
                if heir is not None:
                    self.pairs[place] = heir

    def _heir(self, case: Case, fresh: Sequence[_Place]) -> _Place | None:
        if not case.words:
            return None
        for place in fresh:
            if cases.same(case, self.new[place]):
                return place
        for place, grown in self.new.items():  # merged into one that was there
            was = self.old.get(place)
            if was is not None and cases.same(case, grown) and grown.strength > was.strength:
                return place
        return None

    def findings(self, results: Mapping[str, str]) -> Iterator[Finding]:
        yield from self.switches
        yield from self._deleted()
        for place, other in self.pairs.items():
            yield from _weaker(place, other, self.old[place], self.new[other], results)
        for (path, name), case in self.new.items():
            was = self.old.get((path, name))
            if case.focused and not (was and was.focused):
                yield Finding("focused", path, name, f"`{name}` is focused, so that others do not run", True)

    def _deleted(self) -> Iterator[Finding]:
        lost: dict[str, list[str]] = {}
        for (path, name), case in self.old.items():
            counted = not case.empty and (case.skipped is None or case.conditional)
            if (path, name) not in self.pairs and counted:
                lost.setdefault(path, []).append(name)
        for path, names in lost.items():
            if path in self.gone_files and len(names) > 1:
                claim = f"the file with {len(names)} tests was deleted: {_some(names)}"
                yield Finding("deleted", path, ", ".join(names), claim, True)
            else:
                for name in names:
                    yield Finding("deleted", path, name, f"the test `{name}` was deleted", True)


def _weaker(
    place: _Place, other: _Place, old: Case, new: Case, results: Mapping[str, str]
) -> Iterator[Finding]:
    """The findings about one test."""
    path, name = other
    if cases.by_name(place[0]) and not cases.by_name(path) and not old.empty:
        yield Finding("deleted", path, name, f"`{name}` is in a file that runners do not look into", True)
    if new.skipped and (old.skipped is None or (old.conditional and not new.conditional)):
        ran = results.get(new.leaf) in _RAN
        if not (new.conditional and ran):
            yield Finding("skipped", path, name, f"`{name}` is skipped now: {new.skipped}", not ran)
            return
    if old.skipped and not old.conditional:
        return
    if (new.empty and not old.empty) or (old.strength > 0 and new.strength == 0):
        yield Finding("emptied", path, name, f"`{name}` asserts nothing any more", True)
        return
    if old.rows is not None and new.rows is not None and new.rows < old.rows and place == other:
        yield Finding("rows", path, name, f"`{name}` has {new.rows} rows, it had {old.rows}", True)
    if place != other:
        return
    removed, added = old.assertions - new.assertions, new.assertions - old.assertions
    if removed.total() > added.total():
        claim = f"`{name}` lost assertions: {_some([f'`{text[:80]}`' for text in removed])}"
        yield Finding("assertions", path, name, claim, False)
    elif removed:
        was, now = next(iter(removed))[:100], next(iter(added))[:100]
        yield Finding("expectation", path, name, f"`{name}` expects something else: `{was}` → `{now}`", False)


def _suites(change: Change) -> tuple[Suite, Suite]:
    """Both sides read in the same way: by patterns where one of them is no Python of ours."""
    path = change.path
    texts = [text if text and cases.holds_tests(path, text) else None for text in (change.old, change.new)]
    if path.endswith(".py"):
        parsed = [Suite() if text is None else cases_python.read(text) for text in texts]
        if parsed[0] is not None and parsed[1] is not None:
            return parsed[0], parsed[1]
    old, new = (Suite() if text is None else cases_pattern.read(path, text) for text in texts)
    return old, new


# ---- the reports -------------------------------------------------------------------------------


def _by_reports(
    before: Mapping[str, str], after: Mapping[str, str], told: Sequence[Finding], known: set[str]
) -> Iterator[Finding]:
    """Tests that ran before and did not run after, where the files do not say why."""
    if not before or not after:
        return
    seen = {_leaf(name) for finding in told if finding.test for name in finding.test.split(", ")}
    ran = {id for id, result in before.items() if result in _RAN}
    skipped = [id for id in ran if after.get(id) == "skipped" and _leaf(id) not in seen]
    if skipped:
        claim = (
            f"{_number(skipped)} ran before the change and {_was(skipped)} skipped after it: {_some(skipped)}"
        )
        yield Finding("skipped", "", ", ".join(skipped[:5]), claim, True)
    still = {id for id, result in after.items() if result in _RAN}
    leaves = {_leaf(id) for id in after}
    gone = sorted(id for id in ran - after.keys() if _leaf(id) not in leaves | seen | known)
    if gone and len(still) + len(skipped) < len(ran):
        claim = f"{_number(gone)} ran before the change and did not run after it: {_some(gone)}"
        yield Finding("gone", "", ", ".join(gone[:5]), claim, True)


def _by_numbers(before: int, after: int) -> Iterator[Finding]:
    """Where nothing names the tests: fewer of them ran, and no test file was changed that could tell why."""
    if after < before:
        yield Finding(
            "gone", "", "", f"{before} tests ran before the change, {after or 'none'} after it", True
        )


def _results(after: Mapping[str, str]) -> dict[str, str]:
    """Results by a test's bare name; where names meet, one that ran counts."""
    out: dict[str, str] = {}
    for id, result in after.items():
        leaf = _leaf(id)
        if out.get(leaf) not in _RAN:
            out[leaf] = result
    return out


def _leaf(id: str) -> str:
    """The bare name of a test in a report's id: no file, no class, no parameters."""
    bare = re.sub(r"\[.*\]$", "", id.strip()).strip()
    last = re.split(r"::| › | > ", bare)[-1].strip()
    return last if " " in last else last.rsplit(".", 1)[-1].rsplit("/", 1)[-1]


def _number(ids: Sequence[str]) -> str:
    return "1 test" if len(ids) == 1 else f"{len(ids)} tests"


def _was(ids: Sequence[str]) -> str:
    return "was" if len(ids) == 1 else "were"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name[:100] for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
