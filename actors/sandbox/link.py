"""How a process reaches one sandbox: the port, and its local implementation.

All that is done with a sandbox from outside of it takes one of three ways, and all depend on where it runs:
a connection to its `tppd`, a raw one to a port inside, and its journals, which are read whether or not it
lives. `SandboxLink` is these three and nothing else; `SandboxAccess` and everything above it know no path of
the run directory.

Who owns what: the link belongs to whoever made it, the connections that it opens to their callers. The
sandbox may die at any time: then `connect` raises SandboxNotRunning, and the journals stay until retention
or deletion. A kill of this process loses nothing, since no byte is kept here. Another machine's sandbox
needs one more implementation (its node answers the same questions); `tests/sandbox/test_link.py`
says what it owes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from actors.sandbox.commands.views import row_with_end
from actors.sandbox.tppd import journal, ports, ptys
from actors.sandbox.tppd.journal import Chunk, ExitRecord, Life, Stream
from actors.sandbox.tppd.protocol import Connection
from actors.sandbox.tppd.ptys import Mark
from schema.executions import ExecutionRow


class SandboxLink(Protocol):
    """See the head of this file. Any number of tasks of one event loop may call its methods at once."""

    async def connect(self) -> Connection:
        """Open a new connection to its tppd. Raises SandboxNotRunning when nobody listens."""

    async def dial(self, port: int) -> ports.Wire:
        """Open a raw connection to a port inside: see `ports.dial`."""

    async def life(self, exec_id: str) -> Life:
        """What is on record of a command: whether it was started, has exited, and its streams have closed."""

    async def read(self, exec_id: str, stream: Stream, offset: int, limit: int) -> Chunk:
        """Up to `limit` bytes of a stream from `offset` on, as `journal.read` gives them. Raises NotFound."""

    async def length(self, exec_id: str, stream: Stream) -> int:
        """The length of a stream so far in bytes, gaps counted; 0 when there is no journal."""

    async def exit_record(self, exec_id: str) -> ExitRecord | None:
        """How the command ended; None while it runs or when it never started."""

    async def marks(self, exec_id: str) -> list[Mark]:
        """What was noted beside the output of a terminal: see `ptys.marks`."""

    async def with_ends(self, rows: Sequence[ExecutionRow], *, output: bool) -> list[ExecutionRow]:
        """The rows, those of commands that have ended with their ends; with `output` also extracts of what
        they printed."""


class LocalLink:
    """The link to a sandbox of this machine: its Unix socket, and its files read in threads."""

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = str(run_dir)

    async def connect(self) -> Connection:
        """See SandboxLink.connect."""
        return await Connection.to(self.run_dir)

    async def dial(self, port: int) -> ports.Wire:
        """See SandboxLink.dial."""
        return await ports.dial(self.run_dir, port)

    async def life(self, exec_id: str) -> Life:
        """See SandboxLink.life."""
        return await asyncio.to_thread(journal.life, self.run_dir, exec_id)

    async def read(self, exec_id: str, stream: Stream, offset: int, limit: int) -> Chunk:
        """See SandboxLink.read."""
        return await asyncio.to_thread(journal.read, self.run_dir, exec_id, stream, offset, limit)

    async def length(self, exec_id: str, stream: Stream) -> int:
        """See SandboxLink.length."""
        return await asyncio.to_thread(journal.end, self.run_dir, exec_id, stream)

    async def exit_record(self, exec_id: str) -> ExitRecord | None:
        """See SandboxLink.exit_record."""
        return await asyncio.to_thread(journal.exit_record, self.run_dir, exec_id)

    async def marks(self, exec_id: str) -> list[Mark]:
        """See SandboxLink.marks."""
        return await asyncio.to_thread(lambda: list(ptys.marks(self.run_dir, exec_id)))

    async def with_ends(self, rows: Sequence[ExecutionRow], *, output: bool) -> list[ExecutionRow]:
        """See SandboxLink.with_ends."""
        def read() -> list[ExecutionRow]:
            return [row_with_end(self.run_dir, row, output=output) for row in rows]

        return await asyncio.to_thread(read)


def link_to(home: str | Path, sandbox_id: str) -> SandboxLink:
    """The link to a sandbox of this machine, whose home is `home` (all of them are, today)."""
    return LocalLink(Path(home) / "sandboxes" / sandbox_id / "run")
