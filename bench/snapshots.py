"""Snapshots of 10,000 files: taken, restored, forked; and a first snapshot of much.

    python -m bench.snapshots [rounds] [megabytes]

Beside each, in the same run and on the same disk: `git add -A && git commit` of the same change in the same
tree on the host, `cp -a` of that tree, and for the first snapshot `cp` and `sync` of the same bytes. Times
are those of one client in this process, over the server's Unix socket. The walk alone is what a snapshot
without changes costs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.home import booted
from bench.measure import row, table
from terminalpp.client import Client

MAKE = (
    "for d in $(seq 100); do mkdir -p tree/d$d; for f in $(seq 100); do echo $d $f > tree/d$d/f$f; done; done"
)
CHANGE = "for i in $(seq 10); do echo {} >> tree/d$i/f$i; done"
GIT = ["git", "-c", "user.name=b", "-c", "user.email=b@b", "-c", "gc.auto=0"]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sh(folder: Path, script: str) -> None:
    subprocess.run(["/bin/sh", "-c", script], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def commit(folder: Path) -> None:
    subprocess.run([*GIT, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*GIT, "commit", "-qm", "x"], cwd=folder, check=True)


async def inside(client: Client, box: str, script: str) -> None:
    ran = await client.run_command(box, f"cd /home/user && {script}", wait_ms=60_000)
    while ran["exit_code"] is None:
        ran = await client.wait_command(box, ran["id"])
    assert ran["exit_code"] == 0, ran


async def small(client: Client, box: str, host: Path, rounds: int) -> None:
    """10,000 files, 10 changed."""
    taken: dict[str, list[float]] = {}

    async def measure(name: str, work: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = work()
        if asyncio.iscoroutine(result):
            result = await result
        taken.setdefault(name, []).append(time.perf_counter() - start)
        return result

    await inside(client, box, MAKE)
    sh(host, MAKE)
    subprocess.run(["git", "init", "-q", "."], cwd=host, check=True)
    commit(host)
    await measure("first snapshot of 10,000 files", lambda: client.take_snapshot(box))
    for number in range(rounds):
        await inside(client, box, CHANGE.format(number))
        sh(host, CHANGE.format(number))
        last = await measure("snapshot, 10 of 10,000 files changed", lambda: client.take_snapshot(box))
        await measure("git add -A && git commit of the same", lambda: commit(host))
        await inside(client, box, CHANGE.format("again"))
        id = last["id"]  # type: ignore[index]
        done = await measure("restore of the 10", lambda id=id: client.restore_snapshot(box, id))
        assert done["status"] == "done"  # type: ignore[index]
    for number in range(max(3, rounds // 5)):
        made = await measure("fork, until it takes a command", lambda: forked(client, box, last["id"]))  # type: ignore[index]
        await client.delete_sandbox(str(made))
        copy = host.with_name(f"copy{number}")
        await measure("cp -a of the tree", lambda copy=copy: sh(host, f"cp -a tree {copy}"))
        shutil.rmtree(copy)
    table("10,000 files", [row(name, values) for name, values in taken.items()])


async def forked(client: Client, box: str, snapshot: str) -> str:
    row = await client.fork_snapshot(box, snapshot)
    await inside(client, row["id"], "true")
    return row["id"]


async def much(client: Client, box: str, host: Path, megabytes: int) -> None:
    """A first snapshot of so much, half of it text."""
    half = megabytes // 2
    script = f"""
        rm -rf tree; mkdir noise text
        for i in $(seq {half}); do head -c 1000000 /dev/urandom > noise/$i; done
        base64 noise/1 > /tmp/t
        for i in $(seq {half}); do (echo $i; head -c 1000000 /tmp/t) > text/$i; done"""
    await inside(client, box, script)
    sh(host, script)
    start = time.perf_counter()
    row_ = await client.take_snapshot(box)
    seconds = time.perf_counter() - start
    copied = timed(lambda: sh(host, "mkdir copy; cp -r noise text copy; sync"))
    size = row_["bytes"] / 1e6
    print(f"\nfirst snapshot of {size:.0f} MB, half of it text: {size / seconds:.0f} MB/s in {seconds:.1f} s")
    print(f"cp and sync of the same: {size / copied:.0f} MB/s in {copied:.1f} s")


def cells(home: Path) -> int:
    """The largest resident size of a cell of this home so far, in MB."""
    most = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"TPP_HOME={home}\0".encode() not in status.with_name("environ").read_bytes():
                continue
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    most = max(most, int(line.split()[1]) // 1024)
        except OSError:
            continue
    return most


async def main(rounds: int, megabytes: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tpp-bench-", dir=os.environ.get("TMPDIR")))
    try:
        with booted() as home:
            async with Client.at(home) as client:
                box = (await client.create_sandbox(name="bench", wait=True))["id"]
                (folder / "host").mkdir()
                await small(client, box, folder / "host", rounds)
                before = cells(home)
                await much(client, box, folder / "host", megabytes)
                print(
                    f"the largest process of the server: {before} MB before, at most {cells(home)} MB since"
                )
                await client.delete_sandbox(box)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    )
