"""The `.git` that goes into the sandbox with a project's files.

`copy_history` makes a fresh repository that shares nothing with the original: fetched over git's own
protocol, with the same branches, tags, replacements and HEAD, an index that equals HEAD, no hooks, no
configuration that runs a program, and remotes without credentials. `git_mirror` then gives it what git needs
to see the files as it sees them at home.

A partial clone lacks objects by design and must not fetch them from its server now: what it has is packed
as it is. Where the history is damaged, as much as can be had is copied, and a warning says what is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from terminalpp.cli import git, git_mirror
from terminalpp.cli.repository import Survey

_SHARED = ("refs/heads", "refs/tags", "refs/replace")
_FETCH = ("fetch", "-q", "--no-tags", "--update-shallow", "--no-write-fetch-head")


def copy_history(found: Survey, scratch: Path) -> Path | None:
    """The `.git` folder to send, or None when there is none to send (a warning says why)."""
    if not found.is_git:
        return None
    made = scratch / "history"
    source = str(found.root)
    kind = git.maybe("rev-parse", "--show-object-format", cwd=source) or "sha1"
    git.run("init", "-q", "--bare", "--template=", f"--object-format={kind}", str(made), cwd=scratch)
    lender = _promisor(found.root)
    if found.head and not _objects(found, made, lender is not None):
        return None
    if found.branch:
        git.run("symbolic-ref", "HEAD", found.branch, cwd=made)
    elif found.head:
        git.run("update-ref", "--no-deref", "HEAD", found.head, cwd=made)
        git.run("update-ref", "-d", "refs/terminalpp/head", cwd=made)
    _remotes(found.root, made)
    git.run("config", "core.bare", "false", cwd=made)
    git_mirror.carry(found, made, scratch)
    if lender is not None:  # last: from here on git may ask the server for what is missing
        git.run("config", "core.repositoryFormatVersion", "1", cwd=made)
        git.run("config", "extensions.partialClone", lender, cwd=made)
        git.run("config", f"remote.{lender}.promisor", "true", cwd=made)
    return made


def _promisor(source: Path) -> str | None:
    """The remote that a partial clone would fetch missing objects from."""
    raw = git.maybe("config", "--null", "--type=bool", "--get-regexp", r"^remote\..*\.promisor$", cwd=source)
    for record in (raw or "").split("\0"):
        key, _, value = record.partition("\n")
        if value == "true":
            return key[len("remote."):-len(".promisor")]
    return git.maybe("config", "extensions.partialClone", cwd=source)


def _objects(found: Survey, made: Path, partial: bool) -> bool:
    """Objects and refs. False, with a warning, when not even the present commit can be had."""
    here = f"+HEAD:{found.branch or 'refs/terminalpp/head'}"
    everything = [f"+{name}/*:{name}/*" for name in _SHARED]
    if found.branch is None or not found.branch.startswith("refs/heads/"):
        everything.append(here)
    attempts: list[tuple[str, Callable[[], None]]] = [
        ("", lambda: _fetch(found, made, everything)),
        ("the history could not be copied whole; only that of the present branch is",
         lambda: _fetch(found, made, [here])),
        ("the history could not be copied whole; only its last commit is",
         lambda: _fetch(found, made, [here], "--depth=1")),
        ("the history has holes, and is copied with them", lambda: _pack(found, made, here)),
    ]
    if partial:
        attempts = [("", lambda: _pack(found, made, here))]
    words = ""
    for warning, attempt in attempts:
        try:
            attempt()
            git.run(f"--git-dir={made}", "ls-tree", "-r", "-t", "--name-only", found.head or "", cwd=made)
        except git.GitFailed as error:
            words = error.words.splitlines()[-1] if error.words else "git failed"
        else:
            found.warnings += [warning] if warning else []
            return True
    found.warnings.append(f"the history could not be copied, only the files are: {words}")
    return False


def _fetch(found: Survey, made: Path, wanted: list[str], *options: str) -> None:
    source = f"file://{found.root}" if options else str(found.root)
    git.run(f"--git-dir={made}", *_FETCH, *options, source, *wanted, cwd=made)


def _pack(found: Survey, made: Path, here: str) -> None:
    """Every object that is there and none that is not, with the refs that have their object."""
    source, target = found.root, here.partition(":")[2]
    raw = git.run("for-each-ref", "--format=%(objectname) %(refname)", *_SHARED, cwd=source)
    refs = dict(reversed(line.split(" ", 1)) for line in os.fsdecode(raw).splitlines())
    refs[target] = found.head or ""
    shallow = git.maybe("rev-parse", "--git-path", "shallow", cwd=source)
    if shallow and (source / shallow).is_file():
        (made / "shallow").write_bytes((source / shallow).read_bytes())
    there = git.run("cat-file", "--batch-check", cwd=source, env={"GIT_NO_LAZY_FETCH": "1"},
                    stdin="".join(f"{oid}\n" for oid in refs.values()).encode())
    gone = {line.split(b" ")[0].decode() for line in there.splitlines() if line.endswith(b" missing")}
    tips = sorted(set(refs.values()) - gone)
    base = made / "objects" / "pack" / "pack"
    packed = git.run("pack-objects", "-q", "--revs", "--missing=allow-any", "--delta-base-offset", str(base),
                     cwd=source, stdin="".join(f"{oid}\n" for oid in tips).encode())
    for name in packed.decode().split():  # the mark of a pack whose references may lead nowhere
        base.with_name(f"pack-{name}.promisor").touch()
    lines = "".join(f"update {name} {oid}\n" for name, oid in refs.items() if oid not in gone)
    git.run(f"--git-dir={made}", "update-ref", "--stdin", cwd=made, stdin=os.fsencode(lines))


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
