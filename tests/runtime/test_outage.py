"""Postgres goes away under a working host: nothing accepted is lost, nothing is applied twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from schema import Database, entities, migrations
from terminalpp.types import errors
from terminalpp.types.ids import Ref
from tests.conftest import admin
from tests.eventually import eventually
from tests.runtime.local_cells import LocalNode
from tests.services import PostgresServer

CRASHES = 4


async def test_postgres_crashes_while_messages_are_applied(
    server_folder: Callable[[], Path], redis_url: str, counter: Ref, tmp_path: Path
) -> None:
    server = PostgresServer(server_folder())
    server.start()
    await server.answer()
    # The test servers do not wait for their log; here an acknowledged commit must outlive the crash.
    await admin(server.url(), "ALTER DATABASE postgres SET synchronous_commit = on")
    await migrations.migrate(server.url())
    database = await Database.connect(server.url(), max_size=10)
    node = LocalNode(database, server.url(), redis_url, tmp_path)
    node.add("cell/test/1")
    sent, answers = 0, []
    stop = asyncio.Event()

    async def keep_sending() -> None:
        """As the gateway does: an unknown outcome is asked again under the same id."""
        nonlocal sent
        while not stop.is_set():
            while True:
                try:
                    answer = await node.runtime.send(
                        counter, "add", {"tag": sent}, message_id=f"o-{sent}", timeout_s=30
                    )
                except (errors.Unavailable, errors.DeadlineExceeded):
                    continue
                else:
                    answers.append(answer["total"])
                    break
            sent += 1

    sender = asyncio.create_task(keep_sending())
    try:
        for _ in range(CRASHES):
            reached = sent + 20
            await eventually(lambda: sent >= reached or sender.done(), timeout_s=60)  # noqa: B023
            server.signal(signal.SIGQUIT)
            server.start()
        stop.set()
        await sender
        row = await entities.load(database, counter)
        assert row.state["seen"] == list(range(sent))
        assert answers == list(range(1, sent + 1))
        assert sent >= 20 * CRASHES
    finally:
        sender.cancel()
        await node.close()
        await database.close()
        server.stop()
