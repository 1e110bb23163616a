"""One booted node for the whole folder: its home has a space in its name and is far too long for sockets."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import settings
from tests.boot.node import Node


@pytest.fixture(scope="package")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tpp boot "))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="package")
def node(folder: Path) -> Iterator[Node]:
    home = folder / ("long " * 40).strip()
    node = Node(home, "postgres,migrate,redis,ray,gateway")
    yield from _booted(node)
    assert not settings.run_dir(home).exists(), "something stays in /tmp"


@pytest.fixture(scope="package")
def small_node(folder: Path) -> Iterator[Node]:
    """Without Ray: starts in half a second."""
    yield from _booted(Node(folder / "small", "postgres,redis"))


def _booted(node: Node) -> Iterator[Node]:
    status, lines = node.up()
    try:
        assert status == 0, lines[-1]
        yield node
    finally:
        left = [node.process(name) for name in node.status()["services"]]
        assert node.down()[0] == 0
        alive = [process for process in left if process and process.alive]
        for process in alive:
            os.kill(process.pid, signal.SIGKILL)
        assert not alive
