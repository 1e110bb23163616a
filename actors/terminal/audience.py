"""Those who look at a terminal, as its entity holds them: the state machine of `core`, and who waits for
news."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from actors.terminal import core
from runtime import typed
from terminalpp.types import errors
from terminalpp.types.terminals import Role, side


class Audience:
    """`version` grows with everything that viewers are told of, be it theirs (`apply`) or not (`changed`)."""

    def __init__(self) -> None:
        self.stage = core.Stage()
        self.version = 1
        self._news = asyncio.Condition()

    async def apply(self, op: core.Op) -> bool:
        """Change who looks; whether the terminal's size must follow."""
        before, after = self.stage, core.apply(self.stage, op)
        if after is core.IGNORED:
            return False
        self.stage = after
        if after.to_json() != before.to_json():
            await self.changed()
        return after.size != before.size

    async def changed(self) -> None:
        """Wake who waits for news."""
        async with self._news:
            self.version += 1
            self._news.notify_all()

    async def wait(self, until: Callable[[], bool], timeout_s: float) -> None:
        """Return when that is so, asked at each piece of news, or when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(until)

    def refusal(self, viewer: str) -> errors.NotInControl:
        """Why this viewer may not type, or take control."""
        one, holder = (self.stage.viewers.get(id or "") for id in (viewer, self.stage.controller))
        reader = one is None or one.role is not Role.WRITER or holder is None
        who = "only a writer may type" if reader else f"{holder.name} is in control of this terminal"
        return errors.NotInControl(who, "", {"controller": self.stage.controller})


def viewer_of(payload: dict[str, Any]) -> core.Viewer:
    """Who calls: viewer (an id), user_id, name, role, agent, cols, rows. Raises InvalidInput naming the
    field."""
    typed(payload, ("viewer",), viewer=str, user_id=str, name=str, agent=bool)
    try:
        role = Role(payload.get("role") or Role.WRITER)
    except ValueError:
        raise errors.InvalidInput("role: writer or viewer") from None
    if not 0 < len(payload["viewer"]) <= 64:
        raise errors.InvalidInput("viewer: an id of at most 64 characters")
    cols, rows = (side(payload.get(name) or None, name, 0) for name in ("cols", "rows"))
    name, user = (payload.get("name") or "somebody")[:80], payload.get("user_id") or ""
    id, agent = payload["viewer"], bool(payload.get("agent"))
    return core.Viewer(id, user, name, role, agent, cols, rows, time.monotonic())
