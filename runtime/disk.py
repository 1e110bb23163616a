"""Room on the home's file system: how much is left, what takes it, and what is done before it is gone.

Everything of a home lies on one file system, Postgres included, so a full one is everybody's trouble. Three
lines of defence, from far to near:

- The **reserve** (TPP_DISK_RESERVE_BYTES): while less than that is free, what creates data is refused with
  DiskFull at the gateway, and a turn's next command waits in front of its sandbox. Reading, stopping, ending
  and deleting go on, and so does what runs, within the reserve.
- The journals of running commands end earlier (`tppd`: the output is dropped, with a gap).
- The **ballast**: a file of blocks that nothing uses, `TPP_HOME/ballast`. Files that commands write cannot
  be held back everywhere, and may take the last byte; then the ballast is given up, so that Postgres can
  commit what frees space (a delete). It is made anew when there is room again. The supervisor tends it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from terminalpp.types.errors import DiskFull

MIB = 1024**2
ASKED_EVERY_SECONDS = 1.0
WARN_TIMES = 2  # `doctor` and `status` warn below so many reserves
BALLAST_MAX_BYTES = 64 * MIB
BALLAST_SHARE = 4  # of the reserve, where that is small
_FULL = (errno.ENOSPC, errno.EDQUOT)


def full(error: BaseException) -> DiskFull | None:
    """DiskFull for an OSError that says so, else None."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return DiskFull(f"no space left for {error.filename}" if error.filename else "no space left")
    return None


def free_bytes(path: Path) -> int:
    """What an ordinary process may still write to the file system of `path`."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class Disk:
    """The file system of one home, asked at most once a second (one system call of some microseconds)."""

    def __init__(self, home: Path, reserve_bytes: int) -> None:
        self._home = home
        self.reserve_bytes = reserve_bytes
        self._free = 0
        self._asked = float("-inf")

    @property
    def free_bytes(self) -> int:
        """Free bytes of the home's file system, as asked within the last second."""
        now = time.monotonic()
        if now - self._asked >= ASKED_EVERY_SECONDS:
            self._free, self._asked = free_bytes(self._home), now
        return self._free

    @property
    def low(self) -> bool:
        """New work is refused."""
        return self.free_bytes < self.reserve_bytes

    @property
    def nearly_low(self) -> bool:
        """Time to make room."""
        return self.free_bytes < WARN_TIMES * self.reserve_bytes

    def check(self) -> None:
        """Raises DiskFull while it is low."""
        if self.low:
            raise DiskFull(
                f"{self.free_bytes // MIB} MiB are free under TPP_HOME, less than the reserve of "
                f"{self.reserve_bytes // MIB} MiB (TPP_DISK_RESERVE_BYTES)"
            )

    def words(self) -> str:
        """For people: how much is free, and what that means."""
        text = f"{self.free_bytes // MIB} MiB free, reserve {self.reserve_bytes // MIB} MiB"
        if self.low:
            return f"{text}: new work is refused until there is more"
        return f"{text}: nearly full" if self.nearly_low else text


class Ballast:
    """The file of unused blocks of one home."""

    def __init__(self, home: Path, reserve_bytes: int) -> None:
        self.path = home / "ballast"
        self._reserve_bytes = reserve_bytes
        self.size_bytes = min(BALLAST_MAX_BYTES, reserve_bytes // BALLAST_SHARE)

    def tend(self) -> None:
        """Give it up when next to nothing is left; make it when there is more than the reserve."""
        free = free_bytes(self.path.parent)
        if self.path.exists():
            if free < self.size_bytes // 4:
                self.path.unlink(missing_ok=True)
        elif self.size_bytes and free > self._reserve_bytes + 2 * self.size_bytes:
            self._make()

    def _make(self) -> None:
        beside = self.path.with_name(".ballast.new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.size_bytes)
            finally:
                os.close(descriptor)
            os.replace(beside, self.path)
        except OSError:
            beside.unlink(missing_ok=True)


# ---- what takes the room -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk by part of the home; `whole` False: there was no time to count everything."""

    parts: dict[str, int]
    whole: bool

    @property
    def total_bytes(self) -> int:
        """What all parts of the home take together, in bytes."""
        return sum(self.parts.values())


def shown(parts: dict[str, int], whole: bool) -> str:
    """The parts for people, the largest first; those below a MiB are left out."""
    told = [f"{name} {size // MIB} MiB" for name, size in sorted(parts.items(), key=lambda item: -item[1])
            if size >= MIB]
    return ", ".join(told) + ("" if whole else " (at least: not all could be counted in time)")


PARTS = {"pg": "postgres"} | {name: name for name in ("logs", "ray", "artifacts", "ballast")}


def usage(home: Path, ray_dir: Path | None = None, within_s: float = 3.0) -> Usage:
    """Walks the home. Blocks: call it in a thread. Files that vanish meanwhile are left out."""
    deadline = time.monotonic() + within_s
    parts = dict.fromkeys(("postgres", "journals", "sandboxes", *PARTS.values(), "other"), 0)
    whole = True

    def add(part: str, place: Path) -> None:
        nonlocal whole
        size, complete = tree_bytes(place, deadline)
        parts[part] += size
        whole = whole and complete

    for place in _entries(home):
        if place.name == "sandboxes":
            for sandbox in _entries(place):
                for inner in _entries(sandbox):
                    add("journals" if inner.name == "run" else "sandboxes", inner)
        else:
            add(PARTS.get(place.name, "other"), place)
    if ray_dir is not None and home not in ray_dir.parents:
        add("ray", ray_dir)
    return Usage(parts, whole)


def tree_bytes(place: Path, deadline: float = float("inf")) -> tuple[int, bool]:
    """Bytes on disk of a file or a folder with all in it, and whether it was counted to the end.

    A file with several names is counted under each: the workspace of a sandbox has no others outside it.
    """
    total, left = 0, [str(place)]
    while left:
        if time.monotonic() > deadline:
            return total, False
        folder = left.pop()
        with contextlib.suppress(OSError):
            total += os.lstat(folder).st_blocks * 512
        try:
            entries = os.scandir(folder)
        except OSError:
            continue  # a file (counted above), or gone
        with entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total, True


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
