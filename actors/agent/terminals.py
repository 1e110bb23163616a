"""The terminals of a conversation's team: opened by name, typed into, looked at.

A terminal's id follows from conversation, name and how many of that name there were before, so a step that
runs again finds the one it opened. What a call types goes in under the call's own id: typed once, whoever
repeats it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from typing import Any

from graphs.ports import Glimpse
from runtime.client import Runtime
from terminalpp.types.errors import CommandFinished, NotFound
from terminalpp.types.ids import Ref, derived_id
from terminalpp.types.states import TerminalState
from terminalpp.types.terminals import INPUT_MAX

QUIET_SECONDS = 0.4  # without output, after which the screen is taken for what there is to see
LOOK_SECONDS = 0.1
CALL_SECONDS = 60.0


class AgentTerminals:
    """Of one agent in one conversation."""

    def __init__(self, runtime: Runtime, sandbox_id: str, conversation_id: str, agent: str) -> None:
        self._runtime, self._sandbox = runtime, sandbox_id
        self._conversation, self._agent = conversation_id, agent

    async def find(self, name: str) -> tuple[str, bool]:
        """The open terminal of that name, or the id that a new one has; whether it is open."""
        number = 1
        while True:
            id = derived_id(self._conversation, "terminal", name, number)
            try:
                if not TerminalState((await self._call(id, "describe"))["status"]).final:
                    return id, True
            except NotFound:
                return id, False
            number += 1

    async def use(
        self, id: str, call_id: str, name: str, *, command: str | None, data: bytes, wait_s: float, end: bool,
        cwd: str,
    ) -> Glimpse:  # fmt: skip
        """See graphs.ports.Sandbox.use_terminal. `cwd`: where a new one begins."""
        payload: dict[str, Any] = {
            "sandbox_id": self._sandbox, "conversation_id": self._conversation, "agent": self._agent,
            "name": name, "cwd": cwd, **({"command": command} if command else {}),
        }  # fmt: skip
        with contextlib.suppress(NotFound):
            if (await self._call(id, "describe"))["status"]:
                payload = {}
        if payload:
            await self._runtime.send(
                Ref("terminal", id), "create", payload, message_id=f"{id}:create", timeout_s=CALL_SECONDS
            )
        told = await self._call(id, "settled", timeout_ms=int(CALL_SECONDS * 1000))
        if data and not TerminalState(told["status"]).final:
            await self._type(id, call_id, data)
        if end:
            ref = Ref("terminal", id)
            await self._runtime.send(ref, "end", {"by": self._agent}, message_id=f"{id}:end")
            await self._call(id, "settled", timeout_ms=20_000, ended=True)
        return await self._quiet(id, wait_s)

    async def _type(self, id: str, call_id: str, data: bytes) -> None:
        me = {"viewer": f"agent-{self._agent}", "name": self._agent, "agent": True}
        with contextlib.suppress(CommandFinished):
            await self._call(id, "mark", label=f"{self._agent}: {data[:150].decode('utf-8', 'replace')}")
        for at in range(0, len(data), INPUT_MAX):
            piece = base64.b64encode(data[at : at + INPUT_MAX]).decode()
            await self._call(id, "type", **me, writer=call_id, offset=at, data=piece)

    async def _quiet(self, id: str, wait_s: float) -> Glimpse:
        """The screen once nothing more is printed, or its program has ended, or after `wait_s`."""
        deadline, seen, since = time.monotonic() + wait_s, -1, time.monotonic()
        while True:
            screen = await self._call(id, "text")
            now = time.monotonic()
            if screen["offset"] != seen:
                seen, since = screen["offset"], now
            over = TerminalState(screen["status"]).final
            if over or now >= deadline or (seen > 0 and now - since >= QUIET_SECONDS):
                break
            await asyncio.sleep(LOOK_SECONDS)
        end = (await self._call(id, "describe"))["end"] or {}
        cursor = screen["cursor"]
        return Glimpse(
            screen["status"], tuple(screen["lines"]), (cursor["column"], cursor["row"]), end.get("exit_code"),
            end.get("reason"),
        )  # fmt: skip

    async def _call(self, id: str, method: str, **payload: Any) -> Any:
        return await self._runtime.call(Ref("terminal", id), method, payload, timeout_s=2 * CALL_SECONDS)
