"""The model entity as a cell runs it: real litellm, a real log, and a port for the agent loop."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from actors.model import entity
from graphs import loop, tools
from graphs.limits import Limits
from runtime import settings as settings_module
from schema import Database, Live, conversations, entities, events, sandboxes, users
from terminalpp.types.ids import Fence, Ref, new_id
from tests.graphs.doubles import MemoryPort, MemorySandbox, World


class Talk:
    """One conversation whose agents ask `model` at a server: its events, and tasks of the coder."""

    def __init__(self, database: Database, live: Live, fence: Fence, environ: dict[str, str]) -> None:
        self.database, self.fence = database, fence
        settings = settings_module.load(environ)
        context = SimpleNamespace(database=database, live=live, settings=settings)
        self.model = entity.Model(Ref("model", "0"), context)
        self.world = World({})

    async def ask(self, model: str = "odd", **more: Any) -> dict[str, Any]:
        """One model call; returns the payload of `model.finished`."""
        request = {
            "call_id": new_id(), "task_id": "t", "agent": "coder", "model": model,
            "messages": [{"role": "user", "content": "hi"}], **more,
        }  # fmt: skip
        about = {"conversation_id": self.fence.id, "fence": self.fence.to_json()}
        return await self.model.complete(request | about)

    async def work(self, **changes: Any) -> dict[str, Any]:
        """A whole task of the coder, through the loop, on a sandbox in memory."""
        task = loop.Task(**{
            "task_id": "task-1", "conversation_id": "c", "role": "coder", "model": "odd", "system": "sys",
            "text": "do it", "tools": tools.ROLE_TOOLS["coder"], "native": True, "limits": Limits(),
            "started_at": 1000.0, **changes,
        })  # fmt: skip
        return await loop.run(task, Port(self, task), MemorySandbox(self.world))

    async def events(self, *types: str) -> list[dict[str, Any]]:
        found = await events.read(self.database, self.fence.id, 0, 10_000)
        return [event.payload for event in found if event.type in types]

    def commands(self) -> list[Any]:
        """What the agent ran, as the log shows it."""
        return [payload["arguments"] for payload in self.world.of("tool.called")]


class Port(MemoryPort):
    """The loop's port to the real model entity."""

    def __init__(self, talk: Talk, task: loop.Task) -> None:
        super().__init__(talk.world, task.task_id, task.role)
        self.talk = talk

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        reply = await self.talk.ask(**request)
        self.world.append("model.finished", self.role, reply)
        return reply


@pytest.fixture
async def talk(
    database: Database, redis_url: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Makes conversations with the provider at `base_url`."""
    monkeypatch.setattr(entity, "FIRST_WAIT_S", 0.01)

    async def make(base_url: str, **settings: str) -> Talk:
        owner = await users.ensure_owner(database)
        sandbox = await sandboxes.create(database, new_id(), owner, "box")
        conversation = await conversations.create(database, new_id(), owner, sandbox.id)
        claimed = await entities.claim(database, Ref("conversation", conversation.id), "cell-a", 60)
        environ = {"TPP_HOME": str(tmp_path), "TPP_MODEL_BASE_URL": base_url, **settings}
        return Talk(database, Live(redis_url), claimed.fence, environ)

    return make
