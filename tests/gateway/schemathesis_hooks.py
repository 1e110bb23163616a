"""Loaded by schemathesis (test_contract.py): waits are made short, because time is not what is tested."""

from __future__ import annotations

import itertools
import re
from typing import Any

import schemathesis

SHORT_MS = 20
NOBODY = "00000000-0000-4000-8000-000000000000"
_COUNT = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if isinstance(case.body, dict):
        _shorten(case.body, "wait_ms")
        _shorten(case.body, "timeout_ms")
        _name_hosts(case.body)
        if case.body == {} and case.path.endswith("/wait"):
            case.body = {"timeout_ms": SHORT_MS}
    if case.path.endswith("/messages") and "conversation_id" in case.path_parameters:
        # No team is set to work here: a message that is well-formed meets no conversation.
        case.path_parameters["conversation_id"] = NOBODY
    for values in (case.body, case.query):
        mode = values.get("mode") if isinstance(values, dict) else None
        if isinstance(mode, str) and re.fullmatch(r"[0-7]{1,4}", mode):
            # An archive of a directory that its owner may not read is cut, which is how it is told.
            values["mode"] = f"{int(mode, 8) | 0o700:o}"
    # One key serves one request: what comes of two is told in test_idempotency.py.
    key = (case.headers or {}).get("Idempotency-Key")
    if key and len(key) <= 255 and key.isascii() and key.isprintable():
        number = f"{next(_COUNT):06}"
        case.headers["Idempotency-Key"] = key[: 255 - len(number)] + number
    headers = case.headers
    if case.path.endswith("/output/stream") and headers is not None and headers.get("last-event-id") == "0":
        headers["last-event-id"] = "0-0"  # the coverage phase sends this, whatever the header's pattern is
    query = case.query
    if query is not None:
        _shorten(query, "wait_ms")
        if re.fullmatch(r"[A-Za-z0-9_-]+", str(query.get("cursor", ""))):
            del query["cursor"]  # well-formed, and none that a list has given: told in the tests of the lists
        if case.path.endswith(("/events", "/output/stream")) and query.get("follow", True) in (True, "true"):
            query["follow"] = "false"
        if case.path.endswith("/archive") and case.method == "GET" and str(query.get("path")).startswith("/"):
            query["path"] = "/home/user"  # /proc does not stay as it is while it is packed
        if query.get("wait") in (True, "true"):  # until a sandbox runs
            query["wait"] = "false"


@schemathesis.serializer("application/x-tar", "application/octet-stream")
def as_it_is(context: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode()


def _name_hosts(body: dict[str, Any]) -> None:
    """Which texts are hosts, and which networks have a list, no schema tells: tests/egress,
    test_networks.py."""
    for name in ("allow", "allow_private"):
        entries = body.get(name)
        listed = entries if isinstance(entries, list) else [None]
        texts = all(isinstance(one, str) and 0 < len(one) <= 260 for one in listed)
        if texts and body.get("network") in ("none", "open"):
            del body[name]
        elif texts:
            body[name] = [f"h{number}.test" for number, _ in enumerate(listed)]


def _shorten(values: Any, name: str) -> None:
    given = values.get(name)
    number = int(given) if isinstance(given, str) and given.isascii() and given.isdecimal() else given
    if isinstance(number, int) and not isinstance(number, bool) and SHORT_MS < number <= 60_000:
        values[name] = SHORT_MS
