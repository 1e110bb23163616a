"""Who looks at a terminal, who types, and what size it has: the rules, as a pure state machine.

Any number of viewers look. Of those who may write at most one is in *control*: what others type is refused.
Control is free at first and goes to whoever asks for it or types; from then on it stays until it is released,
its holder leaves, or somebody takes it over. A person may take it from anybody, an agent only from another
agent: where a person has taken over, the agent waits. Whoever only asks (`Ask`) is shown to who has it.

The size follows the policy: of who is in control, else who came or resized last (`latest`); of the
smallest viewer, each side for itself (`smallest`); or it is `fixed`, and only its setting changes it.

Viewers are known for as long as they say so: who has not been heard of for LEASE_SECONDS has left. Nothing of
this is stored: after a crash viewers come again, and who says that control was his has it again if it is
free. No IO, no clock: the shell (`entity.py`) says what time it is and tells the terminal its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from terminalpp.types.terminals import COLS, ROWS, Policy, Role

LEASE_SECONDS = 30.0
VIEWERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. `cols` and `rows` 0: without a size of its own (an agent, a program). `seen_at` and `turn`:
    when it was last heard of, and the number of its last resize."""

    id: str
    user_id: str
    name: str
    role: Role
    agent: bool = False
    cols: int = 0
    rows: int = 0
    seen_at: float = 0.0
    turn: int = 0
    asks: bool = False  # for control


@dataclass(frozen=True, slots=True)
class Stage:
    """The state. `size`: what the terminal should have."""

    cols: int = COLS
    rows: int = ROWS
    policy: Policy = Policy.LATEST
    viewers: dict[str, Viewer] = field(default_factory=dict)
    controller: str | None = None
    turns: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return self.cols, self.rows

    def to_json(self) -> dict[str, Any]:
        """As viewers are told."""
        return {
            "cols": self.cols, "rows": self.rows, "policy": str(self.policy), "controller": self.controller,
            "viewers": [
                {"id": v.id, "name": v.name, "role": str(v.role), "agent": v.agent, "asks": v.asks}
                for v in self.viewers.values()
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class See:
    """A viewer is there (again). `control`: it says that control was its own."""

    viewer: Viewer
    control: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """A viewer has gone."""

    id: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Time has passed."""

    now: float


@dataclass(frozen=True, slots=True)
class Take:
    """A viewer wants control now."""

    id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A viewer asks whoever is in control for it."""

    id: str


@dataclass(frozen=True, slots=True)
class Release:
    """Who is in control gives it up, to `to` where it is one who may write."""

    id: str
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Resize:
    """A viewer's own size; with `fix` that of the terminal, from now on, whoever looks."""

    id: str
    cols: int
    rows: int
    fix: bool = False


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Whose size it has from now on."""

    policy: Policy


Op = See | Leave | Expire | Take | Ask | Release | Resize | SetPolicy
IGNORED = None


def apply(s: Stage, op: Op) -> Stage | None:
    """The next state, or IGNORED when `op` changes nothing that anybody is told."""
    after = _apply(s, op)
    if after is IGNORED:
        return IGNORED
    after = _sized(after)
    return after


def may_take(s: Stage, id: str) -> bool:
    """Whether this viewer may have control now."""
    viewer, holder = s.viewers.get(id), s.viewers.get(s.controller or "")
    if viewer is None or viewer.role is not Role.WRITER:
        return False
    return holder is None or holder.id == id or not viewer.agent or holder.agent


def _apply(s: Stage, op: Op) -> Stage | None:
    match op:
        case See():
            return _see(s, op)
        case Leave():
            return _without(s, {op.id})
        case Expire():
            late = {v.id for v in s.viewers.values() if op.now - v.seen_at > LEASE_SECONDS}
            return _without(s, late)
        case Take():
            if not may_take(s, op.id) or s.controller == op.id:
                return IGNORED
            return _with(replace(s, controller=op.id), replace(s.viewers[op.id], asks=False))
        case Ask():
            viewer = s.viewers.get(op.id)
            if viewer is None or viewer.role is not Role.WRITER or s.controller == op.id or viewer.asks:
                return IGNORED
            return _with(s, replace(viewer, asks=True))
        case Release():
            if s.controller != op.id:
                return IGNORED
            free = replace(s, controller=None)
            if op.to is not None and may_take(free, op.to):
                return _with(replace(s, controller=op.to), replace(s.viewers[op.to], asks=False))
            return free
        case Resize():
            return _resize(s, op)
        case SetPolicy():
            return IGNORED if op.policy is s.policy else replace(s, policy=op.policy)


def _see(s: Stage, op: See) -> Stage | None:
    viewer, known = op.viewer, s.viewers.get(op.viewer.id)
    if known is None and len(s.viewers) >= VIEWERS_MAX:
        return IGNORED
    turns = s.turns
    if known is None or (viewer.cols and (viewer.cols, viewer.rows) != (known.cols, known.rows)):
        turns += 1
        viewer = replace(viewer, turn=turns)
    else:
        viewer = replace(known, role=viewer.role, name=viewer.name, seen_at=viewer.seen_at)
    after = _with(replace(s, turns=turns), viewer)
    free = s.controller is None
    if op.control and free and may_take(after, viewer.id):
        after = replace(after, controller=viewer.id)
    if viewer.role is not Role.WRITER and after.controller == viewer.id:
        after = replace(after, controller=None)
    return after


def _with(s: Stage, viewer: Viewer) -> Stage:
    return replace(s, viewers={**s.viewers, viewer.id: viewer})


def _without(s: Stage, gone: set[str]) -> Stage | None:
    left = {id: viewer for id, viewer in s.viewers.items() if id not in gone}
    if len(left) == len(s.viewers):
        return IGNORED
    return replace(s, viewers=left, controller=None if s.controller in gone else s.controller)


def _resize(s: Stage, op: Resize) -> Stage | None:
    if op.fix:
        return replace(s, policy=Policy.FIXED, cols=op.cols, rows=op.rows)
    viewer = s.viewers.get(op.id)
    if viewer is None:
        return IGNORED
    turns = s.turns + 1
    return _with(replace(s, turns=turns), replace(viewer, cols=op.cols, rows=op.rows, turn=turns))


def _sized(s: Stage) -> Stage:
    """With the size that follows from who looks. Nobody with a size: it stays."""
    sized = [v for v in s.viewers.values() if v.cols and v.rows]
    if s.policy is Policy.FIXED or not sized:
        return s
    if s.policy is Policy.SMALLEST:
        return replace(s, cols=min(v.cols for v in sized), rows=min(v.rows for v in sized))
    holder = s.viewers.get(s.controller or "")
    one = holder if holder in sized else max(sized, key=lambda v: v.turn)
    return replace(s, cols=one.cols, rows=one.rows)
