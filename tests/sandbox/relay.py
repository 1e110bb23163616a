"""A link to a sandbox through another socket, as a node of another machine will offer one.

The relay stands for that node: it answers the questions about journals, and passes the bytes of a connection
on to `tppd`. The link has nothing but the relay's port.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
from collections.abc import Sequence
from typing import Any

from actors.sandbox.link import LocalLink
from actors.sandbox.tppd.journal import Chunk, ExitRecord, Life, Stream
from actors.sandbox.tppd.ports import Wire
from actors.sandbox.tppd.protocol import SOCKET, Connection
from runtime.framing import short_name
from schema.executions import ExecutionRow
from terminalpp.types.errors import SandboxNotRunning, TerminalError

HERE, NOBODY = b"+", b"-"


class Relay:
    """The node's end: one line `tppd` or `ask`, then the bytes, or one pickled question and its answer."""

    def __init__(self, run_dir: str) -> None:
        self._local = LocalLink(run_dir)
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen on a port of the loopback; its number."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line == b"tppd\n":
                await self._pass_on(reader, writer)
                return
            if line.startswith(b"port "):
                inside = await self._local.dial(int(line[5:]))
                await asyncio.gather(_copy(reader, inside[1]), _copy(inside[0], writer))
                return
            method, args, options = pickle.loads(await reader.read())
            try:
                answer = await getattr(self._local, method)(*args, **options)
            except TerminalError as error:
                answer = error
            writer.write(pickle.dumps(answer))
            await writer.drain()
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with short_name(self._local.run_dir) as short:
                inside = await asyncio.open_unix_connection(f"{short}/{SOCKET}")
        except OSError:
            writer.write(NOBODY)
            return
        writer.write(HERE)
        await asyncio.gather(_copy(reader, inside[1]), _copy(inside[0], writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


class RelayLink:
    """`actors.sandbox.link.SandboxLink` by way of a relay."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def connect(self) -> Connection:
        loop, line = asyncio.get_running_loop(), socket.socket()
        line.setblocking(False)
        await loop.sock_connect(line, ("127.0.0.1", self._port))
        await loop.sock_sendall(line, b"tppd\n")
        if await loop.sock_recv(line, len(HERE)) != HERE:
            line.close()
            raise SandboxNotRunning("nobody answers there")
        return (await loop.create_connection(Connection, sock=line))[1]

    async def _ask(self, method: str, *args: Any, **options: Any) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"ask\n" + pickle.dumps((method, args, options)))
        writer.write_eof()
        answer = pickle.loads(await reader.read())
        writer.close()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def dial(self, port: int) -> Wire:
        wire = await asyncio.open_connection("127.0.0.1", self._port)
        wire[1].write(b"port %d\n" % port)
        return wire

    async def life(self, exec_id: str) -> Life:
        return await self._ask("life", exec_id)

    async def read(self, exec_id: str, stream: Stream, offset: int, limit: int) -> Chunk:
        return await self._ask("read", exec_id, stream, offset, limit)

    async def length(self, exec_id: str, stream: Stream) -> int:
        return await self._ask("length", exec_id, stream)

    async def exit_record(self, exec_id: str) -> ExitRecord | None:
        return await self._ask("exit_record", exec_id)

    async def marks(self, exec_id: str) -> Any:
        return await self._ask("marks", exec_id)

    async def with_ends(self, rows: Sequence[ExecutionRow], *, output: bool) -> list[ExecutionRow]:
        return await self._ask("with_ends", rows, output=output)
