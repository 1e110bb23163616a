"""Ports by the Python client: requests, links, raw bytes, a local port that is one of the sandbox's."""

from __future__ import annotations

import asyncio

import pytest

from terminalpp.client import Client
from terminalpp.client.sandbox import AsyncSandbox
from terminalpp.types.errors import InvalidInput, NotFound, PortClosed, PortInUse, TerminalError
from terminalpp.types.ids import new_id
from tests.eventually import eventually
from tests.gateway.test_ports import PORT, Program, program

__all__ = ["program"]


async def test_the_object_of_a_port(program: Program) -> None:
    sandbox = await AsyncSandbox.connect(program.box, client=program.api)
    assert [one["port"] for one in await sandbox.ports()] == [PORT]
    port = sandbox.port(PORT)
    assert await port.url() == f"http://{program.host}/"
    answer = await port.request("POST", "/x", headers={"x-a": "b"}, content=b"abc")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (await port.request(target="/refuse")).status == 413, "the program's answer, whatever it is"
    share = await port.share(60, name="anna")
    assert [one["name"] for one in await program.api.port_shares(program.box)] == ["anna"]
    await port.unshare(share["id"])
    with pytest.raises(NotFound):
        await port.unshare(share["id"])
    for closed in (sandbox.port(1).request(), sandbox.port(1).url()):
        with pytest.raises(PortClosed):
            await closed
    with pytest.raises(InvalidInput):
        await port.request(target="x")
    with pytest.raises(NotFound):
        await program.api.port_request(new_id(), PORT)


async def test_a_local_port_is_one_of_the_sandboxs(program: Program) -> None:
    told: list[TerminalError] = []
    async with program.api.forward_port(program.box, PORT) as forward:
        local = forward.port
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"early")
        writer.write(b"a" * 3_000_000)
        writer.write_eof()  # one direction ends, the other one goes on
        async with asyncio.timeout(20):
            assert await reader.read(-1) == b"A" * 3_000_000 + b"end"
        with pytest.raises(PortInUse):
            await program.api.forward_port(program.box, PORT, local).__aenter__()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", local)
    async with program.api.forward_port(program.box, 1, told=told.append) as forward:
        reader, _ = await asyncio.open_connection("127.0.0.1", forward.port)
        assert await reader.read(-1) == b""
    assert [error.code for error in told] == ["port-closed"]
    await eventually(lambda: program.served.app.gateway.admission.long.running == 0, timeout_s=10)


async def test_a_tunnel_is_had_by_its_upgrade_alone(program: Program) -> None:
    path = program.path.replace("/ports/", "/tunnels/")
    async with program.served.http() as http:
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
        assert "tpp-tcp" in answer.json()["hint"]
    share = await program.share()
    async with Client(program.served.url, share["token"], prove=False) as anna:
        reader, writer = await anna.port_tunnel(program.box, PORT)
        writer.write(b"GET /chunked HTTP/1.1\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        with pytest.raises(NotFound):
            await anna.port_tunnel(program.box, 1)
