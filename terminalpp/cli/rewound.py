"""What the log tells of points, rewinds, forks and refusals, in words."""

from __future__ import annotations

from typing import Any

from terminalpp.cli.sanitize import clean


def lines(told: Any) -> list[str]:
    """What `conversation.rewound` tells, in words."""
    out = [f"Went back to {told['label']}: {told['changed']} files and directories changed."]
    out += [f"! not as it was: {path}" for path in told["untouched"]]
    if told["running"]:
        out.append(f"! {len(told['running'])} commands went on meanwhile: ./tpp ps lists them.")
    if told.get("dropped"):
        out.append(f"! {len(told['dropped'])} messages that waited were left behind.")
    return [clean(line, one_line=True) for line in out]


def not_kept(told: Any) -> list[str]:
    """What `snapshot.failed` tells, in words."""
    return [clean(f"! no going back to this point ({told['label']}): {told['detail']}", one_line=True)]


def forked(told: Any) -> list[str]:
    """What `conversation.forked` tells, in words."""
    return [clean(f"From here on a fork of {told['conversation_id'][:8]}, at {told['label']}", one_line=True)]


def refused(told: Any) -> list[str]:
    """What `connection.refused` tells, in words."""
    names = ", ".join(f"{one['host']}:{one['port']} ({one['reason']})" for one in told["targets"])
    return [clean(f"! the network policy refused {names}; ./tpp sandbox network changes it", one_line=True)]


WORDS = {
    "conversation.rewound": lines,
    "conversation.forked": forked,
    "snapshot.failed": not_kept,
    "connection.refused": refused,
}  # by the type of event
