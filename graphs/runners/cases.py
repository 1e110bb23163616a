"""The single tests that a verbose output names, by result."""

from __future__ import annotations

import re
from collections.abc import Iterable

from graphs.runners import tap
from graphs.runners.native import GO, leaves

MOST = 100_000
_PYTEST = re.compile(r"^(?:\[gw\d+\].*?)?(\S+\.py::\S.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_XDIST = re.compile(r"^\[gw\d+\] \[ *\d+%\] (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+\.py::\S.*?) *$")
_UNITTEST = re.compile(
    r"^(\w+) \(([\w.]+)\)(?:.*) \.\.\. (ok|FAIL|ERROR|skipped|expected failure|unexpected success)"
)
_GO = re.compile(r"^ *--- (PASS|FAIL|SKIP): (\S+) \(\d")
_CARGO = re.compile(r"^test (\S.*?) \.\.\. (ok|FAILED|ignored)\b")
_WORDS = {
    "PASSED": "passed", "XPASS": "passed", "FAILED": "failed", "ERROR": "error", "SKIPPED": "skipped",
    "XFAIL": "skipped", "ok": "passed", "FAIL": "failed", "skipped": "skipped", "ignored": "skipped",
    "expected failure": "skipped", "unexpected success": "failed",
}  # fmt: skip


def cases(said: Iterable[str]) -> dict[str, str]:
    """Test id to passed, failed, error or skipped; of two results of one id the worse."""
    lines = list(said)
    found: dict[str, str] = {}
    of_go: dict[str, str] = {}
    for line in lines:
        if len(found) >= MOST:
            break
        if match := _PYTEST.match(line):
            add(found, match.group(1), _WORDS[match.group(2)])
        elif match := _XDIST.match(line):
            add(found, match.group(2), _WORDS[match.group(1)])
        elif match := _UNITTEST.match(line):
            name, owner, word = match.groups()
            add(found, owner if owner.endswith(f".{name}") else f"{owner}.{name}", _WORDS[word])
        elif match := _CARGO.match(line):
            add(found, match.group(1), _WORDS[match.group(2)])
        elif match := _GO.match(line):
            add(of_go, match.group(2), GO[match.group(1)])
    for name, result in leaves(of_go).items():
        add(found, name, result)
    if not found:
        for stream in tap.streams(lines):
            for name, result in zip(stream.names, stream.points, strict=True):
                add(found, name or f"point {len(found) + 1}", result)
    return found


def add(found: dict[str, str], name: str, result: str) -> None:
    """Keep the worse of two results of one test."""
    order = ("passed", "skipped", "error", "failed")
    if name not in found or order.index(result) > order.index(found[name]):
        found[name] = result
