"""Terminals over the WebSocket: a keystroke's echo, coming back to a painted screen, output by offset.

    python -m bench.terminals [keystrokes] [attaches]

Beside it, in the same run: the echo of a pseudo-terminal of this process (what the kernel and `cat` cost),
and the same through an SSH-like relay is not here: there is no server to ask. The flood is `yes` in a
terminal of another sandbox, watched by nobody. Times are those of one client in this process, over the
server's Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import sys
import time
import tty

from bench.home import ROOT, booted
from bench.measure import row, table
from terminalpp.client import Client
from terminalpp.client.terminal import Output, Shown, TerminalConnection

PAUSE_S = 0.01
LINES = 5000
MEGABYTES = 200


async def echo(line: TerminalConnection, count: int) -> list[float]:
    """Seconds from a key to its echo, one at a time."""
    taken = []
    messages = aiter(line)
    for index in range(count + 20):
        key = b"abcdefghij"[index % 10 : index % 10 + 1]
        start = time.perf_counter()
        await line.type(key)
        async for one in messages:
            if isinstance(one, Output) and key in one.data:
                break
        if index >= 20:
            taken.append(time.perf_counter() - start)
        await asyncio.sleep(PAUSE_S)
    return taken


def raw_echo(count: int) -> list[float]:
    """The same at a pseudo-terminal of this process."""
    pid, fd = pty.fork()
    if pid == 0:
        tty.setraw(0)
        os.execvp("cat", ["cat"])
    time.sleep(0.2)
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        os.write(fd, b"a")
        os.read(fd, 16)
        taken.append(time.perf_counter() - start)
    os.close(fd)
    os.waitpid(pid, 0)
    return taken


async def opened(client: Client, sandbox: str, command: str) -> str:
    made = await client.create_terminal(sandbox, command=command, cols=120, rows=40)
    assert made["status"] == "running", made
    return made["id"]


async def attach(client: Client, sandbox: str, terminal: str) -> float:
    """Seconds from nothing to the painted screen."""
    start = time.perf_counter()
    async with client.connect_terminal(sandbox, terminal, cols=120, rows=40) as line:
        async for one in line:
            if isinstance(one, Shown):
                return time.perf_counter() - start
    raise AssertionError("it was not shown")


async def drain(client: Client, sandbox: str, terminal: str, end: bytes) -> tuple[float, int, int]:
    """Seconds, bytes that came, and how often the screen stood for bytes, until `end` has come."""
    start, size, painted, tail = time.perf_counter(), 0, 0, b""
    async with client.connect_terminal(sandbox, terminal, since=0) as line:
        await line.type(b"\n")
        async for one in line:
            if isinstance(one, Output | Shown):
                size += len(one.data)
                painted += isinstance(one, Shown)
                tail = (tail + one.data)[-400:]
                if end in tail:
                    break
    return time.perf_counter() - start, size, painted


async def shared(client: Client, sandbox: str, viewers: int, *, wedged: bool) -> tuple[float, float]:
    """The fastest and the slowest viewer's seconds until the end of 50 MB has come to it. `wedged`: one more
    viewer reads nothing."""
    script = "stty raw -echo; read -r go; head -c 50000000 /dev/zero | tr '\\0' x; printf END; cat"
    terminal = await opened(client, sandbox, script)
    async with contextlib.AsyncExitStack() as stack:
        if wedged:
            await stack.enter_async_context(client.connect_terminal(sandbox, terminal, since=0))
        waiting = [asyncio.create_task(watch(client, sandbox, terminal)) for _ in range(viewers)]
        await asyncio.sleep(1)
        start = time.perf_counter()
        await client.type_terminal(sandbox, terminal, "\n")
        ends = await asyncio.gather(*waiting)
    await client.end_terminal(sandbox, terminal)
    return min(ends) - start, max(ends) - start


async def watch(client: Client, sandbox: str, terminal: str) -> float:
    """When the end of what it prints was shown to this viewer."""
    tail = b""
    async with client.connect_terminal(sandbox, terminal, role="viewer") as line:
        async for one in line:
            if isinstance(one, Output | Shown):
                tail = (tail + one.data)[-400:]
                if b"END" in tail:
                    return time.perf_counter()
    raise AssertionError("the end never came")


async def main(keystrokes: int, attaches: int) -> None:
    rows = [row("a pseudo-terminal of this process: write, read", raw_echo(keystrokes))]
    with booted() as home:
        async with Client.at(home) as client:
            box = (await client.create_sandbox(wait=True))["id"]
            other = (await client.create_sandbox(wait=True))["id"]
            quiet = await opened(client, box, "stty raw; cat")
            async with client.connect_terminal(box, quiet, since=0) as line:
                rows.append(row("echo over the WebSocket", await echo(line, keystrokes)))
                flood = await opened(client, other, "yes")
                rows.append(row("echo while another terminal floods", await echo(line, keystrokes)))
                await client.end_terminal(other, flood)
            line_of = 'echo "line $i of what was scrolled away"'
            fill = f"i=0; while [ $i -lt {LINES + 100} ]; do {line_of}; i=$((i+1)); done; cat"
            full = await opened(client, box, fill)
            async with client.connect_terminal(box, full, since=0) as line:
                async for one in line:
                    if isinstance(one, Output | Shown) and b"line %d " % (LINES + 99) in one.data:
                        break
            await asyncio.sleep(0.5)
            taken = [await attach(client, box, full) for _ in range(attaches)]
            rows.append(row(f"attach: the painted screen with {LINES} lines behind it", taken))
            created = []
            for _ in range(20):
                start = time.perf_counter()
                await opened(client, box, "cat")
                created.append(time.perf_counter() - start)
            rows.append(row("open a terminal in a running sandbox", created))
            table("Terminals", rows)
            zeros = f"head -c {MEGABYTES}000000 /dev/zero | tr '\\0' x"
            script = f"stty raw -echo; read -r go; {zeros}; printf END; cat"
            big = await opened(client, box, script)
            took, size, painted = await drain(client, box, big, b"END")
            rate = f"{size / 1e6:.0f} MB came ({size / 1e6 / took:.0f} MB/s)"
            print(f"\n{MEGABYTES} MB as they are printed, one viewer: {took:.2f} s; {rate},")
            print(f"{painted} times the screen of that moment instead of the bytes before it")
            for viewers, wedged in ((1, False), (9, False), (9, True)):
                first, last = await shared(client, box, viewers, wedged=wedged)
                beside = " beside one that reads nothing" if wedged else ""
                print(f"50 MB to {viewers} viewers{beside}: the end is shown in {first:.2f} to {last:.2f} s")
            reads = []
            run = home / "sandboxes" / box / "run"
            from actors.sandbox.tppd import journal

            end = journal.end(run, big, "stdout")
            for _ in range(5):
                at, got, start = end - 45_000_000, 0, time.perf_counter()
                while at < end:
                    chunk = journal.read(run, big, "stdout", at, 262_144)
                    at, got = chunk.next_offset, got + len(chunk.data)
                reads.append(got / 1e6 / (time.perf_counter() - start))
            print(f"output read by offset from the journal: {min(reads):.0f} to {max(reads):.0f} MB/s")


if __name__ == "__main__":
    os.chdir(ROOT)
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(given + [500, 50][len(given):])))
