"""What of a person's repository goes into the sandbox.

`survey` decides it without changing anything: in a git work tree the tracked files as they are on
disk and the untracked ones that are not ignored; elsewhere every file that a `.gitignore` in the
directory does not exclude. A `.tppignore` at the top (same syntax) takes more away, tracked or not; a
`.tppinclude` and `--include` bring ignored files in. The order: `--include` outranks `.tppignore`, which
outranks `.tppinclude`. Ignore and attribute files come even when they are ignored themselves: without
them git would see other files than at home. Folders without files come too.

Deleted files are absent, so they are deleted in the sandbox. Submodules and nested repositories
come as plain files. Symbolic links are copied as links and never followed. Names are kept byte for
byte (`surrogateescape`). What cannot be copied is either refused with the way round (a file of 2 GB
or more) or left out with a warning (sockets, devices, unreadable files). The `.git` that goes with it
is made by `history`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from terminalpp.cli import folders, git, home, patterns, project_roots
from terminalpp.cli.project_roots import ProjectRoot
from terminalpp.types.errors import InvalidInput, TooLarge

FILE_LIMIT_BYTES = 2_000_000_000
FILES_LIMIT = 500_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or link; `path` is relative to the root, `size` in bytes."""

    path: str
    size: int
    executable: bool
    link: bool


@dataclass(slots=True)
class Survey:
    """What will be copied, and what the person should know about it.

    `folders`: the ones without a file, parents first. `withheld`: names that exist at home and are kept from
    the sandbox though git may track them. `include`: the patterns of `.tppinclude` and `--include`.
    """

    root: Path
    name: str
    is_git: bool
    head: str | None = None      # commit, None in an empty repository
    branch: str | None = None    # full ref name, None when HEAD is detached
    entries: list[Entry] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    withheld: set[str] = field(default_factory=set)
    include: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        """The bytes of all files that will be sent."""
        return sum(entry.size for entry in self.entries)

    def describe(self) -> str:
        """What kind of project it is and how much of it, in words."""
        kind = "git repository" if self.is_git else "plain files"
        if self.is_git and self.head is None:
            kind = "empty git repository"
        return f"{len(self.entries):,} files, {size_words(self.total_bytes)} ({kind})"


def size_words(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{count} B"


def survey(directory: str | os.PathLike[str], scratch: Path, include: Iterable[str] = ()) -> Survey:
    """Look at `directory`. `scratch` is an empty folder for git's needs, `include` the patterns asked for.

    Raises InvalidInput (no such directory, not readable, not to be copied), TooLarge, GitFailed.
    """
    given = Path(os.path.abspath(os.path.expanduser(os.fspath(directory))))
    if not given.exists():
        raise InvalidInput(f"there is no such directory: {given}", "Name an existing one with --repo.")
    if not given.is_dir():
        raise InvalidInput(f"not a directory: {given}", "Name the directory that holds the project.")
    asked = patterns.given(include)
    root = Path(os.path.realpath(given))
    top = _top(root)
    result = Survey(root=top or root, name="", is_git=top is not None)
    if result.root == Path("/") or (result.root == Path(os.path.expanduser("~")) and top is None):
        raise InvalidInput(f"{result.root} is not a project", "Name the project's own directory with --repo.")
    result.name = safe_name(result.root.name)
    if top and top != root:
        result.warnings.append(f"{given.name} is part of the repository {top}: the whole of it is copied")
    ignoring = scratch / "ignore.git"
    git.run("init", "-q", "--bare", "--template=", str(ignoring), cwd=scratch)
    if result.is_git:
        result.head = git.maybe("rev-parse", "-q", "--verify", "HEAD^{commit}", cwd=result.root)
        result.branch = git.maybe("symbolic-ref", "-q", "HEAD", cwd=result.root)
        if result.head is None and git.maybe("rev-parse", "-q", "--verify", "HEAD", cwd=result.root):
            result.warnings.append("git cannot read the commit that HEAD names: files come without history")
    areas = project_roots.survey(result.root, result.is_git, ignoring, result.warnings)
    _choose(result, areas, asked, patterns.Matcher(ignoring, scratch))
    return result


def _choose(result: Survey, areas: list[ProjectRoot], asked: list[str], matcher: patterns.Matcher) -> None:
    """From all names to the ones that are copied."""
    root = result.root
    names = {name for area in areas for name in area.names}
    shared = patterns.of_file(root / ".tppinclude")
    patterns.check(shared + asked)
    result.include = [pattern for pattern in shared + asked if _is_text(pattern)]
    hidden = {name for area in areas for name in project_roots.ignored(area)} if shared + asked else set()
    found = folders.look(root, areas, names)
    every = names | hidden
    asked_by_file = matcher.matched(shared, hidden)
    names |= found.rules | asked_by_file
    gone = matcher.matched(patterns.of_file(root / ".tppignore"), names)
    names = (names - gone) | matcher.matched(asked, hidden | gone)
    own = _own_state(root, names)
    result.withheld = (gone | own) - (names - own)
    _examine(result, names - own)
    full = folders.parents(entry.path for entry in result.entries)
    _keep_folders(result, found, full, matcher)
    # told, because the file may come with a project that somebody else wrote
    _tell(result, sorted(asked_by_file & {entry.path for entry in result.entries}),
          "ignored file(s) are copied because .tppinclude names them")
    for source, listed in ((".tppinclude: ", shared), ("--include ", asked)):
        for pattern in matcher.idle(listed, every):
            result.warnings.append(f"{source}{show(pattern)} names no file here")
    for pattern in shared + asked:
        if not _is_text(pattern):  # the server would refuse it
            result.warnings.append(f"the pattern {show(pattern)} is not plain text: "
                                   "it brings files in, but none out")
    result.warnings += folders.dependencies(root, found.ignored, full)


def _is_text(pattern: str) -> bool:
    return not any("\udc80" <= char <= "\udcff" or char == "\r" for char in pattern)


def _keep_folders(
    result: Survey, found: folders.Folders, full: set[str], matcher: patterns.Matcher
) -> None:
    for problem in found.problems:
        result.warnings.append(f"not all empty folders are copied: {problem}")
    _tell(result, sorted(found.unreadable), "folder(s) may not be read and are not copied")
    # a folder is asked about by a name inside it: only so does a pattern such as `data/` speak of it
    rules = patterns.of_file(result.root / ".tppignore")
    gone = {name[:-2] for name in matcher.matched(rules, [f"{folder}/-" for folder in found.empty])}
    gone |= _own_state(result.root, set(found.empty))
    kept = [folder for folder in found.empty if folder not in gone and folder not in full]
    if len(kept) > folders.FOLDERS_LIMIT:
        result.warnings.append(f"{len(kept) - folders.FOLDERS_LIMIT:,} empty folders are not copied")
    result.folders = kept[: folders.FOLDERS_LIMIT]


def safe_name(name: str) -> str:
    """The directory's name in the sandbox: letters, digits, dot, dash, underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-")[:64] or "project"


def _top(root: Path) -> Path | None:
    """The work tree that `root` is in, or None when it is to be taken as plain files."""
    try:
        found = git.line("rev-parse", "--show-toplevel", cwd=root)
    except git.GitFailed as error:
        if "dubious ownership" in error.words:
            raise InvalidInput(
                f"git refuses {root}: it belongs to another account",
                f"If you trust it: git config --global --add safe.directory {root}",
            ) from error
        return None
    top = Path(os.path.realpath(found))
    if not found or (top != root and git.maybe("check-ignore", "-q", str(root), cwd=top) is not None):
        return None  # bare repository; or a directory that the repository around it ignores
    return top


def _own_state(root: Path, names: set[str]) -> set[str]:
    """A TPP_HOME inside the project holds tokens: never copied."""
    inside = os.path.relpath(os.path.realpath(home.path()), root)
    return {name for name in names if name == inside or name.startswith(inside + "/")}


def _examine(result: Survey, names: set[str]) -> None:
    """Turn names into entries; refuse and warn."""
    if len(names) > FILES_LIMIT:
        raise TooLarge(
            f"{len(names):,} files are more than the limit of {FILES_LIMIT:,}",
            "Exclude generated folders with a .gitignore or a .tppignore.",
        )
    real: dict[str, bool] = {"": True}
    outside: list[str] = []
    odd: list[str] = []
    unreadable: list[str] = []
    for name in sorted(names):
        if not _inside_real_folders(result.root, os.path.dirname(name), real):
            continue  # a folder became a link since it was tracked: git sees the file as deleted
        full = os.path.join(result.root, name)
        try:
            found = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            unreadable.append(name)
            continue
        if stat.S_ISLNK(found.st_mode):
            if not _stays_inside(name, os.readlink(full)):
                outside.append(name)
            result.entries.append(Entry(name, 0, False, True))
        elif not stat.S_ISREG(found.st_mode):
            odd.append(name)
        elif not os.access(full, os.R_OK):
            unreadable.append(name)
        elif found.st_size >= FILE_LIMIT_BYTES:
            raise TooLarge(
                f"{show(name)} is {size_words(found.st_size)}: the limit for one file is "
                f"{size_words(FILE_LIMIT_BYTES)}",
                "Name it in a .tppignore (or .gitignore) at the top of the project, then run again.",
            )
        else:
            result.entries.append(Entry(name, found.st_size, bool(found.st_mode & 0o100), False))
    result.withheld.update(unreadable)
    _tell(result, outside, "symbolic link(s) point outside the project and are copied as links, not followed")
    _tell(result, odd, "special file(s) (sockets, pipes, devices) are not copied")
    _tell(result, unreadable, "file(s) may not be read and are not copied")


def _tell(result: Survey, names: list[str], words: str) -> None:
    if names:
        some = ", ".join(show(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
        result.warnings.append(f"{len(names):,} {words}: {some}")


def _inside_real_folders(root: Path, folder: str, known: dict[str, bool]) -> bool:
    """Whether no part of the path is a link. A folder that may not be looked into counts: its files tell."""
    if folder not in known:
        known[folder] = _inside_real_folders(root, os.path.dirname(folder), known)
        try:
            known[folder] = known[folder] and stat.S_ISDIR(os.lstat(os.path.join(root, folder)).st_mode)
        except PermissionError:
            pass
        except OSError:
            known[folder] = False
    return known[folder]


def _stays_inside(name: str, target: str) -> bool:
    if os.path.isabs(target):
        return False
    return not os.path.normpath(os.path.join(os.path.dirname(name), target)).startswith("..")


def show(name: str) -> str:
    """A file name for people: odd characters quoted."""
    return name if name.isprintable() else ascii(name)
