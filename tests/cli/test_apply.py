"""Bringing a patch home: right or not at all, and never through the person's index, stash or HEAD."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from terminalpp.cli import apply, branch, patches
from terminalpp.types.errors import Conflict, InvalidInput
from tests.cli.repositories import Copy, git, listing, make, traces, write
from tests.cli.test_copy import TREE, grow

FILES = {"a.py": b"one\ntwo\nthree\n", "dir/b.py": b"b\n", "bin": bytes(range(256)), "gone": b"bye\n"}


def edited(tmp_path: Path, repo: Path) -> Copy:
    """A copy in which the team changed, made, removed, renamed and re-moded things."""
    copy = Copy(repo, tmp_path / "copy")
    write(copy.root, {"a.py": b"one\n2\nthree\n", "new/deep/c.py": b"c\n", "bin": b"\0\xff" * 300})
    (copy.root / "gone").unlink()
    (copy.root / "dir" / "b.py").rename(copy.root / "renamed name.py")
    (copy.root / "dir").rmdir() if (copy.root / "dir").exists() else None
    (copy.root / "a.py").chmod(0o755)
    os.symlink("a.py", copy.root / "link")
    return copy


def test_the_tree_gets_the_result_and_index_stash_and_head_stay(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", FILES)
    write(repo, {"a.py": b"stashed\n"})
    git(repo, "stash")
    write(repo, {"staged.py": b"in the index\n", "loose.py": b"untracked\n"})
    git(repo, "add", "staged.py")
    write(repo, {"dir/b.py": b"b, uncommitted\n"})
    copy = edited(tmp_path, repo)
    before = traces(repo)
    changed = apply.to_tree(copy.patch(), copy.project).changed
    assert traces(repo) == before
    assert listing(repo) == listing(copy.root)
    assert "renamed name.py" in changed
    assert not (repo / "dir").exists()
    assert git(repo, "stash", "list").count(b"\n") == 1


def test_plain_files_are_applied_too(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    write(plain, FILES)
    copy = edited(tmp_path, plain)
    apply.to_tree(copy.patch(), copy.project)
    assert listing(plain) == listing(copy.root)
    assert not (plain / ".git").exists()


def test_line_ending_settings_cannot_bend_the_patch(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {".gitattributes": b"* text=auto eol=crlf\n"})
    write(repo, {"dos.txt": b"a\r\nb\r\n", "unix.txt": b"a\nb\n"})
    git(repo, "config", "core.autocrlf", "true")
    git(repo, "config", "apply.whitespace", "error-all")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "ends")
    copy = Copy(repo, tmp_path / "copy")
    write(copy.root, {"dos.txt": b"a\r\nB  \r\n", "unix.txt": b"A\nb\n"})
    apply.to_tree(copy.patch(), copy.project)
    assert listing(repo) == listing(copy.root)


@pytest.mark.parametrize("meddle", ["edit", "mode", "remove", "new file in the way", "folder in the way"])
def test_a_file_that_changed_meanwhile_refuses_everything(tmp_path: Path, meddle: str) -> None:
    repo = make(tmp_path / "r", FILES)
    copy = edited(tmp_path, repo)
    match meddle:
        case "edit":
            status = (repo / "a.py").stat()
            write(repo, {"a.py": b"one\nTWO\nthree\n"[: status.st_size]})
            os.utime(repo / "a.py", ns=(status.st_atime_ns, status.st_mtime_ns))  # size and time as before
        case "mode":
            (repo / "a.py").chmod(0o755)
        case "remove":
            (repo / "gone").unlink()
        case "new file in the way":
            write(repo, {"renamed name.py": b"mine\n"})
        case "folder in the way":
            (repo / "link").mkdir()
    before = listing(repo)
    with pytest.raises(Conflict, match="changed since"):
        apply.to_tree(copy.patch(), copy.project)
    assert listing(repo) == before
    assert git(repo, "status", "--porcelain").count(b"\n") <= 1


def test_changes_elsewhere_are_no_conflict(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {**FILES, "mine.py": b"1\n"})
    copy = edited(tmp_path, repo)
    write(repo, {"mine.py": b"2\n", "more.py": b"3\n"})
    apply.to_tree(copy.patch(), copy.project)
    assert (repo / "mine.py").read_bytes() == b"2\n"
    assert (repo / "a.py").read_bytes() == b"one\n2\nthree\n"


def test_a_write_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = make(tmp_path / "r", FILES)
    copy = edited(tmp_path, repo)
    before = listing(repo)
    place, calls = apply._place, []

    def failing(root: Path, name: str, source: Path | None) -> None:
        calls.append(name)
        if len(calls) == 4:
            raise OSError(28, "No space left on device", name)
        place(root, name, source)

    monkeypatch.setattr(apply, "_place", failing)
    with pytest.raises(apply.DiskFull, match="everything is as before"):
        apply.to_tree(copy.patch(), copy.project)
    assert listing(repo) == before


def test_rights_of_an_existing_file_stay(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", {"secret": b"1\n"})
    (repo / "secret").chmod(0o600)
    copy = Copy(repo, tmp_path / "copy")
    write(copy.root, {"secret": b"2\n"})
    apply.to_tree(copy.patch(), copy.project)
    assert (repo / "secret").stat().st_mode & 0o777 == 0o600


# ---- a branch -----------------------------------------------------------------------------------


def test_a_branch_holds_the_result_and_nothing_else_moves(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", FILES)
    write(repo, {"untouched.py": b"work in progress\n"})
    copy = edited(tmp_path, repo)
    write(repo, {"a.py": b"the person went on\n"})  # a branch starts from what was copied
    before, tree = traces(repo), listing(repo)
    commit = branch.to_branch(copy.patch(), copy.project, "tpp/fix", "Fix it\n\nBody")
    after = {name: value for name, value in traces(repo).items() if "tpp/fix" not in name}
    assert after == before
    assert listing(repo) == tree
    assert git(repo, "rev-parse", "tpp/fix").decode().strip() == commit
    assert git(repo, "rev-parse", "tpp/fix^") == git(repo, "rev-parse", "main")
    git(repo, "worktree", "add", "-q", str(tmp_path / "seen"), "tpp/fix")
    expected = listing(copy.root)
    del expected[b"untouched.py"]
    assert listing(tmp_path / "seen") == expected


def test_uncommitted_changes_under_the_teams_work_are_a_commit_of_their_own(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", FILES)
    write(repo, {"a.py": b"one\ntwo\nthree\nmine\n"})
    copy = edited(tmp_path, repo)
    branch.to_branch(copy.patch(), copy.project, "fix", "Fix it")
    subjects = git(repo, "log", "--format=%s", "fix").decode().splitlines()
    assert subjects[0] == "Fix it"
    assert subjects[1].startswith("Uncommitted changes")
    assert git(repo, "show", "fix^:a.py") == b"one\ntwo\nthree\nmine\n"


def test_branches_that_cannot_be(tmp_path: Path) -> None:
    repo = make(tmp_path / "r", FILES)
    copy = edited(tmp_path, repo)
    for name in ("", "-x", "a..b", "x.lock", "a b"):
        with pytest.raises(InvalidInput):
            branch.to_branch(copy.patch(), copy.project, name, "m")
    with pytest.raises(Conflict, match="exists"):
        branch.to_branch(copy.patch(), copy.project, "main", "m")
    plain = tmp_path / "plain"
    write(plain, FILES)
    with pytest.raises(InvalidInput, match="not a git repository"):
        branch.check_branch(plain, False, "x")


def test_the_first_commit_of_an_empty_repository(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    git(tmp_path / "r", "init", "-q", "--object-format=sha256")
    copy = Copy(tmp_path / "r", tmp_path / "copy")
    write(copy.root, {"f": b"1\n"})
    branch.to_branch(copy.patch(), copy.project, "start", "Start")
    assert git(tmp_path / "r", "show", "start:f") == b"1\n"
    assert git(tmp_path / "r", "log", "-1", "--format=%an", "start") == b"Terminal++\n"


# ---- hostile patches ----------------------------------------------------------------------------


def creating(name: str, mode: str = "100644", content: str = "x") -> bytes:
    return (f"diff --git a/{name} b/{name}\nnew file mode {mode}\nindex 0000000..1111111\n"
            f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{content}\n"
            "\\ No newline at end of file\n").encode()


HOSTILE = {
    "parent": creating("../out"),
    "inner parent": creating("a/../../out"),
    "absolute": creating("/etc/x"),
    "git": creating(".git/hooks/pre-commit"),
    "git in capitals": creating("sub/.GIT/config"),
    "submodule": creating("sub", "160000"),
    "link to outside": creating("evil", "120000", "../../etc/passwd"),
    "link to root": creating("evil", "120000", "/etc/passwd"),
    "quoted": creating("x").replace(b"b/x\n@@", b'"b/\\056\\056/x"\n@@'),
    "plain diff": b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+2\n",
    "two meanings": creating("ok").replace(b"\\ No newline at end of file\n", b"")
    + b"--- /dev/null\n+++ b/hidden\n@@ -0,0 +1 @@\n+x\n",
    "rename out": b"diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to ../g\n",
    "garbage": b"hello\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_patch_that_escapes_changes_nothing(tmp_path: Path, name: str) -> None:
    repo = make(tmp_path / "r", {"f": b"1\n"})
    copy = Copy(repo, tmp_path / "copy")
    outside = sorted(str(path) for path in tmp_path.iterdir())
    with pytest.raises((InvalidInput, Conflict)):
        apply.to_tree(HOSTILE[name], copy.project)
    assert listing(repo) == {b"f": ("file", b"1\n")}
    assert sorted(str(path) for path in tmp_path.iterdir() if path.name != "home of tpp") == outside


def test_a_folder_that_became_a_link_is_not_written_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    repo = make(tmp_path / "r", {"f": b"1\n"})
    copy = Copy(repo, tmp_path / "copy")
    write(copy.root, {"dir/new": b"x"})
    os.symlink(elsewhere, repo / "dir")
    with pytest.raises(InvalidInput, match="symbolic link"):
        apply.to_tree(copy.patch(), copy.project)
    assert list(elsewhere.iterdir()) == []


@settings(max_examples=20, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(before=TREE, after=TREE, is_git=st.booleans(), removed=st.integers(0, 3))
@example(before={}, after={(b" ", b" "): (b"", False)}, is_git=False, removed=0)
def test_any_change_comes_home_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, before: dict, after: dict, is_git: bool, removed: int
) -> None:
    tmp = tmp_path_factory.mktemp("odd")
    repo = tmp / "r"
    repo.mkdir()
    grow(repo, before)
    if is_git:
        git(repo, "init", "-q", "-b", "main")
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", "first", "--allow-empty")
    copy = Copy(repo, tmp / "copy")
    for name in sorted(listing(copy.root))[:removed]:
        os.unlink(os.path.join(os.fsencode(copy.root), name))
    grow(copy.root, after)
    patch = copy.patch()
    if not patch:
        return
    if is_git:
        commit = branch.to_branch(patch, copy.project, "team", "m")
        git(repo, "worktree", "add", "-q", str(tmp / "seen"), commit)
        assert listing(tmp / "seen") == listing(copy.root)
    apply.to_tree(patch, copy.project)
    assert listing(repo) == listing(copy.root)


@given(raw=st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw))
def test_quoted_names_are_read_as_git_writes_them(raw: bytes) -> None:
    quoted = '"' + "".join(f"\\{byte:03o}" for byte in raw) + '"'
    assert os.fsencode(patches.unquote(quoted)) == raw
