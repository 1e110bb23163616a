"""Whatever bytes come to the proxy, by whatever pieces: an answer or an end, and no connection that was not
allowed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.egress.client_hello import NotTls, greeted
from actors.egress.credentials import NoCredentials
from actors.egress.dialing import Dialer
from actors.egress.dialogue import Dialogue, Means
from actors.egress.policy import Policy
from actors.egress.refusal import Refused
from terminalpp.types.errors import Unavailable


class Recording:
    """What the dialogues of a test resolve and refuse."""

    def __init__(self) -> None:
        self.resolved: list[str] = []
        self.refused: list[str] = []

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        raise OSError("there is no such name")

    async def add(self, refusal: Refused) -> None:
        self.refused.append(refusal.host)

    def means(self, *allow: str) -> Means:
        async def policy() -> Policy:
            return Policy.of(allow)

        return Means("0b0f2a63", policy, self.add, Dialer(self.resolve), NoCredentials())


async def answered(means: Means, pieces: list[bytes], *, end: bool = True) -> bytes:
    """What the proxy says to these bytes."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=theirs)
    talking = asyncio.create_task(Dialogue(means, reader, writer).run())
    loop, said = asyncio.get_running_loop(), b""
    try:
        for piece in pieces:
            await loop.sock_sendall(ours, piece)
        if end:
            ours.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(20):
            await talking
            writer.close()
            while data := await loop.sock_recv(ours, 65536):
                said += data
    except ConnectionError:
        pass
    finally:
        ours.close()
        writer.close()
    return said


WORDS = st.sampled_from(
    [b"CONNECT ", b"GET ", b"POST ", b"http://", b"evil.test",
     b":443", b":", b"/", b" HTTP/1.1", b"\r\n", b"\n",
     b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"\r\n\r\n", b" ", b"\x00",
     b"\xff", b"@",
     b"127.0.0.1", b"[::1]", b"0x7f.1", b"PRI * HTTP/2.0", b"\x05\x01\x00", b"\x16\x03\x01"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS | st.binary(max_size=20), max_size=20))
async def test_any_bytes_have_an_answer_or_an_end(pieces: list[bytes]) -> None:
    recording = Recording()
    said = await answered(recording.means("good.test"), pieces)
    assert said == b"" or said.startswith((b"HTTP/1.1 4",)), said
    assert recording.resolved == []


async def test_a_policy_that_cannot_be_read_lets_nothing_out() -> None:
    async def down() -> Policy:
        raise Unavailable("the database has not answered")

    means = replace(Recording().means(), policy=down)
    said = await answered(means, [b"CONNECT good.test:443 HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert said.startswith(b"HTTP/1.1 503")


async def test_an_allowed_name_without_an_address_is_told_as_such() -> None:
    recording = Recording()
    request = b"GET http://good.test/ HTTP/1.1\r\nHost: a\r\n\r\n"
    said = await answered(recording.means("good.test"), [request])
    assert said.startswith(b"HTTP/1.1 502")
    assert b"could not be resolved" in said
    assert (recording.resolved, recording.refused) == (["good.test"], [])


async def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    means = replace(Recording().means(), head_seconds=0.2)
    said = await answered(means, [b"GET http://good", b".test/ HTTP/1.1\r\nHo"], end=False)
    assert said.startswith(b"HTTP/1.1 408")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_greet_somebody_or_nobody(data: bytes, tls: bool) -> None:
    try:
        name = greeted((b"\x16\x03\x01" if tls else b"") + data)
    except (NotTls, ssl.SSLWantReadError):
        return
    assert name is None or isinstance(name, str)


@pytest.mark.parametrize("cut", [1, 5, 50, 200])
def test_a_greeting_in_pieces_is_waited_for(cut: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    out = ssl.MemoryBIO()
    asking = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="good.test")
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    hello = out.read()
    with pytest.raises(ssl.SSLWantReadError):
        greeted(hello[:cut])
    assert greeted(hello) == "good.test"
