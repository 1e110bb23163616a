"""Memory of the idle system, per process, as /proc/PID/smaps_rollup tells it.

    python -m bench.memory

PSS shares each page among the processes that map it, so the PSS column adds up to what the system
really takes; RSS counts shared pages again in every process.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from bench.home import booted
from tests.e2e.stack import find_processes

SETTLE_S = 20  # spare cells are started in the background after boot


def of(pid: int) -> tuple[str, float, float]:
    """(what it is, RSS MB, PSS MB)."""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    values = {}
    for entry in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount, *_ = entry.split()
        values[name.rstrip(":")] = int(amount) / 1024
    words = line.split()
    name = Path(words[0]).name if words else "?"
    if name.startswith("python") and len(words) > 2:
        name = " ".join(Path(word).name for word in words[1:4])
    return (line if line.startswith(("ray::", "postgres:")) else name)[:48], values["Rss"], values["Pss"]


def with_children(pids: set[int]) -> set[int]:
    """`pids` and all below them: a process that renamed itself may have overwritten what tells its home."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    while more := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return pids


async def main() -> None:
    with booted() as home:
        await asyncio.sleep(SETTLE_S)
        found = []
        for pid in with_children(set(find_processes(str(home)))):
            try:
                found.append(of(pid))
            except (FileNotFoundError, PermissionError, KeyError):
                continue  # it ended while we looked
    print(f"| {'process':<48} | {'RSS MB':>8} | {'PSS MB':>8} |\n| {'-' * 48} | {'-' * 8} | {'-' * 8} |")
    for name, rss, pss in sorted(found, key=lambda one: -one[2]):
        print(f"| {name:<48} | {rss:>8.0f} | {pss:>8.0f} |")
    print(f"| {'sum':<48} | {sum(f[1] for f in found):>8.0f} | {sum(f[2] for f in found):>8.0f} |")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
