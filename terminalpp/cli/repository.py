"""What of a person's repository goes into the sandbox.

`survey` decides it without changing anything: in a git work tree the tracked files as they are on
disk and the untracked ones that are not ignored; elsewhere every file that a `.gitignore` in the
directory does not exclude. A `.tppignore` at the top (same syntax) takes more away, tracked or not.
Deleted files are absent, so they are deleted in the sandbox. Submodules and nested repositories
come as plain files. Symbolic links are copied as links and never followed. Names are kept byte for
byte (`surrogateescape`). What cannot be copied is either refused with the way round (a file of 2 GB
or more) or left out with a warning (sockets, devices, unreadable files).

`copy_history` makes the `.git` that goes with it: a fresh repository that shares nothing with the
original, fetched over git's own protocol, with the same branches, tags and HEAD, an index that
equals HEAD, no hooks, and remotes without credentials.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from terminalpp.cli import git, home
from terminalpp.types.errors import InvalidInput, TooLarge

FILE_LIMIT_BYTES = 2_000_000_000
FILES_LIMIT = 500_000
NEST_LIMIT = 8  # submodules in submodules


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or link; `path` is relative to the root, `size` in bytes."""

    path: str
    size: int
    executable: bool
    link: bool


@dataclass(slots=True)
class Survey:
    """What will be copied, and what the person should know about it."""

    root: Path
    name: str
    is_git: bool
    head: str | None = None      # commit, None in an empty repository
    branch: str | None = None    # full ref name, None when HEAD is detached
    entries: list[Entry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)

    def describe(self) -> str:
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


def survey(directory: str | os.PathLike[str], scratch: Path) -> Survey:
    """Look at `directory`. `scratch` is an empty folder for git's needs.

    Raises InvalidInput (no such directory, not readable, not to be copied), TooLarge, GitFailed.
    """
    given = Path(os.path.abspath(os.path.expanduser(os.fspath(directory))))
    if not given.exists():
        raise InvalidInput(f"there is no such directory: {given}", "Name an existing one with --repo.")
    if not given.is_dir():
        raise InvalidInput(f"not a directory: {given}", "Name the directory that holds the project.")
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
        names = _tracked(result.root, "", result.warnings, 0)
    else:
        names = _plain(result.root, ignoring)
    names -= _own_state(result.root, names)
    names -= _tppignored(result.root, names, ignoring, scratch)
    _examine(result, names)
    return result


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


def _tracked(top: Path, prefix: str, warnings: list[str], depth: int) -> set[str]:
    raw = git.run("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=top)
    found: set[str] = set()
    for name in set(git.names(raw)):
        inner = top / name.rstrip("/")
        if not inner.is_dir() or inner.is_symlink():
            found.add(prefix + name)
        elif not (inner / ".git").exists():
            continue  # a submodule that was never checked out
        elif depth >= NEST_LIMIT:
            warnings.append(f"{show(prefix + name)} is nested too deeply and is not copied")
        else:
            try:
                found |= _tracked(inner, f"{prefix}{name.rstrip('/')}/", warnings, depth + 1)
            except git.GitFailed as error:
                warnings.append(f"{show(prefix + name)} is not copied: {error.words.splitlines()[0]}")
    return found


def _plain(root: Path, ignoring: Path) -> set[str]:
    where = (f"--git-dir={ignoring}", f"--work-tree={root}", "-c", "core.bare=false")
    raw = git.run(*where, "ls-files", "-z", "--others", "--exclude-standard", cwd=root)
    found: set[str] = set()
    for name in git.names(raw):
        if name.endswith("/"):  # a repository inside: its files, its own ignore rules
            found |= _tracked(root / name.rstrip("/"), name, [], 1)
        else:
            found.add(name)
    return found


def _own_state(root: Path, names: set[str]) -> set[str]:
    """A TPP_HOME inside the project holds tokens: never copied."""
    inside = os.path.relpath(os.path.realpath(home.path()), root)
    return {name for name in names if name == inside or name.startswith(inside + "/")}


def _tppignored(root: Path, names: set[str], ignoring: Path, scratch: Path) -> set[str]:
    rules = root / ".tppignore"
    if not rules.is_file() or not names:
        return set()
    empty = scratch / "empty"  # a work tree without .gitignore files: only .tppignore speaks
    empty.mkdir()
    where = (f"--git-dir={ignoring}", f"--work-tree={empty}", "-c", "core.bare=false")
    asked = b"\0".join(os.fsencode(name) for name in sorted(names)) + b"\0"
    raw = git.run(
        *where, "-c", f"core.excludesFile={rules}", "check-ignore", "-z", "--stdin", "--no-index",
        cwd=empty, stdin=asked, ok=(0, 1),
    )
    return set(git.names(raw))


def _examine(result: Survey, names: set[str]) -> None:
    """Turn names into entries; refuse and warn."""
    if len(names) > FILES_LIMIT:
        raise TooLarge(
            f"{len(names):,} files are more than the limit of {FILES_LIMIT:,}",
            "Exclude generated folders with a .gitignore or a .tppignore.",
        )
    real: dict[str, bool] = {"": True}
    outside: list[str] = []
    for name in sorted(names):
        if not _inside_real_folders(result.root, os.path.dirname(name), real):
            continue  # a folder became a link since it was tracked: git sees the file as deleted
        full = os.path.join(result.root, name)
        try:
            found = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(found.st_mode):
            if not _stays_inside(name, os.readlink(full)):
                outside.append(name)
            result.entries.append(Entry(name, 0, False, True))
        elif not stat.S_ISREG(found.st_mode):
            result.warnings.append(f"{show(name)} is not a regular file and is not copied")
        elif not os.access(full, os.R_OK):
            result.warnings.append(f"{show(name)} may not be read and is not copied")
        elif found.st_size >= FILE_LIMIT_BYTES:
            raise TooLarge(
                f"{show(name)} is {size_words(found.st_size)}: the limit for one file is "
                f"{size_words(FILE_LIMIT_BYTES)}",
                "Name it in a .tppignore (or .gitignore) at the top of the project, then run again.",
            )
        else:
            result.entries.append(Entry(name, found.st_size, bool(found.st_mode & 0o100), False))
    if outside:
        some = ", ".join(show(name) for name in outside[:3]) + (", …" if len(outside) > 3 else "")
        result.warnings.append(
            f"{len(outside)} symbolic link(s) point outside the project and are copied as links, "
            f"not followed: {some}"
        )


def _inside_real_folders(root: Path, folder: str, known: dict[str, bool]) -> bool:
    if folder not in known:
        above = _inside_real_folders(root, os.path.dirname(folder), known)
        full = os.path.join(root, folder)
        known[folder] = above and os.path.isdir(full) and not os.path.islink(full)
    return known[folder]


def _stays_inside(name: str, target: str) -> bool:
    if os.path.isabs(target):
        return False
    return not os.path.normpath(os.path.join(os.path.dirname(name), target)).startswith("..")


def show(name: str) -> str:
    """A file name for people: odd characters quoted."""
    return name if name.isprintable() else ascii(name)


# ---- history ------------------------------------------------------------------------------------


def copy_history(found: Survey, scratch: Path) -> Path | None:
    """The `.git` folder to send, or None when there is none to send (a warning says why)."""
    if not found.is_git:
        return None
    made = scratch / "history"
    source = str(found.root)
    kind = git.maybe("rev-parse", "--show-object-format", cwd=source) or "sha1"
    git.run("init", "-q", "--bare", "--template=", f"--object-format={kind}", str(made), cwd=scratch)
    if found.head:
        wanted = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        wanted += [] if found.branch else ["+HEAD:refs/terminalpp/head"]
        fetch = ("fetch", "-q", "--no-tags", "--update-shallow", "--no-write-fetch-head")
        try:
            _fetch(made, (*fetch, source, *wanted))
        except git.GitFailed:
            try:  # a partial clone, or damaged history: the present commit alone is better than nothing
                _fetch(made, (*fetch, "--depth=1", f"file://{source}", *wanted))
                found.warnings.append("the history could not be copied whole; only its last commit is")
            except git.GitFailed as error:
                words = error.words.splitlines()[-1] if error.words else "git failed"
                found.warnings.append(f"the history could not be copied, only the files are: {words}")
                return None
    if found.branch:
        git.run("symbolic-ref", "HEAD", found.branch, cwd=made)
    elif found.head:
        git.run("update-ref", "--no-deref", "HEAD", found.head, cwd=made)
        git.run("update-ref", "-d", "refs/terminalpp/head", cwd=made)
    _remotes(found.root, made)
    git.run("config", "core.bare", "false", cwd=made)
    if found.head:
        git.run(f"--git-dir={made}", f"--work-tree={scratch}", "read-tree", "HEAD", cwd=scratch)
    return made


def _fetch(made: Path, arguments: tuple[str, ...]) -> None:
    git.run(f"--git-dir={made}", *arguments, cwd=made)


def _remotes(source: Path, made: Path) -> None:
    raw = git.maybe("config", "--null", "--get-regexp", r"^remote\..*\.url$", cwd=source) or ""
    for record in raw.split("\0"):
        key, _, url = record.partition("\n")
        cleaned = without_credentials(url)
        if key and cleaned:
            git.run("config", "--add", key, cleaned, cwd=made)
            git.run("config", key[: -len("url")] + "fetch",
                    f"+refs/heads/*:refs/remotes/{key.split('.', 1)[1][:-4]}/*", cwd=made)


def without_credentials(url: str) -> str | None:
    """A remote's URL without user, password and query; None for a path of this machine."""
    if "://" not in url:
        scp = re.fullmatch(r"(?:([^@/:]+)@)?([A-Za-z0-9._-]+):(?!/?/)(.*)", url)
        return f"git@{scp[2]}:{scp[3]}" if scp else None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https", "ssh", "git") or not host:
        return None
    who = "git@" if parts.scheme == "ssh" else ""
    place = f"{who}{host}" + (f":{port}" if port else "")
    return urlunsplit((parts.scheme, place, parts.path, "", ""))
