"""How long after a kill (or a freeze) until the next request that needs the part is answered.

    python -m bench.recovery [--n 10] [--only gateway,postgres] [--freeze]

Boots a Terminal++ of its own. For each kind of fault the part is made to work, its processes get SIGKILL, and
a request that needs it is sent at once and repeated by the client, as any client does, until it is answered.
`--freeze` sends SIGSTOP to the whole tree instead, where a supervisor or steward has to find out first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from terminalpp.client import Client
from terminalpp.types.errors import TerminalError
from tests.e2e.stack import Stack, find_processes
from tests.eventually import eventually

PATIENCE_S = 180.0
CALM_S = 6.0  # between two faults, so that the one before is over: no crash loop (runtime.supervisor)

Need = Callable[[], Awaitable[Any]]


class Bench:
    """One stack, one sandbox, one conversation, and what needs which part."""

    def __init__(self, stack: Stack, client: Client) -> None:
        self.stack, self.client = stack, client
        self.sandbox_id = self.conversation_id = ""
        self.head = 0

    async def prepare(self) -> None:
        row = await self.client.create_sandbox(name="recovery")
        self.sandbox_id = (await self.client.wait_for_sandbox(row["id"]))["id"]
        await self.client.run_command(self.sandbox_id, "mkdir -p work", wait_ms=10_000)
        made = await self.client.create_conversation(
            self.sandbox_id, "/home/user/work", model="scripted:demo"
        )
        self.conversation_id = made["id"]
        await self.conversation()

    # ---- what needs the part

    async def command(self) -> None:
        row = await self.client.run_command(self.sandbox_id, argv=["true"], wait_ms=20_000)
        assert row["status"] == "completed", row

    async def conversation(self) -> None:
        await self.client.cancel(self.conversation_id)

    async def new_sandbox(self) -> None:
        row = await self.client.create_sandbox(name="made", wait=True)
        await self.client.delete_sandbox(row["id"])

    async def listed(self) -> None:
        await self.client.sandboxes(limit=1)

    async def whole(self) -> None:
        await self.listed()
        row = await self.client.start_sandbox(self.sandbox_id)
        assert row["status"] == "running", row
        await self.command()

    # ---- whose processes

    def of(self, *marks: str) -> list[int]:
        return self.stack.processes(*marks)

    def cell(self, *kinds: str) -> list[int]:
        return sorted({pid for kind in kinds for pid in self.stack.hosts_of(kind)})

    def steward(self) -> list[int]:
        return [cell["pid"] for cell in self.stack.cells() if cell["name"].endswith("/0")]

    def raylet(self) -> list[int]:
        self.head = self.stack.state()["services"]["ray"]["pid"]
        return self.of("/raylet/raylet")

    async def command_after_raylet(self) -> None:
        """Cells outlive their raylet by a moment, so: a command once Ray has been started again."""
        await eventually(self._ray_is_new, PATIENCE_S)
        await self.command()

    def _ray_is_new(self) -> bool:
        ray = self.stack.state()["services"]["ray"]
        return ray["state"] == "running" and ray["pid"] != self.head

    def supervisor(self) -> list[int]:
        return [self.stack.state()["pid"]]


def faults(bench: Bench) -> dict[str, tuple[Callable[[], list[int]], Need]]:
    """What is hit → its pids, and the request that needs it."""
    return {
        "cell of a conversation": (lambda: bench.cell("conversation"), bench.conversation),
        "cell of a sandbox": (lambda: bench.cell("sandbox"), bench.command),
        "cell of the node": (lambda: bench.cell("node"), bench.new_sandbox),
        "steward": (bench.steward, bench.new_sandbox),
        "gateway": (lambda: bench.of("-m gateway"), bench.listed),
        "redis": (lambda: bench.of("-server 127.0.0.1:"), bench.command),
        "postgres": (lambda: bench.of("bin/postgres", "-D") + bench.of("postgres: "), bench.command),
        "gcs": (lambda: bench.of("gcs_server"), bench.command),
        "raylet": (bench.raylet, bench.command_after_raylet),
        "supervisor": (bench.supervisor, bench.command),
    }


async def until_answered(need: Need) -> None:
    """Ask until it is answered: what the client itself does not repeat, a person does."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await need()
        except TerminalError as error:
            if time.monotonic() > deadline or not (error.retryable or error.status >= 500):
                raise
            await asyncio.sleep(0.02)


async def one(pids: list[int], need: Need, number: int) -> float:
    """Seconds from the signal to the answer."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    began = time.perf_counter()
    await until_answered(need)
    return time.perf_counter() - began


async def settled(bench: Bench) -> None:
    """Until every part answers again, and a little longer."""
    while True:
        with contextlib.suppress(TerminalError):
            if (await bench.client.readyz())["ready"]:
                break
        await asyncio.sleep(0.1)
    await until_answered(bench.whole)
    await until_answered(bench.conversation)
    await asyncio.sleep(CALM_S)


async def everything(bench: Bench) -> float:
    """The machine goes off; `up`, and a command in the sandbox that was there before."""
    pids = [pid for pid in find_processes(str(bench.stack.home)) if pid != os.getpid()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    began = time.perf_counter()
    await asyncio.to_thread(bench.stack.start)
    await until_answered(bench.whole)
    return time.perf_counter() - began


async def measure(bench: Bench, n: int, only: set[str], freeze: bool) -> list[tuple[str, list[float]]]:
    rows = []
    number = signal.SIGSTOP if freeze else signal.SIGKILL
    for name, (pids, need) in faults(bench).items():
        if (only and name not in only) or (freeze and name == "supervisor"):
            continue
        taken = []
        for _ in range(n):
            await settled(bench)
            taken.append(await one(await eventually(partial(asyncio.to_thread, pids), 60), need, number))
            if name == "supervisor":
                await asyncio.to_thread(bench.stack.start)
        rows.append((name, taken))
        report([rows[-1]])
    if not freeze and (not only or "everything" in only):
        taken = []
        for _ in range(max(1, min(n, 3))):
            await settled(bench)
            taken.append(await everything(bench))
        rows.append(("everything", taken))
        report([rows[-1]])
    return rows


def report(rows: list[tuple[str, list[float]]]) -> None:
    for name, taken in rows:
        numbers = f"{len(taken):>3} | {statistics.median(taken):>8.2f} | {max(taken):>8.2f}"
        print(f"| {name:<24} | {numbers} |", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Recovery times (see the module's docstring).")
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--freeze", action="store_true")
    options = parser.parse_args()
    only = {name for name in options.only.split(",") if name}
    with tempfile.TemporaryDirectory(prefix="tpp-rec-") as folder:
        stack = Stack(Path(folder) / "home", {"TPP_SANDBOX_DRIVER": "bubblewrap"})
        await asyncio.to_thread(stack.start)
        how = "SIGSTOP" if options.freeze else "SIGKILL"
        print(f"load {os.getloadavg()[0]:.1f}; seconds from {how} to the answer")
        print(f"| {'what':<24} | {'n':>3} | {'median s':>8} | {'worst s':>8} |")
        print(f"| {'-' * 24} | {'-' * 3} | {'-' * 8} | {'-' * 8} |")
        try:
            async with stack.client() as client:
                bench = Bench(stack, client)
                await bench.prepare()
                await measure(bench, options.n, only, options.freeze)
        finally:
            await asyncio.to_thread(stack.stop)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
