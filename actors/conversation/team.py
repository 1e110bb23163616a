"""The graph's ports on the real system: agents, log and workspace of one turn."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.agent.turn_log import TurnLog
from graphs.ports import TurnSpec
from runtime import Runtime
from schema import agents
from terminalpp.types.errors import Unavailable
from terminalpp.types.ids import Ref

ATTEMPTS = 30


class Team:
    """`graphs.ports.Agents`: the five agent entities of the conversation."""

    def __init__(
        self,
        runtime: Runtime,
        log: TurnLog,
        spec: TurnSpec,
        turn: dict[str, Any],
        sandbox_id: str,
        workspace: str,
    ) -> None:
        self.runtime, self.log = runtime, log
        self.common = {
            "fence": log.fence.to_json(),
            "sandbox_id": sandbox_id,
            "workspace": workspace,
            "turn": {
                "turn_id": spec.turn_id,
                "seq": turn["seq"],
                "task": spec.task,
                "model": turn["model"],
                "limits": spec.limits.to_json(),
                "started_at": spec.started_at,
                "earlier": list(spec.earlier),
            },
        }

    async def work(self, role: str, task: dict[str, Any]) -> dict[str, Any]:
        """Raises what the agent raises, Superseded when this conversation has moved on, Unavailable."""
        ref = Ref("agent", agents.agent_id(self.log.conversation_id, role))
        for attempt in range(ATTEMPTS):
            payload = {**self.common, "role": role, "task": task}
            result = await self.runtime.call(ref, "work", payload, timeout_s=None)
            if result["status"] != "superseded":
                return result
            # Either we are the old owner (then this raises) or the agent was moved: ask it again.
            await self.log.model()
            await asyncio.sleep(min(1.0, 0.05 * 2**attempt))
        raise Unavailable(f"the {role} was superseded {ATTEMPTS} times")


class GraphLog:
    """`graphs.ports.Log` on the turn's log."""

    def __init__(self, log: TurnLog) -> None:
        self.log = log

    async def attempt(self, step: str, visit: int) -> int:
        """See graphs.ports.Log."""
        started = await self.log.read(["step.started"])
        return 1 + sum(1 for e in started if (e.payload["step"], e.payload["visit"]) == (step, visit))

    async def emit(self, type: str, actor: str, payload: dict[str, Any]) -> None:
        """See graphs.ports.Log."""
        await self.log.emit(type, actor, payload)
