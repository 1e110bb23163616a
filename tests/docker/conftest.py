"""A docker driver on a home of its own; images built here from what is on the machine."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from actors.node.docker import DockerDriver
from actors.node.driver import SandboxSpec, Started
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Tppd
from runtime.services import helper
from terminalpp.types.ids import new_id

BASE = os.environ.get("TPP_IMAGE_BASE", "ubuntu:22.04")


@pytest.fixture(scope="session")
def client() -> docker.DockerClient:
    return docker.from_env()


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tpp-docker-"))
    (folder / "bin").mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def tppd(home: Path) -> Path:
    return await helper.build(home, lambda *_: None)


@pytest.fixture(scope="session")
async def driver(home: Path, tppd: Path) -> DockerDriver:
    made = DockerDriver(home, tppd, image_base=BASE)
    probe = await made.probe()
    assert probe.available, f"{probe.detail}: {probe.fix}"  # never a skip
    return made


Make = Callable[..., Awaitable[Started]]


@pytest.fixture
async def make(driver: DockerDriver) -> AsyncIterator[Make]:
    """Starts sandboxes with any spec; they are removed after the test."""
    made: list[str] = []

    async def start(**wanted: Any) -> Started:
        spec = replace(SandboxSpec(new_id()), **wanted)
        made.append(spec.sandbox_id)
        return await driver.start(spec)

    yield start
    for sandbox_id in made:
        await driver.remove(sandbox_id)


Image = Callable[..., str]


@pytest.fixture
def image(client: docker.DockerClient) -> Iterator[Image]:
    """Builds an image from a Dockerfile's text and files, without any network."""
    made: list[str] = []

    def build(text: str, **files: bytes) -> str:
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, data in {"Dockerfile": text.encode(), **files}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o755
                archive.addfile(entry, io.BytesIO(data))
        context.seek(0)
        tag = f"tpp-test:{new_id()}"
        client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, network_mode="none")
        made.append(tag)
        return tag

    yield build
    for tag in made:
        client.images.remove(tag, force=True)


async def run(started: Started, *argv: str, **options: Any) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a program in the sandbox."""
    tppd = Tppd(started.run_dir)
    exec_id = new_id()
    try:
        status = await tppd.run(exec_id, list(argv), epoch=1, wait_s=60, **options)
    finally:
        await tppd.close()
    assert status.record is not None
    read = [journal.read(started.run_dir, exec_id, stream).data.decode() for stream in ("stdout", "stderr")]
    return status.record.exit_code, read[0], read[1]
