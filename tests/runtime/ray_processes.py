"""Ray's head as a child of the test process, started as `up` starts it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from runtime.settings import Settings
from tests.eventually import eventually
from tests.services import _die_with_parent, free_port

ROOT = Path(__file__).resolve().parent.parent.parent


class RayHead:
    """`settings` must carry database and Redis; `self.settings` also has the head's address."""

    def __init__(self, settings: Settings) -> None:
        # Ray's sockets need a short name, so not pytest's tmp_path.
        self.folder = Path(tempfile.mkdtemp(prefix="tppray"))
        self.port = free_port()
        self.settings = settings.model_copy(update={"ray_address": f"127.0.0.1:{self.port}"})
        self.token_file = self.folder / "token"
        self.token_file.write_text(secrets.token_hex(32))
        self.token_file.chmod(0o600)
        self.log = self.folder / "head.log"
        self.process: subprocess.Popen[bytes] | None = None
        # The test process becomes a driver of this cluster.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(self.token_file))

    async def start(self) -> None:
        command = [
            sys.executable, "-m", "runtime.ray_head", "--port", str(self.port), "--temp-dir",
            str(self.folder / "ray"), "--token-file", str(self.token_file), "--num-cpus", "2",
        ]
        (self.folder / "ray").mkdir(mode=0o700, exist_ok=True)
        environment = {**os.environ, **self.settings.to_environ(), "PYTHONPATH": ""}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )
        await eventually(self._ready, timeout_s=90)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return "ready " in self.log.read_text()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        if not os.environ.get("TPP_TEST_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
