"""The connections of one client to `tppd`: one for commands, one for each lane of files, opened when needed.

Either is opened again by itself after it broke, and what was asked is asked once more when that is safe.
A file connection is a process inside that answers in order, so what may take long has a lane of its own, or
a connection of its own (`file_alone`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from actors.sandbox.tppd.protocol import Connection, Fields, Op, Reply, Tag
from terminalpp.types.errors import InvalidInput, Overloaded, SandboxNotRunning, TooLarge, Unavailable

Connect = Callable[[], Awaitable[Connection]]
REPLY_SECONDS = 30.0
PATH_MAX = 4095
ALONE_MAX = 8  # of the 64 file processes that tppd allows


def path_field(path: str) -> bytes:
    """A path as a field's bytes. Raises InvalidInput, TooLarge (the kernel takes 4095 bytes)."""
    if "\0" in path or not path:
        raise InvalidInput("a path is empty or has a zero byte")
    if len(raw := os.fsencode(path)) > PATH_MAX:
        raise TooLarge(f"a path of more than {PATH_MAX} bytes", "Use a shorter one.")
    return raw


class TppdConnections:
    """Of one event loop. `way`: the sandbox's run directory on this host, or what opens a connection."""

    def __init__(self, way: str | Path | Connect) -> None:
        self._connect: Connect = way if callable(way) else partial(Connection.to, way)
        self._control: Connection | None = None
        self._files: dict[str, Connection] = {}
        self._alone = 0
        self._opening = asyncio.Lock()

    async def ask(
        self, op: Op, fields: Fields, timeout_s: float = REPLY_SECONDS, *, repeat: bool = True
    ) -> Reply:
        """An operation over the connection for commands, once more when that broke and `repeat`. Raises what
        the reply stands for, Unavailable, SandboxNotRunning, DeadlineExceeded."""
        for last in (False, True):
            connection = await self._open_control()
            try:
                return (await connection.request(op, fields, timeout_s)).checked()
            except ConnectionError as error:
                self._raise_if_final(error, last or not repeat)
        raise AssertionError("unreachable")

    async def file_request(
        self, op: Op, path: str, fields: Fields, *, repeat: bool = True, timeout_s: float = 120.0,
        lane: str = "files",
    ) -> Reply:  # fmt: skip
        """A file operation over its lane's connection, once more when that broke and `repeat`. Raises
        Unavailable, SandboxNotRunning."""
        fields = [(Tag.PATH, path_field(path)), *fields]
        for last in (False, True):
            connection = await self._open_files(lane)
            try:
                return (await connection.request(op, fields, timeout_s)).checked()
            except ConnectionError as error:
                self._raise_if_final(error, last or not repeat)
        raise AssertionError("unreachable")

    def _raise_if_final(self, error: ConnectionError, final: bool) -> None:
        if final:
            raise Unavailable(f"the connection to tppd broke: {error}") from None

    async def _open_control(self) -> Connection:
        if self._control is not None and not self._control.lost:
            return self._control
        async with self._opening:
            if self._control is None or self._control.lost:
                self._control = await self._connect()
            return self._control

    async def file_alone(self, op: Op, path: str, fields: Fields, timeout_s: float) -> Reply:
        """A file operation that may take long: in a process of its own, which ends with it. Not repeated.

        When this is cancelled or `timeout_s` is over, what was under way is given up. Raises Overloaded."""
        fields = [(Tag.PATH, path_field(path)), *fields]
        if self._alone >= ALONE_MAX:
            raise Overloaded(f"{ALONE_MAX} long file operations are under way in this sandbox")
        self._alone += 1
        try:
            connection = await self._connect_files()
            try:
                return (await connection.request(op, fields, timeout_s)).checked()
            except ConnectionError as error:
                self._raise_if_final(error, True)
            finally:
                connection.close()
        finally:
            self._alone -= 1
        raise AssertionError("unreachable")

    async def _open_files(self, lane: str = "files") -> Connection:
        """Of each lane one connection: what waits in one does not hold up another."""
        found = self._files.get(lane)
        if found is not None and not found.lost:
            return found
        async with self._opening:
            found = self._files.get(lane)
            if found is None or found.lost:
                found = self._files[lane] = await self._connect_files()
            return found

    async def _connect_files(self) -> Connection:
        connection = await self._connect()
        try:
            (await connection.request(Op.FILES, [], REPLY_SECONDS)).checked()
        except ConnectionError:
            raise SandboxNotRunning("tppd closed the connection") from None
        except BaseException:
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Close the connections; commands go on. The object can be used again."""
        for connection in (self._control, *self._files.values()):
            if connection is not None:
                connection.close()
        self._control, self._files = None, {}
