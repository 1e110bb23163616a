"""JSON reports: jest and vitest, mocha, RSpec, Playwright, pytest-json-report; lines of go and libtest.

Numbers that are no numbers of tests (negative, fractions, text) are taken as not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from graphs.reports.tally import LARGEST_BYTES, Tally
from graphs.runners.native import leaves

_WORDS = {
    "passed": "passed", "expected": "passed", "flaky": "passed", "ok": "passed", "xpassed": "passed",
    "failed": "failed", "unexpected": "failed", "timeout": "failed",
    "error": "error",
    "pending": "skipped", "skipped": "skipped", "todo": "skipped", "disabled": "skipped",
    "ignored": "skipped", "xfailed": "skipped",
}  # fmt: skip


def read(data: bytes) -> Tally | None:
    """The tally of a JSON report; None for anything else."""
    if len(data) > LARGEST_BYTES or data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        return None
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return of_lines(data.decode("utf-8", "replace").split("\n"))
    if not isinstance(found, dict):
        return None
    for reader in (_jest, _mocha, _rspec, _playwright, _pytest):
        if tally := reader(found):
            return tally
    return of_lines([data.decode("utf-8", "replace").replace("\n", " ")])


def _list(found: Any, *path: str) -> list[dict[str, Any]]:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _number(found: Any, *path: str) -> int:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def _jest(found: dict[str, Any]) -> Tally | None:
    if "numTotalTests" not in found or "testResults" not in found:
        return None
    tally = Tally()
    for suite in _list(found, "testResults"):
        tests = _list(suite, "assertionResults")
        for test in tests:
            name = test.get("fullName") or test.get("title") or "?"
            tally.add(f"{suite.get('name', '')}::{name}", _WORDS.get(str(test.get("status")), "failed"))
        if not tests and suite.get("status") == "failed":
            tally.beside("errors", 1)
    tally.beside("failed", _number(found, "numFailedTests") - tally.numbers["failed"])
    if found.get("success") is False and not tally.numbers["failed"] and not tally.numbers["errors"]:
        tally.beside("errors", max(1, _number(found, "numRuntimeErrorTestSuites")) if tally.cases else 0)
    return tally


def _mocha(found: dict[str, Any]) -> Tally | None:
    if not isinstance(found.get("stats"), dict) or "failures" not in found["stats"]:
        return None
    tally = Tally()
    failed = {test.get("fullTitle") for test in _list(found, "failures")}
    pending = {test.get("fullTitle") for test in _list(found, "pending")}
    for test in _list(found, "tests"):
        name = test.get("fullTitle")
        result = "failed" if name in failed else "skipped" if name in pending else "passed"
        tally.add(str(name), result)
    tally.beside("failed", _number(found, "stats", "failures") - tally.numbers["failed"])
    return tally


def _rspec(found: dict[str, Any]) -> Tally | None:
    if "examples" not in found or not isinstance(found.get("summary"), dict):
        return None
    tally = Tally()
    for test in _list(found, "examples"):
        name = test.get("id") or test.get("full_description") or "?"
        tally.add(str(name), _WORDS.get(str(test.get("status")), "failed"))
    tally.beside("errors", _number(found, "summary", "errors_outside_of_examples_count"))
    return tally


def _playwright(found: dict[str, Any]) -> Tally | None:
    if not isinstance(found.get("stats"), dict) or "unexpected" not in found["stats"]:
        return None
    tally = Tally()
    suites = [(suite, "") for suite in _list(found, "suites")]
    while suites:
        suite, above = suites.pop()
        title = f"{above}{suite.get('title', '')} › "
        suites.extend((inner, title) for inner in _list(suite, "suites"))
        for spec in _list(suite, "specs"):
            for test in _list(spec, "tests"):
                name = f"{title}{spec.get('title', '')} [{test.get('projectName', '')}]"
                tally.add(name, _WORDS.get(str(test.get("status")), "failed"))
    tally.beside("errors", len(_list(found, "errors")))
    return tally


def _pytest(found: dict[str, Any]) -> Tally | None:
    if not isinstance(found.get("summary"), dict) or "exitcode" not in found:
        return None
    tally = Tally()
    for test in _list(found, "tests"):
        tally.add(str(test.get("nodeid", "?")), _WORDS.get(str(test.get("outcome")), "failed"))
    tally.beside("errors", sum(one.get("outcome") == "failed" for one in _list(found, "collectors")))
    return tally


def of_lines(lines: Iterable[str]) -> Tally | None:
    """`go test -json` or libtest's JSON, one event a line, whatever else stands between."""
    tally, seen = Tally(), False
    packages: dict[str, dict[str, str]] = {}
    broken: set[str] = set()
    for line in lines:
        event = _event(line)
        if event is None:
            continue
        if "Action" in event and ("Package" in event or "ImportPath" in event):
            seen = True
            _go(event, packages, broken)
        elif event.get("type") == "test" and event.get("event") in ("ok", "failed", "ignored", "timeout"):
            seen = True
            tally.add(str(event.get("name")), _WORDS[event["event"]])
        elif event.get("type") == "suite":
            seen = True
            tally.beside("failed", _number(event, "failed") - tally.numbers["failed"])
    for package, results in packages.items():
        for name, result in leaves(results).items():
            tally.add(f"{package}.{name}", result)
        if package in broken and "failed" not in results.values():
            tally.beside("errors", 1)
    return tally if seen else None


def _event(line: str) -> dict[str, Any] | None:
    line = line.strip()
    if not line.startswith("{") or not line.endswith("}"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _go(event: dict[str, Any], packages: dict[str, dict[str, str]], broken: set[str]) -> None:
    package = str(event.get("Package", event.get("ImportPath")))
    results = packages.setdefault(package, {})
    action, test = event["Action"], event.get("Test")
    result = {"pass": "passed", "fail": "failed", "skip": "skipped"}.get(str(action))
    if test is not None and result:
        results[str(test)] = result
    elif result == "failed" or action == "build-fail":
        broken.add(package)
