"""The conversation's state and every change of it, as pure functions. Tested as a table.

State (JSON): the settings given at creation; `queue`, ids of messages that no turn has taken; `turn`, the
running turn or None; `cancel`, the id of the turn that is to end; `history`, what the last turns were
about. Texts stay in the event log: a state is written at every turn and must stay small.
"""

from __future__ import annotations

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


def created(payload: dict[str, Any]) -> dict[str, Any]:
    """The state of a new conversation. Raises InvalidInput."""
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
    settings = {name: payload.get(name) for name in SETTINGS}
    return {
        **settings,
        "sandbox_id": str(payload["sandbox_id"]),
        "workspace": workspace.rstrip("/") or "/",
        "mode": mode,
        "limits": payload.get("limits") or {},
        "include": payload.get("include") or [],
        "baseline": None,
        "set_up": False,
        "queue": [],
        "turn": None,
        "cancel": None,
        "turns": 0,
        "history": [],
    }


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


def queued(state: dict[str, Any], message_id: str) -> None:
    if message_id not in state["queue"]:
        state["queue"].append(message_id)


def begin(state: dict[str, Any], conversation_id: str, now: float) -> dict[str, Any] | None:
    """Take the first waiting message as the next turn's task; None while a turn runs or none waits."""
    if state["turn"] is not None or not state["queue"]:
        return None
    message_id = state["queue"].pop(0)
    state["turns"] += 1
    state["turn"] = {
        "turn_id": derived_id(conversation_id, "turn", message_id),
        "message_id": message_id,
        "number": state["turns"],
        "started_at": now,
        "model": state["model"],
        "mode": state["mode"],
        "seq": 0,
        "base": None,
    }
    state["cancel"] = None
    return state["turn"]


def cancel(state: dict[str, Any]) -> bool:
    """Ask the running turn to end. False when none runs."""
    if state["turn"] is None:
        return False
    state["cancel"] = state["turn"]["turn_id"]
    return True


def delete(state: dict[str, Any]) -> bool:
    """From here on it is not there. True when a running turn, which is asked to end, must end first."""
    state["deleted"], state["queue"] = True, []
    return cancel(state)


def ended(
    state: dict[str, Any], turn_id: str, task: str, outcome: TurnOutcome, summary: str, delivered: set[str]
) -> bool:
    """Close the turn; messages that an agent was given are done with it. False when it is closed already."""
    turn = state["turn"]
    if turn is None or turn["turn_id"] != turn_id:
        return False
    state["turn"], state["cancel"] = None, None
    state["queue"] = [id for id in state["queue"] if id not in delivered]
    words = {
        "task": task[:HISTORY_CHARACTERS],
        "outcome": str(outcome),
        "summary": summary[:HISTORY_CHARACTERS],
    }
    state["history"] = [*state["history"], words][-HISTORY_TURNS:]
    return True
