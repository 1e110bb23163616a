"""Long calls to other entities that outlast the death of the cell that carries them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from runtime import Runtime
from terminalpp.types.errors import DeadlineExceeded, DiskFull, NotOwner, Unavailable
from terminalpp.types.ids import Ref

SLICE_SECONDS = 60.0  # one wait; a call that takes longer is made again and joins what is under way
ROOM_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 180.0  # how long a callee may be unreachable before the call fails


async def call_until_done(
    runtime: Runtime, ref: Ref, method: str, payload: dict[str, Any], *, slice_s: float = SLICE_SECONDS
) -> Any:
    """Call an idempotent method that may take for ever, and call it again when its cell is lost.

    Raises what the method raises, and Unavailable when the callee could not be reached for three minutes.
    A full disk is waited out, however long.
    """
    lost_since: float | None = None
    pause = 0.05
    while True:
        try:
            return await runtime.call(ref, method, payload, timeout_s=slice_s)
        except DeadlineExceeded:
            lost_since, pause = None, 0.05  # it was started and goes on: join it
        except DiskFull:
            lost_since, pause = None, ROOM_PAUSE_SECONDS  # it answers; there is no room yet
            await asyncio.sleep(pause)
        except (Unavailable, NotOwner):
            now = time.monotonic()
            lost_since = now if lost_since is None else lost_since
            if now - lost_since > PATIENCE_SECONDS:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
