"""Random sequences of file operations over HTTP, compared with the same ones on a directory of this machine.

What the sandbox's kernel and this one's say of a name is the same, so every outcome is compared too: done,
missing (404), in the way (409), or not possible (422).
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from terminalpp.client import Client
from terminalpp.types import errors

BASE = "/home/user"
STEPS = 120
NAMES = [b"a", b"b", b"\xff\xfe", b"sp ace", b"new\nline", b".c"]
libc = ctypes.CDLL(None, use_errno=True)


def kind_of(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ENOENT:
            return "missing"
        return "in the way" if error.errno in (errno.EEXIST, errno.ENOTEMPTY) else "not possible"
    kinds = {errors.NotFound: "missing", errors.Conflict: "in the way", errors.FileProblem: "not possible"}
    return kinds[type(error)]


class Model:
    """The operations on a directory of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(root)

    def at(self, path: str) -> bytes:
        return self.root + os.fsencode(path)[len(BASE) :]

    def _parents(self, path: bytes) -> None:
        try:
            self._make(os.path.dirname(path))
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "") from None

    def _make(self, path: bytes) -> None:
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        except FileNotFoundError:
            self._parents(path)
            os.mkdir(path)

    def write(self, path: str, data: bytes, mode: str | None) -> None:
        at = self.at(path)
        for _ in range(40):
            if not os.path.islink(at):
                break
            at = os.path.join(os.path.dirname(at), os.readlink(at))
        else:
            raise OSError(errno.ELOOP, "")
        self._parents(at)
        found = os.lstat(at) if os.path.lexists(at) else None
        if found and not stat.S_ISREG(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
        wanted = int(mode, 8) if mode else stat.S_IMODE(found.st_mode) if found else 0o644
        with open(at + b".tmp", "wb") as file:
            file.write(data)
        os.chmod(at + b".tmp", wanted)
        os.rename(at + b".tmp", at)

    def read(self, path: str) -> bytes:
        with open(self.at(path), "rb") as file:
            return file.read()

    def mkdir(self, path: str, parents: bool) -> None:
        if parents:
            self._make(self.at(path))
        else:
            os.mkdir(self.at(path))

    def delete(self, path: str, recursive: bool) -> None:
        at = self.at(path)
        try:
            os.unlink(at)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            if recursive:
                shutil.rmtree(at)
            else:
                os.rmdir(at)

    def change(self, path: str, mode: str) -> None:
        os.chmod(self.at(path), int(mode, 8))

    def _move(self, source: bytes, to: bytes, overwrite: bool) -> None:
        if libc.renameat2(-100, source, -100, to, 0 if overwrite else 1) < 0:
            raise OSError(ctypes.get_errno(), "")

    def move(self, source: str, to: str, overwrite: bool) -> None:
        self._parents(self.at(to))
        self._move(self.at(source), self.at(to), overwrite)

    def copy(self, source: str, to: str, overwrite: bool) -> None:
        at, there = self.at(source), self.at(to)
        found = os.lstat(at)
        self._parents(there)
        if not overwrite and os.path.lexists(there):
            raise FileExistsError(errno.EEXIST, "")
        if stat.S_ISDIR(found.st_mode):
            inside = os.path.realpath(os.path.dirname(there)) + b"/"
            if inside.startswith(os.path.realpath(at) + b"/"):
                raise OSError(errno.EINVAL, "")
            shutil.copytree(at, self.root + b".copy", symlinks=True)
        else:
            shutil.copy(at, self.root + b".copy", follow_symlinks=False)
        try:
            self._move(self.root + b".copy", there, overwrite)
        except OSError:
            (shutil.rmtree if stat.S_ISDIR(found.st_mode) else os.unlink)(self.root + b".copy")
            raise

    def tree(self) -> dict[bytes, tuple[Any, ...]]:
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in folders + files:
                path = os.path.join(folder, name)
                s = os.lstat(path)
                kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
                what = kind[stat.S_IFMT(s.st_mode)]
                target = os.readlink(path) if what == "symlink" else None
                size = s.st_size if what == "file" else None
                found[path[len(self.root) :]] = (what, stat.S_IMODE(s.st_mode), size, target)
        return found


async def tree_of(api: Client, box: str) -> dict[bytes, tuple[Any, ...]]:
    return {
        unquote_to_bytes(item["path_raw"])[len(BASE) :]: (
            item["type"],
            int(item["mode"], 8),
            item["size"] if item["type"] == "file" else None,
            unquote_to_bytes(item["target_raw"]) if item["target_raw"] is not None else None,
        )
        for item in await api.list_files(box, BASE, depth=32)
    }


def step(rng: random.Random) -> tuple[str, tuple[Any, ...]]:
    def path() -> str:
        return BASE + "".join("/" + os.fsdecode(rng.choice(NAMES)) for _ in range(rng.randint(1, 3)))

    flag = rng.random() < 0.5
    match rng.choice(["write", "write", "mkdir", "move", "move", "copy", "copy", "delete", "change", "read"]):
        case "write":
            data = rng.randbytes(rng.choice([0, 1, 5000]))
            return "write", (path(), data, rng.choice([None, "600", "755"]))
        case "mkdir":
            return "mkdir", (path(), flag)
        case "move":
            return "move", (path(), path(), flag)
        case "copy":
            return "copy", (path(), path(), flag)
        case "delete":
            return "delete", (path(), flag)
        case "change":
            return "change", (path(), rng.choice(["700", "755"]))
    return "read", (path(),)


async def asked(api: Client, box: str, name: str, given: tuple[Any, ...]) -> Any:
    match name:
        case "write":
            return await api.write_file(box, given[0], given[1], mode=given[2])
        case "mkdir":
            return await api.make_directory(box, given[0], parents=given[1])
        case "move":
            return await api.move_file(box, given[0], given[1], overwrite=given[2])
        case "copy":
            return await api.copy_file(box, given[0], given[1], overwrite=given[2])
        case "delete":
            return await api.delete_file(box, given[0], recursive=given[1])
        case "change":
            return await api.change_file(box, given[0], mode=given[1])
    return await api.read_file(box, given[0])


@pytest.mark.parametrize("seed", range(3))
async def test_what_happens_there_happens_here(
    api: Client, box: str, tmp_path: Path, seed: int
) -> None:
    rng, model = random.Random(seed), Model(tmp_path / "model")
    (tmp_path / "model").mkdir()
    links = [(b"link", b"a"), (b"nowhere", b"gone"), (b"loop", b"loop")]
    for name, target in links:
        os.symlink(target, model.root + b"/" + name)
        await api.run_command(box, argv=["ln", "-s", os.fsdecode(target), os.fsdecode(name)], wait_ms=9000)
    outcomes = set()
    for number in range(STEPS):
        name, given = step(rng)
        if rng.random() < 0.15:  # through a symlink
            given = (f"{BASE}/{os.fsdecode(rng.choice(links)[0])}", *given[1:])
        here, there = "done", "done"
        mine = theirs = None
        try:
            mine = getattr(model, name)(*given)
        except OSError as error:
            here = kind_of(error)
        try:
            theirs = await asked(api, box, name, given)
        except errors.TerminalError as error:
            there = kind_of(error)
        assert there == here, f"step {number}: {name} {str(given)[:200]}"
        if name == "read" and here == "done":
            assert theirs == mine
        outcomes.add((name, here))
        if number % 5 == 4 or name in ("move", "copy"):
            assert await tree_of(api, box) == model.tree(), f"step {number}: {name}"
    assert len(outcomes) >= 12, outcomes  # the sequence tried what can go wrong, too
