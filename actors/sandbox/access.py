"""The one way into a sandbox for everybody who is not its entity: commands, their output, input, signals,
files.

What needs no leave (reading output, waiting, looking at processes) neither wakes the sandbox nor asks its
entity. What changes something carries the epoch of the sandbox's owner: the entity is asked for it at first
use (`attach`, which starts a sandbox that sleeps), and again when the sandbox has moved to another owner
(Fenced) or does not run (SandboxNotRunning); then the act is tried once more, so it must be safe to repeat.
Bytes pass through no actor. New commands are started by the entity, because it keeps the record.

Where the sandbox runs is the link's knowledge (`link.SandboxLink`), not this file's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from actors.sandbox.link import SandboxLink
from actors.sandbox.tppd import ports
from actors.sandbox.tppd.client import Stat, Tppd
from actors.sandbox.tppd.journal import Chunk, ExitRecord, Life, Stream
from actors.sandbox.tppd.ptys import Mark
from actors.sandbox.tppd.replies import Process, Status
from schema.executions import ExecutionRow
from terminalpp.types.errors import DeadlineExceeded, Fenced, NotFound, SandboxNotRunning, Unavailable

T = TypeVar("T")
Attach = Callable[[], Awaitable[dict[str, Any]]]
_POLL_SECONDS = 30.0
NEVER = 2**62  # an offset that no stream reaches: growth of such a stream wakes nobody


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of one stream, as `follow` gives it."""

    stream: Stream
    chunk: Chunk


class SandboxAccess:
    """See the head of this file. Belongs to one event loop; `close` it when done.

    `attach` calls the entity's method of that name; of its answer the `epoch` is used.
    """

    def __init__(self, link: SandboxLink, attach: Attach) -> None:
        self._link = link
        self._attach = attach
        self._attaching = asyncio.Lock()
        self._epoch = 0
        self._attached = 0  # how often
        self.tppd = Tppd(link.connect)

    async def close(self) -> None:
        """Close the connections; nothing inside is touched. It can be used again."""
        await self.tppd.close()

    async def do(self, act: Callable[[Tppd, int], Awaitable[T]]) -> T:
        """`act` with the client and the epoch (see `actors.sandbox.tppd.files`); once more after a change of
        owner, or after a start of the sandbox, so `act` must be safe to repeat."""
        epoch, number = await self.epoch(), self._attached
        try:
            return await act(self.tppd, epoch)
        except (Fenced, SandboxNotRunning):
            return await act(self.tppd, await self.epoch(beyond=number))

    async def epoch(self, *, beyond: int = 0) -> int:
        """The epoch under which one may act. Raises what attaching raises.

        `beyond`: the number of the attachment that did not work. Many calls meet the same change, and one of
        them attaches again.
        """
        if self._attached <= beyond:
            async with self._attaching:
                if self._attached <= beyond:
                    self._epoch = int((await self._attach())["epoch"])
                    self._attached += 1
        return self._epoch

    # ---- files ----------------------------------------------------------------------------------

    async def read_file(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """See Tppd.read_file."""
        return await self.do(lambda t, _: t.read_file(path, offset, limit))

    async def write_file(self, path: str, data: bytes, mode: int | None = None) -> None:
        """See Tppd.write_file; parent directories are made."""
        await self.do(lambda t, epoch: t.write_file(path, data, mode, epoch=epoch))

    async def write_stream(self, path: str, pieces: AsyncIterator[bytes], mode: int | None = None) -> None:
        """See Tppd.write_stream. Not tried again after a change of owner: the pieces are consumed."""
        await self.tppd.write_stream(path, pieces, mode, epoch=await self.epoch())

    async def stat(self, path: str, *, follow: bool = True) -> Stat:
        """See Tppd.stat."""
        return await self.do(lambda t, _: t.stat(path, follow=follow))

    async def listdir(self, path: str) -> list[Stat]:
        """See Tppd.listdir."""
        return await self.do(lambda t, _: t.listdir(path))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """See Tppd.remove."""
        await self.do(lambda t, epoch: t.remove(path, epoch=epoch, recursive=recursive))

    async def mkdir(self, path: str, *, parents: bool = True, mode: int = 0o755) -> None:
        """See Tppd.mkdir."""
        await self.do(lambda t, epoch: t.mkdir(path, epoch=epoch, parents=parents, mode=mode))

    async def symlink(self, path: str, target: str) -> None:
        """See Tppd.symlink."""
        await self.do(lambda t, epoch: t.symlink(path, target, epoch=epoch))

    # ---- commands: looking ----------------------------------------------------------------------

    async def life(self, exec_id: str) -> Life | None:
        """Whether the command has exited and nothing more will be printed: by its record, else by tppd.

        None when neither can tell, and its row has to: it was never started, or its sandbox is down and has
        left no record of its end. With its sandbox went all that held its streams.
        """
        life = await self._link.life(exec_id)
        if life.closed or not life.started:
            return life if life.closed else None
        try:
            status = await self.tppd.status(exec_id)
            return Life(True, status.state != "running", status.closed)
        except (SandboxNotRunning, NotFound):
            return Life(True, True, True) if life.exited else None
        except (Unavailable, DeadlineExceeded):
            return life if life.exited else None

    async def output(
        self, exec_id: str, stream: Stream = "stdout", offset: int = 0, limit: int = 65536
    ) -> Chunk:
        """The output that is there now from `offset` on, at once. Raises NotFound."""
        return await self._link.read(exec_id, stream, offset, limit)

    async def length(self, exec_id: str, stream: Stream) -> int:
        """The length of a stream so far in bytes."""
        return await self._link.length(exec_id, stream)

    async def marks(self, exec_id: str) -> list[Mark]:
        """What was noted beside a terminal's output: when which byte came, sizes, labels."""
        return await self._link.marks(exec_id)

    async def exit_record(self, exec_id: str) -> ExitRecord | None:
        """How it ended, as is on record; None while it runs. See `end`."""
        return await self._link.exit_record(exec_id)

    async def with_ends(self, rows: Sequence[ExecutionRow], *, output: bool = True) -> list[ExecutionRow]:
        """Rows of commands as they will be: a row follows its command's end by some milliseconds."""
        return await self._link.with_ends(rows, output=output)

    async def end(self, exec_id: str, timeout_s: float) -> ExitRecord | None:
        """How it ended; None when it still runs after `timeout_s`. Raises NotFound, SandboxNotRunning.

        A command whose sandbox died has a record with the reason `lost`.
        """
        if (record := await self._link.exit_record(exec_id)) is not None:
            return record
        status = await self.tppd.wait(exec_id, timeout_s=timeout_s)
        return status.record or await self._link.exit_record(exec_id)

    async def more(self, exec_id: str, timeout_s: float, out_offset: int, err_offset: int) -> Status:
        """Return when a stream is longer than its offset, both have closed, or time is up.

        Raises NotFound, SandboxNotRunning, Unavailable.
        """
        return await self.tppd.wait(
            exec_id, timeout_s=timeout_s, until="output", out_offset=out_offset, err_offset=err_offset
        )

    async def follow(
        self,
        exec_id: str,
        out_offset: int = 0,
        err_offset: int = 0,
        limit: int = 65536,
        streams: Literal["both", "stdout", "stderr"] = "both",
    ) -> AsyncIterator[Piece]:
        """Pieces of both streams as they come, until the streams have ended and all of it was given.

        A process that a command left behind may hold them open after its end. Offsets go on from a former
        `next_offset`. A sandbox that dies ends it as an end does. Raises NotFound.
        """
        wanted: tuple[Stream, ...] = ("stdout", "stderr") if streams == "both" else (streams,)
        at: dict[Stream, int] = {"stdout": out_offset, "stderr": err_offset}
        at |= {s: NEVER for s in at if s not in wanted}
        ended = False
        while True:
            found = False
            for stream in wanted:
                chunk = await self.output(exec_id, stream, at[stream], limit)
                if chunk.data or chunk.gap_bytes:
                    found, at[stream] = True, chunk.next_offset
                    yield Piece(stream, chunk)
            if found:
                continue
            if ended:
                return
            ended = await self._ended(exec_id, at)

    async def _ended(self, exec_id: str, at: dict[Stream, int]) -> bool:
        """Wait for more output; True when there will be none but what the journals hold already."""
        if (await self._link.life(exec_id)).closed:
            return True
        try:
            return (await self.more(exec_id, _POLL_SECONDS, at["stdout"], at["stderr"])).closed
        except (SandboxNotRunning, Unavailable):
            if not (await self._link.life(exec_id)).started:
                raise NotFound(f"no such execution: {exec_id}") from None
            return True

    async def processes(self) -> list[Process]:
        """Every process inside, none when the sandbox does not run. See Tppd.processes."""
        try:
            return await self.tppd.processes()
        except SandboxNotRunning:
            return []

    async def left(self, exec_id: str) -> bool:
        """Whether there is a process or an open stream of it."""
        try:
            return exec_id in await self.tppd.list()
        except SandboxNotRunning:
            return False

    # ---- ports ----------------------------------------------------------------------------------

    async def listeners(
        self, change: int | None = None, timeout_s: float = 0.0
    ) -> tuple[int, list[ports.Listener]]:
        """See `ports.listeners`. Raises SandboxNotRunning: looking wakes nobody."""
        return await ports.listeners(self.tppd, change, timeout_s=timeout_s)

    async def dial(self, port: int, *, wake: bool) -> ports.Wire:
        """A raw connection to a port inside: see `ports.dial`. `wake`: a sandbox that does not run is
        started for it."""
        if not wake:
            return await self._link.dial(port)
        await self.epoch()
        number = self._attached
        try:
            return await self._link.dial(port)
        except SandboxNotRunning:
            await self.epoch(beyond=number)
            return await self._link.dial(port)

    # ---- commands: acting -----------------------------------------------------------------------

    async def stdin(self, exec_id: str, offset: int, data: bytes, *, eof: bool = False) -> int:
        """See Tppd.stdin."""
        return await self.do(lambda t, epoch: t.stdin(exec_id, offset, data, epoch=epoch, eof=eof))

    async def signal(self, exec_id: str, signo: int, *, tree: bool = False) -> None:
        """See Tppd.signal."""
        await self.do(lambda t, epoch: t.signal(exec_id, signo, epoch=epoch, tree=tree))

    async def kill_all(self) -> int:
        """See Tppd.kill_all."""
        return await self.do(lambda t, epoch: t.kill_all(epoch=epoch))

    async def kill_tree(self, exec_id: str, *, timeout_s: float = 30.0) -> None:
        """See Tppd.kill_tree."""
        await self.do(lambda t, epoch: t.kill_tree(exec_id, epoch=epoch, timeout_s=timeout_s))
