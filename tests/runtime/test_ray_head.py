"""The local Ray head as a process: what it does when one of Ray's own processes dies.

The first test uses the session's cluster; those that end a head start one of their own.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from runtime import Runtime, worker_launcher
from runtime.settings import Settings
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually
from tests.runtime.ray_processes import RayHead
from tests.runtime.test_worker_parent import parents


def children(pid: int) -> dict[str, int]:
    """Name → pid of the direct children."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found[Path(f"/proc/{child}/comm").read_text().strip()] = int(child)
    return found


def listening(pids: list[int]) -> list[str]:
    """Local addresses (hexadecimal, as in /proc/net) on which these processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue  # closed meanwhile
    lines = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    fields = [line.split() for line in lines[1:]]
    return [row[1].rpartition(":")[0] for row in fields
            if len(row) > 9 and row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


async def test_gcs_killed_comes_back_and_calls_go_on(
    runtime: Runtime, ray_head: RayHead, counter: Ref
) -> None:
    pid = (await runtime.call(counter, "get"))["pid"]
    before = children(ray_head.process.pid)
    os.kill(before["gcs_server"], signal.SIGKILL)
    assert (await runtime.call(counter, "get"))["pid"] == pid, "a call needs no GCS"

    def respawned() -> bool:
        return children(ray_head.process.pid).get("gcs_server") not in (None, before["gcs_server"])

    await eventually(respawned)
    assert (await runtime.call(Ref("counter", new_id()), "echo", {"new": 1}, timeout_s=60)) == {"new": 1}
    assert children(ray_head.process.pid)["raylet"] == before["raylet"]
    os.kill(pid, signal.SIGKILL)  # and actors are restarted from the tables that it kept
    assert (await runtime.call(counter, "get", timeout_s=60))["pid"] != pid


async def test_only_the_loopback_is_listened_on(ray_head: RayHead, runtime: Runtime) -> None:
    pids = list(children(ray_head.process.pid).values())
    addresses = set(listening(pids))
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}, addresses


async def test_head_ends_with_its_raylet_and_leaves_nothing(ray_head: RayHead) -> None:
    head = RayHead(Settings(home=ray_head.folder))
    try:
        await head.start()
        pids = children(head.process.pid)
        os.kill(pids["raylet"], signal.SIGKILL)
        status = await asyncio.to_thread(head.process.wait, 30)
        assert status == 1
        await eventually(lambda: not any(alive(pid) for pid in pids.values()) and not parents(head.folder))
    finally:
        head.stop()
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(ray_head.token_file)


async def test_killed_head_takes_its_processes_with_it(
    ray_head: RayHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = RayHead(Settings(home=ray_head.folder))
    try:
        await head.start()
        pids = children(head.process.pid)
        assert {"gcs_server", "raylet"} <= set(pids)
        monkeypatch.setenv("RAY_RAYLET_PID", str(pids["raylet"]))
        monkeypatch.setenv(worker_launcher.FOLDER_VARIABLE, str(head.folder))
        monkeypatch.setenv(worker_launcher.MODULES_VARIABLE, "runtime.framing")
        line = await asyncio.to_thread(worker_launcher.started, worker_launcher.address())
        assert line is not None
        line.close()
        assert parents(head.folder)
        head.process.kill()
        await eventually(lambda: not any(alive(pid) for pid in pids.values()) and not parents(head.folder))
    finally:
        head.stop()
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(ray_head.token_file)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
