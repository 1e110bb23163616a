"""The shell that agents' commands run in: any text runs as given, state is kept, and what is lost is told."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.agent.sandbox_tools import SHELL

Run = Callable[..., tuple[int, str]]


def script(home: Path, exec_id: str, command: str) -> str:
    folder, workspace = (shlex.quote(str(home / name)) for name in ("state", "ws"))
    return SHELL.format(folder=folder, workspace=workspace, exec_id=exec_id, command=shlex.quote(command))


@pytest.fixture(params=["/bin/bash", "/bin/sh"])
def run(request, tmp_path) -> Run:
    """Runs one command after the other as one agent would; its status and output."""
    calls = iter(range(100))
    (tmp_path / "ws" / "sub").mkdir(parents=True)

    def run(command: str) -> tuple[int, str]:
        words = [request.param, "-c", script(tmp_path, f"e{next(calls)}", command)]
        done = subprocess.run(words, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=20)  # fmt: skip
        return done.returncode, done.stdout.decode().replace(str(tmp_path), "")

    return run


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ("echo a\\", 0, "a\\\n"),
        ("echo a # said", 0, "a\n"),
        ("cat <<EOF\na 'b' \"c\" $((1+1))\nEOF", 0, "a 'b' \"c\" 2\n"),
        ("cat <<'EOF'\n$HOME `x` \\\nEOF\necho b", 0, "$HOME `x` \\\nb\n"),
        ("exit 3", 3, ""),
        ("set -e; false; echo no", 1, ""),
        ("false\necho yes", 0, "yes\n"),
        ("false | true", 0, ""),
        ("(exit 6)", 6, ""),
        ("exec echo gone", 0, "gone\n"),
        ("printf 'a\r\nb'", 0, "a\r\nb"),
        ("echo a\r\necho b\r\n", 0, "a\r\nb\r\n"),
        ("printf 'x\u2028y\u0085z\x0cé\n'", 0, "x\u2028y\u0085z\x0cé\n"),
        ("echo behind & wait; echo started", 0, "behind\nstarted\n"),
        ("trap 'echo bye' EXIT; echo hi", 0, "hi\nbye\n"),
        ("", 0, ""),
        ("# nothing", 0, ""),
    ],
)
def test_a_command_runs_as_it_is_given(run: Run, command: str, code: int, output: str):
    assert run(command) == (code, output)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo 'a", ("unexpected EOF", "Unterminated quoted string")),
        ("if true; then", ("unexpected end of file", "end of file unexpected")),
        ("-x", ("-x: command not found", "-x: not found")),
        ("set -u; echo $NOPE", ("NOPE: unbound variable", "NOPE: parameter not set")),
    ],
)
def test_a_command_that_cannot_run_says_why(run: Run, command: str, words: tuple[str, ...]):
    code, output = run(command)
    assert code != 0
    assert any(word in output for word in words), output


def test_complaints_name_the_line_of_the_command(run: Run):
    _, output = run("true\n\nno-such-program")
    assert re.search(r"(line 3: |sh: 3: )", output), output


@pytest.mark.parametrize("before", ["", "set -eu; ", "set -x; "])
def test_directory_and_exported_variables_are_kept(run: Run, before: str):
    _, output = run(f"{before}cd sub; export A='x\ny'; false")
    assert "__tpp" not in output
    assert "last" not in output
    assert run('pwd; echo "$A"; echo $-') == (0, "/ws/sub\nx\ny\n" + run("echo $-")[1])


def test_a_directory_of_any_name_is_kept(run: Run):
    run("mkdir -p 'a b/-c\n\n'; cd 'a b'; cd ./-c*")
    assert run("pwd") == (0, "/ws/a b/-c\n\n\n")


def test_a_lost_directory_is_told(run: Run, tmp_path: Path):
    run("mkdir d; cd d; rmdir ../d")
    code, output = run('pwd; echo "$PWD"')
    assert code == 0
    assert "[the working directory of earlier calls is gone; this runs in /ws]\n/ws\n/ws\n" in output
    assert run("pwd") == (0, "/ws\n")
    run(f"rm -rf {tmp_path}/ws")
    assert "[the workspace is gone; this runs in ]" in run("true")[1]


def test_a_late_command_does_not_overwrite_what_a_later_one_left(run: Run, tmp_path: Path):
    run("cd sub; export A=1")
    slow = script(tmp_path, "slow", f"printf later > {tmp_path}/state/last; cd /; export A=2")
    subprocess.run(["/bin/sh", "-c", slow], check=True, cwd=tmp_path)
    assert run("pwd; echo $A") == (0, "/ws/sub\n1\n")
