"""What becomes of a team's changes: the working tree, a new branch, a patch file, or the shelf.

Without a flag and with a person at the terminal it asks; without a person the patch is kept under
TPP_HOME/patches and the command to apply it is printed. Whatever fails, the patch is kept first.
Changes whose tests are not green are not applied by the flag of the run that made them: they are kept, and
whoever has seen that applies them with `run --resume ID --apply`.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminalpp.cli import apply, branch, diffs, git, home, patches
from terminalpp.cli.exits import NotApplied
from terminalpp.cli.records import Record
from terminalpp.cli.repository import show
from terminalpp.cli.sanitize import clean
from terminalpp.cli.screen import Screen
from terminalpp.client import Diff
from terminalpp.types.errors import Conflict, InvalidInput, TerminalError


@dataclass(frozen=True, slots=True)
class Destination:
    """What the flags asked for; nothing set: ask, or keep."""

    to_tree: bool = False
    branch: str | None = None
    patch: str | None = None

    def __post_init__(self) -> None:
        if sum((self.to_tree, self.branch is not None, self.patch is not None)) > 1:
            raise InvalidInput("--apply, --branch and --patch exclude each other", "Give one of them.")

    @property
    def open(self) -> bool:
        """Whether the person has not said yet where the changes shall go."""
        return not (self.to_tree or self.branch is not None or self.patch is not None)


def deliver(
    screen: Screen,
    record: Record,
    diff: Diff,
    destination: Destination,
    *,
    green: bool,
    as_json: bool,
    ask: bool = True,
    why_not: str = "",
) -> None:
    """Show the changes and do what was wished; without `green` a flag alone does not apply them.

    `why_not`: why they are not to be applied unseen. Raises NotApplied, with the patch kept.
    """
    patch = diff.patch
    _tell_left(screen, diff.left, as_json)
    if not patch:
        _say(screen, as_json, "none", "No files were changed.")
        return
    if not as_json:
        screen.line()
        diffs.show(screen, patch)
        screen.line()
    if destination.open and ask and not as_json and sys.stdin.isatty() and screen.tty:
        destination = _ask(screen, record)
    elif not green and not destination.open and destination.patch is None:
        kept = record.keep(patch)
        because = why_not or "The tests are not green"
        _say(screen, as_json, "kept", f"{because}, so nothing was applied; kept: {kept}", patch=str(kept))
        _how(screen, record, kept, as_json)
        return
    _carry_out(screen, record, patch, destination, as_json)


def _carry_out(screen: Screen, record: Record, patch: bytes, destination: Destination, as_json: bool) -> None:
    kept = record.keep(patch)
    try:
        if destination.to_tree:
            done = apply.to_tree(patch, record.project())
            record.note_applied(patch, done.changed)
            if done.changed:
                words = f"Applied to {show(record.root)}: {_counted(done.changed)}"
                _say(screen, as_json, "applied", f"{words}. Your index, stash and commits are untouched.",
                     paths=done.changed)
            elif not done.yours:
                words = f"{show(record.root)} holds these changes already."
                _say(screen, as_json, "applied", words, paths=[])
            if done.yours:
                raise Conflict(
                    "left as you have them, because git ignores them and they were not copied: "
                    + ", ".join(show(name) for name in done.yours),
                    "The team's versions are in the patch; compare and take them by hand.",
                    {"paths": done.yours},
                )
        elif destination.branch is not None:
            commit = branch.to_branch(patch, record.project(), destination.branch, _message(record))
            _say(screen, as_json, "branch", f"Branch {destination.branch} made at {commit[:12]}. "
                 f"See it: git log -p {shlex.quote(destination.branch)}",
                 branch=destination.branch, commit=commit)
            if not as_json:
                _tell_branch(screen, record, patch)
        elif destination.patch is not None:
            _to_file(screen, patch, destination.patch, as_json)
        else:
            _say(screen, as_json, "kept", f"The changes are kept: {kept}", patch=str(kept))
            _how(screen, record, kept, as_json)
    except TerminalError as error:
        raise NotApplied(error, str(kept)) from error


def _counted(paths: list[str]) -> str:
    folders = sum(1 for path in paths if apply.is_folder(path))
    words = [f"{count} {noun}{'s' if count != 1 else ''}"
             for count, noun in ((len(paths) - folders, "file"), (folders, "empty folder")) if count]
    return " and ".join(words)


def _tell_left(screen: Screen, left: list[dict[str, Any]], as_json: bool) -> None:
    """What stays in the sandbox, in words: what is missing at home first."""
    if not left:
        return
    if as_json:
        screen.line(json.dumps({"type": "cli.left", "payload": {"left": left}}))
        return
    lost = [item for item in left if item["lost"]]
    ruled = [item for item in left if not item["lost"]]
    if lost:
        screen.line(f"Not brought home: {'; '.join(map(_left_words, lost))}", "yellow")
    caches = [item for item in ruled if item["why"] == "cache"]
    words = [_left_words(item) for item in ruled if item not in caches]
    hint = "\n  (a pattern given with --include or in .tppinclude brings such files home)" if words else ""
    if caches:
        words.append(f"{sum(item['files'] for item in caches):,} files of caches")
    if words:
        screen.line(f"  left in the sandbox: {'; '.join(words)}{hint}", "dim")


def _left_words(item: dict[str, Any]) -> str:
    name = clean(str(item["path"]), one_line=True)
    place = f"{item['files']:,} files under {name}" if item["files"] > 1 else name
    return f"{place} ({item['why']})"


def _tell_branch(screen: Screen, record: Record, patch: bytes) -> None:
    """What is odd about a branch made of this patch: ignored files are in it, empty folders are not."""
    names = {touch.new or touch.old or "" for touch in patches.touches(patch)}
    folders = sorted(name for name in names if apply.is_folder(name))
    asked = b"".join(os.fsencode(name) + b"\0" for name in sorted(names - set(folders)))
    ignored: list[str] = []
    try:
        raw = git.run("check-ignore", "-z", "--no-index", "--stdin", cwd=record.root, stdin=asked, ok=(0, 1))
        known = set(git.names(git.run("ls-files", "-z", cwd=record.root)))
        ignored = [name for name in git.names(raw) if name not in known]
    except git.GitFailed as error:  # the branch is made; only this note is missing, and that is said
        words = clean(error.words, one_line=True)
        screen.line(f"  git cannot tell which of these files it ignores: {words}", "yellow")
    if ignored:
        screen.line(f"  in the branch though git ignores them: {', '.join(map(show, ignored))}", "yellow")
    if folders:
        some = ", ".join(show(name.rpartition("/")[0] + "/") for name in folders)
        screen.line(f"  a branch holds no empty folders: {some}", "yellow")


def _to_file(screen: Screen, patch: bytes, target: str, as_json: bool) -> None:
    if target == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(patch)
        sys.stdout.buffer.flush()
        return
    home.write_atomically(Path(target), patch)
    _say(screen, as_json, "patch", f"Patch written: {target}", patch=target)


def _how(screen: Screen, record: Record, kept: Path, as_json: bool) -> None:
    if not as_json:
        screen.line(f"  apply it:  ./tpp run --resume {record.conversation_id[:8]} --apply", "dim")
        screen.line(f"  or:        git -C {shlex.quote(record.root)} apply {shlex.quote(str(kept))}", "dim")


def _message(record: Record) -> str:
    subject, _, rest = record.task.strip().partition("\n")
    subject = subject if len(subject) <= 72 else subject[:71] + "…"
    body = f"{subject}\n\n{rest.strip()}".strip()[:20_000]
    return f"{body}\n\nMade by Terminal++ ({record.conversation_id})\n"


def _ask(screen: Screen, record: Record) -> Destination:
    branch_words = ", [b]ranch" if record.is_git else ""
    while True:
        where = f"[a]pply to {show(record.root)}{branch_words}, [p]atch file, [n]ot now"
        screen.words(f"Take the changes? {where}: ")
        answer = sys.stdin.readline().strip().lower()
        screen.end_words()
        if answer in ("a", "apply"):
            return Destination(to_tree=True)
        if answer in ("b", "branch") and record.is_git:
            screen.words(f"Name of the branch [tpp/{record.conversation_id[:8]}]: ")
            return Destination(branch=sys.stdin.readline().strip() or f"tpp/{record.conversation_id[:8]}")
        if answer in ("p", "patch"):
            screen.words(f"File [{record.name}.patch]: ")
            return Destination(patch=sys.stdin.readline().strip() or f"{record.name}.patch")
        if answer in ("", "n", "no", "q"):
            return Destination()


def _say(screen: Screen, as_json: bool, what: str, words: str, **facts: object) -> None:
    if as_json:
        screen.line(json.dumps({"type": "cli.result", "payload": {"result": what, **facts}}))
    else:
        screen.line(words)
