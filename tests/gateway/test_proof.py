"""Where the token goes: over the socket in the home, or to a server that has proved that it knows it. A
stranger who took the gateway's port gets nothing, whatever it says, also in the middle of an event stream."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.__main__ import listen, listen_unix
from schema import Database, Live
from terminalpp.client import Client
from terminalpp.types.errors import TerminalError, Unavailable
from tests.eventually import eventually
from tests.gateway.conftest import Served, Talk, make_talk, serving


class Stranger:
    """Takes a port, notes every byte that it is sent, and answers in one of the ways a thief may try."""

    def __init__(self, answer: bytes, relay: int = 0) -> None:
        self.answer, self.relay, self.heard, self.visitors = answer, relay, b"", 0

    @contextlib.asynccontextmanager
    async def on(self, port: int) -> AsyncIterator[Stranger]:
        server = await asyncio.start_server(self._serve, sock=listen(port))
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visitors += 1
        with contextlib.suppress(OSError):
            if self.relay:
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self.relay)
            while data := await reader.read(65536):
                self.heard += data
                if self.relay:
                    to_server.write(data)
                    writer.write(await from_server.read(65536))
                else:
                    writer.write(self.answer)
            writer.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
ANSWERS = {
    "silence": b"",
    "a made up proof": OK % (78, b'{"proof":"' + b"0" * 64 + b'"}  '),
    "no proof": OK % (2, b"{}"),
    "a list": OK % (2, b"[]"),
    "no length": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "endless": b"x" * 70_000,
}


@pytest.mark.parametrize("answer", list(ANSWERS))
async def test_a_stranger_on_the_port_gets_no_token(answer: str) -> None:
    stranger = Stranger(ANSWERS[answer])
    free = listen(0)
    port = free.getsockname()[1]
    free.close()
    url = f"http://127.0.0.1:{port}"
    async with stranger.on(port), Client(url, "the-secret-token", patience_s=0.3) as client:
        asking = asyncio.create_task(client.sandboxes())
        if answer == "silence":
            await eventually(lambda: stranger.heard)
            asking.cancel()
        with pytest.raises((Unavailable, asyncio.CancelledError)):
            await asking
    assert stranger.heard.startswith(b"GET /proof?nonce=")
    assert b"the-secret-token" not in stranger.heard
    assert b"uthorization" not in stranger.heard


async def test_a_stranger_cannot_let_the_real_server_answer(served: Served) -> None:
    """It relays the challenge to the gateway, which has moved to another port."""
    stranger = Stranger(b"", relay=int(served.url.rpartition(":")[2]))
    free = listen(0)
    port = free.getsockname()[1]
    free.close()
    async with stranger.on(port), Client(f"http://127.0.0.1:{port}", served.token, patience_s=0.3) as client:
        with pytest.raises(Unavailable, match="no token was sent"):
            await client.sandboxes()
    assert served.token.encode() not in stranger.heard


async def test_a_client_whose_token_is_another_is_told_so(served: Served) -> None:
    async with Client(served.url, "not-the-owners-token", patience_s=0.3) as client:
        with pytest.raises(TerminalError, match="no token was sent"):
            await client.sandboxes()


async def test_a_reconnecting_event_stream_tells_a_stranger_nothing(
    tmp_path: Path, database: Database, live: Live
) -> None:
    """The gateway is killed, a stranger takes its port, the client comes again; then the gateway is back."""
    stranger = Stranger(ANSWERS["a made up proof"])
    async with serving(tmp_path, database, live) as first:
        port, talk = int(first.url.rpartition(":")[2]), await make_talk(database, live)
        await talk.say(3)
        client = first.client()
        seen = client.events(talk.id)
        for _ in range(3):
            await anext(seen)
    following = asyncio.create_task(anext(seen))
    async with stranger.on(port):
        await eventually(lambda: stranger.visitors >= 3, timeout_s=20)
    assert first.token.encode() not in stranger.heard
    async with serving(tmp_path, database, live, port=port):
        await talk.say(1)
        async with asyncio.timeout(20):
            assert (await following)["seq"] == 4
        await seen.aclose()
        await client.close()


async def test_the_socket_in_the_home_is_private_and_serves(
    tmp_path: Path, database: Database, live: Live
) -> None:
    """In a home whose name is far too long for a socket, with a file that a killed gateway left."""
    home = tmp_path / ("long" * 40)
    home.mkdir()
    listen_unix(home).close()
    async with serving(home, database, live, unix=True) as served:
        talk: Talk = await make_talk(database, live)
        found = (home / "run" / "gateway.sock").stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        async with Client.at(home) as client:
            assert (await client.version())["name"] == "terminalpp"
            assert [row["id"] for row in await client.sandboxes()] == [talk.sandbox_id]
            await talk.say(2)
            assert [event["seq"] async for event in client.events(talk.id, follow=False)] == [1, 2]
        assert served.url


async def test_a_home_without_a_server_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no server"):
        Client.at(tmp_path)


@pytest.mark.parametrize("nonce", ["", "x" * 64, "0" * 63, "0" * 65])
async def test_only_a_nonce_is_proved(served: Served, nonce: str) -> None:
    async with served.http() as http:
        answer = await http.get("/proof", params={"nonce": nonce})
    assert answer.status_code == 422
