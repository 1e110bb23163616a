"""`tpp sh`, `tpp term` and `tpp exec` as a person uses them: at a terminal, against a running stack, over
kills."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from tests.e2e.stack import ROOT, Stack, running_sandbox


class Person:
    """A process at a pseudo-terminal of 100 × 30, and what it has shown."""

    def __init__(self, stack: Stack, *words: str) -> None:
        self.shown = b""
        environment = stack.environ() | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        command = [sys.executable, "-m", "terminalpp.cli.main", *words]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(stack.home.parent)
            os.execve(command[0], command, environment)
        self.resize(100, 30)
        self.before = termios.tcgetattr(self.fd)

    def resize(self, cols: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read(self, timeout_s: float) -> bool:
        if not select.select([self.fd], [], [], timeout_s)[0]:
            return False
        try:
            self.shown += (data := os.read(self.fd, 65536))
        except OSError:
            return False  # its end
        return bool(data)

    def until(self, pattern: str, timeout_s: float = 30.0) -> bytes:
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern.encode(), self.shown):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.shown[-2000:]!r}"
            self.read(0.2)
        return self.shown

    def end(self, timeout_s: float = 30.0) -> int:
        """Its exit status. Its terminal is as it was."""
        deadline = time.monotonic() + timeout_s
        while (done := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, self.shown[-2000:]
            self.read(0.05)
        while self.read(0.1):
            pass
        self.pid = 0
        return os.waitstatus_to_exitcode(done[1])

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def person(stack: Stack) -> Iterator[type[Person]]:
    made: list[Person] = []

    def sit(*words: str) -> Person:
        made.append(Person(stack, *words))
        return made[-1]

    yield sit  # type: ignore[misc]
    for one in made:
        one.close()


async def test_a_shell_detached_and_come_back_to(stack: Stack, client, person) -> None:
    box = (await running_sandbox(client, name="sh"))["id"]
    first = person("sh", "--name", "work", box[:8])
    first.until(r"\$ ")
    # Whoever asks takes the answer: left lying it would be typed at the prompt.
    first.type("stty size; printf '\\033[6n'; read -rs -d R -t 5; x=kept\r")
    first.until("30 100")
    first.resize(120, 40)
    first.type("sleep 0.3; stty size\r")
    first.until("40 120")
    assert b"\x1b[6n" not in first.shown, "the person's own terminal must not be asked"
    first.type("\x10\x11")
    assert first.end() == 0
    id = re.search(rb"term attach ([0-9a-f]{8})", first.shown)
    assert id is not None
    listed = stack.tpp("term", "ls")
    assert "work" in listed.stdout
    second = person("term", "attach", id[1].decode())
    second.until("40 120")
    second.type("echo $x; exit 7\r")
    second.until("kept")
    assert second.end() == 7
    assert "ended (7)" in stack.tpp("term", "ls", "--all").stdout
    assert "kept" in stack.tpp("term", "screen", id[1].decode()).stdout
    head, *events = stack.tpp("term", "replay", id[1].decode(), "--json").stdout.splitlines()
    assert json.loads(head)["version"] == 3
    assert ["r", "120x40"] in [json.loads(event)[1:] for event in events]


VICTIMS = {
    "gateway": lambda stack: stack.processes("-m gateway"),
    "every cell": lambda stack: [cell["pid"] for cell in stack.cells()],
    "Ray's head": lambda stack: stack.processes("gcs_server") + stack.processes("/raylet/raylet"),
    "Postgres": lambda stack: stack.processes("bin/postgres", "-D"),
    "Redis": lambda stack: stack.processes("-server 127.0.0.1:"),
}


PAIRS = [("gateway", "every cell"), ("Ray's head", "gateway"), ("Postgres", "Redis")]


@pytest.mark.parametrize("victims", PAIRS)
async def test_typing_goes_on_while_a_process_is_killed(stack: Stack, client, person, victims) -> None:
    box = (await running_sandbox(client, name="kills"))["id"]
    one = person("sh", box, "sh", "-c", "stty -echo; echo go; while read -r l; do echo \"<$l>\"; done")
    one.until("go")
    for number in range(8):
        one.type(f"{number}")
        if number in (2, 5):
            stack.kill(*VICTIMS[victims[number // 3]](stack))
        one.type("x\r")
        await asyncio.sleep(0.2)
    one.until("<7x>", 90)
    one.type("\x04")
    assert one.end(60) == 0
    written = re.sub(rb"\x1b[^\x07]*?\x07", b"", one.shown)
    seen = re.findall(rb"<(\d)x>", written)
    # Bytes are never shown twice; a screen that was painted again may show lines that stood on it before.
    assert sorted(set(seen)) == [str(n).encode() for n in range(8)]
    rows = await client.terminals(box)
    raw = b"".join([piece async for piece in client.terminal_recording(box, rows[0]["id"])])
    printed = "".join(event[2] for event in map(json.loads, raw.splitlines()[1:]) if event[1] == "o")
    assert re.findall(r"<(\d)x>", printed) == [str(n) for n in range(8)]


async def test_a_program_that_cannot_be_started_is_said_in_one_line(stack: Stack, client, person) -> None:
    box = (await running_sandbox(client, name="none"))["id"]
    one = person("sh", box, "/no/such/thing")
    assert one.end() == 3
    assert b"No such file" in one.shown
    done = stack.tpp("sh", box)
    assert done.returncode == 2
    assert "./tpp exec" in done.stderr


async def test_a_command_as_if_it_ran_here(stack: Stack, client) -> None:
    box = (await running_sandbox(client, name="exec"))["id"]
    done = stack.tpp("exec", box, "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert (
        stack.tpp("exec", "--cwd", "/tmp", "--env", "A=b c", box, "sh", "-c", "pwd; echo $A").stdout
        == "/tmp\nb c\n"
    )
    assert stack.tpp("exec", box, "--", "echo", "a", "--", "b").stdout == "a -- b\n"
    data = os.urandom(3_000_000)
    command = [sys.executable, "-m", "terminalpp.cli.main", "exec", box, "cat"]
    environment = stack.environ() | {"PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run(command, env=environment, input=data, capture_output=True, check=True).stdout == data
    )
    missing = stack.tpp("exec", box, "nosuchprogram")
    assert missing.returncode == 127
    assert "not-started" in missing.stderr
    id = stack.tpp(
        "exec", "--detach", box, "for i in 1 2 3; do echo $i; sleep 0.2; done; exit 4"
    ).stdout.strip()
    again = stack.tpp("attach", box[:8], id[:8])
    assert (again.returncode, again.stdout) == (4, "1\n2\n3\n")
    assert stack.tpp("exec", box, "sh", "-c", "kill -9 $$").returncode == 137
    assert stack.tpp("exec", "--env", "nonsense", box, "true").returncode == 2
    told = json.loads(stack.tpp("exec", "--json", box, "true").stdout)
    assert told["exit_code"] == 0


async def test_ctrl_c_goes_to_the_command(stack: Stack, client, person) -> None:
    box = (await running_sandbox(client, name="int"))["id"]
    one = person("exec", box, "trap 'echo caught; exit 9' INT; echo ready; sleep 60 & wait")
    one.until("ready")
    one.type("\x03")
    assert one.end() == 9
    assert b"caught" in one.shown
