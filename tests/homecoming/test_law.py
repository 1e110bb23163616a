"""The law of coming home, over generated repositories and changes.

The work tree after the turn minus the work tree before equals what is brought home, or each difference is
named. Here everything is real but the sandbox's walls: the copy goes through the tar that is sent, the record
through git, the patch into the person's tree. tests/homecoming/test_sandbox.py does it inside a sandbox.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.conversation.workspace import GitWorkspace
from actors.conversation.worktree import Excluded, Listing, Seen
from terminalpp.cli import apply, archive, history, repository
from tests.cli.repositories import git
from tests.homecoming.place import LocalPlace

NAMES = (
    b"a.py", b"A.py", b"src/b.py", b"src/B.py", b"lib/c.py", b"lib/deep/d.py", b"build/e.o", b"x y.txt",
    "ü.txt".encode(), b"\xff\xfe.bin", b"new\nline", b"tab\there", b'quo"te\\', b"-dash", b"gen/out.py",
    b".env", b"keep.log", b"noise.log", b"trail ", b"dir /x", b"node_modules/m/i.js", b"__pycache__/a.pyc",
    b"star*[a]?", b"target/t", b"Cargo.toml", b"run.sh", b"settings.local", b"vendor/v.go", b"\xe2\x80\xa8/u",
    b".hidden/h",
)  # fmt: skip
FOLDERS = (b"empty", b"lib/void", b"build/none", b"gen", b"src", b"lib", b"new folder", b"deep/er/est")
RULES = ("lib/", "build", "*.log", "!keep.log", "*.local", "gen/*", "/vendor/", ".env", "*", "!*.py",
         "target/", "node_modules/", "**/deep")  # fmt: skip
TEXTS = (
    b"", b"one\n", b"two\n", b"six\n", b"one\r\ntwo\r\n", b"no newline", b"\xef\xbb\xbfbom\n", b"\0\1\2" * 90,
    b"x" * 5000, bytes(range(256)) * 40, b"a\rb\rc\r", b"a\n" * 3000,
)  # fmt: skip
name, folder, text = st.sampled_from(NAMES), st.sampled_from(FOLDERS), st.sampled_from(TEXTS)
anything = st.one_of(text, st.binary(max_size=60))

REPOSITORY = st.fixed_dictionaries(
    {
        "git": st.booleans(),
        "files": st.dictionaries(name, anything, max_size=7),
        "rules": st.lists(st.sampled_from(RULES), max_size=4),
        "forced": st.booleans(),  # ignored files are tracked all the same
        "attributes": st.sampled_from(
            ("", "* text=auto\n", "*.py eol=crlf\n* -text\n", "*.bin filter=none\n")
        ),
        "crlf": st.sampled_from((None, "true", "input")),
        "empty": st.lists(folder, max_size=2),
        "link": st.booleans(),
        "inner": st.sampled_from((None, "committed", "bare start", "submodule")),
    }
)
CHANGE = st.one_of(
    st.tuples(st.just("write"), name, anything),
    st.tuples(st.just("write"), name, anything),
    st.tuples(st.just("flip"), name),  # other bytes, same size
    st.tuples(st.just("old"), name),  # other bytes, same size, same times
    st.tuples(st.just("delete"), name),
    st.tuples(st.just("clear"), folder),
    st.tuples(st.just("folder"), folder),
    st.tuples(st.just("link"), name, st.sampled_from((b"a.py", b"nowhere", b"src"))),
    st.tuples(st.just("mode"), name),
    st.tuples(st.just("swap"), name),  # a file becomes a folder with a file
    st.tuples(st.just("rename"), name, name),
    st.tuples(st.just("repository"), folder, st.booleans()),
    st.tuples(st.just("rules"), st.sampled_from(RULES)),
    st.tuples(st.just("pipe"), folder),
    st.tuples(st.just("background"), name),
)


def grow(root: Path, about: dict[str, Any]) -> None:
    root.mkdir()
    for path, data in about["files"].items():
        put(root, path, data)
    for path in about["empty"]:
        make_folder(root, path)
    (root / ".gitignore").write_text("".join(f"{rule}\n" for rule in about["rules"]))
    if about["attributes"]:
        (root / ".gitattributes").write_text(about["attributes"])
    if about["link"] and not os.path.lexists(root / "link"):
        os.symlink("a.py", root / "link")
    if not about["git"]:
        return
    git(root, "init", "-q", "-b", "main", "--template=")
    if about["crlf"]:
        git(root, "config", "core.autocrlf", about["crlf"])
    if about["inner"]:
        inner(root, about["inner"])
    git(root, "add", "-A", *(["-f"] if about["forced"] else []), ".")
    git(root, "commit", "-qm", "start", "--allow-empty")


def inner(root: Path, kind: str) -> None:
    """A repository inside: with a commit, without one, or as a submodule."""
    target = root / "inner"
    target.mkdir()
    (target / "core.py").write_bytes(b"LIB = 1\n")
    git(target, "init", "-q", "--template=")
    if kind == "bare start":
        shutil.rmtree(target / ".git")  # what git itself refuses to add; a plain folder then
        return
    git(target, "add", ".")
    git(target, "commit", "-qm", "lib")
    if kind == "submodule":
        git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "-f", "./inner", "inner")


def put(root: Path, path: bytes, data: bytes) -> bool:
    target = os.path.join(os.fsencode(root), path)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(target):
            os.unlink(target)
        with open(target, "wb") as file:
            file.write(data)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        return False  # another change stands in the way
    return True


def make_folder(root: Path, path: bytes) -> None:
    try:
        os.makedirs(os.path.join(os.fsencode(root), path), exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return


def change(root: Path, deed: tuple[Any, ...]) -> None:
    """What a tool, a command or a background job of the team does."""
    kind, path = deed[0], os.path.join(os.fsencode(root), deed[1].encode() if deed[0] == "rules" else deed[1])
    exists = os.path.lexists(path)
    regular = exists and os.path.isfile(path) and not os.path.islink(path)
    if kind == "write":
        put(root, deed[1], deed[2])
    elif kind in ("flip", "old") and regular:
        found = os.stat(path)
        with open(path, "r+b") as file:
            data = file.read()
            file.seek(0)
            file.write(bytes(byte ^ 1 for byte in data))
        if kind == "old":
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    elif kind == "delete" and exists and not os.path.isdir(path):
        os.unlink(path)
    elif kind == "clear" and os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif kind == "folder":
        make_folder(root, deed[1])
    elif kind == "link" and not (exists and os.path.isdir(path) and not os.path.islink(path)):
        if exists:
            os.unlink(path)
        make_folder(root, os.path.dirname(deed[1]))
        if os.path.isdir(os.path.dirname(path)):
            os.symlink(deed[2], path)
    elif kind == "mode" and regular:
        os.chmod(path, os.stat(path).st_mode ^ 0o111)
    elif kind == "swap" and regular:
        os.unlink(path)
        put(root, deed[1] + b"/inside", b"was a file\n")
    elif kind == "rename" and regular:
        goal = os.path.join(os.fsencode(root), deed[2])
        if not os.path.lexists(goal):
            make_folder(root, os.path.dirname(deed[2]))
            if os.path.isdir(os.path.dirname(goal)):
                os.rename(path, goal)
    elif kind == "repository":
        make_folder(root, deed[1])
        if os.path.isdir(path) and not os.path.islink(path):
            put(root, deed[1] + b"/main.py", b"print(1)\n")
            inside = Path(os.fsdecode(path))
            if not (inside / ".git").exists():
                git(inside, "init", "-q", "--template=")
            if deed[2]:
                git(inside, "add", "-A", "-f", ".")
                git(inside, "commit", "-qm", "scaffold", "--allow-empty")
    elif kind == "rules":
        with open(root / ".gitignore", "a") as file:
            file.write(f"\n{deed[1]}\n")
    elif kind == "pipe":
        make_folder(root, deed[1])
        if os.path.isdir(path) and not os.path.lexists(path + b"/pipe"):
            os.mkfifo(path + b"/pipe")
    elif kind == "background":
        word = "printf job > \"$1\" &\nwait"
        subprocess.run(["sh", "-c", word, "sh", path], check=False, capture_output=True)


Tree = dict[bytes, tuple[str, bytes]]


def look(root: Path) -> Tree:
    """Every path below `root` but git's own: what it is and what is in it. Folders with something in them
    are told by that."""
    found: Tree = {}
    top = os.fsencode(root)
    for here, folders, names in os.walk(top):
        folders[:] = [word for word in folders if word != b".git"]
        if not folders and not [word for word in names if word != b".git"] and here != top:
            found[os.path.relpath(here, top)] = ("folder", b"")
        for word in names + [word for word in folders if os.path.islink(os.path.join(here, word))]:
            full = os.path.join(here, word)
            inside = os.path.relpath(full, top)
            if word == b".git":
                continue
            if os.path.islink(full):
                found[inside] = ("link", os.readlink(full))
            elif not os.path.isfile(full):
                found[inside] = ("special", b"")
            else:
                with open(full, "rb") as file:
                    found[inside] = ("exec" if os.stat(full).st_mode & 0o100 else "file", file.read())
    return found


def carry(source: Path, scratch: Path) -> tuple[Path, apply.Project]:
    """The copy inside, unpacked by another implementation than packed it, and what applying needs to know."""
    manifest: archive.Manifest = {}
    (scratch / "sent").mkdir()
    found = repository.survey(source, scratch / "sent")
    sent = b"".join(archive.stream(found, history.copy_history(found, scratch / "sent"), manifest))
    inside = scratch / "inside"
    inside.mkdir()
    subprocess.run(["tar", "-x", "-f", "-", "-C", str(inside)], input=sent, check=True)
    return inside, apply.Project(found.root, found.is_git, found.head, manifest)


def told(path: bytes, left: list[Excluded]) -> bool:
    return any(path == item.path or path.startswith(item.path + b"/") for item in left)


def ruled(path: bytes, names: Tree) -> bool:
    listing = Listing([Seen(other, "f", 0o644, 0, 0.0) for other in names])
    return listing.rule(path) is not None


def holds(about: dict[str, Any], deeds: list[tuple[Any, ...]], whole_turn: bool) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="law-"))
    try:
        source = scratch / "home"
        grow(source, about)
        at_home = look(source)
        inside, project = carry(source, scratch)
        before = look(inside)
        work = GitWorkspace(LocalPlace(scratch), str(inside), "c", home=str(scratch))
        base = asyncio.run(work.snapshot("base"))
        half = len(deeds) // 2 if whole_turn else 0
        for deed in deeds[:half]:
            change(inside, deed)
        if half:  # a turn records the tree several times; the last one counts
            asyncio.run(work.snapshot("between"))
        for deed in deeds[half:]:
            change(inside, deed)
        after = look(inside)
        made, _ = asyncio.run(work.now(base))
        done = apply.to_tree(made.patch, project)
        now = look(source)
        for path in before.keys() | after.keys():
            if before.get(path) == after.get(path):
                assert now.get(path) == at_home.get(path), f"{path!r} changed at home, not in the work"
            elif now.get(path) != after.get(path):
                named = told(path, made.left) or os.fsdecode(path) in done.yours
                gone = path not in after and ruled(path, before)  # by a rule it was no part of the work
                # A folder with nothing but what stays behind is empty at home, or full of the person's own.
                full = after.get(path, ("",))[0] == "folder" and os.path.isdir(source / os.fsdecode(path))
                filled = any(told(other, made.left) for other in after if other.startswith(path + b"/"))
                assert named or gone or full or filled, (
                    f"{path!r}: {after.get(path)} in the work, {now.get(path)} at home, left: {made.left}"
                )
        for path in at_home.keys() - before.keys() - after.keys():
            filled = at_home[path][0] == "folder" and os.path.isdir(source / os.fsdecode(path))
            assert now.get(path) == at_home[path] or filled, f"{path!r} was not copied and changed at home"
        for item in made.left:
            kind = after.get(item.path, ("",))[0]
            assert not item.lost or kind == "special", f"{item} could have come home"
    finally:
        shutil.rmtree(scratch)


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TPP_HOME", str(tmp_path / "tpp"))


EXAMPLES = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@settings(EXAMPLES, max_examples=60)
@given(REPOSITORY, st.lists(CHANGE, min_size=1, max_size=10), st.booleans())
def test_what_changed_comes_home_or_is_named(about, deeds, whole_turn):
    holds(about, deeds, whole_turn)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@settings(EXAMPLES, max_examples=2200)
@given(REPOSITORY, st.lists(CHANGE, min_size=1, max_size=14), st.booleans())
def test_what_changed_comes_home_or_is_named_two_thousand_times(about, deeds, whole_turn):
    holds(about, deeds, whole_turn)
