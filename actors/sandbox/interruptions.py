"""The part of the sandbox entity that interrupts what runs in it."""

from __future__ import annotations

from typing import Any

from actors.sandbox import core, state
from runtime import Entity, Turn, durable


class Interruptions(Entity):
    """See the head of this file. The sandbox brings `_exists` and `_step`."""

    def _exists(self, saved: dict[str, Any]) -> None:
        raise NotImplementedError

    async def _step(self, turn: Turn, op: core.Op) -> core.Applied | None:
        raise NotImplementedError

    @durable
    async def restart(self, turn: Turn, _payload: dict[str, Any]) -> dict[str, Any]:
        """End its commands and start it again; the workspace stays. Returns at once; `settled` waits."""
        self._exists(turn.state)
        await self._step(turn, core.Restart())
        return state.describe(self.ref.id, turn.state)
