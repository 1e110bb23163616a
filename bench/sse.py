"""One event to many followers of a conversation, and a long log replayed to many readers.

    python -m bench.sse [followers] [events]

Beside it, in the same run, a bare Starlette application that pushes prepared bytes to as many clients: what
the machine, uvicorn and the kernel cost. All clients are plain sockets in this one process; `GET /version`
is asked by a process of its own, so that its figure is the server's and not the readers'.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.home import ROOT, booted, state
from bench.measure import row, table
from bench.rest import free_port, resolved

TURNS = 30
READERS = 50
SIZE = 200  # characters of an event's text
PAUSE_S = 0.05
CALM_S = 2.0

BARE = """
import asyncio, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
news, number = asyncio.Event(), 0
async def events(request):
    async def lines():
        global number
        yield b"retry: 1000\\n\\n"
        while True:
            await news.wait()
            yield line
    return StreamingResponse(lines(), media_type="text/event-stream")
async def push(request):
    global news, number, line
    number += 1
    line = b"id: %d\\nevent: model.delta\\ndata: " % number + b"x" * 330 + b"\\n\\n"
    waiting, news = news, asyncio.Event()
    waiting.set()
    return Response("")
app = Starlette(routes=[Route("/events", events), Route("/push", push, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


class Follower(asyncio.Protocol):
    """One client: asks for the stream, counts its bytes, notes when an awaited number came."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.came: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.bytes = 0
        self._wanted, self._tail = b"", b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def expect(self, number: int) -> asyncio.Future[float]:
        self._wanted = b"id: %d\n" % number
        self.came = asyncio.get_running_loop().create_future()
        return self.came

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if not self.began.done() and b"retry:" in data:
            self.began.set_result(None)
        if self._wanted and self._wanted in self._tail + data:
            self.came.set_result(time.perf_counter())
            self._wanted = b""
        if b": end\n" in data or data.endswith(b"0\r\n\r\n"):
            self.ended.set_result(None) if not self.ended.done() else None
        self._tail = data[-32:]

    def connection_lost(self, error: Exception | None) -> None:
        for waited in (self.began, self.came, self.ended):
            if not waited.done():
                waited.set_exception(error or ConnectionError("the server closed the stream"))
                waited.exception()


async def open_followers(port: int, path: str, token: str, count: int) -> list[Follower]:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    loop, made = asyncio.get_running_loop(), []
    for _ in range(count):
        _, one = await loop.create_connection(lambda: Follower(request), "127.0.0.1", port)
        made.append(one)
        await one.began
    return made


Taken = tuple[list[float], list[float]]


async def fan_out(followers: list[Follower], say: Callable[[], Awaitable[int]]) -> Taken:
    """Seconds from before an event is written until each follower has it, and until the last one has."""
    each, last = [], []
    for _ in range(TURNS):
        await asyncio.sleep(PAUSE_S)
        # The number is known before it is said: the log has no gap.
        waiting = [one.expect(say.next) for one in followers]  # type: ignore[attr-defined]
        started = time.perf_counter()
        await say()
        came = await asyncio.gather(*waiting)
        each += [at - started for at in came]
        last.append(max(came) - started)
    return each, last


class Writer:
    """Writes events as a conversation's owner does: committed under its fence, then signalled."""

    def __init__(self, database: Any, live: Any, conversation_id: str, fence: Any) -> None:
        self._database, self._live, self.id, self._fence = database, live, conversation_id, fence
        self.next = 1

    async def __call__(self, count: int = 1) -> int:
        from schema import events

        batch = [("model.delta", "coder", {"text": "x" * SIZE, "n": n}) for n in range(count)]
        async with self._database.fenced(self._fence) as connection:
            await events.append(connection, self.id, batch)
        self.next += count
        await self._live.publish(self.id, self.next - 1)
        return self.next - 1


class Bare:
    """The same for the bare application: one POST, and it pushes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.next = 1

    async def __call__(self) -> int:
        self.next += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"POST /push HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()
        return self.next - 1


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[int]:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", BARE, str(port)], cwd=ROOT)
    try:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        yield port
    finally:
        server.kill()  # it would wait for its streams
        server.wait()


@contextlib.asynccontextmanager
async def conversation(home: Path) -> AsyncIterator[Writer]:
    """A conversation whose only owner is this bench."""
    from runtime.settings import load
    from schema import Database, Live, conversations, entities, sandboxes, users
    from terminalpp.types.ids import Fence, Ref, new_id

    settings = load(resolved(home))
    database = await Database.connect(settings.database_url, max_size=2, application_name="bench")
    live = Live(settings.redis_url)
    try:
        user, id, sandbox = await users.ensure_owner(database), new_id(), new_id()
        await sandboxes.create(database, sandbox, user, "bench")
        await conversations.create(database, id, user, sandbox)
        claimed = await entities.claim(database, Ref("conversation", id), f"bench-{os.getpid()}", 600.0, None)
        yield Writer(database, live, id, Fence("conversation", id, claimed.epoch))
    finally:
        await sandboxes.delete(database, sandbox)
        await live.close()
        await database.close()


def ask_version(port: int) -> None:
    """The other process: asks until its standard input is closed, then prints the seconds."""
    taken: list[float] = []
    asking = http.client.HTTPConnection("127.0.0.1", port)
    print("ready", flush=True)
    os.set_blocking(0, False)
    while os.sys.stdin.buffer.raw.read(1) is None:  # type: ignore[attr-defined]
        started = time.perf_counter()
        asking.request("GET", "/version")
        asking.getresponse().read()
        taken.append(time.perf_counter() - started)
        time.sleep(0.01)
    print(json.dumps(taken))


async def replay(port: int, token: str, path: str, readers: int) -> tuple[float, list[float], int]:
    """Seconds until all have read the log, the seconds of `GET /version` meanwhile, the bytes read."""
    probe = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sse", "--version", str(port), cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await probe.stdout.readline()  # it is ready
    await asyncio.sleep(0 if readers else CALM_S)
    started = time.perf_counter()
    reading = await open_followers(port, path, token, readers)
    await asyncio.gather(*(one.ended for one in reading))
    took = time.perf_counter() - started
    out, _ = await probe.communicate(b"")  # closes its input
    for one in reading:
        one.transport.close()
    return took, json.loads(out), sum(one.bytes for one in reading)


async def main(count: int, length: int) -> None:
    with booted() as home:
        port = int(state(home)["url"].rpartition(":")[2])
        token = (home / "secrets" / "owner.token").read_text().strip()
        async with bare() as bare_port, conversation(home) as say:
            path = f"/v1/conversations/{say.id}/events"
            given = await fan_out(await open_followers(bare_port, "/events", "none", count), Bare(bare_port))
            ours = await fan_out(followers := await open_followers(port, path, token, count), say)
            report(count, ours, given)
            for one in followers:
                one.transport.close()
            while say.next <= length:
                await say(min(1000, length + 1 - say.next))
            _, calm, _ = await replay(port, token, path, 0)
            took, busy, read = await replay(port, token, path + "?follow=false", READERS)
    rows = [row("meanwhile", busy), row("on a calm server", calm)]
    table(f"`GET /version` while {READERS} readers replay {say.next - 1} events", rows)
    rate = READERS * (say.next - 1) / took
    print(f"\nthe replay: {took:.1f} s for {read / 1e6:.0f} MB ({rate:,.0f} events/s)")


def report(count: int, ours: Taken, given: Taken) -> None:
    rows = [
        row("until a follower has it", ours[0]),
        row("until the last has it", ours[1]),
        row("bare Starlette, prepared bytes: until a client has it", given[0]),
        row("bare Starlette, prepared bytes: until the last has it", given[1]),
    ]
    table(f"One event to {count} followers: from before its commit", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--version"]:
        ask_version(int(sys.argv[2]))
    else:
        given = [int(value) for value in sys.argv[1:]]
        asyncio.run(main(*(given + [300, 20_000][len(given) :])))
