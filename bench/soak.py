"""A long run under load: does it stay flat? Memory, descriptors and disk at intervals, and a verdict.

    python -m bench.soak [MINUTES] [SECONDS BETWEEN SAMPLES]

The load, all at once: commands, files in and out, conversations with a scripted team, readers of events that
come and go, sandboxes made, used and deleted. The budgets of journals are set small, so that the bound is
reached within minutes and not within days.

The verdict is a slope: after the first third (caches fill, the write-ahead log grows to its bound) a series
is flat when a straight line through its samples (Theil-Sen: the median of all pairwise slopes, which an
outlier does not move) rises by less than its tolerance over the measured time. Rows that are kept by design
(answers to an `Idempotency-Key` and finished messages, for a week) are told as bytes of the database a round.
Exit status 1: something grew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.home import booted, client
from bench.memory import with_children
from runtime import disk
from terminalpp.client import Client
from terminalpp.types.errors import TerminalError
from tests.e2e import scripts
from tests.e2e.stack import collect, find_processes

MIB = 1024**2
JOURNALS_MIB = 64
ENVIRONMENT = {
    "TPP_SANDBOX_DRIVER": "bubblewrap",
    "TPP_JOURNAL_SANDBOX_BYTES": str(16 * MIB),
    "TPP_JOURNAL_HOME_BYTES": str(JOURNALS_MIB * MIB),
}
# The first that its command line holds: what a process is.
MARKS = {
    "gcs_server": "ray", "raylet/raylet": "ray", "ray_head": "ray", "ray::": "cells",
    "default_worker": "cells", "ray": "ray", "postgres": "postgres", "-server": "redis",
    "-m gateway": "gateway", "-m runtime": "supervisor",
}  # fmt: skip
COLUMNS = (
    "gateway PSS MiB", "cells PSS MiB", "postgres PSS MiB", "ray PSS MiB", "gateway files", "cells files",
    "disk postgres MiB", "disk journals MiB", "disk logs MiB", "disk ray MiB",
)  # fmt: skip
# What grows by design, and why that is bounded.
BY_DESIGN = {
    "disk postgres MiB": "rows kept",  # for a week, or with what they belong to
    "disk write-ahead log MiB": "to 256",  # Postgres' max_wal_size
    "postgres files": "to 1000 each",  # a backend keeps open what it has used: max_files_per_process
}
# What goes up and down under a bound, over a time that is no small part of the run: flat when it stays below.
BOUNDS = {"disk journals MiB": JOURNALS_MIB * 1.1}  # what was written between two looks comes on top
READERS = 20
# How much a series may rise over the measured time: a share of its median, or so much at least.
SHARE = 0.05
LEAST = {"MiB": 12.0, "files": 20.0, "threads": 10.0, "processes": 6.0}


# ---- what is measured ---------------------------------------------------------------------------


def group(pid: int) -> str:
    """Which part of the system a process is."""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return next((name for mark, name in MARKS.items() if mark in line), "sandboxes")


def processes(home: Path) -> dict[str, float]:
    """PSS (MiB), open files, threads and number of processes, by part. Not RSS: it counts the pages that
    Postgres' processes share once for each of them."""
    found: dict[str, float] = {}

    def add(name: str, amount: float) -> None:
        found[name] = found.get(name, 0.0) + amount

    for pid in with_children({*find_processes(str(home)), *_sandboxes(home)}):
        with contextlib.suppress(OSError, KeyError, ValueError):
            part, folder = group(pid), Path(f"/proc/{pid}")
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    add(f"{part} PSS MiB", int(line.split()[1]) / 1024)
            add(f"{part} files", len(os.listdir(folder / "fd")))
            add(f"{part} threads", len(os.listdir(folder / "task")))
            add(f"{part} processes", 1)
    return found


def _sandboxes(home: Path) -> list[int]:
    """Process 1 of each sandbox, which tells nothing of its home: by bwrap's own words."""
    found = []
    for told in home.glob("sandboxes/*/bwrap.json"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in re.findall(r'"child-pid":\s*(\d+)', told.read_text())]
    return found


def on_disk(home: Path) -> dict[str, float]:
    """MiB by part; the write-ahead log, which grows to its own bound, apart from the database's tables."""
    parts = {f"disk {name} MiB": size / MIB for name, size in disk.usage(home, within_s=60).parts.items()}
    log, _ = disk.tree_bytes(home / "pg" / "pg_wal")
    parts["disk postgres MiB"] -= log / MIB
    parts["disk write-ahead log MiB"] = log / MIB
    return parts


# ---- the load ------------------------------------------------------------------------------------


class Load:
    """Every kind of work in a loop of its own. `done` counts rounds, `failed` the errors by code."""

    def __init__(self, api: Client, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.done: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.model = scripts.script(folder, [scripts.EDIT, {"content": "It adds now."}])

    async def for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        name = work.__name__
        while True:
            try:
                await work()
                self.done[name] = self.done.get(name, 0) + 1
            except TerminalError as error:
                self.failed[error.code] = self.failed.get(error.code, 0) + 1
                await asyncio.sleep(0.2)

    async def start(self) -> list[asyncio.Task[None]]:
        self.box = (await self.api.create_sandbox(name="soak", wait=True))["id"]
        self.talk = await self._talk(self.box)
        works = [self.commands, self.files, self.sandboxes, self.conversations]
        works += [self.readers] * READERS
        return [asyncio.create_task(self.for_ever(work)) for work in works]

    async def commands(self) -> None:
        ran = await self.api.run_command(self.box, "seq 20000; echo done >&2", wait_ms=20_000)
        assert ran["status"] == "completed", ran
        await asyncio.sleep(0.05)

    async def files(self) -> None:
        await self.api.upload_archive(self.box, "/home/user/in", scripts.archive())
        await self.api.read_file(self.box, "/home/user/in/add.py")
        await asyncio.sleep(0.1)

    async def sandboxes(self) -> None:
        box = (await self.api.create_sandbox(name="short", wait=True))["id"]
        await self.api.run_command(box, "head -c 3000000 /dev/zero; sleep 983 &", wait_ms=5_000)
        await self.api.delete_sandbox(box)
        await asyncio.sleep(0.5)

    async def conversations(self) -> None:
        box = (await self.api.create_sandbox(name="talk", wait=True))["id"]
        await self._talk(box)
        await self.api.delete_sandbox(box)

    async def _talk(self, box: str) -> str:
        await self.api.upload_archive(box, "/home/user/work", scripts.archive())
        talk = (await self.api.create_conversation(box, "/home/user/work", model=self.model))["id"]
        await self.api.post_message(talk, "add() is wrong.")
        await collect(self.api, talk, until="turn.finished")
        return talk

    async def readers(self) -> None:
        await collect(self.api, self.talk, until="turn.finished")
        await asyncio.sleep(0.5)


# ---- the verdict ---------------------------------------------------------------------------------


def rise(times: list[float], values: list[float]) -> float:
    """How much the series rises from the first to the last sample, by Theil-Sen's slope."""
    slopes = [
        (values[j] - values[i]) / (times[j] - times[i])
        for i in range(len(times)) for j in range(i + 1, len(times))
    ]  # fmt: skip
    return statistics.median(slopes) * (times[-1] - times[0]) if slopes else 0.0


Told = tuple[str, float, float, float, float, bool]


def verdict(samples: list[tuple[float, dict[str, float]]]) -> list[Told]:
    """(series, first, last, rise, rise an hour, flat) of what was measured after the first third."""
    measured = samples[len(samples) // 3 :]
    times = [at for at, _ in measured]
    told = []
    for name in sorted({name for _, sample in measured for name in sample}):
        values = [sample.get(name, 0.0) for _, sample in measured]
        grown = rise(times, values)
        hourly = grown / max(times[-1] - times[0], 1.0) * 3600
        allowed = max(SHARE * statistics.median(values), LEAST[name.split()[-1]])
        flat = grown <= allowed or max(values) <= BOUNDS.get(name, 0.0)
        told.append((name, values[0], values[-1], grown, hourly, flat))
    return told


async def main(minutes: float = 30.0, every_s: float = 15.0) -> int:
    os.environ.update(ENVIRONMENT)
    with booted() as home, tempfile.TemporaryDirectory(prefix="tpp-soak-") as folder:
        async with client(home) as api:
            load = Load(api, Path(folder))
            tasks = await load.start()
            samples, began = [], time.monotonic()
            print("\n| minute | " + " | ".join(name.removesuffix(" MiB") for name in COLUMNS) + " |")
            print("| --- |" + " --- |" * len(COLUMNS))
            try:
                while time.monotonic() - began < minutes * 60:
                    await asyncio.sleep(every_s)
                    seen = await asyncio.to_thread(lambda: {**processes(home), **on_disk(home)})
                    at = time.monotonic() - began
                    samples.append((at, seen))
                    row = " | ".join(f"{seen.get(name, 0):.0f}" for name in COLUMNS)
                    print(f"| {at / 60:.1f} | {row} |", flush=True)
            finally:
                for task in tasks:
                    task.cancel()
                crashed = [e for e in await asyncio.gather(*tasks, return_exceptions=True)
                           if not isinstance(e, asyncio.CancelledError)]
    told = verdict(samples)
    print(f"\n| {'series, after the first third':<34} | first | last | rise | an hour | flat |")
    print(f"| {'-' * 34} | --- | --- | --- | --- | --- |")
    for name, first, last, grown, hourly, flat in told:
        word = "yes" if flat else BY_DESIGN.get(name, "NO")
        print(f"| {name:<34} | {first:.1f} | {last:.1f} | {grown:+.1f} | {hourly:+.0f} | {word} |")
    rounds = sum(load.done.values())
    print(f"\nrounds: {load.done}; refused: {load.failed or 'nothing'}; ended early: {crashed or 'none'}")
    tables = [sample["disk postgres MiB"] for _, sample in samples]
    print(f"the database grew {(tables[-1] - tables[0]) * 1024 / max(rounds, 1):.1f} KiB a round")
    grew = [name for name, *_, flat in told if not flat and name not in BY_DESIGN]
    print(f"verdict: {'flat' if not grew and not crashed else 'NOT flat: ' + ', '.join(grew)}")
    return int(bool(grew or crashed))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*(float(word) for word in sys.argv[1:3]))))
