"""The whole way out: the sandbox entity, the proxy as a process of its own, and a server outside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from schema import Database, network, sandboxes
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from terminalpp.types.network import PROXY_PORT
from tests.sandbox.test_egress import asking
from tests.sandbox_entity.conftest import Cell

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Proxy:
    """`python -m actors.egress` on the home of a cell, and a server on the host's loopback."""

    cell: Cell
    port: int
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        own = {"TPP_SANDBOX_HOST_PORTS": str(self.port)}
        environment = {**os.environ, **self.cell.settings.to_environ(), **own}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "actors.egress", cwd=ROOT, env=environment)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    @property
    def get(self) -> str:
        return asking(f"GET http://127.0.0.1:{self.port}/ HTTP/1.0\r\n\r\n")


@pytest.fixture
async def proxy(cell: Cell) -> AsyncIterator[Proxy]:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nreach\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Proxy(cell, server.sockets[0].getsockname()[1])
    await made.start()
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.kill()
    server.close()


async def made(cell: Cell, owner: str, **options: object) -> str:
    id = new_id()
    await cell.send(id, "create", user_id=owner, **options)
    assert (await cell.call(id, "settled"))["status"] == "running"
    return id


async def test_a_sandbox_is_let_out_changed_and_shut_while_it_runs(
    cell: Cell, proxy: Proxy, owner: str, database: Database
) -> None:
    id = await made(cell, owner, network="allowlist", allow_private=[f"127.0.0.1:{proxy.port}"])
    assert (await cell.sh(id, "echo $HTTP_PROXY"))["stdout"] == f"http://127.0.0.1:{PROXY_PORT}\n"
    assert "reach" in (await cell.sh(id, proxy.get))["stdout"]

    await cell.send(id, "set_network", allow=[], allow_private=[])
    said = (await cell.sh(id, proxy.get))["stdout"]
    assert "403" in said
    (refusal,) = await network.refusals(database, id)
    assert (refusal.host, refusal.port, refusal.reason) == ("127.0.0.1", proxy.port, "not-allowed")

    await cell.send(id, "set_network", network="none")
    await cell.call(id, "network_applied")
    shut = await cell.sh(id, f"echo [$HTTP_PROXY]; {proxy.get}")
    assert (shut["stdout"], shut["exit_code"]) == ("[]\n", 7)

    await cell.send(id, "set_network", allow_private=[f"127.0.0.1:{proxy.port}"])
    assert await cell.call(id, "network_applied")
    assert "reach" in (await cell.sh(id, proxy.get))["stdout"]
    await cell.send(id, "set_network", network="none")
    await cell.send(id, "set_network", network="allowlist")
    assert (await sandboxes.get(database, id)).network_policy == {
        "allow": [], "allow_private": [f"127.0.0.1:{proxy.port}"]}  # fmt: skip


async def test_the_proxy_is_killed_and_comes_back(cell: Cell, proxy: Proxy, owner: str) -> None:
    id = await made(cell, owner, allow_private=[f"127.0.0.1:{proxy.port}"])
    await proxy.kill()
    waiting = new_id()
    assert (await cell.sh(id, proxy.get, exec_id=waiting, wait_ms=300))["status"] == "running"
    assert await cell.call(id, "network_applied") is False
    await proxy.start()
    assert "reach" in (await cell.call(id, "wait", exec_id=waiting, timeout_ms=30_000))["stdout"]


async def test_another_life_has_the_way_out_again(cell: Cell, proxy: Proxy, owner: str) -> None:
    id = await made(cell, owner, allow_private=[f"127.0.0.1:{proxy.port}"])
    await cell.send(id, "stop")
    await cell.call(id, "settled")
    await cell.send(id, "start")
    await cell.call(id, "settled")
    assert "reach" in (await cell.sh(id, proxy.get))["stdout"]


async def test_what_the_policy_cannot_be_is_refused_before_anything_is_made(cell: Cell, owner: str) -> None:
    for options, field in (
        ({"network": "allowlist", "allow": ["pipy"]}, "allow"),
        ({"network": "none", "allow": ["pypi"]}, "allow"),
        ({"network": "lan"}, "network"),
        ({"allow_private": ["*.internal"]}, "allow_private"),
        ({"allow": "pypi"}, "allow"),
    ):
        with pytest.raises(errors.InvalidInput) as caught:
            await cell.send(new_id(), "create", user_id=owner, **options)
        assert caught.value.detail.startswith(field)
    id = await made(cell, owner)
    with pytest.raises(errors.Conflict, match="while the sandbox is running"):
        await cell.send(id, "set_network", network="open")
    with pytest.raises(errors.NotFound):
        await cell.send(new_id(), "set_network", network="none")


async def test_a_hostile_sandbox_fills_no_table(database: Database, owner: str) -> None:
    id = new_id()
    await sandboxes.create(database, id, owner, "noisy")
    for n in range(network.KEPT + 20):
        await network.refused(database, id, f"h{n}.test", 443, "not-allowed", "words")
    await network.refused(database, id, "h219.test", 443, "not-allowed", "words", 5)
    kept = await network.refusals(database, id, limit=1000)
    assert len(kept) == network.KEPT
    assert (kept[0].host, kept[0].count) == ("h219.test", 6)


async def test_a_frozen_helper_holds_up_no_other_sandbox(cell: Cell, proxy: Proxy, owner: str) -> None:
    frozen = await made(cell, owner, allow_private=[f"127.0.0.1:{proxy.port}"])
    await proxy.kill()
    listener = Path(cell.settings.home) / "sandboxes" / frozen / "run" / "ctl.sock"
    listener.rename(listener.with_name("away.sock"))
    with socket.socket(socket.AF_UNIX) as silent:  # takes connections and says nothing
        silent.bind(str(listener))
        silent.listen()
        await proxy.start()
        other = await made(cell, owner, allow_private=[f"127.0.0.1:{proxy.port}"])
        assert "reach" in (await cell.sh(other, proxy.get))["stdout"]
    listener.unlink()
    listener.with_name("away.sock").rename(listener)
