"""Every bench runs and prints its table. What it measured is not judged here: machines are noisy.

With the slow tests, because each boots a home of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHES = {
    "boot": ["1"],
    "calls": ["20"],
    "egress": ["20", "4"],
    "exec": ["20"],
    "graph": ["2"],
    "http": ["0.3"],
    "memory": [],
    "pool": ["100"],
    "ports": ["10", "4"],
    "recovery": ["--n", "1", "--only", "gateway,postgres"],
    "rest": ["20"],
    "soak": ["0.2", "4"],
    "snapshots": ["3", "20"],
    "sse": ["20", "2000"],
    "terminals": ["20", "5"],
}


def test_no_bench_is_forgotten() -> None:
    scripts = {path.stem for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text()}
    assert scripts == set(BENCHES)


@pytest.mark.chaos
@pytest.mark.parametrize("name", BENCHES)
def test_it_prints_a_table(name: str) -> None:
    command = [sys.executable, "-m", f"bench.{name}", *BENCHES[name]]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=280)
    grew = name == "soak" and "verdict:" in done.stdout  # so short a run proves nothing
    assert done.returncode == 0 or grew, done.stdout + done.stderr
    assert done.stdout.count("\n| ") >= 3
