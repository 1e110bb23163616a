"""Raw TCP to a port in a sandbox: one connection, or a local port that passes every connection on.

A tunnel is one connection to the gateway that is upgraded to `tpp-tcp`. Whatever a program speaks passes: a
database's protocol, HTTP/2, SSH. Each direction ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

from yarl import URL

from terminalpp.client.transport import Transport, error_of
from terminalpp.types import errors

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BODY_MAX = 65_536
PIECE_BYTES = 65_536


async def open_tunnel(transport: Transport, path: str) -> Wire:
    """The raw bytes behind an upgrade of the gateway's `path`. Raises what it refuses, Unavailable."""
    try:
        async with asyncio.timeout(transport.timeout_s):
            wire = await transport.dial()
            try:
                return await _upgraded(wire, transport, path)
            except BaseException:
                wire[1].transport.abort()
                raise
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise transport.unreachable(error) from error


async def _upgraded(wire: Wire, transport: Transport, path: str) -> Wire:
    reader, writer = wire
    lines = [f"GET {path} HTTP/1.1", f"Host: {URL(transport.base_url).authority}",
             f"Authorization: {transport.authorization}", "Connection: Upgrade", "Upgrade: tpp-tcp", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status == 101:
        return wire
    named = [line.lower().partition(b":") for line in head.split(b"\r\n")]
    length = next((int(value) for name, _, value in named if name == b"content-length"), 0)
    raise error_of(status, await reader.readexactly(min(length, BODY_MAX)))


class Forward:
    """A local port whose connections are passed on to one in a sandbox: `async with`. `told`: is given the
    reason of each connection that could not be."""

    def __init__(
        self, dial: Callable[[], Awaitable[Wire]], host: str, port: int,
        told: Callable[[errors.TerminalError], None] | None = None,
    ) -> None:  # fmt: skip
        self._dial, self._host, self._asked, self._told = dial, host, port, told
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The local port."""
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(self._accept, self._host, self._asked)
        except OSError as error:
            hint = "Choose another: `8000:3000`, or `8000:0` for any."
            where = f"{self._host}:{self._asked}"
            raise errors.PortInUse(f"{where} cannot be had: {error.strerror}", hint) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            inside, far = await self._dial()
            await asyncio.gather(_copy(reader, far), _copy(inside, writer))
        except errors.TerminalError as error:
            if self._told is not None:
                self._told(error)
        except asyncio.CancelledError:
            pass  # the end of the forward: nobody waits for this task
        finally:
            self._open.discard(task)
            for one in (writer, far):
                if one is not None:
                    one.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(PIECE_BYTES):
            target.write(data)
            await target.drain()
        target.write_eof()
