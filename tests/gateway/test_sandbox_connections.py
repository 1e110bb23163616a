"""Accesses to sandboxes are few, and closed when nobody uses them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from actors.sandbox.link import link_to
from gateway import sandbox_connections
from gateway.sandbox_connections import SandboxConnections
from terminalpp.client import Client
from terminalpp.types.ids import new_id
from tests.gateway.conftest import Served


async def test_those_that_nobody_uses_are_few(tmp_path: Path) -> None:
    kept = SandboxConnections(None, partial(link_to, tmp_path))
    ids = [new_id() for _ in range(sandbox_connections.KEPT + 10)]
    async with kept.to(ids[0]) as first:
        for id in ids[1:]:
            async with kept.to(id):
                pass
        assert list(kept._kept) == [ids[0], *ids[11:]], "who is used is not closed"
        async with kept.to(ids[0]) as again:
            assert again is first
    await kept.close()
    assert not kept._kept


async def test_what_is_idle_is_closed_and_opened_again(
    stack: Served, api: Client, box: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = stack.app.gateway.connections
    ran = await api.run_command(box, "cat", stdin=True)
    await api.write_stdin(box, ran["id"], b"one\n", offset=0)
    await api.output(box, ran["id"], wait_ms=5000)
    await kept.sweep()
    assert list(kept._kept) == [box]
    monkeypatch.setattr(sandbox_connections, "IDLE_S", 0)
    async with kept.to(box):  # nobody is turned out
        await kept.sweep()
        assert list(kept._kept) == [box]
    await kept.sweep()
    assert not kept._kept
    await api.write_stdin(box, ran["id"], b"two\n", offset=4, eof=True)
    ended = await api.wait_command(box, ran["id"], timeout_ms=10_000)
    assert ended["stdout"] == "one\ntwo\n"
