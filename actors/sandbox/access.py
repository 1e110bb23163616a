"""The way into a sandbox for everybody who is not its entity: commands' output, files, signals.

The sandbox entity gives an *attachment* (`attach`): where the run directory is and at which epoch one
may act. With it a `SandboxAccess` talks to the sandbox directly, so bytes pass through no actor. When the
sandbox has moved to another owner meanwhile (Fenced) or was started anew (SandboxNotRunning), the
door asks `reattach` for a fresh attachment and tries once more; without that callback the error is
the caller's. New commands are not started here: the entity does, because it keeps the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Stat, Tppd
from actors.sandbox.tppd.journal import Chunk, ExitRecord, Stream
from actors.sandbox.tppd.replies import Process
from terminalpp.types.errors import Fenced, NotFound, SandboxNotRunning, Unavailable

T = TypeVar("T")
Reattach = Callable[[], Awaitable[dict[str, Any]]]
_POLL_SECONDS = 30.0
_NEVER = 2**62


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of one stream, as `follow` gives it."""

    stream: Stream
    chunk: Chunk


class SandboxAccess:
    """See the head of this file. Belongs to one event loop; `close` it when done."""

    def __init__(self, attachment: dict[str, Any], reattach: Reattach | None = None) -> None:
        self._reattach = reattach
        self._lock = asyncio.Lock()
        self._use(attachment)

    def _use(self, attachment: dict[str, Any]) -> None:
        self.attachment = attachment
        self.sandbox_id = str(attachment["sandbox_id"])
        self.run_dir = str(attachment["run_dir"])
        self.epoch = int(attachment["epoch"])
        self.tppd = Tppd(self.run_dir)

    async def _do(self, act: Callable[[Tppd, int], Awaitable[T]]) -> T:
        used = self.tppd
        try:
            return await act(used, self.epoch)
        except (Fenced, SandboxNotRunning):
            if self._reattach is None:
                raise
        async with self._lock:  # many calls meet the same change: one of them attaches again
            if self.tppd is used:
                fresh = await self._reattach()
                await used.close()
                self._use(fresh)
        return await act(self.tppd, self.epoch)

    async def close(self) -> None:
        """Close the connections; nothing inside is touched."""
        await self.tppd.close()

    async def do(self, act: Callable[[Tppd, int], Awaitable[T]]) -> T:
        """`act` with the client and the epoch (see `actors.sandbox.tppd.files`); once more after a
        change of owner, so `act` must be safe to repeat."""
        return await self._do(act)

    # ---- files ----------------------------------------------------------------------------------

    async def read_file(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """See Tppd.read_file."""
        return await self._do(lambda t, _: t.read_file(path, offset, limit))

    async def write_file(self, path: str, data: bytes, mode: int | None = None) -> None:
        """See Tppd.write_file; parent directories are made."""
        await self._do(lambda t, epoch: t.write_file(path, data, mode, epoch=epoch))

    async def write_stream(self, path: str, pieces: AsyncIterator[bytes], mode: int | None = None) -> None:
        """See Tppd.write_stream. Not tried again after a change of owner: the pieces are consumed."""
        await self.tppd.write_stream(path, pieces, mode, epoch=self.epoch)

    async def stat(self, path: str, *, follow: bool = True) -> Stat:
        """See Tppd.stat."""
        return await self._do(lambda t, _: t.stat(path, follow=follow))

    async def listdir(self, path: str) -> list[Stat]:
        """See Tppd.listdir."""
        return await self._do(lambda t, _: t.listdir(path))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """See Tppd.remove."""
        await self._do(lambda t, epoch: t.remove(path, epoch=epoch, recursive=recursive))

    async def mkdir(self, path: str, *, parents: bool = True, mode: int = 0o755) -> None:
        """See Tppd.mkdir."""
        await self._do(lambda t, epoch: t.mkdir(path, epoch=epoch, parents=parents, mode=mode))

    async def symlink(self, path: str, target: str) -> None:
        """See Tppd.symlink."""
        await self._do(lambda t, epoch: t.symlink(path, target, epoch=epoch))

    # ---- commands -------------------------------------------------------------------------------

    async def wait(self, exec_id: str, timeout_s: float) -> ExitRecord | None:
        """How it ended; None when it still runs after `timeout_s`. Raises NotFound.

        A command whose sandbox died has a record with the reason `lost`.
        """
        record = journal.exit_record(self.run_dir, exec_id)
        if record is not None:
            return record
        status = await self._do(lambda t, _: t.wait(exec_id, timeout_s=timeout_s))
        return status.record or journal.exit_record(self.run_dir, exec_id)

    async def output(
        self, exec_id: str, stream: Stream = "stdout", offset: int = 0, limit: int = 65536
    ) -> Chunk:
        """What is there now from `offset` on, at once. Raises NotFound."""
        return await asyncio.to_thread(journal.read, self.run_dir, exec_id, stream, offset, limit)

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
        `next_offset`. A sandbox that dies ends it as an end does.
        """
        wanted: tuple[Stream, ...] = ("stdout", "stderr") if streams == "both" else (streams,)
        at: dict[Stream, int] = {"stdout": out_offset, "stderr": err_offset}
        at |= {s: _NEVER for s in at if s not in wanted}  # growth of the other one must not wake us
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
            ended = await self._more(exec_id, at)

    async def _more(self, exec_id: str, at: dict[Stream, int]) -> bool:
        """Wait for more output; True when there will be none but what the journals hold already."""
        if journal.closed(self.run_dir, exec_id):
            return True
        try:
            status = await self._do(
                lambda t, _: t.wait(
                    exec_id,
                    timeout_s=_POLL_SECONDS,
                    until="output",
                    out_offset=at["stdout"],
                    err_offset=at["stderr"],
                )
            )
        except (SandboxNotRunning, Unavailable):
            if journal.start_record(self.run_dir, exec_id) is None:
                raise NotFound(f"no such execution: {exec_id}") from None
            return True
        return status.closed

    async def stdin(self, exec_id: str, offset: int, data: bytes, *, eof: bool = False) -> int:
        """See Tppd.stdin."""
        return await self._do(lambda t, epoch: t.stdin(exec_id, offset, data, epoch=epoch, eof=eof))

    async def signal(self, exec_id: str, signo: int, *, tree: bool = False) -> None:
        """See Tppd.signal."""
        await self._do(lambda t, epoch: t.signal(exec_id, signo, epoch=epoch, tree=tree))

    async def processes(self) -> list[Process]:
        """See Tppd.processes."""
        return await self._do(lambda t, _: t.processes())

    async def kill_all(self) -> int:
        """See Tppd.kill_all."""
        return await self._do(lambda t, epoch: t.kill_all(epoch=epoch))

    async def kill_tree(self, exec_id: str, *, timeout_s: float = 30.0) -> None:
        """See Tppd.kill_tree."""
        await self._do(lambda t, epoch: t.kill_tree(exec_id, epoch=epoch, timeout_s=timeout_s))
