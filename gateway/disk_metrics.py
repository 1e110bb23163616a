"""Gauges of the disk: how much is free, what is kept in reserve, and what of the home takes how much."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Gauge

from runtime import disk
from runtime.settings import Settings

EVERY_S = 300.0
WALK_S = 30.0


class Room:
    """The free space is asked for when the gauge is read; the home is walked now and then, in a thread."""

    def __init__(self, registry: CollectorRegistry, room: disk.Disk, settings: Settings) -> None:
        self._settings = settings
        free = Gauge("tpp_disk_free_bytes", "Free on the home's file system.", registry=registry)
        free.set_function(lambda: room.free_bytes)
        reserve = Gauge("tpp_disk_reserve_bytes", "Below this new work is refused.", registry=registry)
        reserve.set(room.reserve_bytes)
        self._parts = Gauge("tpp_home_bytes", "Bytes on disk, by part.", ["part"], registry=registry)

    async def run(self) -> None:
        """Measure what takes the room, for ever."""
        while True:
            used = await asyncio.to_thread(
                disk.usage, self._settings.home, self._settings.ray_dir, WALK_S
            )
            for part, size in used.parts.items():
                self._parts.labels(part).set(size)
            await asyncio.sleep(EVERY_S)
