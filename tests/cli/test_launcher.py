"""`./tpp` from nothing: a bare environment, odd paths, interrupted installs, machines that lack something.

The checkout here is a small one (an empty lock, a command line that repeats its arguments), so that
nothing is downloaded; the launcher and the installer are the real ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = "import sys\n\n\ndef main():\n    print('ran', sys.argv[1:], sys.prefix)\n"


def checkout(path: Path) -> Path:
    cli = path / "terminalpp" / "cli"
    cli.mkdir(parents=True)
    shutil.copy2(ROOT / "tpp", path / "tpp")
    shutil.copy2(ROOT / "terminalpp" / "cli" / "install.py", cli / "install.py")
    (path / "terminalpp" / "__init__.py").touch()
    (cli / "__init__.py").touch()
    (cli / "main.py").write_text(STUB)
    (path / "requirements.lock").write_text("# nothing\n")
    return path


def bare(
    *words: str, cwd: Path = Path("/"), environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As `env -i` does it: not one variable but the given."""
    return subprocess.run(words, env=environment or {}, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a folder with spaces, installed by its first start."""
    path = checkout(tmp_path_factory.mktemp("a b") / "it's here")
    first = bare(str(path / "tpp"), "run", "a b", "", "--x=*")
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"ran ['run', 'a b', '', '--x=*'] {path}/.venv\n"
    assert "[1/2] Making .venv" in first.stderr
    assert "Installed in" in first.stderr
    return path


def test_the_second_start_installs_nothing(made: Path, tmp_path: Path) -> None:
    link = tmp_path / "tpp"
    link.symlink_to(made / "tpp")
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere", "CDPATH": "/", "LC_ALL": "C"}
    (tmp_path / "terminalpp").mkdir()  # a folder of our name where the person stands must not be taken
    (tmp_path / "terminalpp" / "__init__.py").write_text("raise SystemExit('shadowed')")
    for words in ((str(made / "tpp"),), (str(link),)):
        again = bare(*words, "é", cwd=tmp_path, environment=hostile)
        assert (again.returncode, again.stderr) == (0, "")
        assert "ran ['é']" in again.stdout
    relative = bare("./tpp", cwd=made)
    assert "ran []" in relative.stdout


def test_an_interrupted_install_is_done_again(made: Path) -> None:
    (made / ".venv" / ".installed-run").unlink()
    (made / ".venv" / "half").touch()
    again = bare(str(made / "tpp"), "x")
    assert "Making .venv" in again.stderr
    assert "ran ['x']" in again.stdout
    assert not (made / ".venv" / "half").exists()


def test_a_changed_list_brings_it_up_to_date(made: Path) -> None:
    (made / "requirements.lock").write_text("# nothing, but newer\n")
    again = bare(str(made / "tpp"), "x")
    assert "up to date" in again.stderr
    assert "ran ['x']" in again.stdout
    assert bare(str(made / "tpp"), "x").stderr == ""


def test_a_failing_install_leaves_no_stamp_and_says_why(made: Path) -> None:
    before = (made / "requirements.lock").read_text()
    (made / "requirements.lock").write_text("not-a-package==1.0 --hash=sha256:00\n")
    failed = bare(str(made / "tpp"), "x", environment={"PIP_NO_INDEX": "1"})
    assert failed.returncode == 3
    assert "could not be installed" in failed.stderr
    assert not (made / ".venv" / ".installed-run").exists()
    (made / "requirements.lock").write_text(before)
    assert "ran" in bare(str(made / "tpp"), "x").stdout


def test_help_before_the_install(tmp_path: Path) -> None:
    path = checkout(tmp_path / "c")
    for words in ((), ("--help",), ("-h",)):
        done = bare(str(path / "tpp"), *words)
        assert done.returncode == 0
        assert "./tpp demo" in done.stdout
    assert not (path / ".venv").exists()


@pytest.mark.parametrize(
    ("python", "words"),
    [(None, "apt install python3 python3-venv"), ("exit 3", "no Python 3.11, 3.12 or 3.13"),
     ("case $2 in *print*) echo 3.12; exit 0;; esac; exit 4", "apt install python3.12-venv")],
    ids=["none", "too old", "without venv"],
)
def test_a_machine_without_a_usable_python(tmp_path: Path, python: str | None, words: str) -> None:
    path = checkout(tmp_path / "c")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "cmp", "readlink", "id", "getent", "cut"):
        os.symlink(shutil.which(name) or "/bin/true", tools / name)
    if python:
        (tools / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (tools / "python3").chmod(0o755)
    done = bare(str(path / "tpp"), "demo", environment={"PATH": str(tools)})
    assert done.returncode == 3
    assert words in done.stderr
    assert not (path / ".venv").exists()


def test_the_launcher_is_plain_sh() -> None:
    assert (ROOT / "tpp").stat().st_mode & 0o111
    subprocess.run(["sh", "-n", str(ROOT / "tpp")], check=True)
