"""What the address of a terminal's WebSocket may say: which terminal, who looks, from which byte on."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import WebSocket

from gateway.requests import UUID_SPELLING
from gateway.routes import refused
from gateway.state import user_of
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from terminalpp.types.terminals import SIDE_MAX, Role

_QUERY = frozenset({"since", "viewer", "role", "cols", "rows", "ticket", "name", "control"})


@dataclass(frozen=True, slots=True)
class Asked:
    """The address of a connection, checked. `since` None: with the painted screen; `control`: it had it
    before."""

    sandbox: str
    terminal: str
    viewer: str
    user: str
    name: str
    role: str
    cols: int
    rows: int
    since: int | None
    control: bool

    @classmethod
    def of(cls, websocket: WebSocket, sandbox: str, terminal: str) -> Asked:
        """Raises InvalidInput naming the place, NotFound."""
        query = websocket.query_params
        for name in query:
            if name not in _QUERY:
                raise refused(f"query.{name}", "there is no such parameter")
        for id in (sandbox, terminal):
            if not UUID_SPELLING.fullmatch(id):
                raise errors.NotFound("there is no such terminal")
        viewer = query.get("viewer") or new_id()
        if not UUID_SPELLING.fullmatch(viewer):
            raise refused("query.viewer", "must be a UUID of the client's own")
        role = query.get("role", str(Role.WRITER))
        if role not in list(Role):
            raise refused("query.role", "must be writer or viewer")
        since = _number(query.get("since"), "since", 0, 2**62)
        return cls(
            sandbox.lower(), terminal.lower(), viewer.lower(), user_of(websocket),
            (query.get("name") or "somebody")[:80], role,
            _number(query.get("cols"), "cols", 1, SIDE_MAX) or 0,
            _number(query.get("rows"), "rows", 1, SIDE_MAX) or 0,
            since, query.get("control") == "true",
        )  # fmt: skip


def _number(value: str | None, name: str, least: int, most: int) -> int | None:
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 19 or not least <= int(value) <= most:
        raise refused(f"query.{name}", f"must be a whole number from {least} to {most}")
    return int(value)
