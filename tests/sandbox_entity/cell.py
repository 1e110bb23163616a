"""`python -m tests.sandbox_entity.cell`: a cell as a process of its own, without Ray, to be killed.

A real `Host` (claims, leases, turns, outbox) with real entities; only routing is its own: everything
lives here. Requests and replies are JSON lines on standard input and output. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from typing import Any

from runtime import settings as settings_module
from runtime import wire
from runtime.entity_host import Host
from runtime.registry import Registry
from schema import Database, Live, mailbox
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id


class LocalRuntime:
    """What entities call each other by, when all of them live in this process."""

    def __init__(self, database: Database) -> None:
        self.host: Host
        self._database = database
        self._tasks: set[asyncio.Task[Any]] = set()

    async def activate(self, ref: Ref) -> None:
        """Once the lease of a killed cell has run out."""
        while True:
            try:
                await self.host.activate(ref)
                return
            except errors.Unavailable as error:
                if "held by another cell" not in str(error):
                    raise
            await asyncio.sleep(0.05)

    async def call(
        self, ref: Ref, method: str, payload: Any = None, *, timeout_s: float = 30.0, idempotent: bool = False
    ) -> Any:
        while True:
            await self.activate(ref)
            try:
                async with asyncio.timeout(timeout_s):
                    return await self.host.find(ref).call(method, payload)
            except wire.Refused:
                await asyncio.sleep(0.05)

    async def send(self, ref: Ref, method: str, payload: Any, message_id: str | None = None) -> Any:
        message_id = message_id or new_id()
        row = await mailbox.enqueue(self._database, ref, message_id, method, payload or {}, None)
        while not row.finished:
            await self.activate(ref)
            try:
                return (await self.host.find(ref).deliver(message_id)).unwrap()
            except wire.Refused:
                await asyncio.sleep(0.05)
                row = await mailbox.result_of(self._database, message_id) or row
        return row.result

    def nudge(self, ref: Ref) -> None:
        task = asyncio.create_task(self.activate(ref))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def main() -> None:
    settings = settings_module.load(os.environ)
    database = await Database.connect(settings.database_url or "", max_size=10)
    registry = Registry.load(settings.entity_registry, settings.preload_registry)
    runtime = LocalRuntime(database)
    live = Live(settings.redis_url or "")
    host = Host(f"cell@{uuid.uuid4().hex}", settings, registry, database, live, runtime)
    runtime.host = host
    await host.renew()
    host.start()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(request: dict[str, Any]) -> None:
        ref = Ref(*request["ref"])
        try:
            if request["op"] == "send":
                value = await runtime.send(ref, request["method"], request["payload"], request["message_id"])
            elif request["op"] == "activate":
                await runtime.activate(ref)
                value = None
            else:
                value = await runtime.call(ref, request["method"], request["payload"], timeout_s=120)
            reply = {"id": request["id"], "value": value}
        except Exception as error:
            reply = {"id": request["id"], "error": wire.as_terminal(error).to_json()}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()

    tasks: set[asyncio.Task[None]] = set()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await reader.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await host.stop()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
