"""What arrives in the sandbox: the files as they are, a history of its own, and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terminalpp.cli import repository
from terminalpp.types.errors import InvalidInput, TooLarge
from tests.cli.repositories import Copy, git, listing, make, traces, write


def test_a_dirty_tree_arrives_as_it_is_and_the_original_is_untouched(tmp_path: Path) -> None:
    repo = make(tmp_path / "shop", {"a.py": b"one\n", "b.py": b"two\n", "gone.py": b"x\n",
                                    ".gitignore": b"*.log\n", "kept.log": b""})
    write(repo, {"a.py": b"changed\n", "new/deep.py": b"new\n", "noise.log": b"ignored\n"})
    (repo / "gone.py").unlink()
    git(repo, "add", "b.py")
    (repo / "b.py").write_bytes(b"two, edited after staging\n")
    before = traces(repo)
    copy = Copy(repo, tmp_path / "copy")
    expected = listing(repo)
    del expected[b"noise.log"]
    del expected[b"kept.log"]  # ignored when it was added, so never tracked
    assert listing(copy.root) == expected
    assert traces(repo) == before
    status = git(copy.root, "status", "--porcelain").decode().splitlines()
    assert sorted(status) == [" D gone.py", " M a.py", " M b.py", "?? new/"]
    assert git(copy.root, "log", "--format=%s").decode() == "first\n"


def test_history_shares_nothing_and_carries_no_secret(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {"f": b"1\n"})
    git(repo, "tag", "v1")
    git(repo, "branch", "other")
    git(repo, "remote", "add", "origin", "https://ada:hunter2@example.org/r.git?token=abc")
    git(repo, "remote", "add", "local", "/srv/private/r.git")
    git(repo, "config", "http.extraHeader", "Authorization: Basic c2VjcmV0")
    hook = repo / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    copy = Copy(repo, tmp_path / "copy")
    config = (copy.root / ".git" / "config").read_text()
    assert "https://example.org/r.git" in config
    for secret in ("hunter2", "abc", "c2VjcmV0", "/srv", str(tmp_path)):
        assert secret not in config
    assert not (copy.root / ".git" / "hooks").exists()
    assert not (copy.root / ".git" / "objects" / "info" / "alternates").exists()
    refs = git(copy.root, "for-each-ref", "--format=%(refname)").decode().split()
    assert refs == ["refs/heads/main", "refs/heads/other", "refs/tags/v1"]
    mine = {p.stat().st_ino for p in (repo / ".git").rglob("*") if p.is_file()}
    assert not mine & {p.stat().st_ino for p in copy.root.rglob("*") if p.is_file()}
    git(copy.root, "fsck", "--strict")


def test_detached_head_empty_repository_and_shallow_clone(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {"f": b"1\n"})
    write(repo, {"f": b"2\n"})
    git(repo, "commit", "-qam", "second")
    git(repo, "checkout", "-q", "--detach")
    write(repo, {"f": b"3\n"})
    git(repo, "commit", "-qam", "only here")
    detached = Copy(repo, tmp_path / "one")
    assert git(detached.root, "rev-parse", "HEAD") == git(repo, "rev-parse", "HEAD")
    assert git(detached.root, "status", "--porcelain") == b""
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q", "-b", "trunk")
    empty = Copy(tmp_path / "empty", tmp_path / "two")
    assert empty.survey.is_git
    assert empty.survey.head is None
    assert empty.survey.entries == []
    assert b"trunk" in git(empty.root, "status")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    shallow = Copy(tmp_path / "shallow", tmp_path / "three")
    assert git(shallow.root, "log", "--format=%s") == b"only here\n"


def test_linked_worktree_and_subdirectory_are_the_whole_repository(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {"top": b"1\n", "sub/f": b"1\n"})
    git(repo, "worktree", "add", "-q", "-b", "side", "../tree")
    side = Copy(tmp_path / "tree", tmp_path / "one")
    assert git(side.root, "symbolic-ref", "HEAD") == b"refs/heads/side\n"
    assert listing(side.root) == {b"top": ("file", b"1\n"), b"sub/f": ("file", b"1\n")}
    part = Copy(repo / "sub", tmp_path / "two")
    assert part.survey.root == repo
    assert b"top" in listing(part.root)
    assert any("whole" in warning for warning in part.survey.warnings)


def test_plain_files_need_no_git(tmp_path: Path) -> None:
    plain = tmp_path / "plain dir"
    write(plain, {"a": b"1", "deep/b": b"2", "out/x.o": b"3", ".gitignore": b"out/\n"})
    copy = Copy(plain, tmp_path / "copy")
    assert not copy.survey.is_git
    assert copy.survey.name == "plain-dir"
    assert set(listing(copy.root)) == {b"a", b"deep/b", b".gitignore"}
    assert not (plain / ".git").exists()
    assert not (copy.root / ".git").exists()


def test_a_directory_that_the_repository_around_it_ignores_is_plain(tmp_path: Path) -> None:
    outer = make(tmp_path / "outer", {".gitignore": b"scratch/\n", "f": b"1"})
    write(outer, {"scratch/g": b"2"})
    copy = Copy(outer / "scratch", tmp_path / "copy")
    assert not copy.survey.is_git
    assert set(listing(copy.root)) == {b"g"}


def test_symbolic_links_are_never_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(secret, {"key": b"private"})
    repo = make(tmp_path / "r", {"f": b"1\n", "was_dir/f": b"2\n"})
    os.symlink("f", repo / "inside")
    os.symlink("../secret/key", repo / "outside")
    os.symlink("/etc/passwd", repo / "absolute")
    (repo / "was_dir" / "f").unlink()
    (repo / "was_dir").rmdir()
    os.symlink(secret, repo / "was_dir")
    os.rename(secret / "key", secret / "f")  # now the tracked name was_dir/f resolves outside
    copy = Copy(repo, tmp_path / "copy")
    assert listing(copy.root) == listing(repo)
    assert os.readlink(copy.root / "absolute") == "/etc/passwd"
    assert not any(b"private" in content for _, content in listing(copy.root).values())
    assert "3 symbolic link(s) point outside" in " ".join(copy.survey.warnings)


def test_submodules_and_nested_repositories_are_plain_files(tmp_path: Path) -> None:
    library = make(tmp_path / "library", {"lib.c": b"int x;\n", ".gitignore": b"*.o\n"})
    repo = make(tmp_path / "r", {"f": b"1\n"})
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "vendor/lib")
    git(repo, "commit", "-qm", "submodule")
    write(repo, {"vendor/lib/lib.c": b"int y;\n", "vendor/lib/lib.o": b"object"})
    make(repo / "nested", {"n": b"2\n"})
    copy = Copy(repo, tmp_path / "copy")
    arrived = listing(copy.root)
    assert arrived[b"vendor/lib/lib.c"] == ("file", b"int y;\n")
    assert arrived[b"nested/n"] == ("file", b"2\n")
    assert b"vendor/lib/lib.o" not in arrived
    assert not (copy.root / "nested" / ".git").exists()
    assert not (copy.root / "vendor" / "lib" / ".git").exists()


def test_tppignore_takes_tracked_files_away_too(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {".tppignore": b"data/\n*.bin\n!small.bin\n", "data/big": b"1",
                                 "x.bin": b"2", "small.bin": b"3", "sub/data/f": b"4", "code": b"5"})
    copy = Copy(repo, tmp_path / "copy")
    assert set(listing(copy.root)) == {b".tppignore", b"small.bin", b"code"}


def test_refusals_and_warnings(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(InvalidInput, match="no such directory"):
        repository.survey(tmp_path / "nowhere", scratch)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="not a directory"):
        repository.survey(tmp_path / "file", scratch)
    with pytest.raises(InvalidInput, match="not a project"):
        repository.survey("/", scratch)
    repo = make(tmp_path / "r", {"f": b"1\n"})
    with open(repo / "huge", "wb") as huge:
        huge.truncate(2_000_000_000)  # sparse
    with pytest.raises(TooLarge, match=r"huge is 2\.0 GB.*limit") as refused:
        repository.survey(repo, scratch / "..")
    assert ".tppignore" in refused.value.next_step
    write(repo, {".gitignore": b"huge\n"})
    os.mkfifo(repo / "pipe")
    with socket.socket(socket.AF_UNIX) as access:
        access.bind(str(repo / "s"))
        copy = Copy(repo, tmp_path / "copy")
    assert set(listing(copy.root)) == {b"f", b".gitignore"}


def test_what_may_not_be_read_is_told_and_not_taken_for_deleted(account: Path) -> None:
    repo = make(account / "r", {"f": b"1\n", "secret": b"1\n", "open/g": b"1\n", "closed/a": b"1\n",
                                "closed/b": b"1\n"})
    (repo / "data").mkdir()
    for name in ("secret", "closed", "data"):
        (repo / name).chmod(0)
    copy = Copy(repo, account / "copy")
    for name in ("secret", "closed", "data"):
        (repo / name).chmod(0o700)
    assert set(listing(copy.root)) == {b"f", b"open/g"}
    said = " | ".join(copy.survey.warnings)
    assert "3 file(s) may not be read and are not copied: closed/a, closed/b, secret" in said
    assert "2 folder(s) may not be read and are not copied: closed, data" in said
    assert git(copy.root, "status", "--porcelain") == b""


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of an account that is not root: to root nothing is unreadable."""
    base = Path(tempfile.mkdtemp(prefix="tpp-account-"))
    monkeypatch.setenv("HOME", str(base))
    monkeypatch.setenv("TPP_HOME", str(base / "tpp"))
    if os.geteuid() == 0:
        os.chown(base, 65534, 65534)
        os.setresuid(65534, 65534, 0)
    try:
        yield base
    finally:
        if os.getresuid()[2] == 0:
            os.setresuid(0, 0, 0)
        shutil.rmtree(base)


def test_a_head_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {"f": b"1\n"})
    head = git(repo, "rev-parse", "HEAD").decode().strip()
    (repo / ".git" / "objects" / head[:2] / head[2:]).unlink()
    copy = Copy(repo, tmp_path / "copy")
    assert set(listing(copy.root)) == {b"f"}
    assert any("cannot read the commit that HEAD names" in warning for warning in copy.survey.warnings)


def test_the_home_inside_a_project_is_never_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = make(tmp_path / "r", {"f": b"1\n"})
    write(repo, {".tpp/secrets/owner.token": b"token"})
    (repo / ".tpp" / "tmp").mkdir()
    monkeypatch.setenv("TPP_HOME", str(repo / ".tpp"))
    copy = Copy(repo, tmp_path / "copy")
    assert set(listing(copy.root)) == {b"f"}
    assert not (copy.root / ".tpp").exists()  # nor as a folder without files


def test_fifty_thousand_files(tmp_path: Path) -> None:
    repo = tmp_path / "many"
    for folder in range(50):
        (repo / f"d{folder}").mkdir(parents=True)
        for number in range(1000):
            (repo / f"d{folder}" / f"f{number}").write_bytes(b"%d" % number)
    git(repo, "init", "-q")
    copy = Copy(repo, tmp_path / "copy")
    assert len(copy.manifest) == 50_000


NAME = st.binary(min_size=1, max_size=40).filter(
    lambda raw: b"/" not in raw and b"\0" not in raw and raw not in (b".", b"..")
    and raw.lower().rstrip(b". ") != b".git" and raw not in (b".gitignore", b".tppignore", b".gitattributes")
    and b"git~" not in raw.lower()
)
ODD = st.sampled_from([b"two\nlines", b"caf\xe9", b"\xff\xfe", b"a\tb", b'quo"te', b"back\\slash", b" lead",
                       b"trail ", b"-dash", b"\xe2\x80\xae", b"x" * 250, b"*", b"[a]", b":colon", b"a -> b"])
TREE = st.dictionaries(
    st.lists(st.one_of(NAME, ODD), min_size=1, max_size=3).map(tuple),
    st.tuples(st.binary(max_size=200), st.booleans()), max_size=12,
)


def grow(root: Path, tree: dict[tuple[bytes, ...], tuple[bytes, bool]]) -> None:
    top = os.fsencode(root)
    for parts, (content, executable) in tree.items():
        full = os.path.join(top, *parts)
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            if not os.path.isdir(full):
                with open(full, "wb") as file:
                    file.write(content)
                os.chmod(full, 0o755 if executable else 0o644)
        except (FileExistsError, NotADirectoryError):
            continue  # a file stands where this one wants a folder


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tracked=TREE, loose=TREE, is_git=st.booleans())
def test_any_names_and_contents_arrive_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, tracked: dict, loose: dict, is_git: bool
) -> None:
    tmp = tmp_path_factory.mktemp("odd")
    repo = tmp / "r"
    repo.mkdir()
    grow(repo, tracked)
    if is_git:
        git(repo, "init", "-q", "-b", "main")
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", "first", "--allow-empty")
    grow(repo, loose)
    copy = Copy(repo, tmp / "copy")
    assert listing(copy.root) == listing(repo)
    assert {os.fsencode(name) for name in copy.manifest} == set(listing(repo))
