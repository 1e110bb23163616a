"""The proxy's own Unix socket `run/egress.sock` in the home: who connects has it look at the sandboxes at
once."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from runtime.framing import short_name

NAME = "egress.sock"
NUDGE_SECONDS = 5.0
DONE = b"ok\n"


async def nudge(home: str | Path) -> bool:
    """Have the proxy serve what has just been committed; whether it has. False: it does not run, and will
    do so when it does."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(NUDGE_SECONDS):
            with short_name(Path(home) / "run") as folder:
                reader, writer = await asyncio.open_unix_connection(f"{folder}/{NAME}")
            try:
                return await reader.read(len(DONE)) == DONE
            finally:
                writer.close()
    return False
