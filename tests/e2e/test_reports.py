# ruff: noqa: E501 — the table's rows hold shell lines as they are typed
"""What people of this field reported, played from the command line to the files on disk.

Each row is a repository, what the coder does in it, and what is right at home and on the screen. One agent,
a scripted model, a real stack and a real sandbox; ../cases of the team's shared folder has the reports.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import scripts
from tests.e2e.stack import Stack

ENVIRONMENT = {
    **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


@dataclass(frozen=True)
class Report:
    """`build` and the strings of `coder` are shell lines; `status` is the exit status of the run."""

    build: str
    coder: list[str | dict[str, Any]]
    options: list[str]
    status: int
    screen: list[str] = field(default_factory=list)  # patterns of the words that are printed
    absent: list[str] = field(default_factory=list)
    home: dict[str, bytes | None] = field(default_factory=dict)  # file -> content, None: not there
    check: Callable[[Path, str], None] | None = None
    twice: bool = False  # tests/agents tries the same inside the sandbox: only in the slow run here


def edit(path: str, old: str, new: str) -> dict[str, Any]:
    return scripts.tool("edit", path=path, old=old, new=new)


def write(path: str, content: str) -> dict[str, Any]:
    return scripts.tool("write", path=path, content=content)


TRUE, APPLY = ["--test-cmd", "true"], ["--apply"]
START = "git add -A . && git commit -qm start"


def clean_inside(repo: Path, screen: str) -> None:
    """`git status --short` printed nothing between its two marks."""
    inside = screen.split("│ before:\n", 1)[1].split("│ :after", 1)[0].replace("│", "")
    assert not inside.strip(), inside


REPORTS: dict[str, Report] = {
    "an edit of a CRLF file takes its line ends, both ways": Report(
        "git init -q . && git config core.autocrlf false && printf 'a = 1\\r\\nb = a - 1\\r\\n' > m.py && " + START,
        [edit("m.py", "a = 1\nb = a - 1", "a = 1\nb = a + 1"), edit("m.py", "b = a + 1", "c = 2\nb = a + c")],
        [*TRUE, *APPLY], 0, home={"m.py": b"a = 1\r\nc = 2\r\nb = a + c\r\n"}, twice=True,
    ),
    "what agents write under ignored names comes home": Report(
        "git init -q . && printf 'lib/\\nbuild/\\n.env\\n' > .gitignore && echo x > x && " + START,
        [write("lib/mathx.py", "double\n"), write("build/hand.py", "hand\n"), "echo K=1 > .env; mkdir -p out/void"],
        [*TRUE, *APPLY], 0,
        home={"lib/mathx.py": b"double\n", "build/hand.py": b"hand\n", ".env": b"K=1\n"},
        check=lambda repo, _: (repo / "out/void").is_dir() or pytest.fail("the empty folder did not come home"),
    ),
    "a secret of the person's own under an ignored name stays theirs, the rest is applied": Report(
        "git init -q . && echo .env > .gitignore && " + START + " && echo MINE=1 > .env",
        ["echo TEAM=1 > .env; echo done > done.txt"], [*TRUE, *APPLY], 4, [r"\.env"],
        home={".env": b"MINE=1\n", "done.txt": b"done\n"},
    ),
    "dependencies stay behind and are listed, a socket costs the word passed": Report(
        "git init -q . && echo x > x && " + START,
        ["mkdir -p node_modules/m && echo 1 > node_modules/m/a && echo 2 > node_modules/m/b && mkfifo queue"],
        [*TRUE, *APPLY], 1, ["2 files under node_modules", "queue", "cannot be brought home"], ["✓ passed"],
    ),
    "a file too large for a patch is named, and the run is not passed": Report(
        "git init -q . && echo x > x && " + START,
        ["head -c 90000000 /dev/urandom > big.bin; echo small > small.txt"], [*TRUE, *APPLY], 1,
        ["big.bin (too large for a patch", "cannot be brought home"], ["✓ passed"],
    ),
    "a background job that goes on is told": Report(
        "git init -q . && echo x > x && " + START,
        ["(sleep 987; echo late > late.txt) > /dev/null 2>&1 & echo y > x"], [*TRUE, *APPLY], 0,
        ["still running in the sandbox", "sleep 987"], home={"x": b"y\n", "late.txt": None},
    ),
    "an included folder of dependencies goes in and comes out": Report(
        "git init -q . && echo node_modules/ > .gitignore && " + START +
        " && mkdir node_modules && echo 1 > node_modules/m.js",
        ["test -f node_modules/m.js && echo 2 > node_modules/m.js"],
        [*TRUE, *APPLY, "--include", "node_modules"], 0, home={"node_modules/m.js": b"2\n"},
    ),
    "a repository that the team makes comes home as files": Report(
        "echo note > README.md",
        ["mkdir service && cd service && git init -q . && echo 'print(1)' > main.py && git add . && "
         "git -c user.name=x -c user.email=x@example.org commit -qm scaffold && cd .. && echo more >> README.md"],
        [*TRUE, *APPLY], 0, ["service/.git"],
        home={"README.md": b"note\nmore\n", "service/main.py": b"print(1)\n", "service/.git": None},
    ),
    "edits beside and inside a submodule, and of tracked ignored files, come home": Report(
        'up="$PWD.upstream"; git init -q "$up" && (cd "$up" && echo LIB=1 > core.py && ' + START + ") && "
        "git init -q . && printf '*.local\\nvendor/\\n' > .gitignore && echo 1 > app.py && echo 1 > s.local && "
        'mkdir vendor && echo 1 > vendor/dep.py && git -c protocol.file.allow=always submodule -q add "$up" libs && '
        "git add -f . && git commit -qm start",
        ["echo before:; git status --short; echo :after; for f in app.py s.local vendor/dep.py libs/core.py; do "
         "echo 2 > $f; done"],
        [*TRUE, *APPLY], 0,
        home={name: b"2\n" for name in ("app.py", "s.local", "vendor/dep.py", "libs/core.py")},
        check=clean_inside,
    ),
    "git status is clean inside a sparse checkout": Report(
        "git init -q . && mkdir app docs && echo 1 > app/a.py && echo d > docs/d.md && echo t > top && " + START +
        " && git sparse-checkout set app",
        ["echo before:; git status --short; echo :after; echo 2 > app/a.py"],
        [*TRUE, "--branch", "team/x"], 0, ["Branch team/x"], check=clean_inside,
    ),
    "git status is clean inside with filters and line ends": Report(
        "git init -q . && git config filter.up.clean 'tr a-z A-Z' && git config filter.up.smudge 'tr A-Z a-z' && "
        "git config filter.up.required true && "
        "printf '*.bin filter=up -text\\n*.bat text eol=crlf\\n* text=auto\\n' > .gitattributes && "
        "echo payload > d.bin && printf 'echo a\\r\\n' > r.bat && git config core.autocrlf true && "
        "printf 'n\\r\\n' > n.txt && " + START,
        ["echo before:; git status --short; echo :after; echo changed > d.bin; printf 'echo b\\r\\n' > r.bat"],
        [*TRUE, *APPLY], 0, home={"d.bin": b"changed\n", "r.bat": b"echo b\r\n"}, check=clean_inside,
    ),
    "files of the same size in the same second are seen": Report(
        "git init -q . && for i in 1 2 3 4; do echo value = $i > f$i.py; done && " + START,
        ["for i in 1 2 3 4; do echo value = 9 > f$i.py; done"], [*TRUE, *APPLY], 0,
        home={f"f{i}.py": b"value = 9\n" for i in range(1, 5)},
    ),
    "links, modes and read-only files stay what they are": Report(
        "git init -q . && echo Rules > AGENTS.md && ln -s AGENTS.md CLAUDE.md && printf 'r\\n' > ro.txt && "
        "printf '#!/bin/sh\\necho one\\n' > run.sh && chmod 755 run.sh && chmod 444 ro.txt && " + START,
        [edit("CLAUDE.md", "Rules", "New rules"), write("run.sh", "#!/bin/sh\necho two\n"), edit("ro.txt", "r", "rw")],
        [*TRUE, *APPLY], 0,
        home={"AGENTS.md": b"New rules\n", "run.sh": b"#!/bin/sh\necho two\n", "ro.txt": b"rw\n"},
        check=lambda repo, _: ((repo / "CLAUDE.md").is_symlink() and os.access(repo / "run.sh", os.X_OK))
        or pytest.fail("link or mode was lost"),
        twice=True,
    ),
    "lines end at line feeds alone": Report(
        "git init -q . && printf 'a = 1\\n\\014\\nb = \"x\\342\\200\\250y\\302\\205\"\\nc = 3\\n' > m.py && " + START,
        [scripts.tool("read", path="m.py", offset=4, limit=1), scripts.tool("search", pattern="c = 3"),
         edit("m.py", "c = 3", "c = 4")],
        [*TRUE, *APPLY], 0, home={"m.py": b'a = 1\n\x0c\nb = "x\xe2\x80\xa8y\xc2\x85"\nc = 4\n'}, twice=True,
    ),
    "a project without tests: applied when the flag asks, not called passed": Report(
        "git init -q . && echo x > x && " + START, ["echo y > x"], APPLY, 1, ["no tests"], ["✓ passed"],
        home={"x": b"y\n"},
    ),
    "tests that are skipped by the change are not green": Report(
        "git init -q . && printf 'def add(a, b):\\n    return a - b\\n' > app.py && printf 'import unittest\\n"
        "from app import add\\nclass T(unittest.TestCase):\\n    def test_add(self):\\n"
        "        self.assertEqual(add(2, 3), 5)\\n' > test_app.py && " + START,
        [edit("test_app.py", "class T(", '@unittest.skip("later")\nclass T(')],
        APPLY, 1, ["kept"], ["✓ passed", "Applied to"], home={},
        check=lambda repo, _: "skip" not in (repo / "test_app.py").read_text() or pytest.fail("it was applied"),
    ),
    "failed tests behind a pipe that hides the status are red": Report(
        "git init -q . && printf 'test:\\n\\tpython3 -m unittest -v t.check 2>&1 | tee test.log\\n' > Makefile && "
        "mkdir t && printf 'import unittest\\nclass T(unittest.TestCase):\\n    def test_a(self):\\n"
        "        self.assertEqual(1, 2)\\n    def test_b(self):\\n        pass\\n' > t/check.py && "
        "printf '*.log\\n' > .gitignore && " + START,
        ["echo note > NOTES"], APPLY, 1, ["1 failed"], ["✓ passed", "Applied to"], home={"NOTES": None},
    ),
    "another summary inside the output is not the runner's": Report(
        "git init -q . && printf 'def summary(n):\\n    return f\"Ran {n} tests in 0.000s\\\\n\\\\nOK\"\\n' > runner.py && "
        "printf 'import unittest\\nfrom runner import summary\\nclass T(unittest.TestCase):\\n"
        "    def test_empty(self):\\n        print(summary(0))\\n    def test_two(self):\\n"
        "        self.assertIn(\"Ran 2 tests\", summary(2))\\n' > test_runner.py && " + START,
        [edit("runner.py", "Ran {n} tests", "Ran {min(n, 1)} tests")], APPLY, 1, ["failed"],
        ["✓ passed", "Applied to", "no tests ran"],
    ),
    "a test command that needs what is missing says so": Report(
        "git init -q . && printf 'test:\\n\\tmini-runner\\n' > Makefile && " + START,
        ["echo note > NOTES"], APPLY, 1, ["mini-runner", "missing"], ["✓ passed", "Applied to"],
        home={"NOTES": None},
    ),
}  # fmt: skip


ROWS = [pytest.param(name, marks=[pytest.mark.chaos] * row.twice) for name, row in REPORTS.items()]


@pytest.mark.parametrize("name", ROWS)
def test_report(stack: Stack, tmp_path: Path, name: str) -> None:
    report = REPORTS[name]
    repo = tmp_path / "repo"
    repo.mkdir()
    built = subprocess.run(
        ["sh", "-ec", report.build], cwd=repo, env=os.environ | ENVIRONMENT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    replies = [
        scripts.tool("bash", command=said) if isinstance(said, str) else said for said in report.coder
    ]
    model = scripts.script(tmp_path, [*replies, {"content": "Done."}])
    wanted = ["run", "--repo", str(repo), "--model", model, "--agents", "single", *report.options]
    done = stack.tpp(*wanted, "do the task", **ENVIRONMENT)
    screen = done.stdout + done.stderr
    assert done.returncode == report.status, screen
    for words in report.screen:
        assert words.replace("\\", "") in screen, f"{words!r} is not told\n{screen}"
    for words in report.absent:
        assert words not in screen, f"{words!r} is told\n{screen}"
    for path, content in report.home.items():
        target = repo / path
        assert (target.read_bytes() if target.exists() else None) == content, f"{path}\n{screen}"
    if report.check is not None:
        report.check(repo, screen)
