"""Whether this process is still a driver of a living Ray cluster."""

from __future__ import annotations

import asyncio
import time

from gateway.app import Application
from gateway.health import check

EVERY_S = 2.0
PATIENCE_S = 30.0


async def ray_lost(app: Application) -> None:
    """Returns when Ray has not answered for PATIENCE_S although Postgres has, so that it is Ray that is
    missing. A GCS that restarts within that time is no loss."""
    await app.opened.wait()
    answered = time.monotonic()
    while time.monotonic() - answered < PATIENCE_S:
        await asyncio.sleep(EVERY_S)
        ray = await check(app.gateway, "ray")
        if ray["ok"] or not (await check(app.gateway, "postgres"))["ok"]:
            answered = time.monotonic()
