"""A home of its own for a bench: booted through the CLI, stopped afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from terminalpp.client import Client

ROOT = Path(__file__).parents[1]


def tpp(home: Path, *arguments: str, root: Path = ROOT) -> None:
    """A CLI verb of the checkout `root` on `home`. Raises CalledProcessError."""
    environment = os.environ | {"TPP_HOME": str(home), "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "terminalpp.cli.main", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    subprocess.run(command, env=environment, cwd=root, check=True, **quiet)  # type: ignore[call-overload]


def state(home: Path) -> dict:
    return json.loads((home / "run" / "state.json").read_text())


def client(home: Path) -> Client:
    return Client(state(home)["url"], (home / "secrets" / "owner.token").read_text().strip())


@contextlib.contextmanager
def booted(root: Path = ROOT) -> Iterator[Path]:
    """A running home of the checkout `root`; for this one TPP_BENCH_HOME may name a home that runs already
    and is left alone."""
    if root == ROOT and (given := os.environ.get("TPP_BENCH_HOME")):
        yield Path(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="tpp-bench-"))
    try:
        tpp(folder / "home", "up", root=root)
        yield folder / "home"
    finally:
        tpp(folder / "home", "down", root=root)
        shutil.rmtree(folder, ignore_errors=True)
