"""`tpp sandbox create`, `tpp cp` and `tpp files` as a person types them."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import ROOT, Stack


@pytest.fixture
def box(stack: Stack) -> str:
    made = stack.tpp("sandbox", "create", "--name", "copying", "--memory", "256MB")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def same(a: Path, b: Path) -> bool:
    found = filecmp.dircmp(a, b)
    _, wrong, odd = filecmp.cmpfiles(a, b, found.common_files, shallow=False)
    return not (found.left_only or found.right_only or wrong or odd) and all(
        same(a / name, b / name) for name in found.common_dirs
    )


def test_a_sandbox_is_made_shown_and_removed(stack: Stack, box: str) -> None:
    told = stack.tpp("sandbox", "show", box[:8]).stdout
    assert "256MB" in told
    assert "limits.memory" in told
    stack.tpp("exec", box, "echo one; exit 3")
    log = stack.tpp("sandbox", "logs", box).stdout
    assert "echo one; exit 3" in log
    assert json.loads(stack.tpp("sandbox", "show", box, "--json").stdout)["name"] == "copying"
    assert stack.tpp("sandbox", "rm", box, "--yes").returncode == 0
    assert stack.tpp("sandbox", "show", box).returncode == 2


def test_a_directory_goes_in_and_comes_out_as_it_was(stack: Stack, box: str, tmp_path: Path) -> None:
    source = tmp_path / "project"
    (source / "sub" / "empty").mkdir(parents=True)
    (source / "grün und leer").touch()
    (source / "sub" / "big").write_bytes(os.urandom(3_000_000))
    (source / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (source / "sub" / "run.sh").chmod(0o755)
    (source / "link").symlink_to("sub/big")
    os.mkfifo(source / "pipe")
    done = stack.tpp("cp", str(source), f"{box}:")
    assert done.returncode == 0, done.stderr
    assert "left out: pipe" in done.stderr
    listed = stack.tpp("files", "ls", f"{box[:8]}:project", "--depth", "3").stdout
    assert "/home/user/project/link -> sub/big" in listed
    assert stack.tpp("cp", f"{box}:project", str(tmp_path / "back")).returncode == 0
    (source / "pipe").unlink()
    assert same(source, tmp_path / "back")
    assert os.readlink(tmp_path / "back" / "link") == "sub/big"
    assert (tmp_path / "back" / "sub" / "run.sh").stat().st_mode & 0o111


def test_one_file_and_the_standard_streams(stack: Stack, box: str, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "data").write_bytes(data)
    assert stack.tpp("cp", str(tmp_path / "data"), f"{box}:new/name").returncode == 0
    command = [sys.executable, "-m", "terminalpp.cli.main", "cp"]
    environment = stack.environ() | {"PYTHONPATH": str(ROOT)}
    out = subprocess.run([*command, f"{box}:new/name", "-"], env=environment, capture_output=True, check=True)
    assert out.stdout == data
    subprocess.run([*command, "-", f"{box}:typed"], env=environment, input=b"typed\n", check=True)
    assert stack.tpp("files", "cat", f"{box}:typed").stdout == "typed\n"
    assert stack.tpp("files", "mv", f"{box}:typed", "moved").returncode == 0
    assert stack.tpp("cp", f"{box}:moved", str(tmp_path)).returncode == 0
    assert (tmp_path / "moved").read_text() == "typed\n"
    assert stack.tpp("files", "rm", f"{box}:new").returncode == 2
    assert stack.tpp("files", "rm", f"{box}:new", "--recursive").returncode == 0
    gone = f"{box}:gone"
    for words in (("cp", "/no/such", gone), ("cp", "a", "b"), ("files", "cat", gone), ("files", "ls", "x")):
        done = stack.tpp(*words)
        assert done.returncode == 2, words
        assert done.stderr.count("error: ") == 1


def test_what_comes_out_cannot_write_elsewhere(stack: Stack, box: str, tmp_path: Path) -> None:
    script = "mkdir x; ln -s ../../../../../../../../tmp x/out; ln -s /etc x/abs; mkfifo x/p; echo ok > x/f"
    assert stack.tpp("exec", box, script).returncode == 0
    done = stack.tpp("cp", f"{box}:x", str(tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "x")) == ["f"]
    assert done.stderr.count("left out:") == 2
