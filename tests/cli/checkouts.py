"""Odd checkouts: each function makes a repository below a folder and returns its work tree.

They are the states in which git sees a file otherwise than its bytes alone would say: sparse, filtered, with
other line ends, encodings, modes, marks; and the shapes that a repository itself can have. `BUILDERS` lists
them, `DIRTY` those that git calls changed, `BEYOND_SETTINGS` those whose settings do not explain their files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cli.repositories import IDENTITY, git, make, write

CRLF = b"one\r\ntwo\r\nthree\r\n"
LF = b"one\ntwo\nthree\n"
PROGRAM = b"""
import sys
read, out = sys.stdin.buffer.read, sys.stdout.buffer
def packets():
    while (size := int(read(4) or b"0000", 16)) > 4:
        yield read(size - 4)
def send(*lines):
    for line in lines:
        out.write(b"%04x" % (len(line) + 4) + line)
    out.write(b"0000")
    out.flush()
list(packets())
send(b"git-filter-server", b"version=2")
list(packets())
send(b"capability=clean", b"capability=smudge")
while head := list(packets()):
    data = b"".join(packets())
    send(b"status=success")
    send(data.upper() if head[0] == b"command=clean\\n" else data.lower())
    send()
"""
UPPER = ("clean", "tr a-z A-Z"), ("smudge", "tr A-Z a-z"), ("required", "true")


def settle(repo: Path) -> None:
    """Age the files, then have git look: from now on it trusts their times and never opens them again."""
    for path in repo.rglob("*"):
        if ".git" not in path.parts and path.is_file() and not path.is_symlink():
            os.utime(path, (time.time() - 100, time.time() - 100))
    git(repo, "status")


def clone(tmp: Path, *options: str) -> Path:
    origin = make(tmp / "origin", {"a.txt": LF, "sub/b.txt": LF, "c.bin": b"\0\1\r\n"})
    for key in ("allowFilter", "allowAnySHA1InWant"):
        git(origin, "config", f"uploadpack.{key}", "true")
    git(tmp, "clone", "-q", *options, f"file://{origin}", "clone")
    return tmp / "clone"


# ---- the checkouts ------------------------------------------------------------------------------


def sparse_cone(tmp: Path) -> Path:
    repo = make(tmp / "r", {"app/a.py": b"1\n", "docs/d.md": b"d\n", "big/b": b"b\n", "top": b"t\n"})
    git(repo, "sparse-checkout", "set", "app")
    return repo


def sparse_index(tmp: Path) -> Path:
    repo = sparse_cone(tmp)
    git(repo, "sparse-checkout", "reapply", "--sparse-index")
    return repo


def sparse_patterns(tmp: Path) -> Path:
    repo = make(tmp / "r", {"app/a.py": b"1\n", "docs/d.md": b"d\n", "app/x.md": b"b\n"})
    git(repo, "sparse-checkout", "set", "--no-cone", "/*", "!*.md")
    return repo


def sparse_with_an_extra_file(tmp: Path) -> Path:
    repo = sparse_cone(tmp)
    write(repo, {"docs/d.md": b"changed outside the cone\n", "big/new": b"n\n"})
    return repo


def sparse_attributes_absent(tmp: Path) -> Path:
    repo = make(tmp / "r", {".gitattributes": b"*.txt text\n", "app/.gitattributes": b"*.txt eol=crlf\n",
                            "app/a.txt": CRLF, "b.txt": LF})
    git(repo, "sparse-checkout", "set", "--no-cone", "*.txt")
    assert not (repo / ".gitattributes").exists()
    return repo


def filtered(tmp: Path) -> Path:
    repo = make(tmp / "r", {"plain": b"p\n"})
    for key, value in UPPER:
        git(repo, "config", f"filter.up.{key}", value)
    write(repo, {".gitattributes": b"*.bin filter=up -text\n", "a.bin": b"payload\n", "d/b.bin": b"other\0\n",
                 "odd\nname.bin": b"newline\n", "sp ace .bin": b"payload\n", "empty.bin": b""})
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "filtered")
    return repo


def filtered_and_edited(tmp: Path) -> Path:
    repo = filtered(tmp)
    write(repo, {"a.bin": b"payload two\n", "new.bin": b"new\n"})
    (repo / "d/b.bin").unlink()
    return repo


def filtered_and_line_ends_of_the_person(tmp: Path) -> Path:
    repo = filtered(tmp)
    git(repo, "config", "--global", "core.autocrlf", "input")
    return repo


def filtered_by_a_long_running_program(tmp: Path) -> Path:
    """As git-lfs is: one process, asked over git's own protocol."""
    repo = make(tmp / "r", {"plain": b"p\n"})
    write(tmp, {"program.py": PROGRAM})
    git(repo, "config", "filter.up.process", f"{sys.executable} {tmp / 'program.py'}")
    git(repo, "config", "filter.up.required", "true")
    write(repo, {".gitattributes": b"*.bin filter=up -text\n", "a.bin": b"payload\n", "b.bin": b"second\n"})
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "filtered")
    assert git(repo, "show", "HEAD:a.bin") == b"PAYLOAD\n"
    write(repo, {"b.bin": b"second, edited\n"})
    return repo


def staged_and_taken_back(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n", ".gitignore": b"*.local\n"})
    write(repo, {"b.local": b"1\n"})
    git(repo, "add", "-f", "b.local")
    git(repo, "commit", "-qm", "more")
    write(repo, {"a": b"2\n"})
    git(repo, "add", "a")
    git(repo, "mv", "a", "renamed")
    return repo


def filtered_and_touched(tmp: Path) -> Path:
    repo = filtered(tmp)
    settle(repo)
    os.utime(repo / "a.bin", (5, 5))
    return repo


def filtered_by_global_settings(tmp: Path) -> Path:
    repo = filtered(tmp)
    git(repo, "config", "--global", "filter.up.clean", "tr a-z A-Z")
    git(repo, "config", "--remove-section", "filter.up")
    return repo


def filtered_by_path(tmp: Path) -> Path:
    """Equal bytes on disk, different blobs: only the path tells them apart."""
    repo = make(tmp / "r", {"plain": b"p\n"})
    git(repo, "config", "filter.named.clean", "sed -e 's|.*|&%|' ; echo %f")
    git(repo, "config", "filter.named.smudge", "cat")
    write(repo, {".gitattributes": b"*.n filter=named -text\n", "a.n": b"same\n", "b c.n": b"same\n",
                 "d'e.n": b"same\n"})
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "filtered")
    return repo


def filter_and_line_ends(tmp: Path) -> Path:
    repo = make(tmp / "r", {"plain": b"p\n"})
    for key, value in UPPER:
        git(repo, "config", f"filter.up.{key}", value)
    write(repo, {".gitattributes": b"*.t filter=up text eol=crlf\n*.u filter=up text=auto\n"
                                   b"*.i filter=up ident\n",
                 "a.t": CRLF, "a.u": LF, "a.i": b"$id$ $Id$\n"})
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "filtered")
    git(repo, "checkout-index", "-f", "-a")
    return repo


def filter_whose_program_is_gone(tmp: Path) -> Path:
    repo = filtered(tmp)
    settle(repo)
    git(repo, "config", "filter.up.clean", "no-such-program")
    git(repo, "config", "filter.up.required", "false")
    return repo


def filter_that_fails(tmp: Path) -> Path:
    repo = filtered(tmp)
    settle(repo)
    git(repo, "config", "filter.up.clean", "false")
    return repo


def filter_never_configured(tmp: Path) -> Path:
    return make(tmp / "r", {".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n",
                            "a.bin": b"version https://git-lfs.github.com/spec/v1\n"})


def macro(tmp: Path) -> Path:
    repo = make(tmp / "r", {"plain": b"p\n"})
    for key, value in UPPER:
        git(repo, "config", f"filter.up.{key}", value)
    write(repo, {".gitattributes": b"[attr]media filter=up -text\n*.bin media\n", "a.bin": b"payload\n"})
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "macro")
    return repo


def autocrlf(tmp: Path) -> Path:
    return _autocrlf(tmp, "true")


def _autocrlf(tmp: Path, value: str, *scope: str) -> Path:
    repo = make(tmp / "r", {"a.txt": LF, "mixed.txt": b"a\r\nb\n", "bin": b"\0\r\n", "d/b.txt": LF})
    git(repo, "config", *scope, "core.autocrlf", value)
    for name in git(repo, "ls-files").decode().split():
        (repo / name).unlink()
    git(repo, "checkout", "--", ".")
    return repo


def autocrlf_global(tmp: Path) -> Path:
    return _autocrlf(tmp, "true", "--global")


def autocrlf_input(tmp: Path) -> Path:
    return _autocrlf(tmp, "input")


def autocrlf_safe(tmp: Path) -> Path:
    repo = _autocrlf(tmp, "true")
    git(repo, "config", "core.safecrlf", "true")
    return repo


def autocrlf_dropped_later(tmp: Path) -> Path:
    """Checked out with CRLF, the setting taken back: git trusts the files' times."""
    repo = _autocrlf(tmp, "true")
    settle(repo)
    git(repo, "config", "--unset", "core.autocrlf")
    return repo


def attributes_came_later(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a.txt": CRLF, "odd*[name]?.txt": CRLF, 'quo"te\\.txt': CRLF, "!bang.txt": CRLF,
                            "d/caf\udce9.txt": CRLF, "#hash.txt ": CRLF})
    settle(repo)
    write(repo, {".gitattributes": b"*.txt* text\n"})
    git(repo, "add", ".gitattributes")
    git(repo, "commit", "-qm", "attributes")
    return repo


def native_ends(tmp: Path) -> Path:
    repo = make(tmp / "r", {".gitattributes": b"* text=auto\n*.bat eol=crlf\n*.sh eol=lf\n", "r.bat": LF,
                            "r.sh": LF, "t": LF, "b": b"\0\n"})
    git(repo, "config", "core.eol", "crlf")
    for name in ("r.bat", "r.sh", "t"):
        (repo / name).unlink()
    git(repo, "checkout", "--", ".")
    assert b"\r\n" in (repo / "t").read_bytes()
    return repo


def attributes_in_git_dir(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a.txt": LF, "b.txt": LF})
    write(repo, {".git/info/attributes": b"*.txt text eol=crlf"})  # no newline at the end
    for name in ("a.txt", "b.txt"):
        (repo / name).unlink()
    git(repo, "checkout", "--", ".")
    return repo


def attributes_of_the_person(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a.txt": LF, "b.md": LF, ".gitattributes": b"b.md -text\n"})
    write(tmp, {"mine": b"[attr]dos text eol=crlf\n*.txt dos\n*.md dos\n"})
    git(repo, "config", "--global", "core.attributesFile", str(tmp / "mine"))
    (repo / "a.txt").unlink()
    git(repo, "checkout", "--", ".")
    assert b"\r\n" in (repo / "a.txt").read_bytes()
    return repo


def attributes_at_the_default_place(tmp: Path) -> Path:
    write(Path(os.environ["HOME"]), {".config/git/attributes": b"*.txt text eol=crlf\n",
                                     ".config/git/ignore": b"*.mine\n"})
    repo = make(tmp / "r", {"a.txt": LF})
    write(repo, {"x.mine": b"1"})
    (repo / "a.txt").unlink()
    git(repo, "checkout", "--", ".")
    return repo


def attributes_that_are_ignored(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a.txt": LF, "d/b.txt": LF})
    write(repo, {".gitattributes": b"*.txt text eol=crlf\n", ".git/info/exclude": b".gitattributes\n"})
    for name in ("a.txt", "d/b.txt"):
        (repo / name).unlink()
    git(repo, "checkout", "--", ".")
    return repo


def encodings(tmp: Path) -> Path:
    repo = tmp / "r"
    text = "zwölf\n"
    return make(repo, {".gitattributes": b"*.u16 text working-tree-encoding=UTF-16\n"
                                         b"*.le text working-tree-encoding=UTF-16LE eol=crlf\n"
                                         b"*.l1 text working-tree-encoding=ISO-8859-1\n",
                       "a.u16": text.encode("utf-16"), "a.le": text.replace("\n", "\r\n").encode("utf-16-le"),
                       "a.l1": text.encode("latin-1")})


def ident_and_export(tmp: Path) -> Path:
    repo = make(tmp / "r", {".gitattributes": b"*.c ident export-subst\ndocs export-ignore\n",
                            "a.c": b"/* $Id$ */\n", "docs/x": b"$Format:%H$\n"})
    (repo / "a.c").unlink()
    git(repo, "checkout", "--", ".")
    assert b"$Id: " in (repo / "a.c").read_bytes()
    return repo


def marked(tmp: Path) -> Path:
    repo = make(tmp / "r", {"skip": b"1\n", "skip gone": b"1\n", "assume": b"1\n", "assume gone": b"1\n",
                            "both": b"1\n"})
    git(repo, "update-index", "--skip-worktree", "skip", "skip gone", "both")
    git(repo, "update-index", "--assume-unchanged", "assume", "assume gone", "both")
    write(repo, {"skip": b"2\n", "assume": b"2\n", "both": b"2\n"})
    (repo / "skip gone").unlink()
    (repo / "assume gone").unlink()
    return repo


def modes_do_not_count(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n", "b": b"1\n"})
    git(repo, "config", "core.fileMode", "false")
    (repo / "a").chmod(0o755)
    return repo


def modes_count(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n", "b": b"1\n"})
    (repo / "a").chmod(0o755)
    return repo


def links_are_files(tmp: Path) -> Path:
    repo = tmp / "r"
    repo.mkdir()
    os.symlink("target", repo / "link")
    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "link")
    git(repo, "config", "core.symlinks", "false")
    (repo / "link").unlink()
    git(repo, "checkout", "--", ".")
    assert not (repo / "link").is_symlink()
    return repo


def case_does_not_count(tmp: Path) -> Path:
    repo = make(tmp / "r", {"Build/x": b"1\n", ".gitignore": b"out/\n"})
    git(repo, "config", "core.ignoreCase", "true")
    write(repo, {"OUT/y": b"1"})
    return repo


def excluded_by_the_person(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n"})
    write(tmp, {"mine": b"*.secret\n*.keep"})
    git(repo, "config", "core.excludesFile", str(tmp / "mine"))
    write(repo, {".git/info/exclude": b"!b.keep\n/local", "x.secret": b"1", "b.keep": b"1", "c.keep": b"1",
                 "local": b"1"})
    return repo


def linked_worktree(tmp: Path) -> Path:
    main = make(tmp / "main", {"f": b"1\n", "d/g": b"1\n", "e/h": b"1\n"})
    write(main, {".git/info/exclude": b"*.x\n"})
    git(main, "worktree", "add", "-q", "-b", "side", str(tmp / "r"))
    git(tmp / "r", "sparse-checkout", "set", "d")
    write(tmp / "r", {"a.x": b"1"})
    return tmp / "r"


def worktree_of_a_bare_repository(tmp: Path) -> Path:
    make(tmp / "main", {"f": LF, ".gitattributes": b"* text eol=crlf\n"})
    git(tmp, "clone", "-q", "--bare", str(tmp / "main"), "bare.git")
    git(tmp / "bare.git", "worktree", "add", "-q", str(tmp / "r"), "main")
    assert (tmp / "r" / "f").read_bytes() == CRLF
    return tmp / "r"


def git_directory_elsewhere(tmp: Path) -> Path:
    repo = make(tmp / "r", {"f": b"1\n"}, "--separate-git-dir=" + str(tmp / "elsewhere"))
    write(tmp / "elsewhere", {"info/exclude": b"*.x\n"})
    write(repo, {"a.x": b"1"})
    return repo


def merging(tmp: Path) -> Path:
    main = make(tmp / "main", {"f": b"1\n2\n3\n", "k": b"k\n", "gone": b"1\n"})
    git(main, "checkout", "-qb", "other")
    write(main, {"f": b"1\nother\n3\n", "theirs": b"t\n", "gone": b"2\n"})
    git(main, "add", "-A")
    git(main, "commit", "-qm", "other")
    git(main, "checkout", "-q", "main")
    write(main, {"f": b"1\nmain\n3\n"})
    git(main, "rm", "-q", "gone")
    git(main, "commit", "-qam", "main")
    subprocess.run(["git", *IDENTITY, "merge", "-q", "other"], cwd=main, capture_output=True, check=False)
    return main


def rebasing(tmp: Path) -> Path:
    main = merging(tmp)
    git(main, "reset", "-q", "--hard")
    subprocess.run(["git", *IDENTITY, "rebase", "other"], cwd=main, capture_output=True, check=False)
    return main


def submodules(tmp: Path) -> Path:
    library = make(tmp / "library", {"core.py": b"L\n", ".gitattributes": b"*.bin filter=up\n"})
    repo = make(tmp / "r", {"app": b"1\n"})
    for name in ("libs", "never", "deep/er"):
        git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), name)
    git(repo, "commit", "-qm", "submodules")
    git(repo, "submodule", "deinit", "-q", "-f", "never")
    git(repo / "libs", "config", "filter.up.clean", "tr a-z A-Z")
    write(repo, {"libs/x.bin": b"filtered\n"})
    git(repo / "libs", "sparse-checkout", "set", "--no-cone", "core.py")
    return repo


def submodule_with_its_git_inside(tmp: Path) -> Path:
    repo = make(tmp / "r", {"app": b"1\n"})
    make(repo / "old", {"f": b"1\n"})
    git(repo, "-c", "advice.addEmbeddedRepo=false", "add", "old")
    git(repo, "commit", "-qm", "old style")
    return repo


def inside_a_submodule(tmp: Path) -> Path:
    submodules(tmp)
    return tmp / "r" / "deep" / "er"


def index_extensions(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n", "b": b"1\n"})
    git(repo, "update-index", "--split-index")
    git(repo, "update-index", "--force-untracked-cache")
    write(repo, {"a": b"2\n", "intended": b"1\n", "untracked": b"1\n"})
    git(repo, "add", "--intent-to-add", "intended")
    return repo


def fsmonitor(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n", "b": b"1\n"})
    write(repo, {"hook": b"#!/bin/sh\nprintf '%s\\0' now\n", ".git/info/exclude": b"hook\n"})
    (repo / "hook").chmod(0o755)
    git(repo, "config", "core.fsmonitor", "./hook")
    git(repo, "status")
    write(repo, {"a": b"2\n"})
    git(repo, "config", "--unset", "core.fsmonitor")
    return repo


def sha256(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a.txt": LF, "b": b"1\n"}, "--object-format=sha256")
    for key, value in UPPER:
        git(repo, "config", f"filter.up.{key}", value)
    write(repo, {".gitattributes": b"*.bin filter=up -text\n", "a.bin": b"payload\n"})
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "filtered")
    return repo


def shallow(tmp: Path) -> Path:
    return clone(tmp, "--depth=1")


def partial(tmp: Path) -> Path:
    return clone(tmp, "--filter=blob:none")


def partial_sparse_shallow(tmp: Path) -> Path:
    repo = clone(tmp, "--filter=blob:none", "--sparse", "--depth=1")
    (tmp / "origin").rename(tmp / "server is away")
    return repo


def partial_no_trees(tmp: Path) -> Path:
    repo = clone(tmp, "--filter=tree:0")
    (tmp / "origin").rename(tmp / "server is away")
    return repo


def unborn(tmp: Path) -> Path:
    repo = tmp / "r"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "trunk")
    write(repo, {"staged": b"1\n", "loose": b"1\n", ".git/info/exclude": b"*.x\n", "a.x": b"1"})
    git(repo, "add", "staged")
    return repo


def detached(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n"})
    git(repo, "checkout", "-q", "--detach")
    return repo


def head_of_another_kind(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n"})
    git(repo, "update-ref", "refs/odd/place", "HEAD")
    git(repo, "symbolic-ref", "HEAD", "refs/odd/place")
    return repo


def replaced(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n"})
    write(repo, {"a": b"2\n"})
    git(repo, "commit", "-qam", "second")
    git(repo, "replace", "HEAD~1", "HEAD")
    git(repo, "checkout", "-q", "HEAD~1")
    return repo


def broken_branch(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n"})
    write(repo, {".git/refs/heads/broken": b"1" * 40 + b"\n"})
    return repo


def type_changes(tmp: Path) -> Path:
    repo = make(tmp / "r", {"to folder": b"1\n", "to link": b"1\n", "was/folder": b"1\n", "was2/f": b"1\n"})
    os.symlink("nowhere", repo / "to file")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "link")
    for name in ("to folder", "to link", "to file", "was/folder", "was2/f"):
        (repo / name).unlink()
    (repo / "was").rmdir()
    (repo / "was2").rmdir()
    write(repo, {"to folder/x": b"1\n", "to file": b"1\n", "was": b"1\n"})
    os.symlink("to folder", repo / "to link")
    os.symlink("to folder", repo / "was2")
    return repo


def tracked_but_ignored(tmp: Path) -> Path:
    repo = make(tmp / "r", {"app": b"1\n"})
    write(repo, {".gitignore": b"*.local\nvendor/\n", "settings.local": b"1\n", "vendor/dep.py": b"1\n",
                 "vendor/other": b"1\n"})
    git(repo, "add", ".gitignore")
    git(repo, "add", "-f", "settings.local", "vendor/dep.py")
    git(repo, "commit", "-qm", "forced")
    return repo


def withheld(tmp: Path) -> Path:
    library = make(tmp / "library", {"core.py": b"L\n"})
    repo = make(tmp / "r", {".tppignore": b"data/\n*.key\nlibs/\n", "data/x": b"1\n", "a.key": b"1\n",
                            "b": b"1\n"})
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "libs")
    git(repo, "commit", "-qm", "submodule")
    return repo


def names_of_any_bytes(tmp: Path) -> Path:
    odd = {"a\nb": b"1\n", "caf\udce9": b"1\n", " lead": b"1\n", "trail ": b"1\n", '"q"': b"1\n",
           "-x": b"1\n", "a -> b": b"1\n", ":(top)x": b"1\n", "*": b"1\n", "x\\y": b"1\n",
           "d \t/e\n/f": b"1\n"}
    repo = make(tmp / "r", odd)
    git(repo, "config", "core.autocrlf", "input")
    write(repo, {"a\nb": b"2\n", "new\udcff": b"1\n"})
    return repo


def untracked_do_not_show(tmp: Path) -> Path:
    repo = make(tmp / "r", {"a": b"1\n"})
    git(repo, "config", "status.showUntrackedFiles", "no")
    write(repo, {"loose": b"1\n"})
    return repo


BUILDERS: list[Callable[[Path], Path]] = [
    worktree_of_a_bare_repository, git_directory_elsewhere, filtered_and_line_ends_of_the_person,
    filtered_by_a_long_running_program, staged_and_taken_back,
    sparse_cone, sparse_index, sparse_patterns, sparse_with_an_extra_file, sparse_attributes_absent,
    filtered, filtered_and_edited, filtered_and_touched, filtered_by_global_settings, filtered_by_path,
    filter_and_line_ends, filter_whose_program_is_gone, filter_that_fails, filter_never_configured, macro,
    autocrlf, autocrlf_global, autocrlf_input, autocrlf_safe, autocrlf_dropped_later, attributes_came_later,
    native_ends, attributes_in_git_dir, attributes_of_the_person, attributes_at_the_default_place,
    attributes_that_are_ignored, encodings, ident_and_export, marked, modes_do_not_count, modes_count,
    links_are_files, case_does_not_count, excluded_by_the_person, linked_worktree, merging, rebasing,
    submodules, submodule_with_its_git_inside, inside_a_submodule, index_extensions, fsmonitor, sha256,
    shallow, partial, partial_sparse_shallow, partial_no_trees, unborn, detached, head_of_another_kind,
    replaced, broken_branch, type_changes, tracked_but_ignored, withheld, names_of_any_bytes,
    untracked_do_not_show,
]
DIRTY = {
    filtered_by_a_long_running_program, staged_and_taken_back, sparse_with_an_extra_file,
    filtered_and_edited, modes_count, merging, rebasing, index_extensions, fsmonitor, unborn, type_changes,
    names_of_any_bytes, untracked_do_not_show, excluded_by_the_person,
}
BEYOND_SETTINGS = {autocrlf_dropped_later, attributes_came_later, filter_and_line_ends}
