"""The egress proxy: `python -m actors.egress`, which lets sandboxes with an allowlist out."""

from __future__ import annotations

import asyncio
import sys

from runtime.framing import short_name
from runtime.services import Service
from runtime.settings import Settings

ANSWER_SECONDS = 10.0


class Egress(Service):
    """The egress proxy's process. Of the other services it needs Postgres alone."""

    name = "egress"
    signature = "actors.egress"

    def command(self, settings: Settings) -> list[str]:
        """See Service.command."""
        return [sys.executable, "-m", "actors.egress"]

    async def ready(self, settings: Settings) -> bool:
        """See Service.ready: it has looked at the sandboxes."""
        return await self._asked() == b"ok"

    async def alive(self, settings: Settings) -> bool:
        """See Service.alive: it answers, though Postgres may not."""
        return await self._asked() is not None

    async def _asked(self) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with short_name(self.home.path / "run") as folder:
                    reader, writer = await asyncio.open_unix_connection(f"{folder}/egress.sock")
                try:
                    return (await reader.read(16)).strip()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
