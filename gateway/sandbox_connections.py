"""The gateway's ways into sandboxes, kept open: bytes go straight to `tppd`, not through an actor.

A `SandboxAccess` (files, standard input, signals) needs an attachment from the sandbox's entity, asked for
once and again when the sandbox has moved or was started anew. Watching a command's output needs none: the
journals lie in the run directory, and a `Tppd` without an epoch may wait there.
At most `KEPT` of each stay open, and none that nobody used for `IDLE_S`; the one unused longest goes first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from actors.sandbox.access import SandboxAccess
from actors.sandbox.tppd.client import Tppd
from terminalpp.types.ids import Ref

KEPT = 64
IDLE_S = 60.0
SWEEP_S = 15.0
ATTACH_S = 60.0


class SandboxConnections:
    def __init__(self, home: Path, runtime: Any) -> None:
        self._home = home
        self._runtime = runtime
        self._open: OrderedDict[str, SandboxAccess] = OrderedDict()
        self._watchers: OrderedDict[str, Tppd] = OrderedDict()
        self._used: dict[str, int] = {}         # doors that somebody stands in
        self._seen: dict[str, float] = {}       # when a door or watcher was last asked for

    def run_dir(self, sandbox_id: str) -> Path:
        """Where the sandbox's journals lie on this node."""
        return self._home / "sandboxes" / sandbox_id / "run"

    @asynccontextmanager
    async def into(self, sandbox_id: str) -> AsyncIterator[SandboxAccess]:
        """A door into the sandbox, which is started if it sleeps. Raises TerminalError."""
        async def attach() -> dict[str, Any]:
            return await self._runtime.call(Ref("sandbox", sandbox_id), "attach", {}, timeout_s=ATTACH_S)

        access = self._open.get(sandbox_id)
        if access is None:
            attachment = await attach()
            # Another request may have attached meanwhile: one door per sandbox.
            access = self._open.get(sandbox_id)
            if access is None:
                access = self._open[sandbox_id] = SandboxAccess(attachment, attach)
        self._open.move_to_end(sandbox_id)
        self._seen[sandbox_id] = time.monotonic()
        self._used[sandbox_id] = self._used.get(sandbox_id, 0) + 1
        try:
            yield access
        finally:
            self._seen[sandbox_id] = time.monotonic()
            self._used[sandbox_id] -= 1
            if not self._used[sandbox_id]:
                del self._used[sandbox_id]
            await self._trim()

    def watcher(self, sandbox_id: str) -> Tppd:
        """A client that may wait and look, nothing else."""
        watcher = self._watchers.get(sandbox_id)
        if watcher is None:
            watcher = self._watchers[sandbox_id] = Tppd(self.run_dir(sandbox_id))
        self._watchers.move_to_end(sandbox_id)
        self._seen[sandbox_id] = time.monotonic()
        return watcher

    async def run(self) -> None:
        """Close what is too many or idle, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Close what nobody used for `IDLE_S`; a wait asks for its watcher every second."""
        await self._trim()
        before = time.monotonic() - IDLE_S
        for sandbox_id in [id for id, at in self._seen.items() if at <= before and id not in self._used]:
            await self.forget(sandbox_id)

    async def forget(self, sandbox_id: str) -> None:
        """Close what is open for a sandbox that is gone, or was not used for long."""
        self._seen.pop(sandbox_id, None)
        for kept in (self._open.pop(sandbox_id, None), self._watchers.pop(sandbox_id, None)):
            if kept is not None:
                await kept.close()

    async def close(self) -> None:
        for sandbox_id in [*self._open, *self._watchers]:
            await self.forget(sandbox_id)

    async def _trim(self) -> None:
        # A watcher that is closed while it waits is opened again by the wait's own retry.
        while len(self._watchers) > KEPT:
            await self._watchers.popitem(last=False)[1].close()
        idle = [id for id in self._open if id not in self._used]
        for sandbox_id in idle[: max(0, len(self._open) - KEPT)]:
            await self._open.pop(sandbox_id).close()
