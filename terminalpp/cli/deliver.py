"""What becomes of a team's changes: the working tree, a new branch, a patch file, or the shelf.

Without a flag and with a person at the terminal it asks; without a person the patch is kept under
TPP_HOME/patches and the command to apply it is printed. Whatever fails, the patch is kept first.
Changes whose tests are not green are not applied by the flag of the run that made them: they are kept, and
whoever has seen that applies them with `run --resume ID --apply`.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from terminalpp.cli import apply, branch, diffs, home
from terminalpp.cli.exits import NotApplied
from terminalpp.cli.records import Record
from terminalpp.cli.repository import show
from terminalpp.cli.screen import Screen
from terminalpp.types.errors import InvalidInput, TerminalError


@dataclass(frozen=True, slots=True)
class Wish:
    """What the flags asked for; nothing set: ask, or keep."""

    to_tree: bool = False
    branch: str | None = None
    patch: str | None = None

    def __post_init__(self) -> None:
        if sum((self.to_tree, self.branch is not None, self.patch is not None)) > 1:
            raise InvalidInput("--apply, --branch and --patch exclude each other", "Give one of them.")

    @property
    def open(self) -> bool:
        return not (self.to_tree or self.branch is not None or self.patch is not None)


def deliver(
    screen: Screen, record: Record, patch: bytes, wish: Wish, *, green: bool, as_json: bool, ask: bool = True
) -> None:
    """Show the changes and do what was wished; without `green` a flag alone does not apply them.

    Raises NotApplied, with the patch kept.
    """
    if not patch:
        _say(screen, as_json, "none", "No files were changed.")
        return
    if not as_json:
        screen.line()
        diffs.show(screen, patch)
        screen.line()
    if wish.open and ask and not as_json and sys.stdin.isatty() and screen.tty:
        wish = _ask(screen, record)
    elif not green and not wish.open and wish.patch is None:
        kept = record.keep(patch)
        _say(screen, as_json, "kept", f"The tests are not green, so nothing was applied; kept: {kept}",
             patch=str(kept))
        _how(screen, record, kept, as_json)
        return
    _carry_out(screen, record, patch, wish, as_json)


def _carry_out(screen: Screen, record: Record, patch: bytes, wish: Wish, as_json: bool) -> None:
    kept = record.keep(patch)
    try:
        if wish.to_tree:
            changed = apply.to_tree(patch, record.project())
            record.note_applied(patch, changed)
            if not changed:
                words = f"{show(record.root)} holds these changes already."
                _say(screen, as_json, "applied", words, paths=[])
                return
            words = f"Applied to {show(record.root)}: {len(changed)} file{'s' if len(changed) != 1 else ''}"
            _say(screen, as_json, "applied", f"{words}. Your index, stash and commits are untouched.",
                 paths=changed)
        elif wish.branch is not None:
            commit = branch.to_branch(patch, record.project(), wish.branch, _message(record))
            _say(screen, as_json, "branch", f"Branch {wish.branch} made at {commit[:12]}. "
                 f"See it: git log -p {shlex.quote(wish.branch)}", branch=wish.branch, commit=commit)
        elif wish.patch is not None:
            _to_file(screen, patch, wish.patch, as_json)
        else:
            _say(screen, as_json, "kept", f"The changes are kept: {kept}", patch=str(kept))
            _how(screen, record, kept, as_json)
    except TerminalError as error:
        raise NotApplied(error, str(kept)) from error


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


def _ask(screen: Screen, record: Record) -> Wish:
    branch_words = ", [b]ranch" if record.is_git else ""
    while True:
        where = f"[a]pply to {show(record.root)}{branch_words}, [p]atch file, [n]ot now"
        screen.words(f"Take the changes? {where}: ")
        answer = sys.stdin.readline().strip().lower()
        screen.end_words()
        if answer in ("a", "apply"):
            return Wish(to_tree=True)
        if answer in ("b", "branch") and record.is_git:
            screen.words(f"Name of the branch [tpp/{record.conversation_id[:8]}]: ")
            return Wish(branch=sys.stdin.readline().strip() or f"tpp/{record.conversation_id[:8]}")
        if answer in ("p", "patch"):
            screen.words(f"File [{record.name}.patch]: ")
            return Wish(patch=sys.stdin.readline().strip() or f"{record.name}.patch")
        if answer in ("", "n", "no", "q"):
            return Wish()


def _say(screen: Screen, as_json: bool, what: str, words: str, **facts: object) -> None:
    if as_json:
        screen.line(json.dumps({"type": "cli.result", "payload": {"result": what, **facts}}))
    else:
        screen.line(words)
