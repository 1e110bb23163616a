"""Ports inside a sandbox: which ones are listened on, and a raw connection to one.

A raw connection is one to `tppd` that was turned, by CONNECT, into the bytes of a connection to 127.0.0.1 or
::1 inside. It is a pair of asyncio's streams, so that the way to another machine can give the same.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.protocol import (
    MAX_FRAME_BYTES,
    PAUSED_MARK,
    SOCKET,
    Fields,
    Op,
    Reply,
    Tag,
    number,
    payload,
    raise_if_paused,
)
from runtime.framing import short_name
from terminalpp.types.errors import DeadlineExceeded, NotFound, PortClosed, SandboxNotRunning

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
READ_AHEAD_BYTES = 256 * 1024
CONNECT_SECONDS = 10.0
_SOCKET = struct.Struct("<BHIq16s")
_HOLDER = struct.Struct("<qq")


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is listened on. `addresses`: on which ones; `reachable`: one of them is 127.0.0.1, ::1 or
    all of a family, so that a connection from outside gets there. `pid`, `name`, `argv`: whose it is, the
    first of several; None and empty where the kernel does not tell."""

    port: int
    addresses: tuple[str, ...]
    reachable: bool
    pid: int | None
    name: str
    argv: tuple[str, ...]


async def listeners(
    tppd: Tppd, change: int | None = None, *, timeout_s: float = 0.0
) -> tuple[int, list[Listener]]:
    """The ports listened on now, by number, and the number of this state of things.

    With `change`, such a number: waits until there is another one, at most `timeout_s`. Raises
    SandboxNotRunning, Overloaded (64 wait already).
    """
    fields: Fields = [(Tag.TIMEOUT_MS, number(int(timeout_s * 1000)))]
    if change is not None:
        fields.append((Tag.CHANGE, number(change)))
    reply = await tppd.ask(Op.LISTEN, fields, timeout_s + 30.0)
    raw = [data for tag, data in reply.fields if tag == Tag.SOCKET]
    sockets = [_SOCKET.unpack(data) for data in raw]
    inodes = [(Tag.SOCKET, number(inode)) for *_, inode, _ in sockets]
    held = await tppd.file_request(Op.HOLDERS, "/", inodes, lane="ports") if inodes else None
    return reply.number(Tag.CHANGE), _merged(sockets, held)


def _merged(sockets: Iterable[tuple[int, int, int, int, bytes]], held: Reply | None) -> list[Listener]:
    holders = {}
    for tag, data in held.fields if held else []:
        if tag == Tag.HOLDER:
            inode, pid = _HOLDER.unpack_from(data)
            name, _, words = data[_HOLDER.size :].partition(b"\0")
            argv = words.removesuffix(b"\0").decode("utf-8", "replace").split("\0") if words else []
            holders[inode] = pid, name.decode("utf-8", "replace"), tuple(argv)
    found: dict[int, Listener] = {}
    for family, port, _uid, inode, raw in sockets:
        address = ipaddress.ip_address(raw[:4] if family == 4 else raw)
        plain = getattr(address, "ipv4_mapped", None) or address
        reachable = plain.is_unspecified or str(plain) in ("127.0.0.1", "::1")
        pid, name, argv = holders.get(inode, (None, "", ()))
        if (same := found.get(port)) is not None:
            reachable, address_list = reachable or same.reachable, (*same.addresses, str(plain))
            if same.pid is not None:
                pid, name, argv = same.pid, same.name, same.argv
            addresses = tuple(dict.fromkeys(address_list))
        else:
            addresses = (str(plain),)
        found[port] = Listener(port, addresses, reachable, pid, name, argv)
    return [found[port] for port in sorted(found)]


async def dial(run_dir: str | Path, port: int) -> Wire:
    """A raw connection to a port inside. Raises PortClosed (nobody listens), SandboxNotRunning,
    SandboxPaused, Overloaded, DeadlineExceeded (within 10 s)."""
    raise_if_paused(str(Path(run_dir).parent / PAUSED_MARK))
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            with short_name(run_dir) as short:
                wire = await asyncio.open_unix_connection(f"{short}/{SOCKET}", limit=READ_AHEAD_BYTES)
            try:
                await _turn(wire, port)
            except BaseException:
                wire[1].transport.abort()
                raise
            return wire
    except TimeoutError:
        raise DeadlineExceeded(f"no connection to port {port} within {CONNECT_SECONDS:g} s") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        words = getattr(error, "strerror", None) or "the connection was closed"
        raise SandboxNotRunning(f"nobody answers in {run_dir}: {words}") from None


async def _turn(wire: Wire, port: int) -> None:
    """Ask for CONNECT; what comes behind the reply are the program's bytes."""
    reader, writer = wire
    frame = payload(Op.CONNECT, 1, [(Tag.PORT, number(port))])
    writer.write(struct.pack("<I", len(frame)) + frame)
    (size,) = struct.unpack("<I", await reader.readexactly(4))
    if size > MAX_FRAME_BYTES:
        raise SandboxNotRunning("what answers is not tppd")
    try:
        Reply.decode(await reader.readexactly(size))[1].checked()
    except NotFound:
        raise PortClosed(f"nobody listens on port {port} in the sandbox") from None
