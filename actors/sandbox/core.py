"""The life of a sandbox as a pure state machine: `apply(sandbox, op)` gives the next state and what to do.

    stopped ──start──▶ starting ──started──▶ running ──(stop done)──▶ stopped
                          │                     │
                          └──start failed──▶ error ◀──died──┘         error ──start──▶ starting

`status` is what is; `wanted` is what was asked for last. A stop that arrives while the sandbox is
starting, or a start while it is stopping, is remembered in `wanted` and acted upon when the running
effect reports: there is never more than one effect under way, so none can overtake another.

Every start has a `generation`, one higher than the last. A report that carries another generation is
about a sandbox that is no more, and is ignored. A sandbox that died is never started again by itself;
the next call that needs it starts it (its commands were reported lost and are not run again).

No IO, no clock: the shell (`entity.py`) saves the state, writes the row and performs the actions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from terminalpp.types.network import proxy_environment
from terminalpp.types.states import SandboxState


class Wanted(StrEnum):
    """The state that was asked for last."""

    RUNNING = "running"
    STOPPED = "stopped"
    ASLEEP = "asleep"          # stopped because nobody used it: the next call wakes it
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`started` is the driver's record while it runs; `error` the last failure as JSON, for callers.

    `ending`: it still runs, and the effect that ends it is under way. `paused` is what was asked for while it
    runs, `frozen` what is; `holding`: the effect that makes them equal is under way, the `holds`th.
    """

    status: SandboxState = SandboxState.STOPPED
    wanted: Wanted = Wanted.ASLEEP
    ending: bool = False
    generation: int = 0
    spec: dict[str, Any] = field(default_factory=dict)
    driver: str | None = None
    started: dict[str, Any] | None = None
    detail: str = ""
    error: dict[str, Any] | None = None
    paused: bool = False
    frozen: bool = False
    holding: bool = False
    holds: int = 0

    def to_json(self) -> dict[str, Any]:
        """The state as it is stored."""
        return {**asdict(self), "status": str(self.status), "wanted": str(self.wanted)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Sandbox:
        """The state that `to_json` wrote; an empty dict is a sandbox that was never created."""
        if not value:
            return cls()
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        known["status"] = SandboxState(known.get("status", SandboxState.STOPPED))
        known["wanted"] = Wanted(known.get("wanted", Wanted.ASLEEP))
        return cls(**known)

    @property
    def usable(self) -> bool:
        """Commands may be started in it."""
        return self.status is SandboxState.RUNNING and not (self.ending or self.held)

    @property
    def held(self) -> bool:
        """It runs, but is paused, or about to be, or not yet resumed."""
        return self.paused or self.frozen or self.holding

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its commands, over the image's: the way out, then the sandbox's own."""
        return {**proxy_environment(self.spec.get("network")), **(self.spec.get("environment") or {})}


# ---- operations ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Somebody needs it. Repeating it changes nothing."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End it, keep the workspace. `idle`: by auto-sleep, so that the next call may wake it."""

    idle: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """End it and start it again. What is starting already, or stops, ends up running in a new generation."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Freeze what runs in it, until `Resume`, a stop or its end. Of a sandbox that does not run: ignored."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Let what is frozen go on."""


@dataclass(frozen=True, slots=True)
class Held:
    """Its processes are frozen now, or go on. `error`: they could not be made so, and are as before."""

    generation: int
    frozen: bool
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Destroy:
    """End it and delete all of it."""


@dataclass(frozen=True, slots=True)
class Started:
    """The driver has it running. `driver` stays with the sandbox: the workspace is in its hands."""

    generation: int
    driver: str
    started: dict[str, Any]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The driver could not start it."""

    generation: int
    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The driver has ended it."""

    generation: int


@dataclass(frozen=True, slots=True)
class Died:
    """It was found dead. `expected`: with its machine, or by `down`; else something killed it."""

    generation: int
    detail: str
    expected: bool = False


Op = Start | Stop | Restart | Pause | Resume | Held | Destroy | Started | StartFailed | Stopped | Died


# ---- actions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Perform:
    """An effect to carry out after the commit: `start`, `stop`, `hold` or `remove`, for this generation."""

    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class Applied:
    """The next state, the effects, and whether its open commands must now be settled (`ended`)."""

    sandbox: Sandbox
    actions: tuple[Perform, ...] = ()
    ended: bool = False


IGNORED = None


def apply(s: Sandbox, op: Op) -> Applied | None:
    """The next state and its actions, or IGNORED when `op` changes nothing."""
    match op:
        case Start():
            return _start(s)
        case Stop():
            return _stop(s, Wanted.ASLEEP if op.idle else Wanted.STOPPED)
        case Restart():
            return _restart(s)
        case Pause() | Resume():
            return _hold(s, isinstance(op, Pause))
        case Held():
            return _held(s, op)
        case Destroy():
            return _stop(s, Wanted.DESTROYED)
        case Started():
            return _started(s, op)
        case StartFailed():
            return _start_failed(s, op)
        case Stopped():
            return _ended(s, op.generation, SandboxState.STOPPED, "")
        case Died():
            if s.ending:
                return _ended(s, op.generation, SandboxState.STOPPED, "")
            status = SandboxState.STOPPED if op.expected else SandboxState.ERROR
            return _ended(s, op.generation, status, op.detail)


def _start(s: Sandbox) -> Applied | None:
    if s.wanted is Wanted.DESTROYED:
        return IGNORED
    if s.status in (SandboxState.STARTING, SandboxState.RUNNING):
        # While stopping this asks for a start afterwards.
        return IGNORED if s.wanted is Wanted.RUNNING else Applied(replace(s, wanted=Wanted.RUNNING))
    generation = s.generation + 1
    after = replace(s, status=SandboxState.STARTING, wanted=Wanted.RUNNING, generation=generation,
                    started=None, detail="starting", error=None)
    return Applied(after, (Perform("start", generation),))


def _stop(s: Sandbox, wanted: Wanted) -> Applied | None:
    if s.wanted in (wanted, Wanted.DESTROYED):
        return IGNORED
    if wanted is Wanted.ASLEEP and s.wanted is Wanted.STOPPED:
        return IGNORED  # asked for explicitly: stays so
    after = replace(s, wanted=wanted)
    if s.status is SandboxState.STARTING or s.ending or s.holding:
        return Applied(after)  # the effect that is under way reports, and then it goes on
    if s.status is SandboxState.RUNNING:
        return Applied(_ending(after), (Perform("stop", s.generation),))
    if wanted is Wanted.DESTROYED:
        return Applied(after, (Perform("remove", s.generation),))
    return Applied(after)


def _restart(s: Sandbox) -> Applied | None:
    if s.status is not SandboxState.RUNNING or s.ending or s.holding or s.wanted is Wanted.DESTROYED:
        return _start(s)
    # The report of the stop finds that it is wanted running, and starts it.
    return Applied(_ending(replace(s, wanted=Wanted.RUNNING)), (Perform("stop", s.generation),))


def _started(s: Sandbox, op: Started) -> Applied | None:
    if s.status is not SandboxState.STARTING or op.generation != s.generation:
        return IGNORED
    after = replace(s, status=SandboxState.RUNNING, driver=op.driver, started=op.started, detail=op.detail)
    if s.wanted is Wanted.RUNNING:
        return Applied(after)
    return Applied(_ending(after), (Perform("stop", s.generation),))


def _ending(s: Sandbox) -> Sandbox:
    return replace(s, ending=True, detail="stopping", paused=False)


def _hold(s: Sandbox, paused: bool) -> Applied | None:
    if s.status is not SandboxState.RUNNING or s.wanted is not Wanted.RUNNING:
        return IGNORED
    if s.ending or s.paused is paused:
        return IGNORED
    after = replace(s, paused=paused, error=None)
    return Applied(after) if s.holding else _begin_hold(after)


def _begin_hold(s: Sandbox) -> Applied:
    after = replace(s, holding=True, holds=s.holds + 1, detail="pausing" if s.paused else "resuming")
    return Applied(after, (Perform("hold", s.generation),))


def _held(s: Sandbox, op: Held) -> Applied | None:
    if s.status is not SandboxState.RUNNING or op.generation != s.generation or not s.holding:
        return IGNORED
    after = replace(s, frozen=op.frozen, holding=False, detail="paused" if op.frozen else "", error=op.error)
    if op.error is not None:
        after = replace(after, paused=op.frozen, detail=str(op.error.get("detail", "")))
    if s.wanted is not Wanted.RUNNING:  # a stop arrived meanwhile
        return Applied(_ending(after), (Perform("stop", s.generation),))
    return Applied(after) if after.paused is after.frozen else _begin_hold(after)


def _start_failed(s: Sandbox, op: StartFailed) -> Applied | None:
    if s.status is not SandboxState.STARTING or op.generation != s.generation:
        return IGNORED
    after = replace(s, status=SandboxState.ERROR, detail=str(op.error.get("detail", "")), error=op.error)
    actions = (Perform("remove", s.generation),) if s.wanted is Wanted.DESTROYED else ()
    return Applied(after, actions, ended=True)


def _ended(s: Sandbox, generation: int, status: SandboxState, detail: str) -> Applied | None:
    if s.status is not SandboxState.RUNNING or generation != s.generation:
        return IGNORED
    after = replace(s, status=status, ending=False, started=None, detail=detail,
                    paused=False, frozen=False, holding=False)
    if s.wanted is Wanted.DESTROYED:
        return Applied(after, (Perform("remove", generation),), ended=True)
    if s.ending and s.wanted is Wanted.RUNNING:
        again = _start(after)  # a start arrived while it was stopping
        assert again is not None
        return replace(again, ended=True)
    if not s.ending:
        after = replace(after, wanted=Wanted.ASLEEP)  # it died: the next call that needs it starts it
    return Applied(after, ended=True)
