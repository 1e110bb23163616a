"""The interface for authors of entities: `Entity`, and the `Turn` and `Action` given to its methods.

An entity is addressed by `Ref(kind, id)`, lives in one cell at a time and owns one JSON state. Within a
turn it may change that state, write rows through `turn.connection`, and ask for actions, messages and
reminders: all of it is committed together or not at all, under a fence that a newer owner breaks.
A turn holds the entity's mailbox and its row lock, so it awaits nothing but the database; models, shells
and other entities are reached from `@effect` and `@volatile` methods, outside the turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from runtime.decorators import Kind, methods_of
from terminalpp.types.errors import InvalidInput
from terminalpp.types.ids import Ref, derived_id

if TYPE_CHECKING:
    from runtime.context import Context
    from schema import Connection

REMIND = "remind:"
EFFECT_FAILED = "effect_failed"


class Entity:
    """Base class. A failed turn discards the object; a new one is made from the committed state."""

    kind: ClassVar[str]
    group: ClassVar[str] = "general"
    idle_seconds: float = 120.0  # unused for so long it is passivated
    # Methods and effects that are carried out in quarantine too: what ends it, deletes it or only reads. They
    # find an object whose `activated` was not called, and `context.quarantined`.
    in_quarantine: ClassVar[frozenset[str]] = frozenset()
    methods: ClassVar[dict[str, Kind]] = {}

    def __init__(self, ref: Ref, context: Context) -> None:
        self.ref = ref
        self.context = context
        self.state: dict[str, Any] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.methods = methods_of(cls)

    async def activated(self) -> None:
        """Called once the entity is claimed and `state` is loaded, before the first message or call.

        Nobody is answered until it returns: long work is spawned. It may not call its own entity.
        """

    async def passivated(self) -> None:
        """Called before the entity is given up in peace. A crash calls nothing: keep no secrets here."""


def typed(payload: dict[str, Any], required: tuple[str, ...] = (), **types: type | tuple[type, ...]) -> None:
    """Raises InvalidInput, naming the field, for one that is `required` and missing, or of another type.

    What a durable method reads from its payload is checked by it: a KeyError in there is a defect of ours.
    """
    for name in required:
        if payload.get(name) is None:
            raise InvalidInput(f"{name} is missing")
    for name, wanted in types.items():
        value = payload.get(name)
        odd = isinstance(value, bool) and wanted is not bool  # Python calls true a number
        if value is not None and (odd or not isinstance(value, wanted)):
            raise InvalidInput(f"{name}: {type(value).__name__} is no value for it")


@dataclass(frozen=True, slots=True)
class Action:
    """One effect to perform. `id` is the same at every attempt: pass it to whatever can recognise it."""

    id: str
    name: str
    payload: dict[str, Any]
    attempt: int  # 1 at first


@dataclass(frozen=True, slots=True)
class Send:
    """A message that a turn sends when it commits."""

    ref: Ref
    method: str
    payload: dict[str, Any]
    message_id: str


@dataclass(frozen=True, slots=True)
class Reminder:
    """A reminder that a turn sets when it commits. `every_seconds` None: it comes once."""

    name: str
    after_seconds: float
    every_seconds: float | None


@dataclass(slots=True)
class Turn:
    """One turn: the state to change, the transaction, and what shall follow its commit.

    `origin` names the turn (its message id); ids of actions and sends derive from it and their order, so
    a turn that is run again asks for the same ones.
    """

    ref: Ref
    state: dict[str, Any]
    connection: Connection
    origin: str
    actions: list[Action] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    reminders: list[Reminder] = field(default_factory=list)
    cancelled_reminders: list[str] = field(default_factory=list)

    def act(self, name: str, payload: dict[str, Any] | None = None, *, key: str | None = None) -> str:
        """Ask for the `@effect` method `name` after commit; returns the action's id.

        With `key`, the action is one of a kind for this entity: asking again while it exists adds nothing.
        """
        if key is None:
            action_id = derived_id(self.origin, "act", len(self.actions))
        else:
            action_id = derived_id(self.ref, "act", name, key)
        self.actions.append(Action(action_id, name, payload or {}, 1))
        return action_id

    def send(
        self, ref: Ref, method: str, payload: dict[str, Any] | None = None, *, message_id: str | None = None
    ) -> str:
        """Send a durable message with this turn's commit; returns its id. A send to oneself is allowed."""
        message_id = message_id or derived_id(self.origin, "send", len(self.sends))
        self.sends.append(Send(ref, method, payload or {}, message_id))
        return message_id

    def remind(self, name: str, *, after_seconds: float, every_seconds: float | None = None) -> None:
        """Have `on_reminder(turn, {"name": name})` called later, even after a restart. Replaces its like."""
        self.reminders.append(Reminder(name, after_seconds, every_seconds))

    def cancel_reminder(self, name: str) -> None:
        """Set no reminder of this name, and remove the one that is set, when the turn commits."""
        self.reminders[:] = [reminder for reminder in self.reminders if reminder.name != name]
        self.cancelled_reminders.append(name)


def turn_method(cls: type[Entity], message_method: str) -> tuple[str, dict[str, Any] | None] | None:
    """Which method a stored message calls, and the payload to use instead of its own (None: its own).

    None when the class has no such method. Reminders and failed effects arrive under reserved names.
    """
    if message_method.startswith(REMIND):
        name = "on_reminder"
        return (name, {"name": message_method.removeprefix(REMIND)}) if hasattr(cls, name) else None
    if message_method == EFFECT_FAILED:
        return ("on_effect_failed", None) if hasattr(cls, "on_effect_failed") else None
    return (message_method, None) if cls.methods.get(message_method) is Kind.DURABLE else None
