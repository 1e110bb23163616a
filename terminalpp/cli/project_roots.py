"""The repositories of a project: its top, and each repository inside it. Each has ignore rules of its own.

`survey` asks git, one root after the other, which names there are: the tracked ones and the untracked that
are not ignored; `ignored` asks for the others. Both change nothing. Names are relative to the project's
root, byte for byte (`surrogateescape`). A directory that is no repository is asked through an empty one
(`ignoring`), so that its `.gitignore` files mean there what they mean in git.

Whatever git refuses to answer is told in `warnings`; nothing is left out in silence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from terminalpp.cli import git

NEST_LIMIT = 8  # submodules in submodules


@dataclass(slots=True)
class ProjectRoot:
    """`prefix` is "" for the root, else it ends with a slash. `rules` are git's options for asking here.

    `hollow`: folders where git expects a submodule and there is no repository."""

    prefix: str
    top: Path
    rules: tuple[str, ...]
    names: set[str] = field(default_factory=set)
    hollow: set[str] = field(default_factory=set)


def survey(root: Path, is_git: bool, ignoring: Path, warnings: list[str]) -> list[ProjectRoot]:
    """Every repository from the top down, with its names. Raises GitFailed when the root cannot be read."""
    first = ProjectRoot("", root, () if is_git else _bare(ignoring, root))
    return list(_within(first, ignoring, warnings, 0))


def ignored(place: ProjectRoot) -> set[str]:
    """The names that the rules of a root leave out; all that is in a repository in an ignored folder."""
    raw = git.run(*place.rules, "ls-files", "-z", "--others", "--ignored", "--exclude-standard",
                  cwd=place.top)
    found: set[str] = set()
    for name in git.names(raw):
        if name.endswith("/"):
            found |= {place.prefix + inner for inner in _everything(place.top, name)}
        else:
            found.add(place.prefix + name)
    return found


def folders_ignored(place: ProjectRoot, folders: list[str]) -> set[str]:
    """Those of `folders` (relative to the root) that a rule of the root excludes."""
    if not folders:
        return set()
    asked = b"".join(os.fsencode(name[len(place.prefix):]) + b"\0" for name in folders)
    raw = git.run(*place.rules, "check-ignore", "-z", "--stdin", cwd=place.top, stdin=asked, ok=(0, 1))
    return {place.prefix + name for name in git.names(raw)}


def _bare(ignoring: Path, top: Path) -> tuple[str, ...]:
    return (f"--git-dir={ignoring}", f"--work-tree={top}", "-c", "core.bare=false")


def _within(place: ProjectRoot, ignoring: Path, warnings: list[str], depth: int) -> Iterator[ProjectRoot]:
    raw = git.run(*place.rules, "ls-files", "-z", "--cached", "--others", "--exclude-standard",
                  cwd=place.top)
    nested: list[str] = []
    for name in {found.rstrip("/") for found in git.names(raw)}:
        inner = place.top / name
        if not os.path.isdir(inner) or os.path.islink(inner):
            place.names.add(place.prefix + name)
        elif os.path.lexists(inner / ".git"):
            nested.append(name)
        elif _is_gitlink(place, name):
            place.hollow.add(place.prefix + name)
            nested.append(name)
    yield place
    for name in sorted(nested):
        shown = place.prefix + name
        shown = shown if shown.isprintable() else ascii(shown)
        if depth >= NEST_LIMIT:
            warnings.append(f"{shown} is nested too deeply and is not copied")
            continue
        top, prefix = place.top / name, f"{place.prefix}{name}/"
        plain = ProjectRoot(prefix, top, _bare(ignoring, top))
        if place.prefix + name in place.hollow:
            yield from _or_told(plain, ignoring, warnings, depth + 1, shown)
            continue
        # named outright: from a damaged `.git` git would go on to the repository around it
        inner_rules = (f"--git-dir={top / '.git'}", f"--work-tree={top}", "-c", "core.bare=false")
        try:
            yield from _within(ProjectRoot(prefix, top, inner_rules), ignoring, warnings, depth + 1)
        except git.GitFailed as error:
            warnings.append(f"git cannot read the repository {shown}, its files are copied as plain ones: "
                            f"{error.words.splitlines()[0]}")
            yield from _or_told(plain, ignoring, warnings, depth + 1, shown)


def _or_told(
    place: ProjectRoot, ignoring: Path, warnings: list[str], depth: int, shown: str
) -> Iterator[ProjectRoot]:
    try:
        yield from _within(place, ignoring, warnings, depth)
    except git.GitFailed as error:
        warnings.append(f"{shown} is not copied: {error.words.splitlines()[0]}")


def _is_gitlink(place: ProjectRoot, name: str) -> bool:
    raw = git.run(*place.rules, "ls-files", "-z", "-s", "--", f":(literal){name}", cwd=place.top)
    return raw.startswith(b"160000 ")


def _everything(top: Path, folder: str) -> Iterator[str]:
    """Every file below `folder` but git's own; relative to `top`."""
    start = os.path.join(top, folder)
    for where, folders, names in os.walk(start):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        folders[:] = [name for name in folders if name != ".git" and name not in links]
        for name in [*names, *links]:
            if name != ".git":
                yield os.path.relpath(os.path.join(where, name), top)
