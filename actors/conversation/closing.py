"""How a turn is closed on the log: nothing open is left behind, whatever died or was cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.limits import Spent
from terminalpp.types.states import TurnOutcome

# What the closing of a turn reads back.
TYPES = (
    "tool.called",
    "tool.finished",
    "command.started",
    "command.finished",
    "model.started",
    "model.finished",
    "message.delivered",
    "tests.finished",
)
Entry = tuple[str, str, dict[str, Any]]


@dataclass(frozen=True)
class TurnEnd:
    """How the work ended. `tests` is the last standing report with its command."""

    outcome: TurnOutcome
    reason: str = ""
    summary: str = ""
    tests: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    patch_bytes: int = 0
    left: list[dict[str, Any]] = field(default_factory=list)  # what stays in the sandbox, and why
    running: list[str] = field(default_factory=list)  # command lines that go on in the sandbox
    tree: str = ""  # the snapshot that the tests saw; "": none


@dataclass(frozen=True)
class Loose:
    """The calls, commands and model calls that are open on a turn's log."""

    calls: list[tuple[str, dict[str, Any]]]  # (actor, tool.called) without tool.finished
    commands: list[tuple[str, dict[str, Any]]]  # (actor, command.started) without command.finished
    hidden: list[str]  # exec ids of open calls that no command event tells of
    models: list[str]  # call ids of model calls without an end
    terminals: list[str]  # that the turn used; they may be open


def loose(events: Sequence[Any]) -> Loose:
    """The open ends in a turn's events (`type`, `actor`, `payload`)."""
    calls: dict[str, tuple[str, dict[str, Any]]] = {}
    commands: dict[str, tuple[str, dict[str, Any]]] = {}
    models: dict[str, None] = {}
    terminals: dict[str, None] = {}
    for event in events:
        payload = event.payload
        match event.type:
            case "tool.called":
                calls[payload["tool_call_id"]] = (event.actor, payload)
                if id := (payload.get("effect") or {}).get("terminal_id"):
                    terminals[id] = None
            case "tool.finished":
                calls.pop(payload["tool_call_id"], None)
            case "command.started":
                commands[payload["exec_id"]] = (event.actor, payload)
            case "command.finished":
                commands.pop(payload["exec_id"], None)
            case "model.started":
                models[payload["call_id"]] = None
            case "model.finished":
                models.pop(payload["call_id"], None)
    told = {payload["exec_id"] for _, payload in commands.values()}
    hidden = [
        str(payload["exec_id"])
        for _, payload in calls.values()
        if payload.get("exec_id") and payload["exec_id"] not in told
    ]
    return Loose(list(calls.values()), list(commands.values()), hidden, list(models), list(terminals))


def entries(
    events: Sequence[Any],
    turn: dict[str, Any],
    ending: TurnEnd,
    now: float,
    ended_commands: Sequence[Entry] = (),
) -> list[Entry]:
    """Everything that closes the turn, in order, `turn.finished` last."""
    out: list[Entry] = list(ended_commands)
    for actor, called in loose(events).calls:
        body = {
            "task_id": called["task_id"],
            "tool_call_id": called["tool_call_id"],
            "tool": called["tool"],
            "ok": False,
            "output": f"[the turn ended: {ending.outcome}]",
        }
        if called.get("exec_id"):
            body["exec_id"] = called["exec_id"]
        out.append(("tool.finished", actor, body))
    if ending.error is not None:
        out.append(
            (
                "error.raised",
                "system",
                {name: ending.error.get(name) for name in ("code", "detail", "hint", "retryable")},
            )
        )
    if ending.files:
        out.append(("diff.made", "system", {"files": ending.files, "patch_bytes": ending.patch_bytes}))
    spent = usage(events)
    out.append(
        (
            "turn.finished",
            "system",
            {
                "turn_id": turn["turn_id"],
                "outcome": str(ending.outcome),
                "reason": ending.reason,
                "summary": ending.summary,
                "tests": ending.tests,
                "files": ending.files,
                "left": ending.left,
                "running": ending.running,
                "usage": {
                    "input_tokens": spent.input_tokens,
                    "output_tokens": spent.output_tokens,
                    "cached_tokens": spent.cached_tokens,
                    "model_calls": spent.steps,
                },
                "cost_usd": spent.cost_usd,
                "duration_ms": max(0, int((now - turn["started_at"]) * 1000)),
            },
        )
    )
    return out


def usage(events: Sequence[Any]) -> Spent:
    """The tokens and dollars of the turn's recorded model calls."""
    spent = Spent()
    for event in events:
        if event.type == "model.finished":
            spent = spent.plus(event.payload)
    return spent
