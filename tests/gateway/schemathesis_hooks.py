"""Loaded by schemathesis (test_contract.py): waits are made short, because time is not what is tested."""

from __future__ import annotations

from typing import Any

import schemathesis

SHORT_MS = 20


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if isinstance(case.body, dict):
        _shorten(case.body, "wait_ms")
        _shorten(case.body, "timeout_ms")
        if case.body == {} and case.path.endswith("/wait"):
            case.body = {"timeout_ms": SHORT_MS}
    query = case.query
    if query is not None:
        _shorten(query, "wait_ms")
        if case.path.endswith("/events") and query.get("follow", True) in (True, "true"):
            query["follow"] = "false"
        if query.get("wait") in (True, "true"):  # until a sandbox runs
            query["wait"] = "false"


def _shorten(values: Any, name: str) -> None:
    given = values.get(name)
    number = int(given) if isinstance(given, str) and given.isascii() and given.isdecimal() else given
    if isinstance(number, int) and not isinstance(number, bool) and SHORT_MS < number <= 60_000:
        values[name] = SHORT_MS
