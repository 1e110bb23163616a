"""Requests per second, and what each takes, at 1 to 128 at once; and a flood.

    python -m bench.http [seconds] [checkout]
    python -m bench.http flood [requests]

A GET of one sandbox's record and a POST of `true` that waits for its end, beside a bare FastAPI route with
one query of the same row in the same Postgres, in turns of one another within this run. With the path of a
`checkout` (an older commit) that one is booted too, in a home of its own, and takes its turns.

All clients are plain sockets of this one process, which does nothing with an answer but find its end; the
share of a core that it took is printed, so that one sees whether it held the server up. `cpu ms` is what the
server's own process took per request: unlike the rest it hardly moves with what else the machine does.

The flood: so many GETs at once, each on a connection of its own; what was accepted and refused, and the
gateway's memory before, at its peak, and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.home import ROOT, booted
from bench.measure import row
from bench.rest import SETTLE_S, free_port, resolved
from terminalpp.client import Client

LEVELS = (1, 8, 32, 128)
WARM = LEVELS[2]
ROUNDS = 3
GRACE_S = 30.0  # in which what is under way at the end of a turn must be answered
FLOODS = 4
FLOOD_LIMIT_S = 40.0
SAMPLE_S = 0.02

BARE = """
import contextlib, os, sys, asyncpg, uvicorn
from fastapi import FastAPI
@contextlib.asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(os.environ["BENCH_DATABASE"], max_size=16) as app.state.pool:
        yield
app = FastAPI(lifespan=lifespan)
@app.get("/v1/sandboxes/{sandbox_id}")
async def route(sandbox_id: str):
    row = await app.state.pool.fetchrow(
        "SELECT id::text, name, status, image, network, generation, resource_limits, created_at"
        " FROM sandboxes WHERE id = $1::text::uuid", sandbox_id)
    return dict(row)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


class Caller(asyncio.Protocol):
    """One connection: sends `request` again and again until `until`, and notes how long each took.

    `answers` counts statuses; a connection that ends in the middle counts as "closed".
    """

    def __init__(self, request: bytes, until: float) -> None:
        self._request, self._until = request, until
        self.started = 0.0
        self._buffer, self._size = b"", 0
        self.taken: list[float] = []
        self.answers: Counter[str] = Counter()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.started = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._size:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            at = self._buffer.lower().index(b"content-length:") + 15
            self._size = head + 4 + int(self._buffer[at : self._buffer.index(b"\r", at)])
        if len(self._buffer) < self._size:
            return
        now, status = time.perf_counter(), self._buffer[9:12].decode()
        self.answers[status] += 1
        if status[0] == "2":
            self.taken.append(now - self.started)
        self._buffer, self._size = b"", 0
        if now >= self._until:
            self._end()
        else:
            self.started = now
            self._transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.answers["closed"] += 1
            self._end()

    def _end(self) -> None:
        if not self.over.done():  # a flood gives up on what comes too late
            self.over.set_result(None)
        self._transport.close()


class Target:
    """A request to a server, and what its turns came to, by how many were at once."""

    def __init__(self, name: str, pid: int, port: int, request: bytes) -> None:
        self.name, self.pid, self._port, self._request = name, pid, port, request
        self.cpu: Counter[int] = Counter()
        self.taken: dict[int, list[float]] = {level: [] for level in LEVELS}
        self.seconds: Counter[int] = Counter()
        self.answers: Counter[str] = Counter()

    async def turn(self, level: int, seconds: float) -> None:
        began, spent = time.perf_counter(), cpu_seconds(self.pid)
        callers = [Caller(self._request, began + seconds) for _ in range(level)]
        loop = asyncio.get_running_loop()
        for one in callers:
            await loop.create_connection(lambda one=one: one, "127.0.0.1", self._port)
        async with asyncio.timeout(seconds + GRACE_S):
            await asyncio.gather(*(one.over for one in callers))
        self.seconds[level] += time.perf_counter() - began  # type: ignore[assignment]
        self.cpu[level] += cpu_seconds(self.pid) - spent  # type: ignore[assignment]
        for one in callers:
            self.taken[level] += one.taken
            self.answers += one.answers

    def rate(self, level: int) -> float:
        return len(self.taken[level]) / self.seconds[level]

    def cpu_ms(self, level: int) -> float:
        return self.cpu[level] * 1000 / max(1, len(self.taken[level]))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request(method: str, path: str, token: str, body: Any = None) -> bytes:
    sent = b"" if body is None else json.dumps(body).encode()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n" if sent else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n{kind}\r\n"
    return head.encode() + sent


def gateway_of(home: Path) -> tuple[int, int]:
    """Its process and its port."""
    found = json.loads((home / "run" / "gateway.json").read_text())
    return found["pid"], found["port"]


@contextlib.asynccontextmanager
async def served(home: Path, mark: str) -> AsyncIterator[tuple[Target, Target, str]]:
    """A sandbox in `home`: a GET of it, `true` in it, and its id."""
    token = (home / "secrets" / "owner.token").read_text().strip()
    pid, port = gateway_of(home)
    # Without the proof: an older server has none, and this one was started by us a moment ago.
    async with Client(f"http://127.0.0.1:{port}", token, prove=False) as api:
        sandbox = await api.wait_for_sandbox((await api.create_sandbox())["id"], timeout_s=900)
        path = f"/v1/sandboxes/{sandbox['id']}"
        ran = request("POST", f"{path}/commands", token, {"argv": ["true"], "wait_ms": 5000})
        try:
            got = Target(f"GET of a record{mark}", pid, port, request("GET", path, token))
            yield got, Target(f"`true`{mark}", pid, port, ran), sandbox["id"]
        finally:
            await api.delete_sandbox(sandbox["id"])


@contextlib.asynccontextmanager
async def bare(home: Path, sandbox_id: str) -> AsyncIterator[Target]:
    port = free_port()
    environment = os.environ | {"BENCH_DATABASE": resolved(home)["TPP_DATABASE_URL"]}
    server = subprocess.Popen([sys.executable, "-c", BARE, str(port)], cwd=ROOT, env=environment)
    try:
        async with asyncio.timeout(GRACE_S):
            while server.poll() is None:
                with contextlib.suppress(OSError):
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                await asyncio.sleep(0.1)
        path = f"/v1/sandboxes/{sandbox_id}"
        yield Target("a bare FastAPI route, one query", server.pid, port, request("GET", path, "none"))
    finally:
        server.terminate()
        server.wait()


async def main(seconds: float, checkout: Path | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        home = stack.enter_context(booted())
        got, ran, sandbox_id = await stack.enter_async_context(served(home, ""))
        targets = [got, await stack.enter_async_context(bare(home, sandbox_id)), ran]
        if checkout is not None:
            other = stack.enter_context(booted(checkout))
            targets += (await stack.enter_async_context(served(other, f" ({checkout.name})")))[:2]
        await asyncio.sleep(SETTLE_S)
        for target in targets:
            await target.turn(WARM, min(seconds, 1.0))  # also opens as many connections to Postgres as it may
            target.taken[WARM], target.seconds[WARM], target.cpu[WARM] = [], 0, 0
        began, busy = time.perf_counter(), time.process_time()
        for level in LEVELS:
            for _ in range(ROUNDS):
                for target in targets:
                    await target.turn(level, seconds / ROUNDS)
        share = (time.process_time() - busy) / (time.perf_counter() - began)
    report(targets, share)


def report(targets: list[Target], share: float) -> None:
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"\nRequests per second; the load of the machine was {load}")
    print(f"| {'what':<40} | at once |      n |  per s | p50 ms | p95 ms | p99 ms | cpu ms |")
    print(f"| {'-' * 40} | ------- | ------ | ------ | ------ | ------ | ------ | ------ |")
    for level in LEVELS:
        for one in targets:
            if not one.taken[level]:
                print(f"| {one.name:<40} | {level:>7} | {0:>6} |")
                continue
            found = row(one.name, one.taken[level])
            times = " | ".join(f"{found[key]:>6.1f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
            rate, cpu = one.rate(level), one.cpu_ms(level)
            print(
                f"| {one.name:<40} | {level:>7} | {found['n']:>6} | {rate:>6.0f} | {times} | {cpu:>6.2f} |"
            )
    got, route, ran, *other = targets
    for level in LEVELS:
        words = f"at {level}: GET {got.rate(level) / route.rate(level):.2f} × the bare route"
        if other:
            words += f", {got.rate(level) / other[0].rate(level):.2f} × the other checkout's"
            words += f"; `true` {ran.rate(level) / other[1].rate(level):.2f} × the other checkout's"
        print(words)
    for one in targets:
        print(f"{one.name}: {dict(one.answers)}")
    print(f"the client took {share:.2f} of a core")


# ---- the flood ----------------------------------------------------------------------------------


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def sampled(pid: int, into: list[float]) -> None:
    while True:
        into.append(rss_mb(pid))
        await asyncio.sleep(SAMPLE_S)


async def flood(count: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with booted() as home:
        async with served(home, "") as (got, _, _):
            await asyncio.sleep(SETTLE_S)
            await got.turn(32, 1.0)
            print(f"\n{count} requests at once; each answer's clock starts when it was sent")
            print("| load | sent in s | accepted |  429 | others           | p50 ms | p95 ms | MiB | peak |")
            print("| ---- | --------- | -------- | ---- | ---------------- | ------ | ------ | --- | ---- |")
            for _ in range(FLOODS):
                print(await wave(got, count), flush=True)
                await asyncio.sleep(SETTLE_S)
            print(f"RSS after: {rss_mb(gateway_of(home)[0]):.0f} MiB")


async def wave(got: Target, count: int) -> str:
    """One flood, as a line of the table."""
    before = rss_mb(got.pid)
    seen = [before]
    sampling = asyncio.create_task(sampled(got.pid, seen))
    began = time.perf_counter()
    callers = await surge(got, count)
    sampling.cancel()
    answers: Counter[str] = sum((one.answers for one in callers), Counter())
    sending = max(one.started for one in callers) - began
    found = row("", [one for caller in callers for one in caller.taken] or [0.0])
    accepted, refused = answers.pop("200", 0), answers.pop("429", 0)
    return (
        f"| {os.getloadavg()[0]:>4.1f} | {sending:>9.1f} | {accepted:>8} | {refused:>4} "
        f"| {dict(answers)!s:<16} | {found['p50_ms']:>6.0f} | {found['p95_ms']:>6.0f} "
        f"| {before:.0f} | {max(seen):>4.0f} |"
    )


async def surge(target: Target, count: int) -> list[Caller]:
    """One request on each of `count` connections, all opened at once."""
    loop = asyncio.get_running_loop()
    callers = [Caller(target._request, 0.0) for _ in range(count)]

    async def one(caller: Caller) -> None:
        try:
            await loop.create_connection(lambda: caller, "127.0.0.1", target._port)
        except OSError:
            caller.answers["not connected"] += 1
            return
        await caller.over

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FLOOD_LIMIT_S):
            await asyncio.gather(*(one(caller) for caller in callers))
    for caller in callers:
        if not caller.answers:
            caller.answers["no answer"] += 1
    return callers


if __name__ == "__main__":
    if sys.argv[1:2] == ["flood"]:
        asyncio.run(flood(int(sys.argv[2]) if len(sys.argv) > 2 else 5000))
    else:
        of = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
        asyncio.run(main(of, Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None))
