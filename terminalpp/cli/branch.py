"""Bringing a team's patch home as a new branch, without touching index, HEAD or working tree.

A branch is made from objects alone, with an index file of its own: the commit that was copied is
its parent. If the team edited files that had uncommitted changes, those changes come first, as a
commit of their own. Empty folders, which a commit cannot hold, are left out.
"""

from __future__ import annotations

import os
from pathlib import Path

from terminalpp.cli import git, home
from terminalpp.cli.apply import Change, Project, is_folder, stage
from terminalpp.cli.repository import show
from terminalpp.types.errors import Conflict, InvalidInput


def to_branch(patch: bytes, project: Project, name: str, message: str) -> str:
    """Commit to a new branch; its commit id. Raises Conflict (it exists), InvalidInput."""
    check_branch(project.root, project.is_git, name)
    with home.scratch("apply") as scratch:
        changes = [c for c in stage(patch, project, scratch, committed=True) if not is_folder(c.path)]
        for change in changes:
            nested = _in_other_repository(project.root, change.path)
            if nested:
                raise Conflict(f"{show(change.path)} is in the repository {nested}, a branch cannot hold it",
                               "Apply to the working tree instead: --apply.")
        index = {"GIT_INDEX_FILE": str(scratch / "index"), **_identity(project.root)}
        commit = _commits(project, changes, index, message)
        zero = "0" * len(commit)
        try:
            git.run("update-ref", "-m", "tpp run", f"refs/heads/{name}", commit, zero, cwd=project.root)
        except git.GitFailed as error:
            raise Conflict(f"the branch {name} could not be made: {error.words}") from error
    return commit


def check_branch(root: Path, is_git: bool, name: str) -> None:
    """Raises InvalidInput for a name that cannot be a new branch here, Conflict when it exists."""
    if not is_git:
        raise InvalidInput(f"{root} is not a git repository, so there is no branch to make",
                           "Use --apply or --patch FILE.")
    if name.startswith("-") or git.maybe("check-ref-format", f"refs/heads/{name}", cwd=root) is None:
        raise InvalidInput(f"not a branch name: {name!r}")
    if git.maybe("rev-parse", "-q", "--verify", f"refs/heads/{name}", cwd=root) is not None:
        raise Conflict(f"the branch {name} exists already", "Choose another name for --branch.")


def _in_other_repository(root: Path, name: str) -> str | None:
    folder = root
    for part in name.split("/")[:-1]:
        folder = folder / part
        if (folder / ".git").exists():
            return show(str(folder.relative_to(root)))
    return None


def _identity(root: Path) -> dict[str, str]:
    """The person's name for the commit, or ours where git has none for them."""
    if git.maybe("var", "GIT_COMMITTER_IDENT", cwd=root) and git.maybe("config", "user.email", cwd=root):
        return {}
    names = {f"GIT_{who}_NAME": "Terminal++" for who in ("AUTHOR", "COMMITTER")}
    return names | {f"GIT_{who}_EMAIL": "terminalpp@localhost" for who in ("AUTHOR", "COMMITTER")}


def _commits(project: Project, changes: list[Change], env: dict[str, str], message: str) -> str:
    root, parent = project.root, project.head
    git.run("read-tree", *([parent] if parent else ["--empty"]), cwd=root, env=env)
    dirty = []
    for change in changes:
        record = _record(root, change.path, change.before)
        if record != _committed(root, parent, change.path):
            dirty.append((change.path, record))
    if dirty:
        words = "Uncommitted changes in the files the team edited, as they were when it began"
        parent = _commit(root, dirty, env, words, parent)
    records = [(change.path, _record(root, change.path, change.after)) for change in changes]
    return _commit(root, records, env, message, parent)


def _record(root: Path, name: str, content: Path | None) -> tuple[str, str] | None:
    """(mode, blob id) of a file written to the object store, or None for no file."""
    if content is None:
        return None
    if content.is_symlink():
        data = os.fsencode(os.readlink(content))
        blob = os.fsdecode(git.run("hash-object", "-w", "--stdin", cwd=root, stdin=data)).strip()
        return "120000", blob
    options = ("hash-object", "-w", f"--path={name}", "--stdin")
    blob = os.fsdecode(git.run(*options, cwd=root, stdin=content.read_bytes())).strip()
    return "100755" if content.stat().st_mode & 0o100 else "100644", blob


def _committed(root: Path, head: str | None, name: str) -> tuple[str, str] | None:
    if head is None:
        return None
    raw = git.run("ls-tree", "-z", head, "--", f":(literal){name}", cwd=root)
    for record in git.names(raw):
        meta, _, path = record.partition("\t")
        if path == name:
            mode, _, blob = meta.split(" ")
            return mode, blob
    return None


def _commit(
    root: Path,
    records: list[tuple[str, tuple[str, str] | None]],
    env: dict[str, str],
    message: str,
    parent: str | None,
) -> str:
    zero = "0" * (64 if git.maybe("rev-parse", "--show-object-format", cwd=root) == "sha256" else 40)
    gone = [f"0 {zero}\t{name}" for name, record in records if record is None]
    there = [f"{record[0]} {record[1]}\t{name}" for name, record in records if record is not None]
    feed = b"".join(os.fsencode(text) + b"\0" for text in gone + there)
    git.run("update-index", "--add", "--remove", "--replace", "-z", "--index-info",
            cwd=root, env=env, stdin=feed)
    tree = git.line("write-tree", cwd=root, env=env)
    parents = ["-p", parent] if parent else []
    raw = git.run("commit-tree", tree, *parents, cwd=root, env=env, stdin=message.encode("utf-8", "replace"))
    return os.fsdecode(raw).strip()
