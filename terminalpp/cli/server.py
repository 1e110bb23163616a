"""Starting and asking the server: `python -m runtime` as a process, and the client to talk to it.

The CLI never imports the server. The boot verbs are a process whose progress lines
(`{"step", "state", "detail"}`) are shown as they come.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from terminalpp.cli import home
from terminalpp.cli.sanitize import clean
from terminalpp.cli.screen import Screen
from terminalpp.types.errors import TerminalError, Unavailable, from_json

ROOT = Path(__file__).resolve().parents[2]


def checkout() -> Path:
    """The checkout that holds the server. Raises Unavailable when only the client is installed."""
    if not (ROOT / "runtime" / "__main__.py").is_file():
        raise Unavailable("the server is not part of this installation",
                          "It runs from a checkout: clone Terminal++ and use its ./tpp.")
    return ROOT


def command(*arguments: str) -> list[str]:
    """The command line of a boot verb."""
    return [sys.executable, "-m", "runtime", *arguments]


def environment() -> dict[str, str]:
    """Ours, with the home spelled out; never a PYTHONPATH."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | {"TPP_HOME": str(home.path())}


def lines(*arguments: str) -> Iterator[dict[str, Any]]:
    """The JSON lines of a runtime verb; the last item is `{"exit": status}`."""
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(
            command(*arguments, "--json"), cwd=checkout(), env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=complaints, text=True, errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for text in process.stdout:
            try:
                yield json.loads(text)
            except ValueError:
                yield {"step": "", "state": "progress", "detail": text.strip()}
        status = process.wait()
        complaints.seek(0)
        words = complaints.read()
    yield {"exit": status, "stderr": words}


def run(screen: Screen, *arguments: str, as_json: bool, quiet: bool = False) -> int:
    """A runtime verb with its progress on the screen; its exit status. Raises TerminalError on failure.

    `quiet`: a step is shown only when it took a second or longer, or failed.
    """
    started: dict[str, float] = {}
    failure: TerminalError | None = None
    for line in lines(*arguments):
        if "exit" in line:
            if failure:
                raise failure
            if line["exit"] and line["stderr"].strip():
                last = line["stderr"].strip().rpartition("\n")[2]
                raise Unavailable(f"`{arguments[0]}` failed: {last}", "`./tpp doctor` checks the machine.")
            return int(line["exit"])
        if as_json:
            screen.line(json.dumps({"type": "cli.progress", "payload": line}))
        else:
            _progress(screen, line, started, quiet)
        if line.get("state") == "failed" and (line.get("error") or line.get("step") == arguments[0]):
            failure = from_json(line.get("error") or {"code": "service-failed", **line})
    return 0


def _progress(screen: Screen, line: dict[str, Any], started: dict[str, float], quiet: bool) -> None:
    step, state = clean(str(line.get("step", "")), one_line=True), line.get("state")
    detail = clean(str(line.get("detail") or ""), one_line=True)[:300]
    now = time.monotonic()
    if state == "start":
        started[step] = now
        screen.status(f"  … {step} {detail}")
    elif state == "progress":
        screen.status(f"  … {step}: {detail}")
        if not screen.tty and not quiet and detail:
            screen.line(f"    {step}: {detail}", "dim")
    elif state == "done":
        took = now - started.get(step, now)
        if not quiet or took >= 1.0:
            seconds = f"  {took:.1f} s" if took >= 0.1 else ""
            mark = screen.paint("✓", "green")
            screen.line(f"  {mark} {step}" + screen.paint(f"{seconds}  {detail}".rstrip(), "dim"))
    elif state == "failed" and not line.get("error"):
        screen.line(f"  {screen.paint('✗', 'red')} {step}  {detail}")


def ensure_up(screen: Screen, as_json: bool) -> None:
    """Start the system unless it answers already. Raises TerminalError with the reason."""
    if _answers():
        return
    if not as_json:
        screen.line("Starting Terminal++ …", "dim")
    status = run(screen, "up", as_json=as_json)
    if status:
        raise Unavailable(f"`up` ended with status {status}", "`./tpp doctor` checks the machine.")
    screen.clear_status()


def _answers() -> bool:
    """Whether our server answers: asked over its socket, so that nobody can answer for it."""
    path = home.socket()
    if path is None:
        return False
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)  # a socket's path has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(2.0)
            asking.connect(f"/proc/self/fd/{folder}/{path.name}")
            asking.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return asking.recv(64).split()[1:2] == [b"200"]
    except OSError:
        return False
    finally:
        os.close(folder)
