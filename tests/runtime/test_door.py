"""The runtime's own door: whatever is called or sent, the entity stays usable, and nothing odd is stored."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.conversation.entity import Conversation
from actors.sandbox.entity import Sandbox
from runtime import wire
from runtime.decorators import Kind
from runtime.settings import Settings
from schema import Database, Live, entities, users
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id
from tests.gateway.stack import hosting
from tests.runtime.local_cells import CELL, LocalNode

REFUSED = (errors.InvalidInput, errors.TooLarge, errors.NotFound, errors.UnknownMethod)


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


ADDRESSES = [
    ("unheard-of", "x"), ("", "x"), ("Counter", "x"), ("../counter", "x"), ("counter\0", "x"),
    ("c" * 21, "x"),
    ("counter", ""), ("counter", "../../etc"), ("counter", "a/b"), ("counter", "."), ("counter", ".."),
    ("counter", "x" * 201), ("counter", "a\nb"), ("counter", "\ud800"), ("counter", "a b"), ("counter", "ü"),
    ("counter", None), (None, "x"), (7, "x"), ("counter", ["x"]),
]  # fmt: skip
METHODS = ["", "no_such", "__init__", "_private", "activated", "effect_failed", "on_reminder", "remind:tick",
           "write_line", "add ", "add\0", "a" * 101, "../add", "ADD", None, 7]  # fmt: skip
PAYLOADS = [
    "text", 7, True, [], [1], ["a"], {"\0": 1}, {"a": "\0"}, {"a": "\ud800"}, {"\udfff": 1},
    {"a": ["x", {"b": "\ud83d"}]}, {"n": float("nan")}, {"n": float("inf")}, {"n": 10**5000}, {"a": object()},
    {"a": b"bytes"}, {"a": deep(100_000)}, {"a": "x" * (wire.PAYLOAD_BYTES + 1)}, {1: {2}},
]  # fmt: skip


async def refused(work: Any) -> None:
    with pytest.raises(REFUSED):
        await work


async def usable(node: LocalNode, ref: Ref, total: int) -> None:
    assert await node.runtime.send(ref, "add", {"n": 1}) == {"total": total}
    row = await entities.load(node.database, ref)
    assert (row.failures, row.quarantined_at) == (0, None)


async def test_what_is_no_address_is_refused_and_stored_nowhere(node: LocalNode, counter: Ref) -> None:
    for kind, id in ADDRESSES:
        for method in ("get", "add"):
            ref = Ref(kind, id)  # type: ignore[arg-type]
            await refused(node.runtime.call(ref, method, {}))
            await refused(node.runtime.send(ref, method, {}))
    assert await node.database.fetchval("SELECT count(*) FROM mailbox") == 0
    assert await node.database.fetchval("SELECT count(*) FROM entities") == 0
    await usable(node, counter, 1)


async def test_odd_methods_are_refused(node: LocalNode, counter: Ref) -> None:
    for method in METHODS:
        await refused(node.runtime.call(counter, method, {}))  # type: ignore[arg-type]
        await refused(node.runtime.send(counter, method, {}))  # type: ignore[arg-type]
    await usable(node, counter, 1)


async def test_odd_payloads_are_refused(node: LocalNode, counter: Ref) -> None:
    for payload in PAYLOADS:
        await refused(node.runtime.call(counter, "echo", payload))
        await refused(node.runtime.send(counter, "add", payload))
    for id in ("", "x" * 301, "a\0", "\ud800", "a\nb"):
        await refused(node.runtime.send(counter, "add", {}, message_id=id))
    assert await node.database.fetchval("SELECT count(*) FROM mailbox") == 0
    await usable(node, counter, 1)


async def test_what_looks_odd_and_is_text_passes_unchanged(node: LocalNode, counter: Ref) -> None:
    for text in ("\\u0000", "\\ud800 is half a pair", "😀", "\x01\x7f\u2028", ""):
        payload = {text: text}
        assert await node.runtime.call(counter, "echo", payload) == payload


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


async def test_any_payload_is_echoed_or_refused(node: LocalNode, counter: Ref) -> None:
    loop = asyncio.get_running_loop()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(JSON)
    def told(payload: Any) -> None:
        work = node.runtime.call(counter, "echo", payload)
        with contextlib.suppress(errors.InvalidInput):
            assert asyncio.run_coroutine_threadsafe(work, loop).result(20) == (payload or {})

    await asyncio.to_thread(told)
    await usable(node, counter, 1)


async def test_bytes_that_are_no_request_hurt_only_themselves(node: LocalNode, counter: Ref) -> None:
    """What a broken caller could put on a cell's socket."""
    from runtime import cell

    await usable(node, counter, 1)
    host = node.cells.hosts[CELL]
    odd = (b"", b"{", b"\xff\xfe", b"[]", b'["counter"]', b'["counter","x"]', b"null", b"7", b"[1,2,3,4]")
    for data in odd:
        for work in (cell._call, cell._deliver, cell._activate, cell._nudge):
            reply = await cell._reply(work(host, data))
            assert wire.refused(reply) or b'"error"' in reply
    await usable(node, counter, 2)


# ---- the real entities --------------------------------------------------------------------------------

ODD = [
    {}, {"x": 1}, {"user_id": 7}, {"user_id": "nobody"}, {"message_id": 5, "text": "t"}, {"text": "t"},
    {"message_id": "m"}, {"model": 7}, {"exec_id": 7}, {"exec_id": "../x", "command": "true"},
    {"sandbox_id": 7, "workspace": 9, "user_id": []}, {"resource_limits": "x"}, {"timeout_ms": "soon"},
    {"name": "remind", "action": 7, "error": 9}, {"exec_id": "x", "signal": "KILL"}, {"argv": [""]},
]  # fmt: skip


async def test_odd_payloads_leave_sandboxes_and_conversations_usable(
    database: Database, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Missing, misnamed and mistyped fields are refused, by every durable method; none counts as a defect."""
    live = Live(redis_url)
    made = Settings(home=tmp_path, database_url=database_url, redis_url=redis_url)
    owner = await users.ensure_owner(database)
    async with hosting(made, database, live) as runtime:
        sandbox, talk = Ref("sandbox", new_id()), Ref("conversation", new_id())
        await runtime.send(sandbox, "create", {"user_id": owner, "start": False})
        await runtime.send(talk, "create", {
            "user_id": owner, "sandbox_id": sandbox.id, "workspace": "/home/user", "model": "scripted:demo"})
        for ref, cls in ((sandbox, Sandbox), (talk, Conversation)):
            for method, kind in cls.methods.items():
                if kind is not Kind.DURABLE or method in ("start", "destroy"):
                    continue
                fresh = Ref(ref.kind, new_id())
                asked = [(at, payload) for payload in ODD for at in (ref, fresh)]
                answers = await asyncio.gather(
                    *(runtime.send(at, method, payload, timeout_s=20) for at, payload in asked),
                    return_exceptions=True)
                for (_, payload), answer in zip(asked, answers, strict=True):
                    told = f"{ref.kind}.{method}({payload}) → {answer!r}"
                    assert not isinstance(answer, Exception) or isinstance(answer, errors.TerminalError), told
                    assert type(answer) is not errors.TerminalError, told
                for at in (ref, fresh):
                    row = await entities.load(database, at)
                    assert (row.failures, row.quarantined_at) == (0, None), method
        assert (await runtime.call(sandbox, "status"))["status"] in ("stopped", "error")
        assert (await runtime.call(talk, "describe"))["workspace"] == "/home/user"
    await live.close()
