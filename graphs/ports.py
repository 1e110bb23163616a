"""The ports through which the workflows reach the world. The actors floor implements these; tests may too.

**Who owns what.** The graph owns the order of steps and nothing else. Agents own their transcripts,
which are folded from the event log and kept nowhere else. The workspace owns files and snapshots.
The log owns events.

**What happens on kill.** Every effect carries an id derived from (conversation, turn, step, round), so
a step that runs again names its work by the same ids and the other side recognises it: a task that is
done returns its result, one that runs is joined, a command is never started twice. Events of a step
travel in the checkpoint and are committed with it; events that must be seen at once (tool calls,
commands, tokens) are appended at once, under the conversation's fence.

**What may be raised.** TerminalError with `retryable` (the caller may run the step again later, with
the same ids) or without (the turn ends with that error). `asyncio.CancelledError` is never swallowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graphs.limits import Limits


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the agent loop reads it back; `seq` orders, `at` is Unix time in seconds."""

    seq: int
    type: str
    actor: str
    payload: dict[str, Any]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """The output and state of a command so far. `exit_code` is None while it runs (`running`)."""

    status: str
    exit_code: int | None
    output: str  # merged stdout and stderr: the head, or all of it
    output_bytes: int
    tail: str = ""  # the last bytes when `output` does not hold everything
    reason: str | None = None
    duration_ms: int = 0

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("pending", "running")


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A terminal as it stands. `status` as of TerminalState; `cursor`: column and row, from 0."""

    status: str
    lines: tuple[str, ...]
    cursor: tuple[int, int] = (0, 0)
    exit_code: int | None = None
    reason: str | None = None


class Sandbox(Protocol):
    """One agent's access to the sandbox. Paths are absolute inside the sandbox."""

    workspace: str

    async def run(self, exec_id: str, command: str, timeout_s: float, *, quiet: bool = False) -> Observation:
        """Start `command` once under `exec_id` (a second call joins it) and wait up to `timeout_s`.

        Unless `quiet`, `command.started` and `command.finished` are on the log when this returns.
        """
        ...

    async def kill(self, exec_id: str) -> None:
        """End the command's whole process tree. Does nothing when it has ended."""
        ...

    async def output(self, exec_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        """Bytes of a command's merged output from `offset`, and the offset to go on from."""
        ...

    async def read_file(self, path: str) -> bytes:
        """A file's bytes. Raises NotFound or FileProblem."""
        ...

    async def write_file(self, path: str, data: bytes) -> None:
        """Replace or make a file, atomically, with its parent folders. Keeps an existing file's mode."""
        ...

    async def find_terminal(self, name: str) -> tuple[str, bool]:
        """The id of the team's terminal of that name, and whether it is open. The id of one that is not is
        the one that `use_terminal` opens."""
        ...

    async def use_terminal(
        self, id: str, call_id: str, name: str, *, command: str | None, data: bytes, wait_s: float, end: bool
    ) -> Glimpse:
        """Open it if there is none (with `command`, else a shell), type `data` once per `call_id`, end it
        where that is asked for, and look at it once it is quiet or `wait_s` are over.

        Raises NotInControl (a person types in it), CommandFinished."""
        ...


class LoopPort(Protocol):
    """The port of the agent loop besides the sandbox. One instance serves one task."""

    async def history(self) -> list[Event]:
        """Every event of this task so far, by seq; read under the fence, so that nothing older than
        this activation can still be written by a predecessor."""
        ...

    async def emit(self, type: str, payload: dict[str, Any]) -> Event:
        """Append one event now. Raises Fenced when this activation was superseded."""
        ...

    async def messages(self) -> list[dict[str, Any]]:
        """Messages `{message_id, text}` of the person that came while the team worked and that no
        agent has been given yet. Appends `message.delivered` for each before it returns."""
        ...

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The `model.finished` payload for `request["call_id"]`; the same id gives the same reply.

        `built_for` names the model that the messages were made for, `compactions` how often those were too
        long for it.
        """
        ...

    def now(self) -> float:
        """Unix time in seconds."""
        ...


class Agents(Protocol):
    """The team."""

    async def work(self, role: str, task: dict[str, Any]) -> dict[str, Any]:
        """Have the agent of `role` do `task` and return its result; idempotent by `task["task_id"]`."""
        ...


class Workspace(Protocol):
    """The files that the turn works on, and snapshots of them."""

    async def snapshot(self, key: str) -> str:
        """Record the work tree and return its content id: equal trees give equal ids."""
        ...

    async def keep(self, label: str) -> str | None:
        """Keep all files as they are, outside of the sandbox; the id by which they can be had again. None: it
        could not be done, and the log tells why."""
        ...

    async def diff(self, key: str, base: str, to: str) -> dict[str, Any]:
        """`{files: [{path, added, removed}], patch_bytes, text}`; `text` is bounded, for a reader."""
        ...

    async def restore(self, key: str, snapshot: str) -> None:
        """Make the work tree equal to `snapshot` (ignored files stay)."""
        ...


class Log(Protocol):
    """The turn's part of the event log."""

    async def attempt(self, step: str, visit: int) -> int:
        """How often this visit of a step has been started, this time included: 1 unless resumed."""
        ...

    async def emit(self, type: str, actor: str, payload: dict[str, Any]) -> None:
        """Append one event of the turn now."""
        ...


@dataclass(frozen=True)
class TurnSpec:
    """The facts that are fixed for one turn."""

    conversation_id: str
    turn_id: str
    task: str
    mode: str  # team | single
    limits: Limits
    started_at: float  # Unix seconds
    baseline: str  # snapshot that the turn's own diff is measured from
    test_command: str | None = None
    earlier: Sequence[dict[str, Any]] = field(default_factory=tuple)  # {task, summary} of turns before


@dataclass(frozen=True)
class Services:
    """Everything that a node may touch."""

    turn: TurnSpec
    agents: Agents
    workspace: Workspace
    log: Log
    clock: Any  # () -> Unix seconds
