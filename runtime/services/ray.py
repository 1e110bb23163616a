"""The local Ray head: `python -m runtime.ray_head`, the process that owns gcs_server and the raylet.

It ends when the raylet is lost, and everything of Ray ends with it; the gateway is a driver of that
cluster, so it is restarted with it. Ray's files are in a directory with a short name (see settings).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from runtime.ray_head import ALIVE, greets
from runtime.registry import Registry
from runtime.services import Progress, Service
from runtime.settings import Settings, ensure_run_dir

SILENCE_MAX_SECONDS = 10.0


class Ray(Service):
    """The local Ray head."""

    name = "ray"
    signature = "runtime.ray_head"
    starts_beside = True
    starts_within_s = 180.0  # seconds on an idle machine; a cold disk and busy processors take far longer
    stops_within_s = 20.0

    def __init__(self, home) -> None:
        super().__init__(home)
        self._log_from = 0

    async def prepare(self, settings: Settings, progress: Progress) -> dict[str, Any]:
        """See Service.prepare. Makes Ray's token and its directory; chooses the port."""
        self.home.secret("ray.token")
        directory = ensure_run_dir(settings.home) / "ray"
        directory.mkdir(mode=0o700, exist_ok=True)
        return {"ray_address": f"127.0.0.1:{self.home.port(self.name, ours=self.leftover)}"}

    def command(self, settings: Settings) -> list[str]:
        """See Service.command."""
        registry = Registry.load(settings.entity_registry, settings.preload_registry)
        command = [
            sys.executable,
            "-m",
            "runtime.ray_head",
            "--port",
            str(self.home.remembered_port(self.name)),
            "--temp-dir",
            str(settings.ray_dir),
            "--token-file",
            str(self.home / "secrets" / "ray.token"),
            "--object-store-bytes",
            str(settings.ray_object_store_bytes),
            "--preload",
            "runtime.cell",
            *registry.preload("general"),
            *registry.preload("conversation"),
        ]
        return [*command, "--num-cpus", str(settings.ray_cpus)] if settings.ray_cpus else command

    def environment(self, settings: Settings) -> dict[str, str]:
        """See Service.environment."""
        return driver_environment(settings)

    async def before_start(self) -> None:
        """See Service.before_start. Remembers where its log ends, so that an old `ready` does not count."""
        self._log_from = self.log.stat().st_size if self.log.exists() else 0

    async def ready(self, settings: Settings) -> bool:
        """The head has said so, and the GCS takes connections."""
        return self._said_ready() and await asyncio.to_thread(
            greets, self.home.remembered_port(self.name) or 0
        )

    def _said_ready(self) -> bool:
        with open(self.log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(self._log_from if self._log_from <= size else 0)
            return any(line.startswith(b"ready ") for line in file)

    async def alive(self, settings: Settings) -> bool:
        """The head shows each second that it gets on; it looks after GCS and raylet itself."""
        try:
            return time.time() - (settings.ray_dir / ALIVE).stat().st_mtime < SILENCE_MAX_SECONDS
        except FileNotFoundError:
            return False

    def detail(self, settings: Settings) -> str:
        """See Service.detail: its address."""
        return settings.ray_address or ""


def driver_environment(settings: Settings) -> dict[str, str]:
    """What Ray reads when it is imported, in the head and in every driver of a local cluster."""
    token = settings.secrets_dir / "ray.token"
    return (
        {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
        if token.exists()
        else {}
    )
