"""CONNECT, LISTEN and HOLDERS: raw bytes to a port inside, and which ports there are; without a network."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest

from actors.sandbox.link import LocalLink
from actors.sandbox.tppd import ports
from actors.sandbox.tppd.protocol import Connection, Op, Tag, number, payload
from terminalpp.types.errors import InvalidInput, PortClosed
from tests.eventually import eventually
from tests.sandbox.conftest import Sandbox

# The first line tells what to do: `echo`, `drop` (answer how much there was), `flood N`, `die`, `wait`.
SERVER = r'''
import socket, sys, threading
family, address, port = sys.argv[1:4]
s = socket.socket(socket.AF_INET6 if family == "6" else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((address, int(port))); s.listen(256)
print("ready", flush=True)
def serve(c):
    f = c.makefile("rb", 0)
    word = f.readline().decode().split()
    if word[0] == "echo":
        while d := c.recv(65536): c.sendall(d)
    elif word[0] == "drop":
        n = 0
        while d := c.recv(1 << 20): n += len(d)
        c.sendall(str(n).encode())
    elif word[0] == "flood":
        left, piece = int(word[1]), bytes(1 << 16)
        while left > 0:
            try: c.sendall(piece[:left])
            except OSError: print("cut", flush=True); return
            left -= len(piece)
    elif word[0] == "die":
        c.sendall(b"half")
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    elif word[0] == "wait":
        print("gone" if not c.recv(1) else "more", flush=True)
    c.close()
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
'''


async def serve(sandbox: Sandbox, family: str = "4", address: str = "127.0.0.1", port: int = 8000) -> str:
    await sandbox.tppd.write_file("server.py", SERVER.encode(), epoch=sandbox.epoch)
    exec_id = await sandbox.begin(f"exec python3 server.py {family} {address} {port}")

    async def ready() -> bool:
        said = sandbox.output(exec_id)
        assert not sandbox.output(exec_id, "stderr"), sandbox.output(exec_id, "stderr")
        return b"ready" in said

    await eventually(ready, timeout_s=20)
    return exec_id


@pytest.fixture
async def server(sandbox: Sandbox) -> AsyncIterator[str]:
    exec_id = await serve(sandbox)
    yield exec_id
    await sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch)


async def opened(sandbox: Sandbox, word: str, port: int = 8000) -> ports.Wire:
    wire = await LocalLink(sandbox.run_dir).dial(port)
    wire[1].write(word.encode() + b"\n")
    return wire


async def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(sandbox: Sandbox, server: str) -> None:
    reader, writer = await opened(sandbox, "echo")
    data = os.urandom(5_000_000)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with asyncio.timeout(30):
        sending = asyncio.create_task(send())
        assert await reader.read(-1) == data
        await sending
        reader, writer = await opened(sandbox, "drop")
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == b"5000000"


async def test_who_does_not_read_stops_his_own_connection_alone(sandbox: Sandbox, server: str) -> None:
    slow, writer = await opened(sandbox, "flood 300000000")
    await slow.readexactly(1)
    async with asyncio.timeout(30):
        other, _ = await opened(sandbox, "flood 20000000")
        assert len(await other.read(-1)) == 20_000_000
    memory = await sandbox.sh("grep VmRSS /proc/1/status || true")
    if memory.out:  # of tppd: what nobody reads is not gathered
        assert int(memory.text.split()[1]) < 20_000, memory.text
    writer.transport.abort()  # who goes ends the program's side too
    await eventually(lambda: b"cut" in sandbox.output(server), timeout_s=10)


async def test_who_goes_is_seen_by_a_program_that_only_waits(sandbox: Sandbox, server: str) -> None:
    _, writer = await opened(sandbox, "wait")
    await asyncio.sleep(0.05)
    writer.close()
    await eventually(lambda: b"gone" in sandbox.output(server), timeout_s=10)


async def test_a_program_that_dies_ends_the_connection(sandbox: Sandbox, server: str) -> None:
    reader, _ = await opened(sandbox, "die")
    async with asyncio.timeout(10):
        assert await reader.read(-1) in (b"half", b"")
    reader, _ = await opened(sandbox, "wait")
    await sandbox.tppd.kill_tree(server, epoch=sandbox.epoch)
    async with asyncio.timeout(10):
        assert await reader.read(-1) == b""


async def test_nobody_listens_and_no_port(sandbox: Sandbox) -> None:
    link = LocalLink(sandbox.run_dir)
    with pytest.raises(PortClosed, match="port 9"):
        await link.dial(9)
    for wrong in (0, -1, 65536, 2**40):
        with pytest.raises(InvalidInput):
            await link.dial(wrong)
    # From whose range connections go out: none of them meets itself.
    for port in range(32768, 33000):
        with pytest.raises(PortClosed):
            await link.dial(port)
    connection = await link.connect()  # a frame without a port; the connection stays
    assert (await connection.request(Op.CONNECT, [], 5)).status == 7
    assert (await connection.request(Op.HELLO, [], 5)).status == 0
    connection.close()


@pytest.mark.parametrize(("family", "address"), [("4", "0.0.0.0"), ("6", "::1"), ("6", "::")])
async def test_each_address_is_reached(sandbox: Sandbox, family: str, address: str) -> None:
    if family == "6" and "00000001" not in (await sandbox.sh("cat /proc/net/if_inet6")).text:
        assert type(sandbox.driver).__name__ == "DockerDriver", "here there is IPv6"
        return
    exec_id = await serve(sandbox, family, address, 8100)
    reader, writer = await opened(sandbox, "drop", 8100)
    writer.write_eof()
    assert await reader.read(-1) == b"0"
    (found,) = [one for one in (await ports.listeners(sandbox.tppd))[1] if one.port == 8100]
    assert found.addresses == (address,)
    assert found.reachable
    await sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch)


async def test_the_host_is_not_reached(sandbox: Sandbox) -> None:
    """Loopback inside is not that of the host."""
    host = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = host.sockets[0].getsockname()[1]
    with pytest.raises(PortClosed):
        await LocalLink(sandbox.run_dir).dial(port)
    host.close()


async def test_ports_are_found_with_their_programs(sandbox: Sandbox, server: str) -> None:
    _, found = await ports.listeners(sandbox.tppd)
    (one,) = [one for one in found if one.port == 8000]
    assert (one.addresses, one.reachable) == (("127.0.0.1",), True)
    assert one.name.startswith("python3")
    assert one.argv[1:] == ("server.py", "4", "127.0.0.1", "8000")
    assert one.pid in {p.pid for p in await sandbox.tppd.processes()}


async def test_a_new_port_is_noticed_within_a_second(sandbox: Sandbox) -> None:
    change, _ = await ports.listeners(sandbox.tppd)
    started = time.monotonic()
    again, _ = await ports.listeners(sandbox.tppd, change, timeout_s=0.3)
    assert again == change, "nothing has changed"
    assert 0.25 < time.monotonic() - started < 3
    watching = asyncio.create_task(ports.listeners(sandbox.tppd, change, timeout_s=30))
    exec_id = await serve(sandbox, port=8200)
    opened_at = time.monotonic()
    async with asyncio.timeout(20):
        change, found = await watching
    assert time.monotonic() - opened_at < 1.5
    assert 8200 in [one.port for one in found]
    watching = asyncio.create_task(ports.listeners(sandbox.tppd, change, timeout_s=30))
    await sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch)
    async with asyncio.timeout(20):
        assert 8200 not in [one.port for one in (await watching)[1]]


async def test_watchers_are_bounded_and_let_go(sandbox: Sandbox) -> None:
    change, _ = await ports.listeners(sandbox.tppd)
    for _ in range(3):
        connection = await Connection.to(sandbox.run_dir)
        ask = [(Tag.CHANGE, number(change)), (Tag.TIMEOUT_MS, number(60_000))]
        waiting = [asyncio.create_task(connection.request(Op.LISTEN, ask, 60)) for _ in range(65)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert [task.result().status for task in done] == [10]
        connection.close()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_connections_are_bounded_and_half_a_handshake_leaves_nothing(
    sandbox: Sandbox, server: str
) -> None:
    link, open_ = LocalLink(sandbox.run_dir), []
    try:
        for _ in range(512):
            open_.append(await link.dial(8000))
        with pytest.raises(Exception, match="512"):
            await link.dial(8000)
    finally:
        for _, writer in open_:
            writer.transport.abort()

    async def free() -> bool:
        try:
            (await link.dial(8000))[1].transport.abort()
        except Exception:
            return False
        return True

    await eventually(free, timeout_s=60)  # its server has 512 connections to let go of
    for _ in range(50):  # gone before the answer
        connection = await link.connect()
        connection.send(payload(Op.CONNECT, 1, [(Tag.PORT, number(8000))]))
        connection.close()
    assert (await sandbox.tppd.hello()).version == 7


async def test_tppds_own_listener_is_nobodys_port(sandbox: Sandbox) -> None:
    """The way out of a sandbox listens on its loopback: not shown, not reached, free again once it ends."""
    link = LocalLink(sandbox.run_dir)
    connection = await link.connect()
    for _ in range(20):  # more often than there are places to remember it
        assert (await connection.request(Op.EGRESS, [(Tag.PORT, number(8400))], 5)).status == 0
        assert 8400 not in [one.port for one in (await ports.listeners(sandbox.tppd))[1]]
        with pytest.raises(PortClosed):
            await link.dial(8400)
        assert (await connection.request(Op.EGRESS_CLOSE, [], 5)).status == 0
    connection.close()
    exec_id = await serve(sandbox, port=8400)
    assert 8400 in [one.port for one in (await ports.listeners(sandbox.tppd))[1]]
    (await link.dial(8400))[1].close()
    await sandbox.tppd.kill_tree(exec_id, epoch=sandbox.epoch)
