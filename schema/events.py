"""The event log of a conversation: `(conversation_id, seq)`, gapless from 1, replayable for ever.

Some types are about one thing each, which the payload names (`KEYS`): the first event about it carries its id
as `key`, unique in the database, and is found by it however long the log is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema import rows
from schema.database import Connection, Executor
from schema.sql import Queries
from terminalpp.types import errors
from terminalpp.types.branches import REWOUND

_Q = Queries("events")
KEYS = {
    "message.accepted": "message_id", "model.finished": "call_id", "command.started": "exec_id",
    "command.finished": "exec_id", "tests.finished": "exec_id", "setup.finished": "exec_id",
    "connection.refused": "exec_id",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a conversation's log. `seq` counts from 1 without a gap; `payload` is JSON."""

    conversation_id: str
    seq: int
    type: str
    actor: str
    payload: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """An event whose payload is JSON text as Postgres writes it: UTF-8, control characters escaped."""

    seq: int
    type: str
    actor: str
    created_at: datetime
    payload: str


async def append(
    c: Connection, conversation_id: str, events: Sequence[tuple[str, str, dict[str, Any]]]
) -> int:
    """Appends (type, actor, payload) events in one statement; the number of the first one.

    Must run in a transaction of `Database.fenced`, with the state that the events describe. The
    conversation's row stays locked until it ends. Raises NotFound, and ValueError for no events.
    """
    if not events:
        raise ValueError("there is nothing to append")
    keyed = [[type, actor, payload, key_of(type, payload)] for type, actor, payload in events]
    first = await c.fetchval(_Q.append, conversation_id, keyed)
    if first is None:
        raise errors.NotFound(f"there is no conversation {conversation_id}")
    return first


async def read(c: Executor, conversation_id: str, after_seq: int = 0, limit: int = 500) -> list[Event]:
    """At most `limit` events with `seq > after_seq`, in order."""
    return rows.many(Event, await c.fetch(_Q.read, conversation_id, after_seq, limit))


async def page(
    c: Executor, conversation_id: str, after_seq: int, until_seq: int, limit: int, max_bytes: int
) -> list[Line]:
    """Events with `after_seq < seq <= until_seq`, in order: at most `limit`, and (but for the last one) of
    less than `max_bytes` as they are stored, which is compressed."""
    found = await c.fetch(_Q.page, conversation_id, after_seq, until_seq, limit, max_bytes)
    return [Line(*record) for record in found]


async def last_seq(c: Executor, conversation_id: str) -> int:
    """The number of the last event, 0 when there is none. Raises NotFound."""
    seq = await c.fetchval(_Q.last_seq, conversation_id)
    if seq is None:
        raise errors.NotFound(f"there is no conversation {conversation_id}")
    return seq


def key_of(type: str, payload: dict[str, Any]) -> str | None:
    """What the event is about; None for a type without a key, or a payload that does not name it."""
    value = payload.get(KEYS.get(type, ""))
    return None if value is None else str(value)


async def find(c: Executor, conversation_id: str, type: str, key: str) -> Event | None:
    """The first event of `type` (one of `KEYS`) about `key`."""
    if type not in KEYS:
        raise ValueError(f"events of type {type} have no key")
    return rows.maybe(Event, await c.fetchrow(_Q.find, conversation_id, type, key))


async def read_types(
    c: Executor, conversation_id: str, types: Sequence[str], after_seq: int = 0, limit: int = 100_000
) -> list[Event]:
    """Events of the named types with `seq > after_seq`, in order."""
    return rows.many(Event, await c.fetch(_Q.read_types, conversation_id, list(types), after_seq, limit))


async def written_paths(c: Executor, conversation_id: str) -> list[str]:
    """Paths, as the agents gave them, that were written by the tools `write` and `edit`."""
    return [row["path"] for row in await c.fetch(_Q.written_paths, conversation_id)]


async def copy(c: Connection, source_id: str, target_id: str, ranges: Sequence[tuple[int, int]]) -> None:
    """The events within these ranges in another conversation, which has none, numbered anew from 1."""
    first, last = [one for one, _ in ranges], [two for _, two in ranges]
    await c.execute(_Q.copy, source_id, target_id, first, last)


async def rewinds(c: Executor, conversation_id: str) -> list[tuple[int, int]]:
    """The numbers of each rewind's event and of the event that the log goes on behind (`branches.ranges`)."""
    return [(event.seq, event.payload["to_seq"]) for event in await read_types(c, conversation_id, [REWOUND])]
