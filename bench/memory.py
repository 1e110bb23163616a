"""Memory of the idle system, per process, and of one conversation at work, by /proc/PID/smaps_rollup.

    python -m bench.memory

A conversation at work is what all cells together take more once its planner, coder, tester, critic and
executor have all worked and none of them was passivated yet, its sandbox included. Then, what its rows take
in the database.

PSS shares each page among the processes that map it, so the PSS column adds up to what the system
really takes; RSS counts shared pages again in every process.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

from bench.home import booted, client, state
from runtime.services import postgres
from schema import Database
from tests.e2e import scripts
from tests.e2e.stack import collect, find_processes

SETTLE_S = 20  # spare cells are started in the background after boot
TABLES = (
    "ai_conversations", "ai_messages", "events", "graph_checkpoints", "graph_writes", "rewind_points",
    "ai_agents", "command_executions", "entities", "reminders", "mailbox", "outbox", "sandboxes",
)  # fmt: skip


def of(pid: int) -> tuple[str, float, float]:
    """(what it is, RSS MB, PSS MB)."""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    values = {}
    for entry in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount, *_ = entry.split()
        values[name.rstrip(":")] = int(amount) / 1024
    words = line.split()
    name = Path(words[0]).name if words else "?"
    if name.startswith("python") and len(words) > 2:
        name = " ".join(Path(word).name for word in words[1:4])
    return (line if line.startswith(("ray::", "postgres:")) else name)[:48], values["Rss"], values["Pss"]


def with_children(pids: set[int]) -> set[int]:
    """`pids` and all below them: a process that renamed itself may have overwritten what tells its home."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    while more := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return pids


def pss(pids: set[int]) -> dict[int, tuple[str, float, float]]:
    """What each process is, its RSS and PSS in MB; those that ended while we looked are left out."""
    found = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, PermissionError, KeyError, ProcessLookupError):
            found[pid] = of(pid)
    return found


def cells(home: Path) -> dict[int, tuple[str, float, float]]:
    """The cells of this home and the parents that they were forked from."""
    every = pss(with_children(set(find_processes(str(home)))))
    return {pid: one for pid, one in every.items() if "ray::Cell" in one[0] or "worker_parent" in one[0]}


async def at_work(home: Path) -> None:
    """One conversation from its first message to the end of its turn, measured there."""
    before = cells(home)
    with tempfile.TemporaryDirectory() as folder:
        look = scripts.tool("read", path="add.py")
        run = scripts.tool("bash", command="python3 -m unittest")
        work = [look, scripts.tool("search", pattern="add"), run, scripts.EDIT, look, run]
        model = scripts.script(Path(folder), [*work, {"content": "It adds now."}])
        async with client(home) as api:
            box = (await api.create_sandbox(name="memory", wait=True))["id"]
            await api.upload_archive(box, "/home/user/work", scripts.archive())
            talk = (await api.create_conversation(box, "/home/user/work", model=model))["id"]
            await api.post_message(talk, "add() subtracts")
            events = await collect(api, talk, until="turn.finished", timeout_s=120)
    assert events[-1]["payload"]["outcome"] == "passed", events[-1]
    after = cells(home)
    more = sum(one[2] for one in after.values()) - sum(one[2] for one in before.values())
    count = len(after) - len(before)
    print(f"\na conversation at work: {count} more cells, {more:.0f} MB PSS more in all cells")
    sizes = await rows_kib(home)
    largest = sorted(sizes.items(), key=lambda one: -one[1])[:4]
    each = ", ".join(f"{name} {size:.0f}" for name, size in largest)
    print(f"its rows after {len(events)} events: {sum(sizes.values()):.0f} KiB ({each})")


async def rows_kib(home: Path) -> dict[str, float]:
    """What the rows of each table take that tell of the conversation, its sandbox and its agents.

    The home is new, so all rows of these tables are its.
    """
    port = int(state(home)["services"]["postgres"]["detail"].rpartition(":")[2])
    password = (home / "secrets" / "postgres.password").read_text().strip()
    database = await Database.connect(postgres.url(port, password))
    try:
        query = "SELECT coalesce(sum(pg_column_size(t.*)), 0) FROM {} t"
        return {table: float(await database.fetchval(query.format(table))) / 1024 for table in TABLES}
    finally:
        await database.close()


async def main() -> None:
    with booted() as home:
        await asyncio.sleep(SETTLE_S)
        found = list(pss(with_children(set(find_processes(str(home))))).values())
        _print(found)
        await at_work(home)


def _print(found: list[tuple[str, float, float]]) -> None:
    print(f"| {'process':<48} | {'RSS MB':>8} | {'PSS MB':>8} |")
    print(f"| {'-' * 48} | {'-' * 8} | {'-' * 8} |")
    for name, rss, pss in sorted(found, key=lambda one: -one[2]):
        print(f"| {name:<48} | {rss:>8.0f} | {pss:>8.0f} |")
    print(f"| {'sum':<48} | {sum(f[1] for f in found):>8.0f} | {sum(f[2] for f in found):>8.0f} |")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
