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


def tpp(home: Path, *arguments: str) -> None:
    """A CLI verb on `home`. Raises CalledProcessError with what it printed."""
    environment = os.environ | {"TPP_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "terminalpp.cli.main", *arguments]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def state(home: Path) -> dict:
    return json.loads((home / "run" / "state.json").read_text())


def client(home: Path) -> Client:
    return Client(state(home)["url"], (home / "secrets" / "owner.token").read_text().strip())


@contextlib.contextmanager
def booted() -> Iterator[Path]:
    """A running home; TPP_BENCH_HOME names one that runs already and is left alone."""
    if given := os.environ.get("TPP_BENCH_HOME"):
        yield Path(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="tpp-bench-"))
    try:
        tpp(folder / "home", "up")
        yield folder / "home"
    finally:
        tpp(folder / "home", "down")
        shutil.rmtree(folder, ignore_errors=True)
