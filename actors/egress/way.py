"""The way out of one sandbox: the socket that listens inside it, from which we accept out here.

The socket came from its tppd (`EGRESS`), over a connection that is kept: its end is the sandbox's end, and
the way's. So which socket a connection came by says whose it is, and nothing inside can pretend to be
another.

Bounded: CONNECTIONS_MAX at once, further ones wait in the socket's queue; each holds a few buffers, and who
reads slowly is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from pathlib import Path

from actors.egress.dialing import BUFFER_BYTES
from actors.egress.dialogue import Dialogue, Means
from actors.egress.policy import Policy
from actors.egress.refusal import Reason, Refused
from actors.sandbox.tppd.protocol import SOCKET, Op, Reply, Tag, number, payload
from runtime.framing import short_name
from terminalpp.types.errors import SandboxNotRunning
from terminalpp.types.network import PROXY_PORT

log = logging.getLogger("terminalpp.egress")

CONNECTIONS_MAX = 256
REPLY_SECONDS = 10.0
PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Handed:
    """A sandbox's listening socket, and the connection to its tppd by which it came."""

    control: socket.socket
    listener: socket.socket

    def close(self) -> None:
        """Let go of both; tppd keeps its own."""
        self.control.close()
        self.listener.close()


async def take_listener(run_dir: str | Path, port: int = PROXY_PORT) -> Handed:
    """Have tppd listen on the sandbox's loopback and hand the socket over. Safe to repeat.

    Raises SandboxNotRunning, Conflict (a program inside has taken the port), and what tppd says.
    """
    loop = asyncio.get_running_loop()
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.setblocking(False)
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            with short_name(run_dir) as folder:
                await loop.sock_connect(control, f"{folder}/{SOCKET}")
            asked = payload(Op.EGRESS, 1, [(Tag.PORT, number(port))])
            await loop.sock_sendall(control, len(asked).to_bytes(4, "little") + asked)
            data, descriptors = await _receive(control)
    except (OSError, TimeoutError) as error:
        control.close()
        raise SandboxNotRunning(f"nobody answers in {run_dir}: {error or 'no reply'}") from None
    except BaseException:
        control.close()
        raise
    handed = Handed(control, socket.socket(fileno=descriptors[0]) if descriptors else socket.socket())
    try:
        if not data:
            raise SandboxNotRunning("tppd closed the connection")
        Reply.decode(data[4:])[1].checked()
        handed.listener.setblocking(False)
    except BaseException:
        handed.close()
        raise
    return handed


async def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(BlockingIOError):
            data, descriptors, _flags, _address = socket.recv_fds(control, 65536, 1)
            return data, descriptors
        ready = loop.create_future()
        loop.add_reader(control, lambda ready=ready: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(control)


class Way:
    """See the head of this file; `means` says whose it is and what is allowed."""

    def __init__(self, handed: Handed, means: Means, connections_max: int = CONNECTIONS_MAX) -> None:
        self._handed, self._means = handed, means
        self._free = asyncio.Semaphore(connections_max)
        self._open: dict[asyncio.Task[None], Dialogue | None] = {}
        self._work = [asyncio.create_task(self._accept()), asyncio.create_task(self._watch())]

    @property
    def closed(self) -> bool:
        """The sandbox ended, or its tppd stopped listening."""
        return any(task.done() for task in self._work)

    def __len__(self) -> int:
        return len(self._open)

    async def close(self) -> None:
        """Cut every connection, and accept no more."""
        tasks = [*self._work, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._handed.close()

    async def enforce(self, policy: Policy) -> None:
        """Cut what is open and not allowed any more."""
        for task, dialogue in list(self._open.items()):
            if dialogue is None or dialogue.target is None or policy.permits(*dialogue.target):
                continue
            task.cancel()
            await self._means.refused(Refused(*dialogue.target, Reason.POLICY_CHANGED))

    async def _watch(self) -> None:
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_recv(self._handed.control, 1)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            try:
                accepted, _ = await loop.sock_accept(self._handed.listener)
            except OSError as error:
                self._free.release()
                if error.errno in (22, 9):  # EINVAL, EBADF: it does not listen any more
                    return
                log.warning("%s: a connection could not be accepted: %s", self._means.sandbox_id, error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            task = asyncio.create_task(self._converse(accepted))
            self._open[task] = None
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)
        self._free.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: a connection failed", self._means.sandbox_id, exc_info=error)

    async def _converse(self, accepted: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=accepted, limit=BUFFER_BYTES)
        except BaseException:
            accepted.close()
            raise
        dialogue = Dialogue(self._means, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = dialogue
        try:
            await dialogue.run()
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError):
            writer.transport.abort()  # either side went away
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
