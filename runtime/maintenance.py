"""The supervisor's chores beside keeping services alive: the ballast, and bounded logs.

Services append to a file that they were given (`logs/NAME.log`), so a log that has grown too large is copied
to `NAME.log.1` and cut to nothing where it is: what is written between the two (microseconds) is the price,
and no service needs to know. Ray keeps files for every process that ever was a worker of its session; those
that nobody writes to any more are deleted, oldest first, until all together fit the bound.

Nothing here may end the supervisor: each round is tried, told when it fails, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import stat
import time
from pathlib import Path

from runtime.disk import Ballast
from runtime.home import Home
from runtime.services.processes import LOG_MAX_BYTES
from runtime.settings import MIB, Settings

log = logging.getLogger("supervisor")

EVERY_SECONDS = 1.0
LOGS_EVERY_SECONDS = 10.0
RAY_LOGS_MAX_BYTES = 256 * MIB
RAY_LOG_IDLE_SECONDS = 600.0  # a file that nobody wrote to for so long may go


async def tend(home: Home, settings: Settings) -> None:
    """Rounds without end, until cancelled."""
    ballast = Ballast(home.path, settings.disk_reserve_bytes)
    next_logs = 0.0
    while True:
        try:
            ballast.tend()
            if time.monotonic() >= next_logs:
                next_logs = time.monotonic() + LOGS_EVERY_SECONDS
                await asyncio.to_thread(bound_logs, home.logs)
                await asyncio.to_thread(bound_ray_logs, settings.ray_dir)
        except Exception:
            log.exception("tending the home")
        await asyncio.sleep(EVERY_SECONDS)


def bound_logs(folder: Path, max_bytes: int = LOG_MAX_BYTES) -> None:
    """Each `*.log` stays below `max_bytes` (and what is written in one round), with one older generation."""
    for path in folder.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > max_bytes:
                turn_over(path)


def turn_over(path: Path) -> None:
    """Copy the log aside and cut it. Without room for the copy the older lines are given up."""
    older = path.with_name(path.name + ".1")
    older.unlink(missing_ok=True)
    try:
        shutil.copyfile(path, older)
        older.chmod(0o600)
    except OSError as error:
        older.unlink(missing_ok=True)
        log.warning("%s was cut without a copy: %s", path, error)
    with open(path, "r+b") as file:
        file.truncate(0)


def bound_ray_logs(ray_dir: Path, max_bytes: int = RAY_LOGS_MAX_BYTES) -> None:
    """Turn over what is too large; delete the oldest idle files of the sessions until all fit `max_bytes`."""
    found = []
    for path in ray_dir.glob("session_*/logs/**/*"):
        with contextlib.suppress(OSError):
            seen = path.lstat()
            if not stat.S_ISREG(seen.st_mode):
                continue
            if seen.st_blocks * 512 > LOG_MAX_BYTES:
                turn_over(path)
            else:
                found.append((seen.st_mtime, seen.st_blocks * 512, path))
    total = sum(size for _, size, _ in found)
    idle_since = time.time() - RAY_LOG_IDLE_SECONDS
    for modified, size, path in sorted(found):
        if total <= max_bytes or modified > idle_since:
            return
        path.unlink(missing_ok=True)
        total -= size
