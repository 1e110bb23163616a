"""`git status` in the sandbox says what it says at home: odd checkouts, one by one and at random.

Each builder makes a repository; it is copied, and real git is asked in both places. What is compared is which
paths differ from HEAD and which are new: the copy's index equals HEAD, so "staged" is not told apart.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.checkouts import (
    BEYOND_SETTINGS,
    BUILDERS,
    CRLF,
    DIRTY,
    LF,
    UPPER,
    attributes_came_later,
    filtered,
    linked_worktree,
    settle,
    sparse_cone,
    sparse_patterns,
)
from tests.cli.repositories import IDENTITY, Copy, git, listing, make, write


def inside(copy: Copy, *args: str, check: bool = True) -> bytes:
    """git as a stranger runs it: without the person's configuration."""
    home = copy.root.parent / "stranger"
    home.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    done = subprocess.run(["git", *IDENTITY, *args], cwd=copy.root, env=env, capture_output=True, check=False)
    assert not check or done.returncode == 0, done.stderr.decode()
    assert not check or not done.stderr, done.stderr.decode()
    return done.stdout


def seen(root: Path, raw: bytes, head: set[bytes]) -> dict[bytes, str]:
    """`git status --porcelain=v2 -z` as path -> "changed" or "new", against HEAD."""
    found = {}
    for record in raw.split(b"\0"):
        kind = record[:1]
        path = record[2:] if kind == b"?" else record.split(b" ", {b"1": 8, b"u": 10}.get(kind, 0))[-1]
        there = os.path.lexists(os.path.join(os.fsencode(root), path))
        if not record or (path not in head and not there):
            continue  # staged, then deleted
        if kind == b"u" and path in head and there:  # in conflict: it may hold what HEAD has
            name = os.fsdecode(path)
            if git(root, "hash-object", name) == git(root, "rev-parse", f"HEAD:{name}"):
                continue
        found[path] = "changed" if path in head else "new"
    return found


STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames")


def compare(repo: Path, copy: Copy) -> dict[bytes, str]:
    listed = git(repo, "ls-tree", "-r", "-z", "--name-only", "HEAD") if copy.survey.head else b""
    head = set(listed.split(b"\0"))
    at_home = seen(repo, git(repo, *STATUS, "--ignore-submodules=all"), head)
    there = seen(copy.root, inside(copy, *STATUS), head)
    assert there == at_home
    return there


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_status_is_the_same_inside(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    (tmp_path / "user").mkdir()
    repo = build(tmp_path)
    try:
        git(repo, *STATUS)
        looks = True
    except AssertionError:
        looks = False  # git at home fails over its own filter
    copy = Copy(repo, tmp_path / "copy")
    before = compare(repo, copy) if looks else {}
    assert bool(before) == (build in DIRTY), before
    if looks:  # as a person asks, with the settings in force about what is shown
        words = ("status", "--porcelain", "--ignore-submodules=all")
        assert bool(git(repo, *words)) == bool(inside(copy, *words))
    assert (copy.root / ".git").is_dir()
    rules = copy.root / ".git" / "info" / "attributes"
    assert (rules.exists() and b"terminalpp-as-copied" in rules.read_bytes()) == (build in BEYOND_SETTINGS)
    # an edit shows as that edit, whatever the file goes through
    on_disk = [name for name in listing(copy.root) if name not in before and b".git" not in name]
    tracked = set(inside(copy, "ls-files", "-z").split(b"\0"))
    hidden = {line[2:] for line in inside(copy, "ls-files", "-v", "-z").split(b"\0") if line[:1] in b"Ssh"}
    for name in sorted(set(on_disk) & tracked - hidden)[-3:]:
        full = os.path.join(os.fsencode(copy.root), name)
        if os.path.islink(full):
            continue
        with open(full, "rb") as file:
            old = file.read()
        with open(full, "ab") as file:
            file.write(b"e\0d\0i\0t\0\n\0" if name.endswith((b".u16", b".le")) else b"edited\n")
        after = seen(copy.root, inside(copy, *STATUS), tracked)
        assert after == before | {name: "changed"}
        inside(copy, "diff", "--stat")
        inside(copy, "checkout", "--", f":(literal,top){os.fsdecode(name)}")
        with open(full, "rb") as file:
            assert file.read() == old
        assert seen(copy.root, inside(copy, *STATUS), tracked) == before


def test_git_works_with_the_stand_in(tmp_path: Path) -> None:
    """Stash, commit, switch, a subdirectory, a work tree made inside: no error, and the bytes are right."""
    (tmp_path / "user").mkdir()
    repo = filtered(tmp_path)
    git(repo, "branch", "older", "HEAD~1")
    copy = Copy(repo, tmp_path / "copy")
    assert any("filter program of up does not run" in warning for warning in copy.survey.warnings)
    write(copy.root, {"a.bin": b"edited\n", "new.bin": b"new\n"})
    inside(copy, "stash", "-q", "-u")
    assert inside(copy, "status", "--porcelain") == b""
    assert (copy.root / "a.bin").read_bytes() == b"payload\n"
    inside(copy, "stash", "pop", "-q")
    assert inside(copy, "status", "--porcelain") == b" M a.bin\n?? new.bin\n"
    inside(copy, "commit", "-q", "-a", "-m", "edited")
    inside(copy, "checkout", "-q", "older")
    inside(copy, "checkout", "-q", "main")
    assert (copy.root / "d/b.bin").read_bytes() == b"other\0\n"
    assert (copy.root / "a.bin").read_bytes() == b"edited\n"
    inside(copy, "mv", "d/b.bin", "moved.bin")
    assert inside(copy, "status", "--porcelain", "-uno") == b"R  d/b.bin -> moved.bin\n"
    inside(copy, "reset", "-q", "--hard")
    assert inside(copy, "-C", "d", "status", "--porcelain", "-uno") == b""
    inside(copy, "worktree", "add", "-q", "../beside", "HEAD~1")
    assert (copy.root.parent / "beside" / "a.bin").read_bytes() == b"payload\n"
    assert inside(copy, "-C", "../beside", "status", "--porcelain") == b""
    assert not list((copy.root / ".git" / "terminalpp").glob("input.*"))


@pytest.mark.parametrize("build", [sparse_cone, sparse_patterns, linked_worktree])
def test_a_sparse_checkout_stays_one(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    repo = build(tmp_path)
    copy = Copy(repo, tmp_path / "copy")
    assert inside(copy, "sparse-checkout", "list") == git(repo, "sparse-checkout", "list") != b""
    before = listing(copy.root)
    inside(copy, "checkout", "-q", "-b", "elsewhere")
    inside(copy, "reset", "-q", "--hard")
    assert listing(copy.root) == before
    inside(copy, "sparse-checkout", "disable")
    assert len(listing(copy.root)) > len(before)


def test_nothing_that_runs_a_program_comes_along(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    repo = filtered(tmp_path)
    write(tmp_path, {"more": b"[alias]\n\tst = !evil\n"})
    hostile = {
        "core.fsmonitor": "", "core.hooksPath": "/tmp/evil", "core.editor": "evil", "core.pager": "evil",
        "core.sshCommand": "evil", "core.askPass": "evil", "core.alternateRefsCommand": "evil",
        "alias.status": "!evil", "credential.helper": "!evil", "include.path": str(tmp_path / "more"),
        "diff.external": "evil", "diff.x.textconv": "evil", "merge.x.driver": "evil", "gpg.program": "evil",
        "sequence.editor": "evil", "uploadpack.packObjectsHook": "evil", "core.autocrlf": "evil; rm -rf /",
        "core.eol": "--global", "filter.other.clean": "evil", "core.excludesFile": "/etc/passwd-",
    }
    for key, value in hostile.items():
        git(repo, "config", key, value) if key != "core.autocrlf" else None
    copy = Copy(repo, tmp_path / "copy")
    config = (copy.root / ".git" / "config").read_text()
    assert "evil" not in config
    assert "tr a-z" not in config
    assert str(tmp_path) not in config
    keys = set(inside(copy, "config", "--local", "--name-only", "-l").decode().split())
    assert keys == {"core.repositoryformatversion", "core.filemode", "core.bare", "core.safecrlf",
                    "filter.up.clean", "filter.up.smudge", "filter.up.required"}
    assert not (copy.root / ".git" / "hooks").exists()


def test_a_partial_clone_keeps_its_whole_history_without_asking_its_server(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    origin = make(tmp_path / "origin", {"a": b"1\n", "b": b"1\n"})
    for number in range(3):
        write(origin, {"a": b"%d\n" % number})
        git(origin, "commit", "-qam", f"number {number}", "--allow-empty")
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{origin}", "r")
    origin.rename(tmp_path / "server is away")
    copy = Copy(tmp_path / "r", tmp_path / "copy")
    assert copy.survey.warnings == []
    assert inside(copy, "log", "--format=%s").count(b"\n") == 4
    write(copy.root, {"a": b"edited\n"})
    inside(copy, "commit", "-qam", "edited")
    inside(copy, "fsck")
    inside(copy, "gc", "-q")
    assert inside(copy, "status", "--porcelain") == b""


def test_what_there_is_no_room_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = attributes_came_later(tmp_path)
    monkeypatch.setattr("terminalpp.cli.filters.LINES_LIMIT", 2)
    copy = Copy(repo, tmp_path / "copy")
    assert any("call 4 files modified that it does not at home" in w for w in copy.survey.warnings)
    assert inside(copy, "status", "--porcelain", "-z").count(b"\0") == 4


def test_a_large_file_is_unmodified_but_not_kept_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user").mkdir()
    repo = filtered(tmp_path)
    monkeypatch.setattr("terminalpp.cli.filters.KEPT_BYTES", 6)
    copy = Copy(repo, tmp_path / "copy")
    assert inside(copy, "status", "--porcelain") == b""
    write(copy.root, {"a.bin": b"edited\n"})
    inside(copy, "checkout", "--", "a.bin")
    assert (copy.root / "a.bin").read_bytes() == b"PAYLOAD\n"  # what git has, as git-lfs leaves its pointers
    assert inside(copy, "status", "--porcelain") == b""


@pytest.mark.parametrize(("gone", "words"), [("HEAD~1:a", "only its last commit is"),
                                             ("HEAD:b", "has holes"), ("other:", "of the present branch")])
def test_a_damaged_history_is_copied_as_far_as_it_goes(tmp_path: Path, gone: str, words: str) -> None:
    repo = make(tmp_path / "r", {"a": b"1\n", "b": b"b\n"})
    git(repo, "checkout", "-qb", "other")
    write(repo, {"c": b"c\n"})
    git(repo, "add", "c")
    git(repo, "commit", "-qm", "other")
    git(repo, "checkout", "-q", "main")
    write(repo, {"a": b"2\n"})
    git(repo, "commit", "-qam", "second")
    old = git(repo, "rev-parse", gone).decode().strip()
    (repo / ".git" / "objects" / old[:2] / old[2:]).unlink()
    copy = Copy(repo, tmp_path / "copy")
    assert any(words in warning for warning in copy.survey.warnings), copy.survey.warnings
    assert inside(copy, "status", "--porcelain") == b""
    assert inside(copy, "log", "--format=%s").startswith(b"second\n")


NAMES = st.sampled_from(["a.txt", "b.bin", "d/c.txt", "d/e.md", "d/f/g.bin", "sp ace.txt", "new\nline.bin"])
CONTENTS = st.sampled_from([b"", LF, CRLF, b"a\r\nb\n", b"\0bin\r\n", b"$Id$\n", b"no end",
                            b"\xef\xbb\xbfbom\r\n"])
RULES = st.lists(st.tuples(
    st.sampled_from(["*", "*.txt", "*.bin", "d/**", "/a.txt", "g.bin"]),
    st.sampled_from(["text", "-text", "text=auto", "eol=crlf", "eol=lf", "ident", "filter=up", "binary",
                     "!text", "-filter", "crlf", "-crlf", "text eol=crlf", "filter=up -text"]),
), max_size=4).map(lambda rows: "".join(f"{pattern} {value}\n" for pattern, value in rows).encode())


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=st.dictionaries(NAMES, CONTENTS, min_size=1), edits=st.dictionaries(NAMES, CONTENTS, max_size=3),
       before=RULES, after=RULES, own=RULES, autocrlf=st.sampled_from([None, "true", "input", "false"]),
       eol=st.sampled_from([None, "crlf", "lf"]), settled=st.booleans(), fresh=st.booleans())
def test_any_attributes_settings_and_contents(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, bytes], edits: dict[str, bytes], before: bytes,
    after: bytes, own: bytes, autocrlf: str | None, eol: str | None, settled: bool, fresh: bool,
) -> None:
    """What git at home calls unmodified is unmodified inside, however the settings came about."""
    tmp = tmp_path_factory.mktemp("likeness")
    repo = make(tmp / "r", {".gitattributes": before, **first})
    for key, value in (*(("filter.up." + key, value) for key, value in UPPER), ("core.autocrlf", autocrlf),
                       ("core.eol", eol), ("core.safecrlf", "false")):
        if value is not None:
            git(repo, "config", key, value)
    write(repo, {".gitattributes": after, ".git/info/attributes": own})
    if fresh:  # as a new clone would have it
        git(repo, "add", "-A", "--renormalize", ".")
        git(repo, "commit", "-qm", "again", "--allow-empty")
        git(repo, "checkout-index", "-f", "-a")
    if settled:
        settle(repo)
    write(repo, edits)
    if not settled:
        git(repo, "update-index", "-q", "--really-refresh") if fresh else None
    copy = Copy(repo, tmp / "copy")
    head = set(git(repo, "ls-tree", "-r", "-z", "--name-only", "HEAD").split(b"\0"))
    at_home = seen(repo, git(repo, *STATUS), head)
    there = seen(copy.root, inside(copy, *STATUS), head)
    assert set(there) <= set(at_home)
    for path in set(at_home) - set(there):
        # git at home calls a file modified when its size tells so, and then finds no difference
        assert path in head
        assert not git(repo, "diff", "HEAD", "--", os.fsdecode(path))
