"""A program that writes while its files are brought back: nothing that it wrote vanishes."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import threading
from pathlib import Path

from actors.sandbox.versions import comparing
from actors.sandbox.versions.objects import Objects
from runtime.settings import Settings
from schema import Database, sandboxes, snapshots
from tests.sandbox_entity.conftest import Cell
from tests.sandbox_entity.test_versions import restore, sh, snap

ROUNDS = 200
NAMES = ["a", "b", "c", "d"]
_EXCHANGE, _AT_CWD = 2, -100


async def workspace(database: Database, settings: Settings, id: str) -> Path:
    """On the host."""
    row = await sandboxes.get(database, id)
    if row.driver == "bubblewrap":
        return settings.home / "sandboxes" / id / "home"
    asked = ["docker", "volume", "inspect", "-f", "{{.Mountpoint}}", row.workspace or ""]
    return Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())


class Writer(threading.Thread):
    """Puts contents, each of its own, at some names, each in one system call, and keeps account of what it
    took out itself. So what is then neither there nor in its account was replaced by somebody else."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.ends, self.random = folder, threading.Event(), random.Random(1)
        self.written: set[bytes] = set()
        self.accounted: set[bytes] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)

    def run(self) -> None:
        own = self.folder.parent.with_name("writer")  # on the same file system, and in no snapshot
        number = 0
        while not self.ends.wait(self.random.choice([0, 0.0005, 0.002, 0.01])):
            number += 1
            data = b"content %d" % number
            own.write_bytes(data)
            own.chmod(0o644)
            place = self.folder / self.random.choice(NAMES)
            swapped = self._libc.renameat2(_AT_CWD, bytes(own), _AT_CWD, bytes(place), _EXCHANGE) == 0
            if swapped and own.is_symlink():
                own.unlink()
            elif swapped:
                self.accounted.add(own.read_bytes())
            else:
                try:
                    os.link(own, place)
                except FileExistsError:
                    continue
                own.unlink()
            self.written.add(data)
        own.unlink(missing_ok=True)


async def test_what_is_written_meanwhile_is_there_or_in_a_snapshot(
    cell: Cell, sandbox: str, database: Database, settings: Settings
) -> None:
    await sh(cell, sandbox, "mkdir w; echo first > w/a; echo first > w/b; ln -s a w/c")
    first, folder = await snap(cell, sandbox), await workspace(database, settings, sandbox) / "w"
    writer = Writer(folder)
    writer.start()
    kept, ends = 0, set()
    try:
        for _ in range(ROUNDS):
            told = await restore(cell, sandbox, first["snapshot"]["id"])
            ends.add(told["status"])
            kept += len(told.get("meanwhile") or [])
    finally:
        writer.ends.set()
        writer.join()
    found = {path.read_bytes() for path in folder.iterdir() if path.is_file()} | writer.accounted
    objects = Objects.of(settings)
    for one in await snapshots.list(database, sandbox, limit=10_000):
        for entry in await snapshots.tree(database, one):
            if entry.type == "file" and entry.content_hash:
                path = entry.path.removeprefix("/home/user/").encode()
                _, pieces = await comparing.file(database, objects, one, path)
                found.add(b"".join([piece async for piece in pieces]))
    assert writer.written - found == set()
    assert len(writer.written) > ROUNDS
    assert kept > 0, "never did anything come in between"
    assert ends <= {"done", "failed"}, "failed: on a slow machine the files may keep changing, and it says so"


async def test_a_program_that_never_stops_writing_holds_no_restore_up(
    cell: Cell, sandbox: str, database: Database, settings: Settings
) -> None:
    await sh(cell, sandbox, "echo first > log; echo first > other")
    first, folder = await snap(cell, sandbox), await workspace(database, settings, sandbox)
    ends = threading.Event()

    def write() -> None:
        with (folder / "log").open("a", buffering=1) as log:
            while not ends.is_set():
                log.write("x\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = await restore(cell, sandbox, first["snapshot"]["id"])
    finally:
        ends.set()
        writer.join()
    assert (done["status"], done["failed"]) == ("done", [])
    assert await sh(cell, sandbox, "cat log; ls -A") == "first\nlog\nother\n"
    assert (await snap(cell, sandbox))["tree"] == first["tree"]


async def test_a_long_file_too_is_replaced_only_as_it_was(cell: Cell, sandbox: str) -> None:
    await sh(cell, sandbox, "head -c 6000000 /dev/urandom > long; sha256sum long > sum")
    first = await snap(cell, sandbox)
    await sh(cell, sandbox, "head -c 7000000 /dev/zero > long")
    done = await restore(cell, sandbox, first["snapshot"]["id"])
    assert done["status"] == "done"
    assert await sh(cell, sandbox, "sha256sum -c sum; ls -A") == "long: OK\nlong\nsum\n"
