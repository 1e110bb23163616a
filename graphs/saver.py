"""LangGraph's checkpointer on our own tables: checkpoint, events and rewind point in one transaction.

A step's events travel in the state (`outgoing`), so they survive exactly as its other writes do: a step
that finished but whose checkpoint was not stored is taken from its pending writes, and its events with
it. `aput` stores the checkpoint, appends those events and adds the rewind point in one transaction that
holds the conversation's fence. So an owner that was superseded stores nothing (it gets Fenced), a
checkpoint is never there without its events, and no event is written twice. What the step's nodes wrote for
the case of a crash goes with the same commit: the checkpoint holds it.

JSON only: a value that JSON cannot hold is refused with TypeError when it is stored. Nothing is pickled
or imported when it is read. Reads go without the fence. One saver serves one conversation's turn.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.types import ERROR

from graphs.state import OUTGOING, REWIND
from schema import Connection, Database, checkpoints, events, rewind_points
from terminalpp.types.ids import Fence

Announce = Callable[[int], Awaitable[None]]


class Saver(BaseCheckpointSaver[int]):
    """Checkpoints of one conversation, written under `fence`; without one, only for tools and tests.

    `announce` is awaited with the number of the last event after a commit that appended events.
    """

    def __init__(
        self,
        database: Database,
        fence: Fence | None,
        conversation_id: str | None,
        announce: Announce | None = None,
    ) -> None:
        super().__init__()
        self.database, self.fence, self.conversation_id, self.announce = (
            database,
            fence,
            conversation_id,
            announce,
        )

    def get_next_version(self, current: int | None, channel: None) -> int:
        """See LangGraph's BaseCheckpointSaver."""
        return (current or 0) + 1

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        if self.fence is None:
            async with self.database.transaction() as connection:
                yield connection
        else:
            async with self.database.fenced(self.fence) as connection:
                yield connection

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint with its step's events and rewind point. Raises Fenced, TypeError."""
        place = config["configurable"]
        thread_id, ns = place["thread_id"], place.get("checkpoint_ns", "")
        values = dict(checkpoint["channel_values"])
        leaving = values.pop(OUTGOING, None) if OUTGOING in new_versions else None
        rewind = values.pop(REWIND, None) if REWIND in new_versions else None
        values.pop(OUTGOING, None), values.pop(REWIND, None)
        stored = {**checkpoint, "channel_values": values, "updated_channels": _listed(checkpoint)}
        last: int | None = None
        async with self._transaction() as c:
            await checkpoints.put(
                c,
                thread_id,
                ns,
                checkpoint["id"],
                place.get("checkpoint_id"),
                stored,
                dict(get_checkpoint_metadata(config, metadata)),
            )
            if parent := place.get("checkpoint_id"):
                await checkpoints.forget_writes(c, thread_id, ns, parent)
            if self.conversation_id is not None and leaving:
                first = await events.append(c, self.conversation_id, [tuple(event) for event in leaving])
                last = first + len(leaving) - 1
            if self.conversation_id is not None and rewind:
                seq = last if last is not None else await events.last_seq(c, self.conversation_id)
                await rewind_points.add(
                    c,
                    self.conversation_id,
                    seq,
                    checkpoint["id"],
                    checkpoint_ns=ns,
                    tree=rewind["snapshot"],
                    snapshot_id=rewind.get("kept"),
                    label=rewind["label"],
                )
        if last is not None and self.announce is not None:
            await self.announce(last)
        return _config(thread_id, ns, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a finished node wrote, until its checkpoint is. Raises Fenced, TypeError."""
        place = config["configurable"]
        rows = [
            (
                WRITES_IDX_MAP.get(channel, index),
                channel,
                repr(value) if channel == ERROR and isinstance(value, BaseException) else value,
            )
            for index, (channel, value) in enumerate(writes)
        ]
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        async with self._transaction() as c:
            await checkpoints.put_writes(
                c,
                place["thread_id"],
                place.get("checkpoint_ns", ""),
                place["checkpoint_id"],
                task_id,
                rows,
                task_path,
                replace=special,
            )

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See LangGraph's BaseCheckpointSaver."""
        place = config["configurable"]
        row = await checkpoints.get(
            self.database, place["thread_id"], place.get("checkpoint_ns", ""), get_checkpoint_id(config)
        )
        return None if row is None else await self._tuple(row)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Newest first. `filter` compares metadata fields."""
        place = config["configurable"] if config else {}
        rows = await checkpoints.list(
            self.database,
            thread_id=place.get("thread_id"),
            checkpoint_ns=place.get("checkpoint_ns"),
            checkpoint_id=get_checkpoint_id(config) if config else None,
            before=get_checkpoint_id(before) if before else None,
            metadata=filter or None,
            limit=limit,
        )
        for row in rows:
            yield await self._tuple(row)

    async def adelete_thread(self, thread_id: str) -> None:
        """See LangGraph's BaseCheckpointSaver."""
        async with self._transaction() as c:
            await checkpoints.delete_thread(c, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See LangGraph's BaseCheckpointSaver."""
        async with self._transaction() as c:
            await checkpoints.delete_for_runs(c, list(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See LangGraph's BaseCheckpointSaver."""
        async with self._transaction() as c:
            await checkpoints.copy_thread(c, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`keep_latest` keeps the newest checkpoint of each namespace; `delete` keeps none."""
        async with self._transaction() as c:
            for thread_id in thread_ids:
                if strategy == "delete":
                    await checkpoints.delete_thread(c, thread_id)
                else:
                    await checkpoints.prune(c, thread_id, keep=1)

    async def _tuple(self, row: Any) -> CheckpointTuple:
        writes = await checkpoints.get_writes(
            self.database, row.thread_id, row.checkpoint_ns, row.checkpoint_id
        )
        parent = _config(row.thread_id, row.checkpoint_ns, row.parent_id) if row.parent_id else None
        return CheckpointTuple(
            config=_config(row.thread_id, row.checkpoint_ns, row.checkpoint_id),
            checkpoint=row.checkpoint,
            metadata=row.metadata,
            parent_config=parent,
            pending_writes=[(write.task_id, write.channel, write.value) for write in writes],
        )


def _listed(checkpoint: Checkpoint) -> list[str] | None:
    updated = checkpoint.get("updated_channels")
    return None if updated is None else sorted(updated)


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}
