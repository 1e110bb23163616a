"""Resource limits of a sandbox through control groups, version 1 or 2, where this process may write them.

Where it may not (an ordinary user without a delegated group), nothing is made and the caller falls back
to rlimits; `Group.limits` says what is in force by which means. The group is made and filled before the
first process enters it, and removed when the sandbox has ended.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from actors.node.driver import SandboxSpec

PARENT = "tpp"
CONTROLLERS = ("memory", "pids", "cpu", "freezer")  # of version 1; version 2 can always freeze
OVERHEAD_PIDS = 64  # bwrap, tppd, its file processes and a shim per command
PERIOD_US = 100_000


@dataclass(slots=True)
class Group:
    """`procs`: files into which a process writes its pid to be limited. `limits`: name → means."""

    procs: list[str] = field(default_factory=list)
    limits: dict[str, str] = field(default_factory=dict)


def _mounts() -> tuple[dict[str, Path], Path | None]:
    """(controller → mount point of version 1, mount point of version 2)."""
    first: dict[str, Path] = {}
    second = None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup":
            first |= {o: Path(where) for o in options.split(",") if o in CONTROLLERS}
        elif kind == "cgroup2":
            second = Path(where)
    return first, second


def _write(path: Path, value: object) -> bool:
    try:
        path.write_text(str(value))
    except OSError:
        return False
    return True


def _settings(controller: str, version: int, spec: SandboxSpec) -> list[tuple[str, object, bool]]:
    """(file, value, whether the limit stands on it) in the order in which they are written."""
    quota = int(spec.cpu * PERIOD_US)
    if version == 1:
        return {
            "memory": [
                ("memory.limit_in_bytes", spec.memory_bytes, True),
                ("memory.memsw.limit_in_bytes", spec.memory_bytes, False),
            ],
            "pids": [("pids.max", spec.pids + OVERHEAD_PIDS, True)],
            "freezer": [],
            "cpu": [("cpu.cfs_period_us", PERIOD_US, True), ("cpu.cfs_quota_us", quota, True)],
        }[controller]
    return {
        "memory": [("memory.max", spec.memory_bytes, True), ("memory.swap.max", 0, False)],
        "pids": [("pids.max", spec.pids + OVERHEAD_PIDS, True)],
        "cpu": [("cpu.max", f"{quota} {PERIOD_US}", True)],
    }[controller]


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder / "cgroup.procs", os.W_OK)


def _apply(folder: Path, controller: str, version: int, spec: SandboxSpec) -> bool:
    return all(
        _write(folder / name, value) or not needed
        for name, value, needed in _settings(controller, version, spec)
    )


def create(spec: SandboxSpec) -> Group:
    """Make the groups of this sandbox and set its limits; what cannot be had is left out."""
    group = Group()
    first, second = _mounts()
    for controller, mount in first.items():
        folder = mount / PARENT / spec.sandbox_id
        if _make(folder) and _apply(folder, controller, 1, spec):
            group.procs.append(str(folder / "cgroup.procs"))
            group.limits[controller] = "cgroup v1"
    if second is not None:
        _create_second(second, spec, group)
    return group


def _create_second(mount: Path, spec: SandboxSpec, group: Group) -> None:
    wanted = [c for c in ("memory", "pids", "cpu") if c not in group.limits]
    try:
        offered = (mount / "cgroup.controllers").read_text().split()
    except OSError:
        return
    wanted = [c for c in wanted if c in offered]
    if not wanted or not _make(mount / PARENT):
        return
    for controller in wanted:  # one by one: one that is refused does not take the others along
        _write(mount / "cgroup.subtree_control", f"+{controller}")
        _write(mount / PARENT / "cgroup.subtree_control", f"+{controller}")
    folder = mount / PARENT / spec.sandbox_id
    if not _make(folder):
        return
    enforced = [c for c in wanted if _apply(folder, c, 2, spec)]
    if enforced:
        group.procs.append(str(folder / "cgroup.procs"))
        group.limits |= dict.fromkeys(enforced, "cgroup v2")


def open_oom_counter(sandbox_id: str) -> int | None:
    """A descriptor of the file where the kernel counts what it killed here for want of memory (`oom_kill N`).

    None where no group of ours limits memory: then such a kill is told as a kill.
    """
    first, second = _mounts()
    mounts = [(first.get("memory"), "memory.oom_control"), (second, "memory.events")]
    for mount, name in mounts:
        with contextlib.suppress(OSError):
            if mount is not None:
                return os.open(mount / PARENT / sandbox_id / name, os.O_RDONLY | os.O_CLOEXEC)
    return None


def freeze(sandbox_id: str, frozen: bool) -> bool:
    """Ask the kernel to stop or to go on with every process of the sandbox. False: no group of ours can."""
    first, second = _mounts()
    ways = [(first.get("freezer"), "freezer.state", "FROZEN" if frozen else "THAWED"),
            (second, "cgroup.freeze", int(frozen))]
    folders = [(mount / PARENT / sandbox_id / name, value) for mount, name, value in ways if mount]
    return any([_write(file, value) for file, value in folders if file.exists()])


def is_frozen(sandbox_id: str) -> bool:
    """Whether every process of the sandbox stands still."""
    first, second = _mounts()
    with contextlib.suppress(OSError):
        if (mount := first.get("freezer")) is not None:
            return (mount / PARENT / sandbox_id / "freezer.state").read_text().strip() == "FROZEN"
    with contextlib.suppress(OSError):
        if second is not None:
            return "frozen 1" in (second / PARENT / sandbox_id / "cgroup.events").read_text()
    return False


def remove(sandbox_id: str) -> bool:
    """Remove the groups; false while a process is still in one (try again then)."""
    first, second = _mounts()
    mounts = {*first.values(), *([second] if second else [])}
    gone = True
    for mount in mounts:
        folder = mount / PARENT / sandbox_id
        with contextlib.suppress(FileNotFoundError):
            try:
                folder.rmdir()
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    raise
                gone = False
    return gone
