"""A stand-in for the model actor and the provider behind it: replies from a JSON file, no litellm.

The model's name is `double:<path>`. The file maps a role to scenes; a scene whose `when` is found in the
conversation's user messages applies, and the reply is chosen by how many the agent has had, as the shipped
scripted models do. It keeps the contract of `actors/model`: one `model.finished` per call id, under the
conversation's fence. `{"hang": true}` never answers.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from runtime import Entity, readonly
from schema import events
from terminalpp.types.errors import Conflict, Fenced, from_json
from terminalpp.types.ids import Fence


class Provider(Entity):
    kind = "model"

    @readonly
    async def capabilities(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"native_tools": True, "context_tokens": 50_000, "scripted": True, "priced": True}

    @readonly
    async def cancel(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"cancelled": False}

    @readonly
    async def complete(self, payload: dict[str, Any]) -> dict[str, Any]:
        id, call_id = payload["conversation_id"], payload["call_id"]
        known = await events.find(self.context.database, id, "model.finished", call_id)
        if known is not None:
            return known.payload
        about = {name: payload.get(name) for name in ("call_id", "task_id", "agent", "model")}
        await self._append(payload, "model.started", {**about, "scripted": True})
        reply = _reply(payload)
        if "error" in reply:
            raise from_json(reply["error"])
        if reply.get("hang"):
            await asyncio.Event().wait()
        body = {
            **about,
            "content": reply.get("content", ""),
            "reasoning": "",
            "given": {},
            "tool_calls": reply.get("tool_calls", []),
            "usage": {"input_tokens": 100, "output_tokens": 10, "cached_tokens": 0},
            "cost_usd": 0.001,
            "finish_reason": "stop",
            "duration_ms": 1,
        }
        await self._append(payload, "model.finished", body)
        return body

    async def _append(self, payload: dict[str, Any], type: str, body: dict[str, Any]) -> None:
        try:
            async with self.context.database.fenced(Fence.from_json(payload["fence"])) as c:
                await events.append(c, payload["conversation_id"], [(type, payload["agent"], body)])
        except Fenced as fenced:  # not ours: the conversation's
            raise Conflict(fenced.detail) from fenced


def _reply(payload: dict[str, Any]) -> dict[str, Any]:
    script = json.loads(Path(payload["model"].removeprefix("double:")).read_text())
    said = "\n".join(str(m.get("content")) for m in payload["messages"] if m["role"] == "user")
    had = sum(1 for m in payload["messages"] if m["role"] == "assistant")
    for scene in script[payload["agent"]]:
        if re.search(scene.get("when", ""), said):
            return scene["replies"][min(had, len(scene["replies"]) - 1)]
    raise LookupError(f"no scene for the {payload['agent']}")
