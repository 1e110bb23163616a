"""Processes that outlive their supervisor: named by pid *and* start time, watched by pidfd.

A pid alone names nothing: it is reused. An Identity adds the start time in clock ticks and the boot, so
that a stale record can never make us signal a stranger. Every service leads a session of its own; the
session is what is ended when its leader is gone. Sandboxes leave that session when they start, so they
live on. A child can also be found without any record, by a mark in its environment: the supervisor
may die between starting a process and writing down that it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARK = "TPP_SERVICE_MARK"  # "<home>\x1f<service>\x1f<hash of what was started>"
LOG_MAX_BYTES = 20 * 1024**2


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot of the machine."""

    pid: int
    start: str

    @property
    def alive(self) -> bool:
        """False for a zombie: it does nothing any more, whether or not its parent has noticed."""
        return start_of(self.pid) == self.start

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by a signal (SIGSTOP, Ctrl-Z) and does nothing until it is told to go on."""
        fields = _stat(self.pid)
        return fields is not None and fields[0] == "T" and self.alive

    def to_json(self) -> dict[str, object]:
        """As `from_json` reads it."""
        return {"pid": self.pid, "start": self.start}

    @classmethod
    def from_json(cls, value: object) -> Identity | None:
        """What `to_json` wrote, or None for anything else."""
        match value:
            case {"pid": int(pid), "start": str(start)}:
                return cls(pid, start)
        return None

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Which process has this pid now; None when there is none."""
        start = start_of(pid)
        return cls(pid, start) if start else None

    def signal(self, number: int) -> None:
        """Send a signal, if it is still the same process; a pidfd closes the race with reuse."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.alive:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)

    async def ended(self) -> None:
        """Returns once the process has ended (at once if it already has)."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        try:
            if self.alive:
                loop.add_reader(descriptor, lambda: done.done() or done.set_result(None))
                await done
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def boot_id() -> str:
    """The first characters of the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third (state) on, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def start_of(pid: int) -> str | None:
    """When the process started (ticks since boot, with the boot's id); None if it is gone or a zombie."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return f"{boot_id()}:{fields[19]}"


def all_pids() -> list[int]:
    """The pids of all processes that this one sees."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def mark_of(pid: int) -> str:
    """The mark in the environment with which the process was started; empty when it has none."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    prefix = MARK.encode() + b"="
    for item in environment.split(b"\0"):
        if item.startswith(prefix):
            return os.fsdecode(item[len(prefix) :])
    return ""


def leaders(belongs: Callable[[int], bool]) -> list[Identity]:
    """Session leaders for which `belongs(pid)` holds."""
    found = []
    for pid in all_pids():
        fields = _stat(pid)
        if fields and int(fields[3]) == pid and belongs(pid) and (identity := Identity.of(pid)):
            found.append(identity)
    return found


def stands_in(pid: int, directory: Path) -> bool:
    """Whether the process has `directory` as its working directory."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", directory)
    except OSError:
        return False


def session_members(leader: Identity, belongs: Callable[[int], bool]) -> list[Identity]:
    """Processes left in the session that `leader` led and for which `belongs(pid)` holds."""
    present = start_of(leader.pid)
    if present not in (None, leader.start):
        return []  # the number was given to somebody else, so the old session is empty
    members = []
    for pid in all_pids():
        fields = _stat(pid)
        if fields and int(fields[3]) == leader.pid and (identity := Identity.of(pid)) and belongs(pid):
            members.append(identity)
    return members


async def end_all(members: list[Identity], number: int, within_s: float) -> bool:
    """Signal every process and wait until all have ended; False if some live after `within_s`."""
    for member in members:
        member.signal(number)
    try:
        async with asyncio.timeout(within_s):
            for member in members:
                await member.ended()
    except TimeoutError:
        return False
    return True


class Running:
    """A service's process: our own child, or one adopted from a supervisor that was killed."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._child = child

    @property
    def adopted(self) -> bool:
        """Whether an earlier supervisor started it, so that it is not our child."""
        return self._child is None

    async def ended(self) -> str:
        """Wait for the end; how it ended, in words."""
        await self.identity.ended()
        if self._child is None:
            return "ended"
        status = self._child.wait()  # the pidfd said that it has ended: this does not block
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def spawn(command: list[str], environment: dict[str, str], directory: Path, log: Path) -> Running:
    """Start a session leader with its output appended to `log`. Raises OSError."""
    child = spawn_detached(command, environment, directory, log)
    # Not reaped before we say so, hence the number is still its own, even if it has already ended.
    fields = _stat(child.pid)
    return Running(Identity(child.pid, f"{boot_id()}:{fields[19] if fields else 0}"), child)


def spawn_detached(
    command: list[str],
    environment: dict[str, str],
    directory: Path,
    log: Path,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, with its output in `log`. Raises OSError."""
    rotate(log)
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
            pass_fds=pass_fds,
        )


def rotate(log: Path) -> None:
    """Keep one older generation of a log that has grown beyond LOG_MAX_BYTES."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_MAX_BYTES:
            os.replace(log, log.with_name(log.name + ".1"))


def log_tail(log: Path, since: int = 0, lines: int = 8) -> str:
    """The last lines of a log, for an error's detail; only what was written after offset `since`."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - 8192))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.strip().split("\n")[-lines:])


def memory_bytes(leader: Identity, belongs: Callable[[int], bool]) -> int:
    """Proportional memory (PSS: shared pages count once) of the leader's session and of what else
    `belongs` to the service (PostgreSQL's children lead sessions of their own)."""
    total = 0
    for pid in all_pids():
        fields = _stat(pid)
        if fields is None or not (int(fields[3]) == leader.pid or belongs(pid)):
            continue
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def strangers_listen(leader: Identity, port: int) -> bool:
    """Whether `port` on the loopback is held by a process outside the leader's session.

    Something that answers at the right address need not be ours: another home, started in the same
    second, may have taken the port. False when the kernel does not tell who listens.
    """
    inodes = _listening(port)
    if not inodes:
        return False
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for member in session_members(leader, lambda _: True):
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"/proc/{member.pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) in wanted:
                        return False
    return True


def _listening(port: int) -> set[str]:
    """Inodes of the IPv4 sockets that listen on `port` of 127.0.0.1 or of all addresses."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().strip().split("\n")[1:]:
        fields = line.split()
        address, _, number = fields[1].partition(":")
        if fields[3] == "0A" and int(number, 16) == port and address in ("0100007F", "00000000"):
            found.add(fields[9])
    return found


def command_line(pid: int) -> str:
    """Its command line with spaces between the words; empty when it is gone or hides it."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
    except OSError:
        return ""


def parent(pid: int) -> int:
    """The pid of its parent; 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0
