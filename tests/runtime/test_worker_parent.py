"""Workers come from a warm parent, and come without it when it is dead, frozen or talked nonsense to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime import Runtime, worker_launcher
from terminalpp.types.ids import Ref
from tests.eventually import eventually
from tests.runtime.ray_processes import RayHead

# In Ray's place: tells what it was started with, and stays until its standard input ends.
PROGRAM = """
import json, os, sys
told = {"pid": os.getpid(), "parent": os.getppid(), "argv": sys.argv[1:], "cwd": os.getcwd(),
        "word": os.environ.get("A_WORD"), "warm": "runtime.framing" in sys.modules, "group": os.getpgrp()}
print(json.dumps(told), flush=True)
sys.stdin.read()
"""


@dataclass
class Place:
    """A folder for parents and a process in the raylet's place."""

    folder: Path
    raylet: subprocess.Popen[bytes]
    environment: dict[str, str]

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        """Run the launcher as the raylet does; its streams become the worker's."""
        return subprocess.Popen(
            [sys.executable, worker_launcher.__file__, *arguments], env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder,
            process_group=0,
        )  # fmt: skip

    def told(self, *arguments: str) -> dict:
        """What a new worker says of itself; it has ended then."""
        launched = self.launch(*arguments)
        told = json.loads(launched.stdout.readline())
        launched.stdin.close()
        launched.wait(10)  # the kernel ends a stopped process when the one that started it ends after that
        return told

    def parents(self) -> dict[int, str]:
        """The pids of the parents here, with their sockets."""
        return parents(self.folder)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("w")
    (folder / "program.py").write_text(PROGRAM)
    raylet = subprocess.Popen(["sleep", "600"])
    yield Place(folder, raylet, {
        **os.environ, "RAY_RAYLET_PID": str(raylet.pid), "RAY_JOB_ID": "01000000",
        worker_launcher.FOLDER_VARIABLE: str(folder), worker_launcher.MODULES_VARIABLE: "runtime.framing",
        worker_launcher.PROGRAM_VARIABLE: str(folder / "program.py"), "A_WORD": "first",
    })  # fmt: skip
    raylet.kill()
    raylet.wait()
    for pid in parents(folder):
        os.kill(pid, signal.SIGKILL)


def parents(folder: Path) -> dict[int, str]:
    """Those of `folder`, without their children, which have the same command line in these tests."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if b"runtime.worker_parent" in words and str(folder).encode() in words[3]:
                found[int(file.parent.name)] = words[3].decode()
    with contextlib.suppress(FileNotFoundError):
        return {pid: path for pid, path in found.items() if parent_of(pid) not in found}
    return parents(folder)  # one of them ended meanwhile


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_worker_is_forked_with_all_that_its_launcher_was_given(place: Place) -> None:
    first = place.told("--one", "1")
    (parent,) = place.parents()
    assert (first["parent"], first["argv"], first["word"]) == (parent, ["--one", "1"], "first")
    assert (first["cwd"], first["warm"]) == (str(place.folder), True)
    place.environment["A_WORD"] = "second"
    second = place.told("--two")
    assert (second["parent"], second["argv"], second["word"]) == (parent, ["--two"], "second")
    assert second["pid"] != first["pid"]
    assert os.stat(place.parents()[parent]).st_mode & 0o077 == 0


async def test_each_job_has_a_parent_and_all_end_with_the_raylet(place: Place) -> None:
    one = place.told()
    place.environment["RAY_JOB_ID"] = "02000000"
    other = place.launch()
    told = json.loads(other.stdout.readline())
    assert {one["parent"], told["parent"]} == set(place.parents())
    place.raylet.kill()
    place.raylet.wait()
    await eventually(lambda: not {one["parent"], told["parent"]} & set(place.parents()))
    assert Path(f"/proc/{told['pid']}").exists(), "its worker notices by itself"
    other.stdin.close()


async def test_a_worker_is_ended_with_its_group_and_nobody_else_is(place: Place) -> None:
    """The raylet signals the group of the process that it started."""
    first, second = place.launch(), place.launch()
    one, other = json.loads(first.stdout.readline()), json.loads(second.stdout.readline())
    assert (one["group"], other["group"]) == (first.pid, second.pid)
    os.killpg(first.pid, signal.SIGKILL)
    await eventually(lambda: not Path(f"/proc/{one['pid']}").exists())
    assert Path(f"/proc/{other['pid']}").exists()
    assert list(place.parents()) == [other["parent"]]
    second.stdin.close()


def test_many_at_once_share_one_parent(place: Place) -> None:
    launched = [place.launch(str(n)) for n in range(8)]
    told = [json.loads(one.stdout.readline()) for one in launched]
    assert {one["parent"] for one in told} == set(place.parents())
    assert len(place.parents()) == 1
    assert {one["argv"][0] for one in told} == {str(n) for n in range(8)}
    for one in launched:
        one.stdin.close()


def test_a_dead_one_is_replaced(place: Place) -> None:
    before = place.told()["parent"]
    os.kill(before, signal.SIGKILL)
    after = place.told()
    assert after["warm"]
    assert set(place.parents()) == {after["parent"]}
    assert after["parent"] != before


def test_a_frozen_one_holds_nothing_up_for_long(place: Place) -> None:
    frozen = place.told()["parent"]
    os.kill(frozen, signal.SIGSTOP)
    launched = place.launch("--plain")
    told = json.loads(launched.stdout.readline())
    assert (told["pid"], told["argv"]) == (launched.pid, ["--plain"]), "it became the worker itself"
    assert not told["warm"]
    launched.stdin.close()
    assert "no worker could be forked" in launched.stderr.readline()
    assert place.told()["parent"] not in (frozen, os.getpid()), "the next one has another parent started"


async def test_nonsense_is_refused_and_forks_nothing(place: Place) -> None:
    place.told()
    ((parent, path),) = place.parents().items()
    for sent in (b"", b"+", b"+{}", b"x" * 10):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(path)
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):  # closed before all of it was read
                assert line.recv(10) == b""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    await eventually(lambda: children.read_text() == "")
    assert place.told()["parent"] == parent


def test_what_cannot_be_imported_is_left_out(place: Place) -> None:
    place.environment[worker_launcher.MODULES_VARIABLE] = "no.such.module runtime.framing"
    assert place.told()["warm"]


def test_without_a_place_for_parents_a_worker_starts_by_itself(place: Place) -> None:
    del place.environment[worker_launcher.FOLDER_VARIABLE]
    launched = place.launch()
    assert json.loads(launched.stdout.readline())["pid"] == launched.pid
    launched.stdin.close()


async def test_cells_are_forked(runtime: Runtime, ray_head: RayHead, counter: Ref) -> None:
    pid = (await runtime.call(counter, "get"))["pid"]
    parent = parent_of(pid)
    assert parent in parents(ray_head.folder)
    os.kill(parent, signal.SIGKILL)
    assert (await runtime.call(counter, "get"))["pid"] == pid, "it needs its parent no more"
    os.kill(pid, signal.SIGKILL)
    assert (await runtime.call(counter, "get", timeout_s=60))["pid"] != pid
