"""Running git on a person's repository without leaving a trace in it.

Every call drops the caller's `GIT_*` variables (a hook or an editor may have set `GIT_DIR`), takes
no optional lock (so that looking never rewrites the index), runs no hook and no file-system
monitor, and never asks for a password. Names travel as bytes decoded with `surrogateescape`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from terminalpp.types.errors import DiskFull, Unavailable

KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH",
        "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")

WORDS = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0",
         "-c", "advice.detachedHead=false", "-c", "maintenance.auto=false")


class GitFailed(Exception):
    """git ended with an error; `status` is its exit code and `words` what it said."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for git: the caller's own without what would redirect or interrupt it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in KEPT}
    kept.update(LC_ALL="C", GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", GIT_NO_LAZY_FETCH="1")
    kept.update(extra or {})
    return kept


def run(
    *args: str,
    cwd: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    ok: Iterable[int] = (0,),
) -> bytes:
    """git's standard output. Raises GitFailed, DiskFull and Unavailable (no git)."""
    try:
        done = subprocess.run(
            [*WORDS, *args],
            cwd=cwd,
            env=environment(env),
            input=stdin,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        if not Path(cwd).is_dir():
            raise
        raise Unavailable("the program `git` is not installed", "Install it: `apt install git`.") from error
    if done.returncode not in tuple(ok):
        words = done.stderr.decode("utf-8", "replace").strip()
        if "No space left on device" in words:
            last = words.rpartition("\n")[2]
            raise DiskFull(f"no space left while git was writing: {last}")
        raise GitFailed(done.returncode, words or f"git {args[0]} ended with status {done.returncode}")
    return done.stdout


def line(*args: str, cwd: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> str:
    """git's output as one line of text."""
    return os.fsdecode(run(*args, cwd=cwd, env=env)).rstrip("\n")


def maybe(*args: str, cwd: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> str | None:
    """The same, or None when git ends with an error."""
    try:
        return line(*args, cwd=cwd, env=env)
    except GitFailed:
        return None


def names(raw: bytes) -> list[str]:
    """A NUL-separated list of file names."""
    return [os.fsdecode(part) for part in raw.split(b"\0") if part]
