"""Connections to a server of this machine: only one that has proved itself ever sees a request.

Two ways. The Unix socket in the server's home: the folder is private (0700), and the kernel says whose
process listens. TCP on the loopback, where any process may have taken the port while the server was away:
there each new connection begins with a challenge (`terminalpp.types.proof`), before any byte of a token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import os
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from terminalpp.types import proof
from terminalpp.types.errors import Unavailable

CONNECT_S = 5.0
ANSWER_MAX = 16_384  # bytes of the answer to a challenge
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)

Dial = Callable[[], Awaitable[socket.socket]]


class Unproven(ConnectionError):
    """Whoever listens there is not the server that the token is for."""


class LocalConnector(aiohttp.BaseConnector):
    """Connections that `dial` makes."""

    def __init__(self, dial: Dial, limit: int) -> None:
        super().__init__(limit=limit)
        self._dial = dial

    async def _create_connection(
        self, req: aiohttp.ClientRequest, _traces: object, _timeout: object
    ) -> ResponseHandler:
        try:
            async with asyncio.timeout(CONNECT_S):
                connected = await self._dial()
                try:
                    return (await self._loop.create_connection(self._factory, sock=connected))[1]
                except BaseException:
                    connected.close()
                    raise
        except OSError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error


def of_home(home: Path) -> tuple[str, Path]:
    """The owner's token and the socket of the server with this TPP_HOME. Raises Unavailable if none ran."""
    try:
        token = (home / "secrets" / "owner.token").read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise Unavailable(f"no server has run in {home}", "Start it: `./tpp up`.") from error
    return token, home / "run" / proof.SOCKET


def is_loopback(url: URL) -> bool:
    """Whether `url` is plain HTTP to this machine (TLS proves a server by itself)."""
    host = url.host or ""
    if url.scheme != "http":
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def dial_unix(path: Path) -> socket.socket:
    """A connection to the socket at `path`. Raises OSError, Unproven."""
    loop = asyncio.get_running_loop()
    # A socket's path has 107 bytes at most, a home's may have more: its folder gets a short name.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        await loop.sock_connect(connected, f"/proc/self/fd/{folder}/{path.name}")
        owner = os.fstat(folder).st_uid
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] != owner:
            raise Unproven(f"{path} belongs to another account's process")
    except BaseException:
        connected.close()
        raise
    finally:
        os.close(folder)
    return connected


async def dial_loopback(url: URL, token: str) -> socket.socket:
    """A connection over which the server has proved that it knows `token`. Raises OSError, Unproven."""
    host, port = ("127.0.0.1" if url.host == "localhost" else url.host or ""), url.port or 80
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connected = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, (host, port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await _challenge(connected, host, port, token)
    except BaseException:
        connected.close()
        raise
    return connected


async def _challenge(connected: socket.socket, host: str, port: int, token: str) -> None:
    loop = asyncio.get_running_loop()
    nonce = secrets.token_hex(32)
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"GET {proof.PATH}?nonce={nonce} HTTP/1.1\r\nHost: {name}\r\nAccept: application/json\r\n\r\n"
    await loop.sock_sendall(connected, request.encode())
    answer = b""
    while (found := _body(answer)) is None:
        piece = await loop.sock_recv(connected, 4096)
        if not piece:
            raise ConnectionResetError("the server ended the connection")
        answer += piece
        if len(answer) > ANSWER_MAX:
            raise Unproven("it is not a Terminal++ server: no token was sent")
    expected = proof.proof(proof.digest(token), nonce, host, port)
    try:
        said = json.loads(found)["proof"].encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        said = b""
    if not hmac.compare_digest(said, expected.encode()):
        raise Unproven("it did not prove that it is the server that the token is for: no token was sent")


def _body(answer: bytes) -> bytes | None:
    """The body of an HTTP answer once it is whole. Raises Unproven for what our server would not say."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    fields = [line.lower().partition(b":") for line in head.split(b"\r\n")]
    lengths = [value.strip() for name, _, value in fields if name == b"content-length"]
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise Unproven("it is not a Terminal++ server: no token was sent")
    length = int(lengths[0])
    return body[:length] if len(body) >= length else None
