"""Small facts about the machine that the sandbox entity runs on, read when needed."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from actors.sandbox.limits import Limits
from actors.sandbox.tppd.client import Tppd
from terminalpp.types.errors import TerminalError

# `./tpp down` leaves this beside the run directory of what it ended (actors/node/stop_all.py).
ENDED_MARK = "ended-by-down"
_SHELLS = ("/bin/bash", "/bin/sh")


def boot_id() -> str:
    """Another one after each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@cache
def machine_limits() -> Limits:
    """The most that a sandbox can have here. Disk is the driver's affair."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Limits(cpu=float(os.cpu_count() or 1), memory_bytes=memory, disk_bytes=1024**5, pids=4_194_304,
                  nofile=int(Path("/proc/sys/fs/nr_open").read_text()))


async def find_shell(run_dir: str) -> str:
    """The shell for commands given as text: bash where the image has it, else sh."""
    tppd = Tppd(run_dir)
    try:
        for path in _SHELLS:
            try:
                await tppd.stat(path)
                return path
            except TerminalError:
                continue
    finally:
        await tppd.close()
    return _SHELLS[-1]  # an image without any: such a command fails to start, and says so


def why_it_died(started: dict[str, Any], run_dir: str) -> tuple[str, bool]:
    """What to say of a sandbox that is found dead, and whether it was to be expected."""
    if (Path(run_dir).parent / ENDED_MARK).exists():
        return "ended with `down`", True
    if started.get("boot_id") != boot_id():
        return "the machine was restarted", True
    return "the sandbox died: it was killed, or ran out of memory", False


def forget_mark(run_dir: str) -> None:
    """It runs again."""
    (Path(run_dir).parent / ENDED_MARK).unlink(missing_ok=True)
