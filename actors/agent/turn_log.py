"""The event log of one running turn, as its writers see it.

All that a turn tells goes through the conversation's fence, in one transaction with three proofs: that
the writer's conversation is still the owner (the fence), that the turn is still open (the conversation's
state, read under the fence's lock: nothing is written behind `turn.finished`), and, for an agent, that it
is still the only activation of itself (its own epoch). History is read under the same lock, so nothing
that a predecessor still writes can appear after it was read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

from graphs.ports import Event
from schema import Connection, Database, Live, entities, events, rewind_points
from terminalpp.types.errors import Fenced
from terminalpp.types.ids import Fence, Ref, new_id

LOOP_TYPES = (
    "model.finished",
    "tool.called",
    "tool.finished",
    "nudge.given",
    "message.delivered",
    "limit.reached",
)


class Superseded(Exception):
    """The turn has ended, or its conversation has a newer owner that goes on. Never leaves an actor."""


class TurnLog:
    """`fence` is the conversation's; `writer` the agent's own, if an agent writes."""

    def __init__(
        self,
        database: Database,
        live: Live,
        fence: Fence,
        turn_id: str,
        turn_seq: int,
        writer: Fence | None = None,
    ) -> None:
        self.database, self.live, self.fence = database, live, fence
        self.conversation_id, self.turn_id, self.turn_seq, self.writer = fence.id, turn_id, turn_seq, writer

    @asynccontextmanager
    async def open(self) -> Any:
        """A transaction in which the turn is proven to be ours: gives connection and conversation state.

        Raises Superseded, and Fenced when the writing agent itself has a newer activation.
        """
        try:
            async with self.database.fenced(self.fence) as connection:
                yield connection, await self._check(connection)
        except Fenced as fenced:
            if self.writer is not None and fenced.extra.get("writer"):
                raise
            raise Superseded(f"turn {self.turn_id}: {fenced.detail}") from fenced

    async def _check(self, connection: Connection) -> dict[str, Any]:
        row = await entities.load(connection, Ref(self.fence.kind, self.fence.id))
        state = row.state if row is not None else {}
        turn = state.get("turn") or {}
        if turn.get("turn_id") != self.turn_id:
            raise Superseded(f"turn {self.turn_id} has ended")
        if self.writer is not None:
            if state.get("cancel") == self.turn_id:
                raise Superseded(f"turn {self.turn_id} is being cancelled")
            mine = await entities.load(connection, Ref(self.writer.kind, self.writer.id))
            if mine is None or mine.epoch != self.writer.epoch:
                raise Fenced(f"agent {self.writer.id} has a newer activation", "", {"writer": True})
        return state

    async def append(self, entries: Sequence[tuple[str, str, dict[str, Any]]]) -> int:
        """Append (type, actor, payload) entries; the number of the first. Raises as `open`."""
        async with self.open() as (connection, _):
            first = await events.append(connection, self.conversation_id, entries)
        await self.live.publish(self.conversation_id, first + len(entries) - 1)
        return first

    async def emit(self, type: str, actor: str, payload: dict[str, Any]) -> Event:
        """Append an event of this turn; the event. Raises Superseded, Fenced."""
        return Event(await self.append([(type, actor, payload)]), type, actor, payload, time.time())

    async def emit_once(self, type: str, actor: str, payload: dict[str, Any]) -> None:
        """Append unless the conversation has an event of this type about the same thing (`events.KEYS`)."""
        key = events.key_of(type, payload)
        assert key is not None
        async with self.open() as (connection, _):
            if await events.find(connection, self.conversation_id, type, key) is not None:
                return
            seq = await events.append(connection, self.conversation_id, [(type, actor, payload)])
        await self.live.publish(self.conversation_id, seq)

    async def read(self, types: Sequence[str]) -> list[Event]:
        """The turn's events of these types, read under the fence."""
        async with self.open() as (connection, _):
            rows = await events.read_types(connection, self.conversation_id, types, self.turn_seq)
        return [Event(row.seq, row.type, row.actor, row.payload, row.created_at.timestamp()) for row in rows]

    async def task_history(self, task_id: str) -> list[Event]:
        """The events from which the agent loop folds its transcript."""
        return [event for event in await self.read(LOOP_TYPES) if event.payload.get("task_id") == task_id]

    async def deliver(self, task_id: str, agent: str) -> list[dict[str, Any]]:
        """Give the task every queued message that no agent has had; `message.delivered` for each."""
        async with self.open() as (connection, state):
            queue = state.get("queue") or []
            if not queue:
                return []
            given = await events.read_types(
                connection, self.conversation_id, ["message.delivered"], self.turn_seq
            )
            had = {row.payload["message_id"] for row in given}
            entries = []
            for message_id in queue:
                found = (
                    None
                    if message_id in had
                    else await events.find(connection, self.conversation_id, "message.accepted", message_id)
                )
                if found is not None:
                    entries.append(
                        (
                            "message.delivered",
                            agent,
                            {
                                "message_id": message_id,
                                "task_id": task_id,
                                "agent": agent,
                                "text": f"The person adds:\n{found.payload['text']}",
                            },
                        )
                    )
            if not entries:
                return []
            first = await events.append(connection, self.conversation_id, entries)
        await self.live.publish(self.conversation_id, first + len(entries) - 1)
        return [payload for _, _, payload in entries]

    async def point(self, snapshot_id: str, label: str, exec_id: str | None = None) -> None:
        """A point that can be gone back to, unless the last one has the same files; none before the command
        `exec_id` once that has begun. Raises Superseded, Fenced."""
        async with self.open() as (connection, _):
            if exec_id and await events.find(connection, self.conversation_id, "command.started", exec_id):
                return
            last = await rewind_points.newest(connection, self.conversation_id)
            if last is None or last.snapshot_id != snapshot_id:
                seq = await events.last_seq(connection, self.conversation_id)
                await rewind_points.add(
                    connection,
                    self.conversation_id,
                    seq,
                    f"step:{new_id()}",
                    snapshot_id=snapshot_id,
                    label=label,
                )

    async def model(self) -> str | None:
        """The conversation's model as of now: `/model` takes effect with the next call."""
        async with self.open() as (_, state):
            return state.get("model")
