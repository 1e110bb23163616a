"""Conversations and their agents: the part of `Client` that talks with a team.

A message is durable once it was accepted; what comes of it is in the events, which can be read from any
number on, any number of times.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from typing import Any

from terminalpp.client import events
from terminalpp.client.routes import Routes
from terminalpp.client.shapes import Agent, Conversation, Diff, Event, Message
from terminalpp.client.snapshot_shapes import Changed, Point, Rewind
from terminalpp.client.transport import field, segment, understanding

LONG_S = 120.0  # what looks at all files first


class Conversations(Routes):
    """The requests about conversations and agents."""

    async def create_conversation(
        self,
        sandbox_id: str,
        workspace: str,
        *,
        title: str | None = None,
        model: str | None = None,
        mode: str = "team",
        test_command: str | None = None,
        setup_command: str | None = None,
        limits: dict[str, Any] | None = None,
        include: list[str] | None = None,
        key: str | None = None,
    ) -> Conversation:
        """`workspace`: the directory in the sandbox that the team works in; `mode`: team or single;
        `include`: patterns of ignored files that belong to the work all the same."""
        body = {
            "sandbox_id": sandbox_id,
            "workspace": workspace,
            "title": title,
            "model": model,
            "mode": mode,
            "test_command": test_command,
            "setup_command": setup_command,
            "limits": limits,
            "include": include,
        }
        return await self._post("/v1/conversations", body, key=key)

    async def conversations(self, limit: int = 100, *, status: str | None = None) -> list[Conversation]:
        """Newest first; archived ones with the `status` archived or all."""
        return await self._pages("/v1/conversations", limit, status=status)

    async def conversation(self, conversation_id: str) -> Conversation:
        """The conversation's record. Raises NotFound."""
        return await self._get(f"/v1/conversations/{segment(conversation_id)}")

    async def change_conversation(
        self, conversation_id: str, *, title: str | None = None, archived: bool | None = None
    ) -> Conversation:
        """Rename it, archive it, or take it out of the archive."""
        body = {"title": title, "archived": archived}
        path = f"/v1/conversations/{segment(conversation_id)}"
        given = {name: value for name, value in body.items() if value is not None}
        return await self._transport.json("PATCH", path, json=given)

    async def delete_conversation(self, conversation_id: str) -> None:
        """With all that belongs to it; its sandbox stays. A running turn is cancelled first."""
        await self._transport.request("DELETE", f"/v1/conversations/{segment(conversation_id)}")

    async def messages(self, conversation_id: str, limit: int = 1000) -> list[Message]:
        """What was said, oldest first."""
        return await self._pages(f"/v1/conversations/{segment(conversation_id)}/messages", limit)

    async def post_message(
        self, conversation_id: str, text: str, *, key: str | None = None
    ) -> dict[str, Any]:
        """`{"message_id": …}` once the message is durably accepted; the work shows in `events`."""
        path = f"/v1/conversations/{segment(conversation_id)}/messages"
        return await self._post(path, {"text": text}, key=key)

    def events(
        self, conversation_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Every event behind `after`, each once; reconnects by itself. Without `follow`: up to the head."""
        path = f"/v1/conversations/{segment(conversation_id)}/events"
        return events.follow(self._transport, path, after, follow)

    async def cancel(self, conversation_id: str, *, key: str | None = None) -> dict[str, Any]:
        """End the turn that runs; what it has done is kept."""
        return await self._post(f"/v1/conversations/{segment(conversation_id)}/cancel", key=key)

    async def points(self, conversation_id: str, *, all: bool = False) -> list[Point]:
        """Where it can be gone back to, the first one first; `all`: those of branches that were left, too."""
        path = f"/v1/conversations/{segment(conversation_id)}/points"
        return field(await self._get(path, **({"all": "true"} if all else {})), "items")

    async def preview_rewind(self, conversation_id: str, point_id: str) -> list[Changed]:
        """What files a rewind would change, were it done now; nothing is changed."""
        path = f"/v1/conversations/{segment(conversation_id)}/rewind/preview"
        return field(await self._post(path, {"point_id": point_id}, timeout_s=LONG_S), "items")

    async def rewind(self, conversation_id: str, point_id: str, *, key: str | None = None) -> Rewind:
        """Go back to a point: files, chat, and what the team knew. A running turn is cancelled first.

        Returns when it is done, or `running` after a minute. Rewinding to `undo_point_id` undoes it."""
        path = f"/v1/conversations/{segment(conversation_id)}/rewind"
        return await self._post(path, {"point_id": point_id}, key=key, timeout_s=LONG_S)

    async def fork(
        self,
        conversation_id: str,
        point_id: str | None = None,
        *,
        title: str | None = None,
        message: str | None = None,
        key: str | None = None,
    ) -> Conversation:
        """Another conversation, in a sandbox of its own, that begins with what this one was at a point
        (None: the newest). `message`: the first thing to say in it."""
        body = {"point_id": point_id, "title": title, "message": message}
        return await self._post(f"/v1/conversations/{segment(conversation_id)}/fork", body, key=key)

    async def set_model(self, conversation_id: str, model: str, *, key: str | None = None) -> Conversation:
        """Use another model from the next model call on. Raises ModelUnknown."""
        path = f"/v1/conversations/{segment(conversation_id)}/model"
        return await self._post(path, {"model": model}, key=key)

    async def diff(self, conversation_id: str) -> Diff:
        """What the team has changed since the conversation began."""
        value = await self._transport.json(
            "GET",
            f"/v1/conversations/{segment(conversation_id)}/diff",
            headers={"accept": "application/json"},
            timeout_s=120.0,
        )
        with understanding("the diff"):
            return Diff(base64.b64decode(value["patch"]), value["files"], value["left"])

    async def agents(self, conversation_id: str | None = None, limit: int = 1000) -> list[Agent]:
        """The agents, of one conversation or of all, at most `limit`."""
        return await self._pages("/v1/agents", limit, conversation_id=conversation_id)
