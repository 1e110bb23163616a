"""Fills the checkout's .venv from a hash-locked list. Run by the launcher with the system's Python,
before anything else exists: so only the standard library, and nothing of ours, is imported.

    python3 -I install.py ROOT run|dev

Guarantees: a .venv counts as filled only by its stamp, a copy of the lock that is written last and
in one step, so an interrupted install is done again from nothing; two launchers at once install
once (the second waits); the lock is complete, so pip resolves nothing (`--no-deps`: pip 23.2, which
a fresh Python 3.11 carries, cannot resolve this list with hashes) and refuses any file whose hash
it does not know.

Progress goes to standard output: on a terminal one line drawn over itself, else a line now and then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator
from pathlib import Path

LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}
SPOKEN_EVERY_S = 10.0


class Progress:
    """Says what is going on, and keeps the person from thinking that nothing is."""

    def __init__(self) -> None:
        self.tty = sys.stdout.isatty()
        self._spoke = time.monotonic()
        self._drawn = False

    def step(self, text: str) -> None:
        """Show what is done now; it stays on the screen."""
        self._erase()
        print(text, flush=True)
        self._spoke = time.monotonic()

    def detail(self, text: str) -> None:
        """Show a detail of it on a terminal; the next one takes its place."""
        if self.tty:
            self._erase()
            print("  " + text[: shutil.get_terminal_size().columns - 3], end="", flush=True)
            self._drawn = True
        elif time.monotonic() - self._spoke >= SPOKEN_EVERY_S:
            self.step("  " + text)

    def _erase(self) -> None:
        if self._drawn:
            print("\r\x1b[K", end="")
            self._drawn = False


def main(root: Path, kind: str) -> int:
    """0 when the .venv holds what the lock lists."""
    lock = root / LOCKS[kind]
    with alone(root, kind):
        if installed(root, kind):
            return 0
        progress = Progress()
        began = time.monotonic()
        if kind == "run" or not installed(root, "run"):
            make_environment(root, progress)
        install(root, lock, progress)
        if kind == "dev":
            write_stamp(root, "dev", lock)  # the developers' list holds the whole of the other one
            lock = root / LOCKS["run"]
        write_stamp(root, "run", lock)
        progress.step(f"Installed in {time.monotonic() - began:.0f} s.")
    return 0


@contextlib.contextmanager
def alone(root: Path, kind: str) -> Iterator[None]:
    """One installer at a time, held by a lock on the checkout's folder (no file is made for it)."""
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another `./tpp` is installing; waiting for it …", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def installed(root: Path, kind: str) -> bool:
    """Whether the environment holds what the lock file of `kind` says."""
    try:
        same = (root / ".venv" / f".installed-{kind}").read_bytes() == (root / LOCKS[kind]).read_bytes()
        here = os.fsdecode((root / ".venv" / ".root").read_bytes()).rstrip("\n") == str(root)
    except OSError:
        return False
    return same and here and os.access(root / ".venv" / "bin" / "python", os.X_OK)


def write_stamp(root: Path, kind: str, lock: Path) -> None:
    """Record which lock file the environment was filled from."""
    place = root / ".venv"
    (place / ".root").write_bytes(os.fsencode(root) + b"\n")
    fresh = place / f".installed-{kind}.new"
    with open(fresh, "wb") as stamp:
        stamp.write(lock.read_bytes())
        stamp.flush()
        os.fsync(stamp.fileno())
    fresh.replace(place / f".installed-{kind}")


def make_environment(root: Path, progress: Progress) -> None:
    """A new .venv, unless a finished one is there to be brought up to date."""
    place = root / ".venv"
    finished = (place / ".installed-run").exists() and os.access(place / "bin" / "python", os.X_OK)
    made_for = (place / ".root").read_bytes().rstrip(b"\n") if (place / ".root").exists() else b""
    if not finished or made_for != os.fsencode(root):
        version = ".".join(str(part) for part in sys.version_info[:3])
        progress.step(f"[1/2] Making .venv with Python {version}")
        venv.create(place, clear=True, with_pip=True, symlinks=True)
    else:
        progress.step("[1/2] Bringing .venv up to date")
    for stamp in place.glob(".installed-*"):
        stamp.unlink()


def install(root: Path, lock: Path, progress: Progress) -> None:
    """pip, with its own log in .venv. Exits with its last words when it fails."""
    total = sum(1 for line in lock.read_text().split("\n") if line and line[0] not in "# -" and "==" in line)
    progress.step(f"[2/2] Installing {total} packages, each checked against its hash")
    python = str(root / ".venv" / "bin" / "python")
    command = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps",
               "--require-hashes", "--progress-bar", "off", "-r", str(lock)]
    log = root / ".venv" / "install.log"
    last: list[str] = []
    with open(log, "w", errors="replace") as kept, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        errors="replace", env={k: v for k, v in os.environ.items() if k not in ("PIP_REQUIRE_VIRTUALENV",
                                                                                "PIP_USER", "PIP_TARGET")},
    ) as process:
        assert process.stdout is not None
        collected = 0
        ended = threading.Event()
        for line in process.stdout:
            kept.write(line)
            last = [*last[-20:], line.rstrip()]
            words = line.split()
            if words[:1] == ["Collecting"]:
                collected += 1
                progress.detail(f"{collected}/{total} fetching {words[1]}")
            elif line.startswith("Installing collected packages"):
                threading.Thread(target=count, args=(root, total, progress, ended), daemon=True).start()
        status = process.wait()
        ended.set()
    if status:
        print("\n".join(last[-8:]), file=sys.stderr)
        hint = "Check the connection to the package index and the free disk space, then run it again."
        print(f"error: the packages could not be installed (log: {log})\n  → {hint}", file=sys.stderr)
        raise SystemExit(3)


def count(root: Path, total: int, progress: Progress, ended: threading.Event) -> None:
    """While pip unpacks it says nothing: count what is there."""
    while not ended.wait(0.5):
        there = sum(1 for _ in root.glob(".venv/lib/python3*/site-packages/*.dist-info"))
        if not ended.is_set():
            progress.detail(f"{min(there, total)}/{total} unpacked")


if __name__ == "__main__":
    try:
        raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
    except KeyboardInterrupt:
        print("\nInterrupted; the next `./tpp` does it again.", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as problem:
        print(f"error: {problem}\n  → The checkout must be writable and its disk not full.", file=sys.stderr)
        raise SystemExit(3) from None
