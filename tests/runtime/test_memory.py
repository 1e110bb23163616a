"""What was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
from runtime.memory import trim
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
pieces = [bytes(40_000) for _ in range(2_000)]
for piece in range(0, len(pieces), 2):
    pieces[piece] = None  # holes between pieces that live
before = resident()
trim()
print(before - resident())
"""


def test_holes_between_what_lives_are_given_back() -> None:
    given = subprocess.check_output([sys.executable, "-c", PROGRAM], cwd=ROOT)
    assert int(given) > 25_000_000  # of 40 MB
