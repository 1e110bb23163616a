"""Ignored files that are wanted, folders without files, and what is said about the rest."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from gateway.requests import ConversationCreate
from gateway.tar_reader import Reader, Source
from terminalpp.cli import archive, patterns, repository
from terminalpp.types.errors import InvalidInput, TooLarge
from tests.cli.repositories import Copy, git, listing, make, write
from tests.cli.test_git_mirror import inside

IGNORED = {
    ".gitignore": b"node_modules/\n.env\n*.gen\nlogs/\ndist/\nodd/\n/vendor/\n",
    "app.js": b"1\n", "package.json": b"{}", "package-lock.json": b"{}",
}
LOOSE = {
    ".env": b"SECRET=1\n", "web/.env": b"SECRET=2\n", "a.gen": b"1", "sub/b.gen": b"2",
    "node_modules/.bin/run": b"#!/bin/sh\n", "node_modules/mini/index.js": b"1",
    "node_modules/mini/.gitignore": b"deep\n", "node_modules/mini/deep": b"1",
    "logs/x.log": b"1", "dist/keep": b"1", "dist/drop": b"1",
    "odd/caf\udce9\n": b"1", "odd/ lead": b"1", "odd/[x]": b"1", "vendor/lib/f": b"1",
}


def project(tmp: Path, kind: str = "git") -> Path:
    root = tmp / "r"
    if kind == "git":
        make(root, IGNORED)
    else:
        write(root, IGNORED)
    write(root, LOOSE)
    return root


def brought(copy: Copy) -> set[str]:
    return {os.fsdecode(name) for name in listing(copy.root)} - set(IGNORED) - {".tppinclude", ".tppignore"}


ODD = {"odd/caf\udce9\n", "odd/ lead", "odd/[x]"}
MODULES = {"node_modules/.bin/run", "node_modules/mini/index.js", "node_modules/mini/.gitignore",
           "node_modules/mini/deep"}
CASES: list[tuple[list[str], set[str]]] = [
    ([".env"], {".env", "web/.env"}),
    (["/.env"], {".env"}),
    (["web/.env"], {"web/.env"}),
    (["*.gen"], {"a.gen", "sub/b.gen"}),
    (["/*.gen"], {"a.gen"}),
    (["sub/"], {"sub/b.gen"}),
    (["node_modules"], MODULES),
    (["node_modules/"], MODULES),
    (["node_modules/.bin"], {"node_modules/.bin/run"}),
    (["node_modules/.bin/"], {"node_modules/.bin/run"}),
    (["**/deep"], {"node_modules/mini/deep"}),
    (["dist/*", "!dist/drop"], {"dist/keep"}),
    (["*.gen", "!sub/*"], {"a.gen"}),
    (["odd"], ODD),
    (["odd/caf*"], {"odd/caf\udce9\n"}),
    (["odd/caf\udce9*"], {"odd/caf\udce9\n"}),
    (["odd/\\[x\\]"], {"odd/[x]"}),
    (["vendor/lib/f", ".env", "!web/.env"], {"vendor/lib/f", ".env"}),
    (["*"], set(LOOSE)),
]


@pytest.mark.parametrize("kind", ["git", "plain"])
@pytest.mark.parametrize("source", ["option", "file"])
@pytest.mark.parametrize(("wanted", "expected"), CASES, ids=lambda value: ascii(sorted(value))[:40])
def test_patterns_bring_ignored_files(
    tmp_path: Path, wanted: list[str], expected: set[str], source: str, kind: str
) -> None:
    root = project(tmp_path, kind)
    if source == "file":
        lines = b"# wanted\r\n\r\n" + b"".join(os.fsencode(word) + b"\r\n" for word in wanted)
        write(root, {".tppinclude": lines})
        if kind == "git":
            git(root, "add", ".tppinclude")
            git(root, "commit", "-qm", "include")
    copy = Copy(root, tmp_path / "copy", tuple(wanted) if source == "option" else ())
    assert brought(copy) == expected
    told = [word for word in wanted if "\udce9" not in word]  # the rest cannot travel in JSON
    assert copy.survey.include == told
    assert any("not plain text" in warning for warning in copy.survey.warnings) == (told != wanted)
    assert not [warning for warning in copy.survey.warnings if "names no file" in warning]
    assert any("because .tppinclude names them" in w for w in copy.survey.warnings) == (source == "file")
    if kind == "git":  # what is ignored at home is ignored inside
        assert inside(copy, "status", "--porcelain") == b""


def test_a_name_as_a_shell_completes_it_means_the_top(tmp_path: Path) -> None:
    root = project(tmp_path)
    assert brought(Copy(root, tmp_path / "copy", ("./.env", "./*.gen", "!./a.gen"))) == {".env"}


def test_include_outranks_tppignore_which_outranks_tppinclude(tmp_path: Path) -> None:
    root = make(tmp_path / "r", {".gitignore": b".env\n*.gen\n", ".tppignore": b"*.gen\ndata/\n/.env\n",
                                 ".tppinclude": b".env\n*.gen\n", "data/big": b"1", "code": b"1"})
    write(root, {".env": b"1", "web/.env": b"2", "a.gen": b"1"})
    control = {".gitignore", ".tppignore", ".tppinclude", "code"}
    names = {os.fsdecode(name) for name in listing(Copy(root, tmp_path / "one").root)}
    assert names == control | {"web/.env"}
    copy = Copy(root, tmp_path / "two", ("a.gen", "data"))
    assert {os.fsdecode(name) for name in listing(copy.root)} == control | {"web/.env", "a.gen", "data/big"}
    assert copy.survey.include == [".env", "*.gen", "a.gen", "data"]
    assert inside(copy, "status", "--porcelain") == b""


def test_a_pattern_that_names_nothing_is_told(tmp_path: Path) -> None:
    root = project(tmp_path)
    write(root, {".tppinclude": b"nothing-here\n.env\n"})
    said = "\n".join(Copy(root, tmp_path / "copy", ("no/such", "*.gen", "a.gen", "app.js")).survey.warnings)
    assert ".tppinclude: nothing-here names no file" in said
    assert "--include no/such names no file" in said
    assert said.count("names no file") == 2  # neither one that is outranked nor one of a tracked file
    for wrong in ("", "  ", "a\nb", "a\rb"):
        with pytest.raises(InvalidInput, match="not a pattern"):
            repository.survey(root, tmp_path, [wrong])


def test_what_the_server_would_refuse_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    def body(listed: list[str]) -> ConversationCreate:
        return ConversationCreate(sandbox_id=str(UUID(int=0)), workspace="/home/user/r", include=listed)

    root = make(tmp_path / "r", {"f": b"1\n"})
    most = ["x" * patterns.LENGTH_LIMIT] * patterns.COUNT_LIMIT
    patterns.check(most)
    body(most)
    for number, wrong in enumerate(([*most, "y"], ["x" * (patterns.LENGTH_LIMIT + 1)])):
        with pytest.raises(ValueError, match="validation error"):
            body(wrong)
        write(root, {".tppinclude": "\n".join(wrong).encode()})
        with pytest.raises(TooLarge, match="include patterns"):
            Copy(root, tmp_path / str(number))


def test_the_home_and_git_are_never_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    write(root, {".tpp/secrets/owner.token": b"token"})
    write(root, {".gitignore": b"*\n!.gitignore\n"})
    monkeypatch.setenv("TPP_HOME", str(root / ".tpp"))
    copy = Copy(root, tmp_path / "copy", ("*", ".tpp", ".git", ".git/config"))
    assert not [name for name in listing(copy.root) if name.startswith((b".tpp/", b".git/"))]
    assert not (copy.root / ".tpp").exists()
    assert b".env" in listing(copy.root)


def test_include_reaches_into_submodules_and_repositories_in_ignored_folders(tmp_path: Path) -> None:
    library = make(tmp_path / "library", {"core.py": b"L\n", ".gitignore": b"*.o\n.env\n"})
    root = project(tmp_path)
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "libs")
    write(root, {"libs/core.o": b"o", "libs/.env": b"1"})
    make(root / "vendor" / "clone", {"f": b"1\n", ".gitignore": b"*.o\n"})
    write(root, {"vendor/clone/x.o": b"o"})
    make(root / "nested", {"n": b"1\n", ".gitignore": b"secret\n"})
    write(root, {"nested/secret": b"1"})
    base = {".gitmodules", "libs/core.py", "libs/.gitignore", "nested/n", "nested/.gitignore"}
    copy = Copy(root, tmp_path / "one", ("libs/*.o", "secret", "vendor/clone/"))
    assert brought(copy) == base | {"libs/core.o", "nested/secret", "vendor/clone/f", "vendor/clone/x.o",
                                    "vendor/clone/.gitignore"}
    assert brought(Copy(root, tmp_path / "two", ("vendor/clone/f",))) == base | {"vendor/clone/f"}
    assert not (copy.root / "vendor" / "clone" / ".git").exists()


# ---- folders ------------------------------------------------------------------------------------


def folders(root: Path) -> set[str]:
    found = set()
    for where, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name != ".git"]
        if not names and not inner:
            found.add(os.path.relpath(where, root))
    return found


@pytest.mark.parametrize("kind", ["git", "plain"])
def test_folders_without_files_come_too(tmp_path: Path, kind: str) -> None:
    files = {".gitignore": b"build/\n*.log\n", ".tppignore": b"withheld/\nprivate\n", "app": b"1\n",
             "private/x": b"1\n"}
    root = make(tmp_path / "r", files) if kind == "git" else tmp_path / "r"
    write(root, files)
    for name in ("data", "deep/er/est", "build", "app-data/build/x", "withheld/empty", "private/empty",
                 "odd\n\udce9", " "):
        (root / name).mkdir(parents=True, exist_ok=True)
    write(root, {"logs/x.log": b"1", "cache/.gitignore": b"*\n", "cache/v/x": b"1"})
    os.symlink("data", root / "link")
    copy = Copy(root, tmp_path / "copy")
    assert folders(copy.root) == {"data", "deep/er/est", "app-data", "logs", "odd\n\udce9", " "}
    assert copy.survey.folders == sorted(copy.survey.folders)
    assert {"deep", "deep/er"} <= set(copy.survey.folders)  # each one is named, so each can be compared later
    assert len(copy.survey.entries) == len(copy.manifest) == 4
    assert not set(copy.survey.folders) & set(copy.manifest)


async def test_the_gateway_reads_the_folders_that_are_sent(tmp_path: Path) -> None:
    root = make(tmp_path / "r", {"f": b"1\n"})
    names = {"data", "odd\n\udce9", " ", "x" * 200, "x" * 200 + "/" + "y" * 200}
    for name in sorted(names):
        (root / name).mkdir()
    copy = Copy(root, tmp_path / "copy")

    async def pieces() -> AsyncIterator[bytes]:
        for piece in archive.stream(copy.survey, None, {}):
            yield piece

    reader = Reader(Source(pieces()))
    found = set()
    while (entry := await reader.next()) is not None:
        if entry.kind == "directory":
            found.add(entry.name)
    assert found == names


def test_empty_folders_in_submodules_and_of_submodules(tmp_path: Path) -> None:
    library = make(tmp_path / "library", {"core.py": b"L\n", ".gitignore": b"out/\n"})
    root = make(tmp_path / "r", {"app": b"1\n"})
    for name in ("libs", "never"):
        git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), name)
    git(root, "commit", "-qm", "submodules")
    git(root, "submodule", "deinit", "-q", "-f", "never")
    for name in ("libs/data", "libs/out", "out"):
        (root / name).mkdir()
    copy = Copy(root, tmp_path / "copy")
    assert folders(copy.root) == {"libs/data", "never", "out"}
    assert inside(copy, "status", "--porcelain") == b""


def test_a_repository_that_is_nested_too_deeply_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terminalpp.cli.project_roots.NEST_LIMIT", 1)
    root = make(tmp_path / "r", {"f": b"1\n"})
    make(root / "one", {"f": b"1\n"})
    make(root / "one" / "two", {"f": b"1\n"})
    (root / "one" / "two" / "data").mkdir()
    git(root / "one", "-c", "advice.addEmbeddedRepo=false", "add", "two")
    copy = Copy(root, tmp_path / "copy")
    assert set(listing(copy.root)) == {b"f", b"one/f"}
    assert "one/two is nested too deeply and is not copied" in copy.survey.warnings


def test_very_many_empty_folders_are_bounded_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "r", {"f": b"1\n"})
    for number in range(30):
        (root / f"d{number}").mkdir()
    monkeypatch.setattr("terminalpp.cli.folders.FOLDERS_LIMIT", 10)
    copy = Copy(root, tmp_path / "copy")
    assert len(copy.survey.folders) == 10
    assert "20 empty folders are not copied" in copy.survey.warnings


def test_a_submodule_that_git_cannot_read_comes_as_plain_files_and_is_told(tmp_path: Path) -> None:
    library = make(tmp_path / "library", {"core.py": b"L\n", ".gitignore": b"*.o\n"})
    root = make(tmp_path / "r", {"app": b"1\n"})
    for name in ("stale", "empty", "plain"):
        git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), name)
    git(root, "commit", "-qm", "submodules")
    (root / "stale" / ".git").write_text("gitdir: ../nowhere\n")
    (root / "empty" / ".git").unlink()
    (root / "empty" / ".git").mkdir()
    (root / "plain" / ".git").unlink()
    write(root, {"stale/x.o": b"o", "stale/new": b"1"})
    copy = Copy(root, tmp_path / "copy")
    names = set(listing(copy.root))
    assert {b"stale/core.py", b"stale/new", b"empty/core.py", b"plain/core.py"} <= names
    assert b"stale/x.o" not in names
    said = "\n".join(copy.survey.warnings)
    assert "cannot read the repository stale" in said
    assert "cannot read the repository empty" in said
    assert inside(copy, "status", "--porcelain") == b""


# ---- dependencies -------------------------------------------------------------------------------


@pytest.mark.parametrize(("files", "expected"), [
    ({"package.json": b"{}", "package-lock.json": b"{}", "node_modules/x/i.js": b"1"},
     ["node_modules/", "--include node_modules", '--setup-cmd "npm ci" --network open']),
    ({"package.json": b"{}", "yarn.lock": b"", "node_modules/x": b"1"}, ["yarn install --frozen-lockfile"]),
    ({"package.json": b"{}", "pnpm-lock.yaml": b"", "node_modules/x": b"1"}, ["pnpm install"]),
    ({"package.json": b"{}", "node_modules/x": b"1"}, ['"npm install"']),
    ({"web/package.json": b"{}", "web/package-lock.json": b"", "web/node_modules/x": b"1"},
     ["web/node_modules/", '"cd web && npm ci"']),
    ({"uv.lock": b"", ".venv/pyvenv.cfg": b"", ".venv/.gitignore": b"*\n"}, [".venv/", '"uv sync"']),
    ({"requirements.txt": b"", "venv/pyvenv.cfg": b"", "venv/bin/x": b""}, ["pip install -r requirements"]),
    ({"my app/package.json": b"{}", "my app/node_modules/x": b"1"}, ["cd 'my app' && npm install"]),
    ({"composer.json": b"{}", "vendor/autoload.php": b""}, ["composer install", "--include vendor"]),
    ({"mix.exs": b"", "deps/x/y": b""}, ["mix deps.get"]),
], ids=lambda value: ascii(value)[:30])
@pytest.mark.parametrize("kind", ["git", "plain"])
def test_dependencies_that_stay_behind_are_named(
    tmp_path: Path, files: dict[str, bytes], expected: list[str], kind: str
) -> None:
    root = tmp_path / "r"
    tracked = {"f": b"1\n", ".gitignore": b"node_modules\n/venv\n/vendor\n/deps\n"}
    write(root, tracked) if kind == "plain" else make(root, tracked)
    write(root, files)
    copy = Copy(root, tmp_path / "copy")
    notes = [warning for warning in copy.survey.warnings if "not in the sandbox" in warning]
    assert len(notes) == 1
    assert "\n" not in notes[0]
    assert all(words in notes[0] for words in expected), notes
    assert ("--include" in notes[0]) != any("pyvenv" in name for name in files)  # not portable
    assert not [name for name in copy.survey.folders if "venv" in name or "node_modules" in name]


def test_dependencies_that_came_are_not_named(tmp_path: Path) -> None:
    root = project(tmp_path)
    copy = Copy(root, tmp_path / "copy", ("node_modules",))
    assert not [warning for warning in copy.survey.warnings if "not in the sandbox" in warning]
    assert os.access(copy.root / "app.js", os.R_OK)
    plain = make(tmp_path / "q", {".gitignore": b"node_modules/\n", "f": b"1"})
    write(plain, {"node_modules/x": b"1"})  # nothing says how it came about
    assert Copy(plain, tmp_path / "two").survey.warnings == []
