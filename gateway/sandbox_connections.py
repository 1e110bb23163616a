"""The gateway's accesses to sandboxes, kept open between requests: bytes go to `tppd`, not through an actor.

At most `KEPT` that nobody uses just now stay open, and none that nobody used for `IDLE_S`; the one unused
longest goes first. One that is in use is never closed.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from actors.sandbox.access import SandboxAccess
from actors.sandbox.link import SandboxLink
from terminalpp.types.ids import Ref

KEPT = 64
IDLE_S = 60.0
SWEEP_S = 15.0
ATTACH_S = 60.0


@dataclass
class _Kept:
    access: SandboxAccess
    users: int = 0
    used_at: float = 0.0


class SandboxConnections:
    """See the head of this file. `link_to` gives the link to a sandbox by its id."""

    def __init__(self, runtime: Any, link_to: Callable[[str], SandboxLink]) -> None:
        self._runtime = runtime
        self._link_to = link_to
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # by their last use

    @asynccontextmanager
    async def to(self, sandbox_id: str) -> AsyncIterator[SandboxAccess]:
        """The access to a sandbox, for as long as it is used. Asks nobody anything."""
        kept = self._kept.get(sandbox_id)
        if kept is None:
            kept = self._kept[sandbox_id] = _Kept(self._access(sandbox_id))
        kept.users += 1
        self._kept.move_to_end(sandbox_id)
        try:
            yield kept.access
        finally:
            kept.users -= 1
            kept.used_at = time.monotonic()
            await self._close_all(self._idle()[: max(0, len(self._kept) - KEPT)])

    def _access(self, sandbox_id: str) -> SandboxAccess:
        async def attach() -> dict[str, Any]:
            return await self._runtime.call(Ref("sandbox", sandbox_id), "attach", {}, timeout_s=ATTACH_S)

        return SandboxAccess(self._link_to(sandbox_id), attach)

    def _idle(self) -> list[str]:
        return [sandbox_id for sandbox_id, kept in self._kept.items() if not kept.users]

    async def run(self) -> None:
        """Close what nobody used for `IDLE_S`, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Close what nobody used for `IDLE_S`."""
        before = time.monotonic() - IDLE_S
        await self._close_all([id for id in self._idle() if self._kept[id].used_at <= before])

    async def forget(self, sandbox_id: str) -> None:
        """Close what is open for a sandbox that is gone."""
        await self._close_all([sandbox_id])

    async def close(self) -> None:
        """Close all of them."""
        await self._close_all(list(self._kept))

    async def _close_all(self, ids: list[str]) -> None:
        for kept in [self._kept.pop(id) for id in ids if id in self._kept]:
            await kept.access.close()
