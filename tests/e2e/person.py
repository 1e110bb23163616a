"""Somebody at a machine who types what a document says, from its first block to its last.

A `Person` has a home folder (the state lies where it lies by default), a project in `~/my-project`
whose test fails, a checkout as working directory, and a provider: a model server on loopback that
answers to one key, under the address that OpenAI's clients read from the environment. No block is
changed for it. Its working directory is a folder of links into this checkout, so that what a block
writes beside `./tpp` does not land here.

`./tpp test` cannot run the suite within the suite: PYTEST_ADDOPTS gives it a small part of it,
`tests/types`, and the verb itself is typed as it stands.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.documents import ROOT, Block
from tests.e2e import scripts

KEY = "your-key"  # as README.md exports it
SMALL_SUITE = "tests/types -q -p no:cacheprovider"

DATES = '''\
"""Dates as people write them."""

from calendar import isleap, monthrange

DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def days_of(year, month):
    """How many days a month has."""
    return DAYS[month - 1]


def parse(text):
    """(year, month, day) of `2024-03-01`. Raises ValueError for a day that does not exist."""
    year, month, day = (int(part) for part in text.split("-"))
    if not (1 <= month <= 12 and 1 <= day <= days_of(year, month)):
        raise ValueError(f"there is no {text}")
    return year, month, day
'''
TEST_DATES = """\
import unittest

from dates import parse


class Parse(unittest.TestCase):
    def test_a_day(self):
        self.assertEqual(parse("2024-03-01"), (2024, 3, 1))

    def test_29_february(self):
        self.assertEqual(parse("2024-02-29"), (2024, 2, 29))

    def test_29_february_of_another_year(self):
        with self.assertRaises(ValueError):
            parse("2023-02-29")
"""
PLAN = {
    "goal": "29 February is accepted in leap years",
    "acceptance": ["the tests pass"],
    "files": ["dates.py"],
    "steps": ["ask the calendar how long the month is"],
    "test_commands": ["python3 -m unittest"],
}
EDIT = scripts.tool(
    "edit", path="dates.py", old="return DAYS[month - 1]", new="return monthrange(year, month)[1]"
)
SCENARIO = {
    "model": "gpt-5.5",
    "scenes": [
        {"system": "planner", "replies": [{"content": json.dumps(PLAN)}]},
        {"system": "coder", "replies": [EDIT, {"content": "The calendar is asked now."}]},
        {"system": "critic", "replies": [{"content": json.dumps(scripts.APPROVE)}]},
        {"system": "executor", "replies": [{"content": "29 February is a day in leap years."}]},
    ],
}


@dataclass(frozen=True)
class Said:
    """What one block printed."""

    block: Block
    out: str
    err: str


@dataclass
class Person:
    """`folder` holds everything; `address` is the model server's."""

    folder: Path
    address: str
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.checkout.mkdir(parents=True)
        for entry in ROOT.iterdir():
            if entry.name != ".git":
                (self.checkout / entry.name).symlink_to(entry)
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "OPENAI_BASE_URL": self.address,
            "TPP_SANDBOX_DRIVER": "bubblewrap",
            "PYTEST_ADDOPTS": SMALL_SUITE,
        }

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def checkout(self) -> Path:
        return self.home / "terminalpp"

    @property
    def project(self) -> Path:
        return self.home / "my-project"

    @property
    def state(self) -> Path:
        """TPP_HOME, where it is when nobody says otherwise."""
        return self.home / ".local" / "share" / "terminalpp"

    def run(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=folder or self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def has_a_project(self) -> None:
        """Make `~/my-project` anew: committed, clean, with one test that fails."""
        shutil.rmtree(self.project, ignore_errors=True)
        self.project.mkdir()
        (self.project / "dates.py").write_text(DATES)
        (self.project / "test_dates.py").write_text(TEST_DATES)
        author = ["-c", "user.name=you", "-c", "user.email=you@example.org"]
        for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "first"]):
            done = self.run("git", *words)
            assert done.returncode == 0, done.stderr
        assert self.tests() == "FAILED (errors=1)"

    def tests(self) -> str:
        """The last line of the project's own tests."""
        done = self.run(sys.executable, "-B", "-m", "unittest")
        return done.stderr.strip().splitlines()[-1]

    def types(
        self, blocks: list[Block], stdin: list[str], *, timeout_s: float = 540, **more: str
    ) -> Iterator[Said]:
        """Run `blocks` in one `sh -eu`, each with its own text on standard input; then tell what each said.
        Fails at the first one that ended with another status than 0, with all that it printed."""
        notes = self.folder / "notes" / blocks[0].document.name
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir(parents=True)
        script = []
        for number, (block, typed) in enumerate(zip(blocks, stdin, strict=True)):
            (notes / f"{number}.in").write_text(typed)
            place = f"'{notes}/{number}'"
            script += [f"exec <{place}.in >{place}.out 2>{place}.err", block.text, f": >{place}.done"]
        (notes / "script").write_text("\n".join(script) + "\n")
        status = self._sh(notes / "script", timeout_s, self.environment | more)
        if status != 0:
            self.down()  # what it started, and with which keys, is nothing for the next document
        for number, block in enumerate(blocks):
            out, err = ((notes / f"{number}.{end}").read_text() for end in ("out", "err"))
            done = (notes / f"{number}.done").exists()
            assert done, (
                f"{block.place} ended with {status}:\n{block.text}\n--- printed\n{out}\n--- errors\n{err}"
            )
            yield Said(block, out, err)
        assert status == 0

    def _sh(self, script: Path, timeout_s: float, environment: dict[str, str]) -> int | str:
        process = subprocess.Popen(
            ["sh", "-eu", str(script)], cwd=self.checkout, env=environment, start_new_session=True
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: nothing but what the blocks started
            process.wait()
            return f"no end within {timeout_s} s"

    def down(self) -> None:
        done = self.run("./tpp", "down", folder=self.checkout)
        assert done.returncode == 0, done.stdout + done.stderr

    def gateway(self) -> tuple[str, str]:
        """Its URL and the owner's token."""
        state: dict[str, Any] = json.loads((self.state / "run" / "state.json").read_text())
        return state["url"], (self.state / "secrets" / "owner.token").read_text().strip()
