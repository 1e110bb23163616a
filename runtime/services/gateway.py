"""The gateway: `python -m gateway`, the one process that people and programs talk to."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from runtime.home import Home
from runtime.services import Progress, Service
from runtime.services.ray import driver_environment
from runtime.settings import DEFAULT_PORT, Settings
from terminalpp.types.errors import PortInUse, TerminalError


class Gateway(Service):
    """The gateway's process."""

    name = "gateway"
    signature = "gateway"
    needs = ("ray",)
    starts_within_s = 180.0  # seconds on an idle machine; a cold disk and busy processors take far longer
    stops_within_s = 15.0

    may_move = True

    def __init__(self, home: Home, *, local_ray: bool = True) -> None:
        super().__init__(home)
        self._local_ray = local_ray

    async def prepare(self, settings: Settings, progress: Progress) -> dict[str, Any]:
        """See Service.prepare. Makes the owner's token."""
        self.home.secret("owner.token")
        port = self.home.port(self.name, fixed=settings.port, prefer=DEFAULT_PORT, ours=self.leftover)
        return {"port": port}

    def command(self, settings: Settings) -> list[str]:
        """See Service.command."""
        return [sys.executable, "-m", "gateway"]

    def environment(self, settings: Settings) -> dict[str, str]:
        """See Service.environment."""
        return driver_environment(settings) if self._local_ray else {}

    async def ready(self, settings: Settings) -> bool:
        """See Service.ready: it takes requests."""
        return await http_status(settings.port, "/livez") == 200

    async def alive(self, settings: Settings) -> bool:
        """See Service.alive: it answers, whatever the answer is."""
        return await http_status(settings.port, "/livez") is not None

    def failure(self, how: str, tail: str) -> TerminalError:
        """See Service.failure. A port that is in use is told as such."""
        if "Address already in use" in tail:
            port = self.home.remembered_port(self.name)
            return PortInUse(f"port {port} on 127.0.0.1 was taken by another program")
        return super().failure(how, tail)

    def detail(self, settings: Settings) -> str:
        """See Service.detail: its address."""
        return f"http://127.0.0.1:{settings.port}"


async def http_status(port: int, path: str, within_s: float = 10.0) -> int | None:
    """The status of a GET on the loopback, or None when nothing answers in time."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else None
