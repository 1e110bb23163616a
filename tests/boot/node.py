"""A node for tests: booted through the verbs, in its own home, always stopped at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from runtime import boot, settings
from runtime.services.processes import Identity
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]


class Node:
    """One home and the verbs on it. `only` leaves services out (the gateway has its own tests)."""

    def __init__(self, home: Path, only: str, **variables: str) -> None:
        self.home, self.only = home, only
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TPP_", "RAY_"))}
        self.environment = {**kept, "TPP_HOME": str(home), **variables}

    def verb(self, *arguments: str, **variables: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit status and the lines of `python -m runtime … --json`."""
        done = subprocess.run(
            [sys.executable, "-m", "runtime", *arguments, "--json"],
            cwd=ROOT, env={**self.environment, **variables}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True, timeout=400, check=False,
        )  # fmt: skip
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def up(self, **variables: str) -> tuple[int, list[dict[str, Any]]]:
        return self.verb("up", "--only", self.only, **variables)

    def down(self) -> tuple[int, list[dict[str, Any]]]:
        return self.verb("down")

    def status(self) -> dict[str, Any]:
        return boot.status(settings.load(self.environment))

    def process(self, service: str) -> Identity:
        return Identity.from_json(self.status()["services"][service])

    def supervisor(self) -> Identity:
        return Identity.from_json(self.status())

    async def settled(self) -> None:
        """Wait until every service runs (a test before may have killed one that others need)."""

        def all_run() -> bool:
            return all(unit["state"] == "running" for unit in self.status()["services"].values())

        await eventually(all_run, timeout_s=120)

    async def recovered(self, service: str, before: Identity, timeout_s: float = 120) -> dict[str, Any]:
        """The service's record once another process than `before` runs."""

        def probe() -> dict[str, Any] | None:
            unit = self.status()["services"].get(service, {})
            return unit if unit.get("state") == "running" and unit["pid"] != before.pid else None

        return await eventually(probe, timeout_s=timeout_s)
