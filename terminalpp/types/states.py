"""Every state machine's states. The same words are CHECKed in SQL."""

from __future__ import annotations

from enum import StrEnum


class SandboxState(StrEnum):
    """What a sandbox is."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    ERROR = "error"


class ExecutionState(StrEnum):
    """`completed`: the process ended by itself, whatever its exit code. `failed`: it never started,
    or its sandbox died under it (reason `lost`). `killed`: ended by a signal."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"

    @property
    def final(self) -> bool:
        """Whether the command has ended."""
        return self in (ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.KILLED)


class TerminalState(StrEnum):
    """What a terminal is. `ended`: its program has, whatever its exit code. `failed`: it could not be
    started. `lost`: its sandbox ended or died under it."""

    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether there is no program in it any more."""
        return self in (TerminalState.ENDED, TerminalState.FAILED, TerminalState.LOST)


class AgentRole(StrEnum):
    """What an agent is for."""

    PLANNER = "planner"
    CODER = "coder"
    TESTER = "tester"
    CRITIC = "critic"
    EXECUTOR = "executor"


class AgentState(StrEnum):
    """What an agent is."""

    ACTIVE = "active"
    PAUSED = "paused"
    TERMINATED = "terminated"


class TurnOutcome(StrEnum):
    """How a turn ended. Only `passed` means that tests the team ran were green at the end."""

    PASSED = "passed"  # the tests ran and passed
    FAILED = "failed"  # the tests ran and did not pass
    UNVERIFIED = "unverified"  # the work ended and nothing proves it
    CANCELLED = "cancelled"  # the person stopped it
    STOPPED = "stopped"  # a limit stopped it (steps, time, tokens, money, loop)
    ERROR = "error"  # it could not go on (model, sandbox)


class Isolation(StrEnum):
    """What separates a sandbox from the host."""

    RUNC = "runc"
    RUNSC = "runsc"
    KATA = "kata"
    BWRAP = "bwrap"


class Network(StrEnum):
    """What network a sandbox has."""

    NONE = "none"
    ALLOWLIST = "allowlist"
    OPEN = "open"
