"""Ways into sandboxes are few, and closed when nobody uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import sandbox_connections
from gateway.sandbox_connections import SandboxConnections
from terminalpp.client import Client
from terminalpp.types.ids import new_id
from tests.gateway.conftest import Served


async def test_watchers_are_few(tmp_path: Path) -> None:
    kept = SandboxConnections(tmp_path, None)
    ids = [new_id() for _ in range(sandbox_connections.KEPT + 10)]
    made = [kept.watcher(id) for id in ids]
    await kept.sweep()
    assert list(kept._watchers) == ids[10:]
    assert kept.watcher(ids[-1]) is made[-1]
    await kept.close()


async def test_what_is_idle_is_closed_and_opened_again(
    stack: Served, api: Client, box: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = stack.app.gateway.connections
    ran = await api.run_command(box, "cat", stdin=True)
    await api.write_stdin(box, ran["id"], b"one\n", offset=0)
    await api.output(box, ran["id"], wait_ms=5000)
    await kept.sweep()
    assert (list(kept._open), list(kept._watchers)) == ([box], [box])
    monkeypatch.setattr(sandbox_connections, "IDLE_S", 0)
    async with kept.into(box):  # nobody is turned out
        await kept.sweep()
        assert list(kept._open) == [box]
    await kept.sweep()
    assert (kept._open, kept._watchers, kept._seen, kept._used) == ({}, {}, {}, {})
    await api.write_stdin(box, ran["id"], b"two\n", offset=4, eof=True)
    ended = await api.wait_command(box, ran["id"], timeout_ms=10_000)
    assert ended["stdout"] == "one\ntwo\n"
