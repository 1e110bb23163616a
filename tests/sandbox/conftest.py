"""Real sandboxes for the conformance suite: every test that takes `driver` or `sandbox` runs once per driver.

To add a driver, write its fixture in a file of its own and put a line into DRIVERS.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from actors.node.bubblewrap import Bubblewrap
from actors.node.docker import DockerDriver
from actors.node.driver import Driver, SandboxSpec, Started
from actors.sandbox.access import SandboxAccess
from actors.sandbox.link import LocalLink
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Status, Tppd
from runtime.services import helper
from terminalpp.types.ids import new_id

ROOT = Path(__file__).resolve().parents[2]
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-static", "-pthread"]


def bubblewrap(home: Path, tppd: Path) -> Driver:
    return Bubblewrap(home, tppd)


def docker(home: Path, tppd: Path) -> Driver:
    return DockerDriver(home, tppd, image_base=os.environ.get("TPP_IMAGE_BASE", "ubuntu:22.04"))


DRIVERS: dict[str, Callable[[Path, Path], Driver]] = {"bubblewrap": bubblewrap, "docker": docker}
PARAMS = ["bubblewrap", pytest.param("docker", marks=pytest.mark.docker)]


@dataclass(frozen=True)
class Result:
    """A finished command with all of its output."""

    status: Status
    out: bytes
    err: bytes

    @property
    def code(self) -> int | None:
        return self.status.record.exit_code if self.status.record else None

    @property
    def text(self) -> str:
        return self.out.decode().strip()


@dataclass
class Sandbox:
    """A running sandbox and a client of it."""

    driver: Driver
    spec: SandboxSpec
    started: Started
    tppd: Tppd
    epoch: int = 1

    @property
    def run_dir(self) -> str:
        return self.started.run_dir

    def output(self, exec_id: str, stream: journal.Stream = "stdout") -> bytes:
        """All of it; fails on a gap."""
        data, at = b"", 0
        while True:
            chunk = journal.read(self.run_dir, exec_id, stream, at, 1 << 20)
            assert chunk.gap_bytes == 0
            if not chunk.data:
                return data
            data, at = data + chunk.data, chunk.next_offset

    async def sh(self, command: str, *, wait_s: float = 30.0, **options: Any) -> Result:
        """Run a shell command to its end."""
        exec_id = new_id()
        argv = ["/bin/sh", "-c", command]
        status = await self.tppd.run(exec_id, argv, epoch=self.epoch, wait_s=wait_s, **options)
        assert status.state == "ended", f"{command!r} still runs after {wait_s} s"
        return Result(status, self.output(exec_id), self.output(exec_id, "stderr"))

    async def begin(self, command: str, exec_id: str | None = None, **options: Any) -> str:
        """Start a shell command and give its id."""
        exec_id = exec_id or new_id()
        await self.tppd.start(exec_id, ["/bin/sh", "-c", command], epoch=self.epoch, **options)
        return exec_id

    def access(self) -> SandboxAccess:
        async def attach() -> dict[str, Any]:
            return {"epoch": self.epoch}

        return SandboxAccess(LocalLink(self.run_dir), attach)


@pytest.fixture(scope="session")
async def tppd_binary() -> AsyncIterator[Path]:
    """tppd, built without a warning where there is a C compiler."""
    folder = Path(tempfile.mkdtemp(prefix="tpp-bin-"))
    folder.chmod(0o755)
    target = folder / "tppd"
    if await helper.static_compiler(target):
        sources = [str(path) for path in sorted((ROOT / "tppd").glob("*.c"))]
        subprocess.run(["cc", *STRICT, "-o", str(target), *sources], check=True)
    else:
        target = await helper.build(folder, lambda *_: None)
    target.chmod(0o755)
    yield target
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sandbox_home() -> AsyncIterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tpp-sandboxes-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=PARAMS)
async def driver(request: pytest.FixtureRequest, sandbox_home: Path, tppd_binary: Path) -> Driver:
    made = DRIVERS[request.param](sandbox_home / request.param, tppd_binary)
    probe = await made.probe()
    assert probe.available, f"{probe.detail}: {probe.fix}"  # never a skip
    return made


Make = Callable[..., Awaitable[Sandbox]]


@pytest.fixture
async def make(driver: Driver) -> AsyncIterator[Make]:
    """Starts sandboxes with any spec; they are removed after the test."""
    made: list[Sandbox] = []

    async def start(**wanted: Any) -> Sandbox:
        spec = replace(SandboxSpec(new_id()), **wanted)
        started = await driver.start(spec)
        made.append(Sandbox(driver, spec, started, Tppd(started.run_dir)))
        return made[-1]

    yield start
    for one in made:
        await one.tppd.close()
        await driver.remove(one.spec.sandbox_id)


@pytest.fixture(scope="session")
async def shared(driver: Driver) -> AsyncIterator[Sandbox]:
    spec = SandboxSpec(new_id())
    started = await driver.start(spec)
    one = Sandbox(driver, spec, started, Tppd(started.run_dir))
    yield one
    await one.tppd.close()
    await driver.remove(spec.sandbox_id)


_epochs = itertools.count(10, 10)


@pytest.fixture
async def sandbox(shared: Sandbox) -> Sandbox:
    """One sandbox for many tests, with an empty workspace and a newer epoch for each."""
    shared.epoch = next(_epochs)
    for entry in await shared.tppd.listdir("."):
        await shared.tppd.remove(entry.name, epoch=shared.epoch, recursive=True)
    return shared
