"""The services of a node in laptop mode: what each needs, how it is started, when it answers.

A Service describes; the supervisor acts. Who owns what: the supervisor owns the process from `command`
to the end of its session; the service owns its files in the home. `prepare` may be repeated and may
take minutes (first boot); everything else is quick. A service never starts anything that outlives a
call of its own methods.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.home import Home
from runtime.services import processes
from runtime.settings import Settings
from terminalpp.types.errors import ServiceFailed, TerminalError

ROOT = Path(__file__).resolve().parents[2]

# Reports how a step gets on: (state: start|progress|done|failed, detail).
Progress = Callable[[str, str], None]


class Service:
    """One supervised process. Subclasses fill in what differs."""

    name = ""
    signature = ""  # found in the command line of its process
    needs: tuple[str, ...] = ()  # restarted together with these
    may_move = False  # may take another port when a stranger has taken its own
    starts_beside = False  # needs nothing that starts before it
    takes_settings = True  # gets TPP_* and the providers' keys in its environment
    starts_within_s = 60.0
    stops_within_s = 10.0
    stop_signal = signal.SIGTERM

    def __init__(self, home: Home) -> None:
        self.home = home
        self.leftover = False  # a process of an earlier supervisor still runs

    @property
    def log(self) -> Path:
        """The file that the service's output goes to."""
        return self.home.logs / f"{self.name}.log"

    @property
    def directory(self) -> Path:
        """The working directory. The project root is where `python -m` finds our packages."""
        return ROOT

    async def prepare(self, settings: Settings, progress: Progress) -> dict[str, Any]:
        """Make files, choose ports. Returns the settings that it decides (an address, for example)."""
        return {}

    def command(self, settings: Settings) -> list[str]:
        """The command line that starts it."""
        raise TypeError(f"{type(self).__name__} has no command")

    def environment(self, settings: Settings) -> dict[str, str]:
        """What its environment has besides the settings."""
        return {}

    async def before_start(self) -> None:
        """Called each time, when no process of this service is left."""

    async def ready(self, settings: Settings) -> bool:
        """Whether it answers now. Must return or raise OSError within a few seconds."""
        return True

    async def alive(self, settings: Settings) -> bool:
        """Whether it gets on (a server that is recovering does not answer yet, but gets on)."""
        return await self.ready(settings)

    def detail(self, settings: Settings) -> str:
        """What `status` shows beside its state."""
        return ""

    def owns(self, pid: int) -> bool:
        """Whether a process in the session of a dead leader is this service's."""
        return processes.mark_of(pid).startswith(mark_prefix(self.home, self.name))

    def failure(self, how: str, tail: str) -> TerminalError:
        """The error for a process that ended before it was ready."""
        words = f"{self.name} {how}"
        return ServiceFailed(f"{words}:\n{tail}" if tail else words, extra={"log": str(self.log)})


def mark_prefix(home: Home, name: str) -> str:
    """The beginning of the mark by which processes of this home and service are recognised."""
    return f"{home.path}\x1f{name}\x1f"


def base_environment(settings: Settings | None) -> dict[str, str]:
    """What a child gets: our own environment (it holds the providers' keys) with TPP_* resolved;
    without `settings` only what any program needs.

    PYTHONPATH and its kin would change which code runs; RAY_ADDRESS would send Ray to another cluster.
    """
    if settings is None:
        return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "LC_ALL": "C"}
    dropped = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "RAY_ADDRESS", processes.MARK}
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("TPP_")}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept, "PYTHONUNBUFFERED": "1", **settings.to_environ()}
