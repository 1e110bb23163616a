"""What is deleted leaves nothing: no row in any table, no file under the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.sandbox.versions import collecting
from actors.sandbox.versions.objects import Objects
from schema import Database, Live, forgetting
from terminalpp.client import Client
from terminalpp.types.errors import NotFound
from tests.e2e import scripts
from tests.e2e.stack import collect
from tests.eventually import eventually
from tests.gateway.stack import standing

# Kept by design, for a time that the documents name.
KEPT = {"idempotency_keys"}


async def counts(database: Database) -> dict[str, int]:
    tables = await database.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    names = sorted({row["name"] for row in tables} - KEPT)
    return {name: await database.fetchval(f"SELECT count(*) FROM {name}") for name in names}


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if "run/cells" not in str(path)}


async def use(api: Client, folder: Path) -> tuple[str, str]:
    """A sandbox and a conversation that have done what they can do."""
    box = (await api.create_sandbox(name="box", wait=True))["id"]
    await api.upload_archive(box, "/home/user/work", scripts.archive())
    ran = await api.run_command(box, "seq 100000; setsid sleep 983 & echo >&2", wait_ms=10_000)
    assert ran["exit_code"] == 0
    model = scripts.script(folder, [scripts.EDIT, {"content": "It adds now."}])
    talk = (await api.create_conversation(box, "/home/user/work", model=model))["id"]
    await api.post_message(talk, "add() is wrong.")
    ended = await collect(api, talk, until="turn.finished")
    assert ended[-1]["payload"]["files"], ended[-1]
    return box, talk


async def test_a_deleted_sandbox_leaves_no_row_and_no_file(
    home: Path, database: Database, database_url: str, redis_url: str, live: Live, tmp_path: Path
) -> None:
    (home / "sandboxes").mkdir(exist_ok=True)
    async with standing(home, database, live, database_url, redis_url) as served, served.client() as api:
        rows, there = await counts(database), files(home)
        box, talk = await use(api, tmp_path)
        during = await counts(database)
        assert {name for name in rows if during[name] > rows[name]} > {
            "ai_agents", "ai_conversations", "ai_messages", "command_executions", "entities", "events",
            "graph_checkpoints", "mailbox", "outbox", "reminders", "rewind_points", "sandboxes",
        }  # fmt: skip
        await api.delete_sandbox(box)
        assert await database.fetchval("SELECT count(*) FROM graph_checkpoints") == 0
        await eventually(lambda: not (home / "sandboxes" / box).exists(), timeout_s=30)
        with pytest.raises(NotFound):
            await api.delete_sandbox(box)
        with pytest.raises(NotFound):
            await api.conversation(talk)
        assert await forgetting.sweep(database, grace_s=0) == []  # while somebody owns them
    # Contents of snapshots stay for a day.
    await collecting.collect(database, Objects(home / "objects"), unused_seconds=0)
    gone = {ref.kind for ref in await forgetting.sweep(database, grace_s=0)}
    assert gone == {"sandbox", "conversation", "agent"}
    for table in ("entities", "mailbox", "reminders"):  # the node and the model are there for good
        await database.execute(f"DELETE FROM {table} WHERE kind IN ('node', 'model')")
    assert await counts(database) == rows
    assert files(home) == there
