"""`Runtime`: how anyone calls an entity. Callers name a Ref and never see a cell.

What it promises:
- `send` (durable): stored before anything else, so it survives every crash after it returns or starts to
  wait; asking again under the same message id returns the same stored answer.
- `call` (volatile, read-only): made again when its cell is lost, until it was answered or its time is up, so
  such a method must be safe to repeat. What may not be carried out twice is durable.
- This is the one place that repeats calls: whoever calls gives a time limit and sees an answer or an error.
  `DeadlineExceeded` means that the outcome is not known.

The cell of each entity is remembered, so a call costs one hop and no query. What is remembered may be
wrong: the cell then refuses, and the steward is asked again. It needs no Ray: see `Cells` in
`runtime.cluster` for what it asks of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from runtime import wire
from runtime.registry import Registry
from schema import mailbox
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id

if TYPE_CHECKING:
    from runtime.settings import Settings
    from schema import Database

log = logging.getLogger("terminalpp.runtime")
LOCATIONS_KEPT = 10_000
PAUSE_FIRST_SECONDS, PAUSE_MAX_SECONDS = 0.05, 1.0
DELIVER_SLICE_SECONDS = 5.0
CALL_SLICE_SECONDS = 60.0  # of a call without a limit: then it is made again and joins what is under way
UNREACHABLE_SECONDS = 180.0  # how long such a call tries to reach its callee
ROOM_PAUSE_SECONDS = 1.0
HOP_SECONDS = 15.0  # longest silence of one hop to the steward; a locate may start a cell (1–6 s)
PING_SECONDS = 5.0


class CellLost(Exception):
    """The cell ended or cannot be reached. `gone`: it does not exist (any more), so nothing was started."""

    def __init__(self, name: str, detail: str, gone: bool = False) -> None:
        super().__init__(f"{name}: {detail}")
        self.gone = gone


class Cells(Protocol):
    """The cells by name."""

    async def ask(self, name: str, method: str, *args: Any, timeout_s: float) -> Any:
        """The method's result. Raises CellLost, DeadlineExceeded."""

    async def names(self) -> list[str]:
        """Names of all cells that exist. Raises Unavailable."""

    async def start(self, name: str, group: str) -> None:
        """Make the cell unless it exists. Raises Unavailable."""

    async def kill(self, name: str, *, restart: bool) -> None:
        """End the cell's process. Raises CellLost, Unavailable."""

    async def joined(self) -> Any:
        """Returns once this process can ask for, start and end cells. Raises Unavailable."""

    async def close(self) -> None:
        """Let go of the cluster; the cells stay."""


class Runtime:
    """One per process. Safe for any number of concurrent calls on one event loop."""

    def __init__(self, settings: Settings, database: Database, cells: Cells, *, owns_database: bool) -> None:
        self._settings = settings
        self._database = database
        self._cells = cells
        self._owns_database = owns_database
        self._registry = Registry.load(settings.entity_registry, settings.preload_registry)
        self._steward = f"cell/{settings.node_id}/0"
        self._locations: OrderedDict[Ref, str] = OrderedDict()
        self._locating: dict[Ref, asyncio.Task[str]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- what callers use ------------------------------------------------------------------------

    async def call(
        self, ref: Ref, method: str, payload: Any = None, *, timeout_s: float | None = 30.0
    ) -> Any:
        """Call a `@volatile` or `@readonly` method; activates the entity if need be.

        Raises what the method raised (TerminalError), InvalidInput and TooLarge (see `wire.check`),
        Overloaded, Quarantined, DeadlineExceeded, and Unavailable when no cell could carry it out in time.
        `timeout_s` None: however long the method takes. Then weather is waited out as well: a full disk for
        as long as it lasts, whatever else makes the callee unreachable for UNREACHABLE_SECONDS.
        """
        payload = {} if payload is None else payload
        data = wire.request(ref, method, payload)
        wire.check(ref, method, payload, data)
        if timeout_s is not None:
            return await self._call(ref, method, data, time.monotonic() + timeout_s)
        pause, lost_since = PAUSE_FIRST_SECONDS, None
        while True:
            try:
                return await self._call(ref, method, data, time.monotonic() + CALL_SLICE_SECONDS)
            except errors.DeadlineExceeded:
                pause, lost_since = PAUSE_FIRST_SECONDS, None  # it was begun and goes on: join it
            except errors.DiskFull:
                pause, lost_since = ROOM_PAUSE_SECONDS, None  # it answers; there is no room yet
                await asyncio.sleep(pause)
            except (errors.Unavailable, errors.NotOwner):
                now = time.monotonic()
                lost_since = now if lost_since is None else lost_since
                if now - lost_since > UNREACHABLE_SECONDS:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2 * PAUSE_MAX_SECONDS)

    async def _call(self, ref: Ref, method: str, data: bytes, deadline: float) -> Any:
        """One call, made again whenever its cell is lost, until the deadline."""
        pause = PAUSE_FIRST_SECONDS
        while True:
            cell = self._locations.get(ref) or await self._locate(ref, deadline)
            try:
                reply = await self._cells.ask(cell, "call", data, timeout_s=_left(deadline))
                return wire.unpack(reply)
            except (wire.Refused, CellLost, errors.Fenced):
                self.forget(ref, cell)
            pause = await _pause(pause, deadline, f"{ref}.{method}")

    async def send(
        self, ref: Ref, method: str, payload: Any = None, *, message_id: str | None = None,
        wait: bool = True, timeout_s: float = 30.0, sender: str | None = None,
    ) -> Any:
        """Store a durable message; with `wait`, its result once it was applied.

        Raises InvalidInput, TooLarge, NotFound (no such kind), Overloaded and IdempotencyMismatch (not
        stored), what the method raised (stored as the answer), Quarantined, DiskFull and DeadlineExceeded
        (stored; it will be applied; ask again under the id).
        """
        deadline = time.monotonic() + timeout_s
        message_id = new_id() if message_id is None else message_id
        payload = {} if payload is None else payload
        wire.check(ref, method, payload, wire.encode(payload), message_id)
        self._registry.group_of(ref.kind)
        row = await mailbox.enqueue(
            self._database, ref, message_id, method, payload, sender, self._settings.mailbox_max_depth
        )
        if row.finished:
            return _answer(row)
        if not wait:
            self.nudge(ref)
            return None
        data = wire.request(ref, message_id)
        pause = PAUSE_FIRST_SECONDS
        while True:
            cell = self._locations.get(ref) or await self._locate(ref, deadline)
            # In slices: the cell may be frozen, and the message applied by the next owner.
            slice_s = min(_left(deadline), DELIVER_SLICE_SECONDS)
            try:
                return wire.unpack(await self._cells.ask(cell, "deliver", data, timeout_s=slice_s))
            except errors.DeadlineExceeded:
                if time.monotonic() >= deadline:
                    raise
                self.forget(ref, cell)
            except (wire.Refused, CellLost):
                self.forget(ref, cell)
            again = await mailbox.result_of(self._database, message_id)
            if again is not None and again.finished:
                return _answer(again)
            pause = await _pause(pause, deadline, f"{ref}.{method}")

    async def cells(self) -> list[dict[str, Any]]:
        """What each cell says of itself: name, group, pid, entities. Asks Ray which cells there are."""
        names = await self._cells.names()
        return list(await asyncio.gather(*(self._describe(name) for name in names)))

    async def describe(self) -> dict[str, Any]:
        """The node, its cells and how many entities they host."""
        cells = await self.cells()
        hosted = sum(len(cell.get("entities", [])) for cell in cells)
        return {"node_id": self._settings.node_id, "cells": cells, "entities": hosted}

    async def close(self) -> None:
        """Stop; cells and entities go on. Idempotent."""
        for task in [*self._tasks, *self._locating.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._owns_database:
            await self._database.close()
        await self._cells.close()

    async def joined(self) -> None:
        """Returns once this process is part of the cluster and the steward stands. Raises Unavailable."""
        await self._cells.joined()
        await self.ensure_steward()

    # ---- what the runtime itself uses ------------------------------------------------------------

    def nudge(self, ref: Ref) -> None:
        """Have the entity look into its mailbox soon. Lost nudges are made up for by polls."""
        if ref not in self._locating:
            self._background(self._nudge(ref))

    def forget(self, ref: Ref, cell: str) -> None:
        """Ask the steward again where `ref` is, unless it is known by now to be in another cell than `cell`.
        """
        if self._locations.get(ref) == cell:
            del self._locations[ref]

    async def ensure_steward(self, timeout_s: float = 60.0) -> None:
        """Make cell 0 if there is none, and wait until it serves. Raises Unavailable."""
        deadline = time.monotonic() + timeout_s
        pause = PAUSE_FIRST_SECONDS
        while True:
            await self._cells.start(self._steward, "node")
            try:
                await self._cells.ask(self._steward, "booted", timeout_s=_left(deadline))
                return
            except CellLost:
                pause = await _pause(pause, deadline, "the steward")

    # ---- inside ----------------------------------------------------------------------------------

    async def _locate(self, ref: Ref, deadline: float) -> str:
        """The name of the cell that hosts the entity now. Concurrent askers share one question."""
        task = self._locating.get(ref)
        if task is None:
            task = asyncio.create_task(self._ask_steward(ref), name=f"locate {ref}")
            self._locating[ref] = task
            task.add_done_callback(lambda done: self._located(ref, done))
        try:
            async with asyncio.timeout(_left(deadline)):
                return await asyncio.shield(task)
        except TimeoutError:
            raise errors.Unavailable(f"{ref}: no cell could take it in time") from None

    def _located(self, ref: Ref, task: asyncio.Task[str]) -> None:
        self._locating.pop(ref, None)
        if not task.cancelled() and task.exception() is None:
            self._locations[ref] = task.result()
            if len(self._locations) > LOCATIONS_KEPT:
                self._locations.popitem(last=False)

    async def _ask_steward(self, ref: Ref) -> str:
        """Until the steward names a cell; it may be restarting, or a lease may have to run out first."""
        deadline = time.monotonic() + 4 * HOP_SECONDS
        pause = PAUSE_FIRST_SECONDS
        while True:
            try:
                reply = await self._cells.ask(
                    self._steward, "locate", wire.request(ref), timeout_s=HOP_SECONDS
                )
                return wire.unpack(reply)
            except CellLost as lost:
                if lost.gone:
                    await self.ensure_steward()
            except errors.DeadlineExceeded:
                await self._end_frozen_steward()
            except (wire.Refused, errors.Unavailable):
                log.debug("%s cannot be placed yet", ref)
            pause = await _pause(pause, deadline, f"placing {ref}")

    async def _end_frozen_steward(self) -> None:
        """The steward watches the other cells; whoever waits for it watches the steward."""
        try:
            await self._cells.ask(self._steward, "ping", timeout_s=PING_SECONDS)
        except errors.DeadlineExceeded:
            log.error("the steward does not answer: ending it, Ray starts it again")
            await self._cells.kill(self._steward, restart=True)
        except CellLost:
            log.info("the steward is being restarted")

    async def _nudge(self, ref: Ref) -> None:
        try:
            cell = self._locations.get(ref) or await self._locate(ref, time.monotonic() + HOP_SECONDS)
            reply = await self._cells.ask(cell, "nudge", wire.request(ref), timeout_s=HOP_SECONDS)
            wire.unpack(reply)
        except (wire.Refused, CellLost):
            self._locations.pop(ref, None)
        except errors.TerminalError as error:
            log.info("nudge of %s: %s", ref, error)

    async def _describe(self, name: str) -> dict[str, Any]:
        try:
            return json.loads(await self._cells.ask(name, "describe", timeout_s=5.0))
        except (CellLost, errors.TerminalError) as error:
            return {"name": name, "state": "unreachable", "detail": str(error), "entities": []}

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _left(deadline: float) -> float:
    """Seconds left, never less than a little: the deadline itself is judged in `_pause`."""
    return max(deadline - time.monotonic(), 0.01)


async def _pause(seconds: float, deadline: float, what: str) -> float:
    """Wait before another try; the next pause. Raises Unavailable when the deadline would pass meanwhile."""
    if time.monotonic() + seconds >= deadline:
        raise errors.Unavailable(f"{what}: nobody could take it in time")
    await asyncio.sleep(seconds)
    return min(seconds * 2, PAUSE_MAX_SECONDS)


def _answer(row: mailbox.MailRow) -> Any:
    if row.error is not None:
        raise errors.from_json(row.error)
    return row.result
