"""The life of a conversation as a pure state machine: `apply(conversation, op)` gives the next state.

Messages wait in a queue; one turn runs at a time and takes the first of them. A turn that is to end is named
in `cancel` before anything is stopped, so that a crash forgets nothing. Texts stay in the event log: a state
is written at every turn and must stay small.

No IO, no clock: the shell (`entity.py`) saves the state, writes the events and performs the effects.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from runtime import typed
from terminalpp.types.errors import Conflict, InvalidInput, NotFound, TooLarge
from terminalpp.types.ids import derived_id
from terminalpp.types.limits import MESSAGE_BYTES
from terminalpp.types.states import TurnOutcome

QUEUE_LENGTH = 100
HISTORY_TURNS, HISTORY_CHARACTERS = 8, 1500
MODES = ("team", "single")
SETTINGS = ("sandbox_id", "workspace", "title", "model", "mode", "test_command", "setup_command", "limits",
            "include")


@dataclass(frozen=True, slots=True)
class Conversation:
    """The settings given at creation, and where the conversation stands.

    `turn`: the running turn as JSON (turn_id, message_id, number, started_at, model, mode, `seq` of its
    first event, `base`: the snapshot it began with). `cancel`: the id of the turn that is to end.
    `baseline`: the snapshot of the first turn. `history`: what the last turns were about. `rewinding`: the
    rewind that was asked for (rewind_id, point_id), until the files are as they were; meanwhile no turn
    begins.
    """

    sandbox_id: str
    workspace: str
    model: str | None
    mode: str = "team"
    title: str | None = None
    test_command: str | None = None
    setup_command: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    include: list[str] = field(default_factory=list)
    baseline: str | None = None
    set_up: bool = False
    queue: tuple[str, ...] = ()
    turn: dict[str, Any] | None = None
    cancel: str | None = None
    turns: int = 0
    history: tuple[dict[str, Any], ...] = ()
    deleted: bool = False
    rewinding: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as it is stored."""
        return {**asdict(self), "queue": list(self.queue), "history": list(self.history)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Conversation:
        """The state that `to_json` wrote."""
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        return cls(**known | {name: tuple(known.get(name) or ()) for name in ("queue", "history")})

    def runs(self, turn_id: str) -> bool:
        """Whether this turn is the one that runs."""
        return self.turn is not None and self.turn["turn_id"] == turn_id


def created(payload: dict[str, Any]) -> Conversation:
    """A new conversation. Raises InvalidInput."""
    typed(payload, user_id=str, sandbox_id=str, workspace=str, title=str, model=str, mode=str,
          test_command=str, setup_command=str, limits=dict, include=list)
    if not payload.get("sandbox_id"):
        raise InvalidInput("sandbox_id is missing")
    workspace = str(payload.get("workspace") or "")
    if not workspace.startswith("/") or "\0" in workspace or len(workspace) > 500:
        raise InvalidInput("workspace must be an absolute path in the sandbox")
    mode = payload.get("mode") or "team"
    if mode not in MODES:
        raise InvalidInput(f"mode must be team or single, not {mode!r}")
    given = {name: payload.get(name) for name in SETTINGS}
    return Conversation(**given | {
        "workspace": workspace.rstrip("/") or "/",
        "mode": mode,
        "limits": payload.get("limits") or {},
        "include": payload.get("include") or [],
    })


def exists(state: dict[str, Any], id: str) -> None:
    """Raises NotFound for a conversation that was never created, or is being deleted."""
    if not state.get("sandbox_id") or state.get("deleted"):
        raise NotFound(f"there is no conversation {id}")


def check_message(state: dict[str, Any], text: str) -> None:
    """Raises InvalidInput, TooLarge, Conflict (too many are waiting)."""
    if not text.strip():
        raise InvalidInput("the message is empty", "Say what is to be done.")
    size = len(text.encode("utf-8", "replace"))
    if size > MESSAGE_BYTES:
        raise TooLarge(
            f"the message has {size} bytes; the limit is {MESSAGE_BYTES}",
            "Put long material into a file of the workspace and name it in the task.",
        )
    if len(state["queue"]) >= QUEUE_LENGTH:
        raise Conflict(f"{QUEUE_LENGTH} messages are waiting already", "Wait for the running turn.")


# ---- operations ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accept:
    """A message was stored. It starts a turn, or waits for the one that runs."""

    conversation_id: str
    message_id: str
    now: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Announced:
    """The turn's first event has this number."""

    turn_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """The project is set up, and the turn works from the snapshot `base`."""

    turn_id: str
    base: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The running turn shall end."""


@dataclass(frozen=True, slots=True)
class Delete:
    """From here on it is not there; a running turn, which is asked to end, must end first."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """Go back to a point; a running turn, which is asked to end, must end first. What waits in the queue was
    said of what is left, and does not begin."""

    rewind_id: str
    point_id: str


@dataclass(frozen=True, slots=True)
class Rewound:
    """The files are as they were (or cannot be: `known` None, and nothing is forgotten). `known`: see
    `known`."""

    conversation_id: str
    rewind_id: str
    known: dict[str, Any] | None
    now: float


@dataclass(frozen=True, slots=True)
class SetModel:
    """Another model from the next call on."""

    model: str


@dataclass(frozen=True, slots=True)
class Close:
    """The turn has ended, and with it the messages that an agent was given (`delivered`). The next begins."""

    conversation_id: str
    turn_id: str
    task: str
    outcome: TurnOutcome
    summary: str
    delivered: frozenset[str]
    now: float


Op = Accept | Announced | Prepared | Cancel | Delete | Rewind | Rewound | SetModel | Close
IGNORED = None


@dataclass(frozen=True, slots=True)
class Applied:
    """The next state, and the turn that begins with it, if one does."""

    conversation: Conversation
    begun: dict[str, Any] | None = None


def apply(c: Conversation, op: Op) -> Applied | None:
    """The next state, or IGNORED when `op` changes nothing."""
    match op:
        case Accept():
            known = op.message_id in c.queue or (c.turn is not None and c.turn["message_id"] == op.message_id)
            waiting = c if known else replace(c, queue=(*c.queue, op.message_id))
            return _begin(waiting, op.conversation_id, op.now)
        case Announced(turn_id, seq):
            return Applied(replace(c, turn={**c.turn, "seq": seq})) if c.turn and c.runs(turn_id) else IGNORED
        case Prepared(turn_id, base):
            turn = {**c.turn, "base": base} if c.turn and c.runs(turn_id) else c.turn
            return Applied(replace(c, turn=turn, set_up=True, baseline=c.baseline or base))
        case Cancel():
            return Applied(replace(c, cancel=c.turn["turn_id"])) if c.turn else IGNORED
        case Delete():
            return Applied(
                replace(c, deleted=True, queue=(), cancel=c.turn["turn_id"] if c.turn else c.cancel)
            )
        case Rewind(rewind_id, point_id):
            if c.rewinding is not None or c.deleted:
                return IGNORED
            asked = {"rewind_id": rewind_id, "point_id": point_id, "dropped": list(c.queue)}
            ending = c.turn["turn_id"] if c.turn else None
            return Applied(replace(c, rewinding=asked, queue=(), cancel=ending))
        case Rewound():
            return _rewound(c, op)
        case SetModel(model):
            return Applied(replace(c, model=model))
        case Close():
            return _close(c, op) if c.runs(op.turn_id) else IGNORED


def step(state: dict[str, Any], op: Op) -> Applied | None:
    """`apply` on a state as it is stored, which is changed in place."""
    applied = apply(Conversation.from_json(state), op)
    if applied is not None:
        state.clear()
        state.update(applied.conversation.to_json())
    return applied


def _begin(c: Conversation, conversation_id: str, now: float) -> Applied:
    """The first waiting message becomes the next turn's task, unless a turn runs or none waits."""
    if c.turn is not None or not c.queue or c.rewinding is not None:
        return Applied(c)
    message_id, *rest = c.queue
    turn = {
        "turn_id": derived_id(conversation_id, "turn", message_id),
        "message_id": message_id,
        "number": c.turns + 1,
        "started_at": now,
        "model": c.model,
        "mode": c.mode,
        "seq": 0,
        "base": None,
    }
    return Applied(replace(c, queue=tuple(rest), turns=c.turns + 1, turn=turn, cancel=None), turn)


def known(c: Conversation) -> dict[str, Any]:
    """What a point between two turns keeps: all that the next turn begins with."""
    return {
        "history": list(c.history), "turns": c.turns, "baseline": c.baseline, "set_up": c.set_up,
    }  # fmt: skip


def _rewound(c: Conversation, op: Rewound) -> Applied | None:
    if c.rewinding is None or c.rewinding["rewind_id"] != op.rewind_id:
        return IGNORED
    after = replace(c, rewinding=None)
    if op.known is not None:
        # The number of turns goes on: it counts what was begun.
        then = op.known
        history, baseline = tuple(then["history"]), then["baseline"]
        after = replace(after, history=history, baseline=baseline, set_up=then["set_up"])
    return _begin(after, op.conversation_id, op.now)


def _close(c: Conversation, op: Close) -> Applied:
    words = {
        "task": op.task[:HISTORY_CHARACTERS],
        "outcome": str(op.outcome),
        "summary": op.summary[:HISTORY_CHARACTERS],
    }
    left = tuple(id for id in c.queue if id not in op.delivered)
    history = (*c.history, words)[-HISTORY_TURNS:]
    after = replace(c, turn=None, cancel=None, queue=left, history=history)
    return Applied(after) if c.deleted else _begin(after, op.conversation_id, op.now)
