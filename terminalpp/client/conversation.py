"""A conversation with the team as an object.

    talk = await AsyncConversation.create(sandbox, "/home/user/project")
    await talk.send("The date parser rejects 29 February. Find out why and fix it.")
    async for event in talk:
        print(event["type"])
    print((await talk.diff()).patch.decode())

What was sent is done, whether anybody watches or not: to leave the loop, to be cancelled or to die stops
nothing. `cancel` asks the running turn to end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Self, TypedDict, Unpack

from terminalpp.client import shapes
from terminalpp.client.client import Client
from terminalpp.client.sandbox import AsyncSandbox
from terminalpp.client.transport import field


class ConversationOptions(TypedDict, total=False):
    """As of `POST /v1/conversations`. `model`: a litellm model string, else the server's default; `mode`:
    team or single; `include`: patterns of ignored files that belong to the work all the same."""

    title: str | None
    model: str | None
    mode: str
    test_command: str | None
    setup_command: str | None
    limits: dict[str, Any] | None
    include: list[str] | None


class AsyncConversation:
    """A conversation about a directory of a sandbox. `seq`: the last event that was iterated over."""

    def __init__(self, client: Client, id: str, *, seq: int = 0) -> None:
        self.id = id
        self.seq = seq
        self._client = client
        self._unanswered: set[str] = set()  # messages sent from here that no turn has taken up yet
        self._turn_runs = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"

    @classmethod
    async def create(
        cls, sandbox: AsyncSandbox, workspace: str, **options: Unpack[ConversationOptions]
    ) -> Self:
        """`workspace`: the directory in the sandbox that the team works in.

        Raises InvalidInput (there is no such directory), ModelUnknown."""
        row = await sandbox.client.create_conversation(sandbox.id, workspace, **options)
        return cls(sandbox.client, field(row, "id"))

    @classmethod
    async def connect(cls, sandbox: AsyncSandbox, conversation_id: str) -> Self:
        """One that exists, over the connection of `sandbox`; iteration begins behind its last event.
        Raises NotFound."""
        row = await sandbox.client.conversation(conversation_id)
        return cls(sandbox.client, field(row, "id"), seq=field(row, "last_seq"))

    async def send(self, text: str) -> str:
        """The message's id, once it is durably accepted: from here on the work is done whatever dies."""
        said = await self._client.post_message(self.id, text)
        id = str(field(said, "message_id"))
        self._unanswered.add(id)
        return id

    async def events(self, *, after: int = 0, follow: bool = True) -> AsyncGenerator[shapes.Event, None]:
        """Every event behind number `after`, each once: for ever, or without `follow` to the present one."""
        async with aclosing(self._client.events(self.id, after=after, follow=follow)) as told:
            async for event in told:
                yield event

    async def __aiter__(self) -> AsyncGenerator[shapes.Event, None]:
        """Events behind `seq`, until the turns that answer what was sent from here have ended; what has
        happened so far when nothing was sent. Left early, the next iteration goes on there."""
        waits = bool(self._unanswered) or self._turn_runs
        async with aclosing(self.events(after=self.seq, follow=waits)) as told:
            async for event in told:
                self._note(event)
                yield event
                if waits and not self._unanswered and not self._turn_runs:
                    return

    def _note(self, event: shapes.Event) -> None:
        self.seq = event["seq"]
        payload = event["payload"]
        if event["type"] in ("turn.started", "message.delivered"):
            id = payload.get("message_id")
            self._turn_runs = self._turn_runs or id in self._unanswered
            self._unanswered.discard(str(id))
        elif event["type"] == "turn.finished":
            self._turn_runs = False

    async def wait(self) -> dict[str, Any] | None:
        """Iterate to the end; what `turn.finished` said last (`outcome`, `summary`, `tests`, …), if any."""
        finished = None
        async with aclosing(self.__aiter__()) as told:
            async for event in told:
                if event["type"] == "turn.finished":
                    finished = event["payload"]
        return finished

    async def diff(self) -> shapes.Diff:
        """What was changed since its beginning."""
        return await self._client.diff(self.id)

    async def cancel(self) -> None:
        """Ask the running turn to end; `turn.finished` tells when it has. What was done is kept."""
        await self._client.cancel(self.id)

    async def record(self) -> shapes.Conversation:
        """Its settings and totals as they stand."""
        return await self._client.conversation(self.id)
