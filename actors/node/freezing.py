"""Freezing the control group of a bubblewrap sandbox, and waiting until it stands still."""

from __future__ import annotations

import asyncio

from actors.node import cgroups
from terminalpp.types.errors import Conflict

FREEZE_SECONDS = 5.0  # a process in the middle of IO freezes when that is done
TICK_SECONDS = 0.005


async def freeze(sandbox_id: str, frozen: bool) -> None:
    """See Driver.freeze."""
    if not cgroups.freeze(sandbox_id, frozen):
        raise Conflict("this sandbox cannot be paused: its processes are in no freezer control group",
                       "Run the server as root (or with a delegated control group), or use Docker. A sandbox "
                       "that was started by an older version: restart it first.")
    deadline = asyncio.get_running_loop().time() + FREEZE_SECONDS
    while cgroups.is_frozen(sandbox_id) is not frozen:
        if asyncio.get_running_loop().time() > deadline:
            cgroups.freeze(sandbox_id, False)
            raise Conflict(f"the sandbox did not stand still within {FREEZE_SECONDS:g} s, so it goes on",
                           "A process in it waits for a disk or a network file system. Try again later.")
        await asyncio.sleep(TICK_SECONDS)
