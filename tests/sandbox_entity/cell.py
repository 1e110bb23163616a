"""`python -m tests.sandbox_entity.cell`: a cell as a process of its own, without Ray, to be killed.

A real `Host` (claims, leases, turns, outbox) with real entities; only routing is its own: everything
lives here. Requests and replies are JSON lines on standard input and output. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from runtime import Runtime, wire
from runtime import settings as settings_module
from schema import Database, Live
from terminalpp.types.ids import Ref
from tests.runtime.local_cells import hosting


async def main() -> None:
    settings = settings_module.load(os.environ)
    database = await Database.connect(settings.database_url or "", max_size=10)
    live = Live(settings.redis_url or "")
    async with hosting(settings, database, live) as runtime:
        await serve(runtime)
    await live.close()
    await database.close()


async def serve(runtime: Runtime) -> None:
    """Answers what comes on standard input, until its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(request: dict[str, Any]) -> None:
        ref = Ref(*request["ref"])
        try:
            if request["op"] == "send":
                value = await runtime.send(
                    ref, request["method"], request["payload"], timeout_s=170,
                    message_id=request["message_id"],
                )
            elif request["op"] == "activate":
                value = await runtime._locate(ref, time.monotonic() + 170)
                runtime.nudge(ref)
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


if __name__ == "__main__":
    asyncio.run(main())
