"""A folder of this machine in the place of a sandbox: scripts run under `sh`, each id once.

It keeps the promises of `actors.agent.sandbox_tools.Sandbox` that a record of a work tree rests on, so that
thousands of trees can be tried; the suite tries the same on real sandboxes too.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from terminalpp.types.errors import NotFound


class LocalPlace:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.ran: dict[str, dict[str, Any]] = {}
        self.printed: dict[str, bytes] = {}
        self.path = os.environ["PATH"]

    async def run(
        self, exec_id: str, script: str, timeout_s: float, *, merge: bool = True
    ) -> dict[str, Any]:
        if exec_id not in self.ran:
            environment = {"HOME": str(self.home), "PATH": self.path}
            done = subprocess.run(
                ["/bin/sh", "-c", os.fsencode(script)], cwd=self.home, env=environment, capture_output=True,
                timeout=timeout_s, check=False,
            )  # fmt: skip
            self.printed[exec_id] = done.stdout
            self.ran[exec_id] = {
                "status": "completed",
                "exit_code": done.returncode,
                "stdout": done.stdout.decode("utf-8", "replace"),
                "stderr": done.stderr.decode("utf-8", "replace"),
                "stdout_bytes": len(done.stdout),
                "reason": None,
            }
        return self.ran[exec_id]

    async def bytes_of(self, exec_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        data = self.printed[exec_id][offset : offset + limit]
        return data, offset + len(data)

    async def read_file(self, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {path}") from error

    async def write_file(self, path: str, data: bytes) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)
