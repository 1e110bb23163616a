"""The contract of a sandbox driver: who makes the walls, and what they owe to everybody else.

A driver starts one *sandbox* per id: an isolated system in which `tppd` runs as process 1 and user
commands run as uid 1000, and gives back the *run directory* on the host. Everything that happens
inside afterwards (commands, output, files) goes through `tppd` by that directory
(`actors/sandbox/tppd/client.py`), so a driver has no exec, no copy and no attach.

Who owns what. The driver owns the processes, mounts, limits and the run directory of its sandboxes,
and keeps what it must remember on disk or in the daemon, never only in memory: the process that
called `start` may be killed with SIGKILL at once afterwards, the sandbox lives on, and another process
finds it with `inspect`. The workspace (`/home/user`) outlives `stop`, and dies with `remove`.

Who dies first. When `tppd` dies the sandbox is dead, with everything in it: commands that had no exit
record are *lost* (see `journal.outcome`). A driver never starts such a sandbox again by itself: the
sandbox entity does, with a higher `generation`.

What may not be dropped. Isolation is reported, never lowered silently: a driver that cannot isolate
says so in `probe` and raises `IsolationUnavailable` from `start`. The network rule and the hardening
are in force before the first instruction runs inside. A limit that the machine cannot enforce is
reported as such in `Started.limits`.

Every driver passes `tests/sandbox/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from terminalpp.types.states import Isolation, Network

Progress = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A sandbox as it is wanted. `generation` grows by one each time the sandbox is started anew."""

    sandbox_id: str
    image: str | None = None
    network: Network = Network.NONE
    cpu: float = 2.0
    memory_bytes: int = 2 * 1024**3
    disk_bytes: int = 10 * 1024**3
    pids: int = 512
    nofile: int = 4096
    generation: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    journal_bytes: int = 1024**3     # kept of what running commands print, all together
    journal_floor_bytes: int = 0     # free bytes of the home's disk below which output is dropped

    def journal_options(self) -> list[str]:
        """For tppd."""
        floor = ["--journal-floor", str(self.journal_floor_bytes)]
        return ["--journal-bytes", str(self.journal_bytes), *floor]


@dataclass(frozen=True, slots=True)
class Started:
    """A running sandbox.

    `handle` names it to its driver (a host pid, a container id). `limits` says for each of cpu,
    memory, pids, nofile, disk and network by which means it is enforced, or "not enforced: why".
    """

    run_dir: str
    handle: str
    isolation: Isolation
    generation: int
    limits: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON."""
        return {
            "run_dir": self.run_dir,
            "handle": self.handle,
            "isolation": str(self.isolation),
            "generation": self.generation,
            "limits": dict(self.limits),
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Started:
        """The record that `to_json` wrote."""
        return cls(
            str(value["run_dir"]),
            str(value["handle"]),
            Isolation(value["isolation"]),
            int(value["generation"]),
            dict(value.get("limits") or {}),
            dict(value.get("details") or {}),
        )


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a driver can work on this machine. `fix` says what to install or change when it cannot."""

    available: bool
    isolation: Isolation | None
    detail: str
    fix: str = ""


class Driver(Protocol):
    """One way to isolate. All methods are safe to call again, and at the same time from two processes."""

    name: str

    async def probe(self) -> Probe:
        """Try it for real (start a trivial sandbox), quickly; never raises."""
        ...

    async def prepare(self, image: str | None, progress: Progress) -> str:
        """Make `image` (None: the built-in one) ready and give its id. Raises ImageUnavailable."""
        ...

    async def start(self, spec: SandboxSpec, progress: Progress | None = None) -> Started:
        """Start the sandbox and return once its tppd answers.

        A sandbox that already runs at this generation is returned as it is; one of an older
        generation is ended first. Raises Conflict when a newer generation runs,
        IsolationUnavailable, ImageUnavailable or SandboxFailed (with the reason).
        """
        ...

    async def inspect(self, sandbox_id: str) -> Started | None:
        """The sandbox if it runs now, whoever started it; else None."""
        ...

    async def stop(self, sandbox_id: str) -> None:
        """End every process of it and return when they are gone. The workspace and journals stay."""
        ...

    async def freeze(self, sandbox_id: str, frozen: bool) -> None:
        """Freeze every process of it, tppd too, or let them go on; returns when they do. Again is fine.

        Raises Conflict where the kernel's freezer cannot be had, or does not finish (then all go on).
        SIGSTOP is no substitute: parents and terminals see it, and any process inside can undo it.
        `inspect` finds a frozen sandbox; `stop` and `remove` thaw it first.
        """
        ...

    async def remove(self, sandbox_id: str) -> None:
        """`stop`, then delete the workspace, the journals and all else."""
        ...

    async def list(self) -> list[str]:
        """Ids of all sandboxes this driver has something of (running or not)."""
        ...
