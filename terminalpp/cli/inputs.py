"""What helps a person to type in `chat`: the lines typed before, and the names of files and commands.

`Past` keeps messages in TPP_HOME/chat/history, one JSON text a line, readable by the owner alone. What begins
with a space, what is long, and what looks like a secret is not kept. `Names` lists the project's files as git
sees them (else by walking), at most MOST of them, again when the list is older than FRESH_S.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import History

from terminalpp.cli import git, home
from terminalpp.types.errors import TerminalError
from terminalpp.types.providers import DEFAULTS

ENTRIES = 1000  # of the history that are read; the file is cut to them when it has grown to twice as many
ENTRY_CHARACTERS = 16_384
MOST = 20_000  # files of a project that are looked through
READ_BYTES = 4 << 20
LISTING_S = 2.0
FRESH_S = 5.0
SHOWN = 40  # completions at once
_SKIPPED = {".git", "node_modules", ".venv", "__pycache__"}
_SECRET = re.compile(
    r"(?i)\b(?:api[_-]?key|secret|token|passw(?:or)?d|authorization)\b\W{0,3}\s*[=:]\s*\S{4}"
    r"|\bbearer\s+\S{8}|-----BEGIN|\b(?:sk|pk|rk|xai|gsk)[-_][\w-]{12}|\bgh[pousr]_\w{12}|\bgithub_pat_\w{12}"
    r"|\bglpat-[\w-]{12}|\bxox[a-z]-[\w-]{8}|\bAKIA[0-9A-Z]{12}|\bAIza[\w-]{20}|\beyJ[\w-]{12,}\.[\w-]{8}"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
_FILE = re.compile(r'(?:^|\s)@(?:"(?P<quoted>[^"\n]*)|(?P<plain>[^\s"]*))$')


def secret(text: str) -> bool:
    """Whether `text` looks as if it held a key or a password."""
    return bool(_SECRET.search(text))


class PromptHistory(History):
    """The history of all chats of this home, newest last. A file that cannot be used is no history."""

    def __init__(self) -> None:
        super().__init__()
        self._path = home.folder("chat") / "history"

    def load_history_strings(self) -> Iterable[str]:
        """The entries of the history file, the newest first."""
        lines: list[bytes] = []
        with contextlib.suppress(OSError):
            lines = self._path.read_bytes().split(b"\n")
        if len(lines) > 2 * ENTRIES:
            lines = lines[-ENTRIES - 1 :]
            with contextlib.suppress(TerminalError):
                home.write_atomically(self._path, b"\n".join(lines))
                self._path.chmod(0o600)
        for line in reversed(lines[-ENTRIES - 1 :]):
            with contextlib.suppress(ValueError):  # a half line, of a chat that was killed
                if isinstance(entry := json.loads(line), str):
                    yield entry

    def store_string(self, string: str) -> None:
        """Add an entry to the history file, unless it begins with a space, is too long or repeats the last
        one."""
        if string[:1].isspace() or len(string) > ENTRY_CHARACTERS or secret(string):
            return
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(self._path, flags, 0o600), "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(b"\n" + json.dumps(string).encode())  # a half line before it stays its own


class PromptCompleter(Completer):
    """Completes `/commands` at the beginning, `@files` anywhere, and a model after `/model`.

    A name with spaces is completed in quotes: `@"my notes.txt"`.
    """

    def __init__(self, commands: Iterable[str], root: Path | None) -> None:
        self._commands = tuple(commands)
        self._root = root
        self._files: list[str] = []
        self._listed = float("-inf")

    @staticmethod
    def wanted(document: Document) -> bool:
        """Whether there may be something to complete at the cursor, without being asked for."""
        before = document.text_before_cursor
        return bool(_FILE.search(before)) or bool(re.fullmatch(r"/\S*", before))

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Names of commands after `/`, and of files after `@`, that begin as the word before the cursor."""
        before = document.text_before_cursor
        if re.fullmatch(r"/\S*", before):
            for name in self._commands:
                if name.startswith(before.lower()):
                    yield Completion(name, -len(before))
        elif found := re.fullmatch(r"/model\s+(\S*)", before):
            for model in DEFAULTS.values():
                if found[1] in model:
                    yield Completion(model, -len(found[1]))
        elif found := _FILE.search(before):
            typed = found["quoted"] if found["quoted"] is not None else found["plain"]
            start = -len(typed) - (found["quoted"] is not None)
            for name in matching(self._names(), typed):
                yield Completion(f'"{name}"' if re.search(r"\s", name) else name, start, display=name)

    def _names(self) -> list[str]:
        if self._root is not None and time.monotonic() - self._listed > FRESH_S:
            self._files, self._listed = files(self._root), time.monotonic()
        return self._files


def matching(names: Iterable[str], typed: str) -> list[str]:
    """At most SHOWN names that hold `typed`: first where a file's own name begins so, then a path."""
    wanted = typed.lower()
    ranked = []
    for name in names:
        lower = name.lower()
        place = lower.find(wanted)
        if place >= 0:
            own = lower.rpartition("/")[2].startswith(wanted)
            ranked.append((0 if own else 1 if place == 0 else 2, len(name), name))
    return [name for _, _, name in sorted(ranked)[:SHOWN]]


def files(root: Path) -> list[str]:
    """At most MOST files below `root`, relative to it; those whose names a line cannot hold are left out."""
    try:
        raw = _listed(root)
    except (OSError, TerminalError):
        raw = None
    found = raw if raw is not None else _walked(root)
    return [name for name in found if name.isprintable() and '"' not in name]


def _listed(root: Path) -> list[str] | None:
    """git's list; None where there is no repository. What is not told within LISTING_S is left out."""
    words = [*git.WORDS, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    with subprocess.Popen(
        words, cwd=root, env=git.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        raw, whole = _read(process.stdout)
        if not whole:
            process.kill()
    if whole and process.returncode:
        return None
    return [os.fsdecode(name) for name in raw.split(b"\0")[:-1][:MOST]]


def _read(output: Any) -> tuple[bytes, bool]:
    """What comes within LISTING_S, at most READ_BYTES; whether that is all."""
    raw, ends = bytearray(), time.monotonic() + LISTING_S
    while len(raw) < READ_BYTES and (left := ends - time.monotonic()) > 0:
        if not select.select([output], [], [], left)[0]:
            break
        piece = os.read(output.fileno(), 1 << 20)
        if not piece:
            return bytes(raw), True
        raw += piece
    return bytes(raw), False


def _walked(root: Path) -> list[str]:
    found: list[str] = []
    ends = time.monotonic() + LISTING_S
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        below = os.path.relpath(folder, root)
        found += [name if below == "." else f"{below}/{name}" for name in names]
        if len(found) >= MOST or time.monotonic() > ends:
            break
    return found[:MOST]
