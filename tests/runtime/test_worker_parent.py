"""Workers come from a warm parent, and come without it when it is dead, frozen or talked nonsense to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

from runtime import Runtime, worker_launcher
from terminalpp.types.ids import Ref
from tests.eventually import eventually
from tests.runtime.ray_processes import RayHead


def parents(head: RayHead) -> dict[int, str]:
    """The pids of this head's parents, with their sockets."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if b"runtime.worker_parent" in words and str(head.folder).encode() in words[3]:
                found[int(file.parent.name)] = words[3].decode()
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def replaced(runtime: Runtime, counter: Ref, pid: int) -> int:
    """Kill the counter's cell until Ray has started it again; the new cell's pid."""
    os.kill(pid, signal.SIGKILL)

    async def ready() -> int | None:
        cells = {cell["pid"]: cell for cell in await runtime.cells() if cell.get("pid")}
        return pid not in cells and all(cell.get("ready") for cell in cells.values())

    await eventually(ready, timeout_s=60)
    return (await runtime.call(counter, "get", idempotent=True, timeout_s=60))["pid"]


async def test_cells_are_forked_from_it(runtime: Runtime, ray_head: RayHead, counter: Ref) -> None:
    pid = (await runtime.call(counter, "get"))["pid"]
    found = parents(ray_head)
    assert parent_of(pid) in found
    assert os.stat(found[parent_of(pid)]).st_mode & 0o077 == 0


async def test_a_dead_one_is_replaced_and_its_cells_live_on(
    runtime: Runtime, ray_head: RayHead, counter: Ref
) -> None:
    pid = (await runtime.call(counter, "get"))["pid"]
    before = parents(ray_head)
    for parent in before:
        os.kill(parent, signal.SIGKILL)
    await eventually(lambda: not parents(ray_head))
    assert (await runtime.call(counter, "get"))["pid"] == pid
    await replaced(runtime, counter, pid)
    after = parents(ray_head)
    assert after
    assert not set(after) & set(before)


async def test_a_frozen_one_holds_nothing_up_for_long(
    runtime: Runtime, ray_head: RayHead, counter: Ref
) -> None:
    pid = (await runtime.call(counter, "get"))["pid"]
    frozen = parents(ray_head)
    for parent in frozen:
        os.kill(parent, signal.SIGSTOP)
    try:
        for _ in range(5):  # Ray may have an idle worker left
            pid = await replaced(runtime, counter, pid)
            if parent_of(pid) not in frozen:
                break
        gone = [path for path in frozen.values() if not Path(path).exists()]
        assert gone, "the next worker has another one started"
    finally:
        for parent in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent, signal.SIGKILL)


async def test_nonsense_is_refused_and_forks_nothing(
    runtime: Runtime, ray_head: RayHead, counter: Ref
) -> None:
    pid = await replaced(runtime, counter, (await runtime.call(counter, "get"))["pid"])
    parent = parent_of(pid)
    path = parents(ray_head)[parent]
    children = Path(f"/proc/{parent}/task/{parent}/children")
    before = set(children.read_text().split())
    for sent in (b"", b"+", b"+{}", b"x" * 10):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(path)
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(line.recv, 10) == b""
    assert set(children.read_text().split()) <= before
    assert parent in parents(ray_head)
    assert (await runtime.call(counter, "get"))["pid"] == pid


def test_without_a_place_for_parents_a_worker_starts_by_itself(monkeypatch) -> None:
    monkeypatch.delenv(worker_launcher.FOLDER_VARIABLE, raising=False)
    assert worker_launcher.forked(["--worker-type=WORKER"]) is False
