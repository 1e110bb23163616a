"""The shapes of what the entities of the server store for themselves and each other: effects and messages."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class OfGeneration(TypedDict):
    """An effect on the sandbox as it was started the n-th time."""

    generation: int


class OfTurn(TypedDict):
    """An effect on one turn."""

    turn_id: str


class SandboxCreate(TypedDict):
    """Make a sandbox."""

    user_id: str
    name: NotRequired[str | None]
    description: NotRequired[str | None]
    image: NotRequired[str | None]
    network: NotRequired[str | None]
    allow: NotRequired[list[str] | None]
    allow_private: NotRequired[list[str] | None]
    resource_limits: NotRequired[dict[str, Any] | None]
    environment: NotRequired[dict[str, str] | None]
    auto_sleep_after_minutes: NotRequired[int | None]
    start: NotRequired[bool]
    from_snapshot: NotRequired[str | None]


class Restore(TypedDict):
    """Make the files of a sandbox as a snapshot has them. `paths`: absolute, as `terminalpp.types.paths`
    writes them; none: all."""

    restore_id: str
    snapshot_id: str
    paths: NotRequired[list[str] | None]
    name: NotRequired[str | None]
    created_by: NotRequired[str | None]


class OfRestore(TypedDict):
    """An effect on one restore."""

    restore_id: str


class TerminalCreate(TypedDict):
    """Open a terminal in a sandbox."""

    sandbox_id: str
    user_id: NotRequired[str | None]
    name: NotRequired[str | None]
    command: NotRequired[str | None]
    argv: NotRequired[list[str] | None]
    cwd: NotRequired[str | None]
    env: NotRequired[dict[str, str] | None]
    cols: NotRequired[int | None]
    rows: NotRequired[int | None]
    policy: NotRequired[Literal["latest", "smallest", "fixed"] | None]
    agent: NotRequired[str | None]
    conversation_id: NotRequired[str | None]


class TerminalEnd(TypedDict):
    """End a terminal's program; `by`: who wants it."""

    by: NotRequired[str | None]


class ConversationCreate(TypedDict):
    """Make a conversation about a folder of a sandbox."""

    user_id: str
    sandbox_id: str
    workspace: str
    title: NotRequired[str | None]
    model: NotRequired[str | None]
    mode: NotRequired[Literal["team", "single"]]
    test_command: NotRequired[str | None]
    setup_command: NotRequired[str | None]
    limits: NotRequired[dict[str, Any] | None]
    include: NotRequired[list[str] | None]
    fork_of: NotRequired[dict[str, str] | None]


class Post(TypedDict):
    """A person's message."""

    message_id: str
    text: str


class Rewind(TypedDict):
    """Go back to a point of the conversation."""

    rewind_id: str
    point_id: str


class OfRewind(TypedDict):
    """An effect on one rewind."""

    rewind_id: str


class Adopt(TypedDict):
    """Take over the record of the conversation that this one is a fork of."""

    conversation_id: str
    sandbox_id: str


class SetModel(TypedDict):
    """Use another model from the next call on."""

    model: str


class SetNetwork(TypedDict):
    """Another network of a sandbox, or another list."""

    network: NotRequired[str | None]
    allow: NotRequired[list[str] | None]
    allow_private: NotRequired[list[str] | None]


class Nothing(TypedDict):
    """No fields."""


EFFECTS: dict[str, type] = {
    "sandbox.launch": OfGeneration,
    "sandbox.halt": OfGeneration,
    "sandbox.hold": OfGeneration,
    "sandbox.remove": OfGeneration,
    "sandbox.bring_back": OfRestore,
    "sandbox.apply_network": Nothing,
    "terminal.launch": Nothing,
    "terminal.halt": Nothing,
    "conversation.run_turn": OfTurn,
    "conversation.abandon": OfTurn,
    "conversation.go_back": OfRewind,
    "conversation.adopt": Adopt,
}
MESSAGES: dict[str, type] = {
    "sandbox.create": SandboxCreate,
    "sandbox.start": Nothing,
    "sandbox.stop": Nothing,
    "sandbox.restart": Nothing,
    "sandbox.pause": Nothing,
    "sandbox.resume": Nothing,
    "sandbox.restore": Restore,
    "sandbox.set_network": SetNetwork,
    "sandbox.destroy": Nothing,
    "terminal.create": TerminalCreate,
    "terminal.end": TerminalEnd,
    "conversation.create": ConversationCreate,
    "conversation.post": Post,
    "conversation.cancel": Nothing,
    "conversation.rewind": Rewind,
    "conversation.destroy": Nothing,
    "conversation.set_model": SetModel,
}
