"""Old output goes, oldest first, and whoever asks for it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.sandbox import retention
from actors.sandbox.retention import Budget
from actors.sandbox.tppd import journal
from schema import Database, Live, reminders
from terminalpp.client import Client
from terminalpp.types.ids import Ref
from tests.eventually import eventually
from tests.gateway.conftest import Served
from tests.gateway.stack import standing

MIB = 1 << 20
PRINT = "head -c 1048576 /dev/zero | tr '\\0' x"


async def recorded(database: Database, count: int) -> None:
    """Until so many rows have their end: the journals are ahead of them by some milliseconds."""
    query = "SELECT count(*) FROM command_executions WHERE status = 'completed' AND NOT streams_open"

    async def there() -> bool:
        return await database.fetchval(query) == count

    await eventually(there)


def run_dir(served: Served, box: str) -> Path:
    return served.home / "sandboxes" / box / "run"


def listed(place: Path) -> set[str]:
    return {name for name in journal.list_ids(place) if not name.startswith(".")}


async def test_finished_output_goes_oldest_first_and_the_gap_is_told(
    api: Client, box: str, stack: Served, database: Database
) -> None:
    runs = await api.run_command(box, f"{PRINT}; read line", stdin=True)
    old, middle, new = [
        (await api.run_command(box, f"{PRINT}; echo {n} >&2", wait_ms=20_000))["id"] for n in range(3)
    ]
    await recorded(database, 3)
    before = await api.command(box, old)
    place = run_dir(stack, box)
    assert await retention.trim(stack.home, database, Budget(10 * MIB, 10 * MIB, 1e9)) == 0
    freed = await retention.trim(stack.home, database, Budget(7 * MIB // 2, 10**12, 1e9))
    assert freed >= MIB
    assert listed(place) == {runs["id"], middle, new}
    piece = await api.output(box, old)
    assert (piece.data, piece.gap_bytes, piece.offset, piece.ended) == (b"", MIB, MIB, True)
    assert [p.gap_bytes async for p in api.follow_output(box, old, stream="stderr")] == [2]
    assert await api.command(box, old) == before
    # However small the budget: what runs, and the newest, stay.
    await retention.trim(stack.home, database, Budget(0, 10**12, 0))
    assert listed(place) == {runs["id"], new}
    assert len((await api.output(box, runs["id"], limit=MIB)).data) == MIB
    await api.write_stdin(box, runs["id"], b"\n", offset=0)
    assert (await api.wait_command(box, runs["id"]))["stdout_bytes"] == MIB
    again = await api.run_command(box, "true", wait_ms=10_000)
    assert again["status"] == "completed"


async def test_an_end_that_no_row_knows_yet_is_kept(
    api: Client, box: str, stack: Served, database: Database
) -> None:
    ids = [(await api.run_command(box, "echo hello", wait_ms=10_000))["id"] for _ in range(2)]
    await recorded(database, 2)
    await database.execute("ALTER TABLE command_executions DISABLE TRIGGER USER")
    await database.execute("UPDATE command_executions SET status = 'running' WHERE id = $1", ids[0])
    await retention.trim(stack.home, database, Budget(0, 0, 0))
    assert ids[0] in journal.list_ids(run_dir(stack, box))


async def test_the_node_looks_around_by_itself(
    home: Path, database: Database, database_url: str, redis_url: str, live: Live
) -> None:
    async with (
        standing(home, database, live, database_url, redis_url, journal_days=1e-9) as served,
        served.client() as api,
    ):
        box = (await api.create_sandbox(name="box", wait=True))["id"]
        old, new = [(await api.run_command(box, "echo hello", wait_ms=10_000))["id"] for _ in range(2)]
        await recorded(database, 2)
        kept = await reminders.list_reminders(database, Ref("node", "local"))
        assert [(one.name, one.every_seconds) for one in kept] == [("trim", 30.0)]
        await database.execute("UPDATE reminders SET due_at = now() WHERE kind = 'node'")
        await reminders.fire_due(database)
        place = run_dir(served, box)
        await eventually(lambda: asyncio.to_thread(lambda: old not in journal.list_ids(place)))
        assert new in journal.list_ids(place)
        assert (await api.output(box, old)).gap_bytes == 6
