"""Random changes by shell and by tools, snapshots, restores, undos and forks: the hashes agree every time."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from actors.sandbox.access import SandboxAccess
from terminalpp.types.errors import FileProblem
from terminalpp.types.ids import new_id
from tests.sandbox_entity.conftest import Cell
from tests.sandbox_entity.test_versions import HOME, listing, restore, sh, snap

NAMES = ["a", "b", "c d", "ä", "-x", ".hidden", "node_modules"]


class Changes:
    """Shell lines and file operations from one seed; each line may fail, as people's do."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def path(self) -> str:
        return "/".join(self.random.choice(NAMES) for _ in range(self.random.randint(1, 3)))

    def line(self) -> str:
        one, other = f"'./{self.path()}'", f"'./{self.path()}'"
        word, folder = self.random.randint(0, 99), self.random.choice(["755", "700", "500", "555"])
        mode = self.random.choice(
            [folder, "644", "600", "400"]
        )  # of a directory: one that lets itself be read
        return self.random.choice([
            f"mkdir -p {one}", f"rm -rf {one}", f"echo {word} > {one}", f"echo {word} >> {one}",
            f"mv {one} {other}", f"cp -r {one} {other}",
            f"ln -sf {word} {one}",
            f"if [ -d {one} ]; then chmod {folder} {one}; else chmod {mode} {one}; fi",
            f"ln -s {other} {one}", f"head -c {word * 3000} /dev/zero > {one}", f"touch {one}",
            f"ln {one} {other}", f"mkdir -p {one} && echo {word} > {one}/f && chmod {folder} {one}",
        ])  # fmt: skip

    async def make(self, cell: Cell, id: str, access: SandboxAccess) -> None:
        lines = [f"{self.line()} 2>/dev/null || :" for _ in range(self.random.randint(1, 12))]
        await sh(cell, id, "\n".join(lines))
        for _ in range(self.random.randint(0, 2)):
            try:
                await access.write_file(
                    f"{HOME}/{self.path()}", os.urandom(self.random.choice([0, 9, 70_000]))
                )
            except FileProblem:
                continue  # a file in the way


async def rounds(cell: Cell, id: str, owner: str, count: int, seed: int) -> None:
    changes, access = Changes(seed), cell.access(id)
    known: list[tuple[str, str, str]] = []  # snapshot, its tree, and what a shell sees of it

    async def taken() -> tuple[str, str, str]:
        made = await snap(cell, id)
        return made["snapshot"]["id"], made["tree"], await listing(cell, id)

    async def back(wanted: tuple[str, str, str]) -> dict[str, Any]:
        done = await restore(cell, id, wanted[0])
        assert (done["status"], done["failed"], done["untouched"]) == ("done", [], []), (seed, done)
        now = await snap(cell, id, always=False, type="auto")
        assert now["tree"] == wanted[1], (seed, wanted[0])
        assert await listing(cell, id) == wanted[2], (seed, wanted[0])
        return done

    try:
        for number in range(count):
            known.append(await taken())
            await changes.make(cell, id, access)
            now = await taken()
            done = await back(changes.random.choice(known))
            if number % 3 == 0:  # the undo of it
                await back((done["before"], now[1], now[2]))
            if number % 10 == 5:
                fork, wanted = new_id(), changes.random.choice(known)
                await cell.send(fork, "create", user_id=owner, from_snapshot=wanted[0])
                assert (await snap(cell, fork))["tree"] == wanted[1], (seed, wanted[0])
                assert await listing(cell, fork) == wanted[2], (seed, wanted[0])
                await cell.send(fork, "destroy")
    finally:
        await access.close()


async def test_some_rounds(cell: Cell, sandbox: str, owner: str) -> None:
    await rounds(cell, sandbox, owner, 8, seed=1)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_two_hundred_rounds(cell: Cell, sandbox: str, owner: str) -> None:
    await rounds(cell, sandbox, owner, 200, seed=random.randrange(10**9))
