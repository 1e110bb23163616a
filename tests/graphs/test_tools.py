"""The tools on texts of every kind: files in memory; `search` and `list` by the programs of this machine."""

from __future__ import annotations

import codecs
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import listing, observation, search, tools
from graphs.toolbox import Call, Prepared, Result
from tests.graphs.doubles import Crash, MemorySandbox, Points, World

FILE = "/home/user/repo/f"
LE, MARK = codecs.BOM_UTF16_LE, codecs.BOM_UTF8


def test_only_the_coder_writes():
    for role, names in tools.ROLE_TOOLS.items():
        assert bool({"edit", "write"} & set(names)) is (role == "coder")
    assert "bash" not in tools.ROLE_TOOLS["planner"] + tools.ROLE_TOOLS["critic"]


@given(st.text(max_size=3000), st.integers(100, 1000))
def test_cut_output_keeps_both_ends_and_stays_small(text, limit):
    cut = observation.cut_middle(text, limit, "p")
    assert len(cut) <= limit + 60
    assert text in (cut, text)
    if len(text) > limit:
        assert "to read them: p" in cut


def world_with(data: bytes | None, points: Points | None = None) -> World:
    world = World({}, points)
    if data is not None:
        world.files[FILE] = data
    return world


async def use(world: World, name: str, limit: int = 4000, **arguments: object) -> Result:
    sandbox = MemorySandbox(world)
    prepared = await tools.BUILT_IN.prepare(name, Call(arguments, "e", sandbox))
    if isinstance(prepared, Result):
        return prepared
    return await tools.BUILT_IN.perform(name, Call(arguments, "e", sandbox, 5, limit), prepared)


async def test_a_replaced_character_is_said_never_silent():
    """Half of a surrogate pair was replaced where the reply was read: what runs is not what was meant."""
    mark = "\N{REPLACEMENT CHARACTER}"
    ran = await use(world_with(None), "bash", command=f"echo {mark}")
    assert mark in ran.output
    assert "U+FFFD" in ran.output
    written = await use(world_with(b""), "write", path="f", content=f"a{mark}")
    assert "U+FFFD" in written.output
    assert "U+FFFD" not in (await use(world_with(None), "bash", command="echo a")).output


# ---- read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"a\nb\n", "     1\ta\n     2\tb"),
        (b"a\nb", "     1\ta\n     2\tb"),
        (b"a\r\n\r\nb\r\n", "     1\ta\n     2\t\n     3\tb\n[CRLF line ends]"),
        (b"a\r\nb\n", "     1\ta\n     2\tb\n[mixed line ends: 1 CRLF, 1 LF]"),
        (b"a\rb\n", "     1\ta\rb"),
        (b"a\rb\r", "     1\ta\rb\r\n[line ends are CR alone, so it is all one line]"),
        (b"\x0c\na\x0b\x1c\n", "     1\t\x0c\n     2\ta\x0b\x1c"),
        ("a\u2028b\x85c\nd".encode(), "     1\ta\u2028b\x85c\n     2\td"),
        (MARK + b"a\n", "     1\ta"),
        (LE + "é\r\n𝄞\r\n".encode("utf-16-le"), "     1\té\n     2\t𝄞\n[UTF-16 LE text; CRLF line ends]"),
        (b"caf\xe9\n", "     1\tcafé\n[Latin-1 text]"),
        ("日本".encode() + b"\xff\n", "     1\t日本ÿ\n[1 bytes that are not UTF-8]"),
        (b"", "[f is empty]"),
        (MARK, "[f is empty]"),
        (b"a\0b", "f is a binary file of 3 bytes"),
        (b"a" * 9000 + b"\0", "f is a binary file of 9001 bytes"),
    ],
)
async def test_read_shows_texts_as_they_are(data, seen):
    assert (await use(world_with(data), "read", path="f", limit=99999)).output.startswith(seen[:60])
    assert (await use(world_with(data), "read", path="f")).output == seen


async def test_read_counts_lines_as_sed_does(tmp_path):
    text = '"""P."""\n\x0c\ndef one():\n    return "a\u2028b\x85c\x1c"\n\x0b\n\ndef three():\n    return 4\n'
    data = text.encode()
    (tmp_path / "f").write_bytes(data)
    for first in range(1, 9):
        sed = subprocess.run(["sed", "-n", f"{first}p", str(tmp_path / "f")], capture_output=True, check=True)
        seen = await use(world_with(data), "read", path="f", offset=first)
        assert seen.output.split("\n", 1)[0] == f"{first:6}\t{sed.stdout.decode()[:-1]}"
    beyond = await use(world_with(data), "read", path="f", offset=9)
    assert beyond.output == "f has 8 lines; there is no line 9"


async def test_an_output_is_not_cut_inside_a_character():
    world = world_with(None)
    world.outputs["x"] = "aé日𝄞".encode() + b"\xff"
    sandbox = MemorySandbox(world)
    seen, at = "", 0
    while True:
        arguments = {"path": "output:x", "offset": at, "limit": 4}
        found = await tools.BUILT_IN.perform("read", Call(arguments, "e", sandbox, 5, 100), Prepared({}))
        if "nothing at offset" in found.output:
            break
        text, _, note = found.output.rpartition("\n[bytes ")
        seen, at = seen + text, int(note.partition("–")[2].partition(";")[0])
    assert seen == "aé日𝄞\ufffd"


# ---- edit and write ------------------------------------------------------------------------------


async def test_case_01_a_crlf_file_is_edited():
    world = world_with(b"def greet(name):\r\n    ...\r\n\r\ndef add(a, b):\r\n    return a - b\r\n")
    first = await use(world, "edit", path="f", old="def add(a, b):\n    return a - b",
                      new="def add(a, b):\n    return a + b")  # fmt: skip
    assert first.output == (
        "edited f, now:\n     2\t    ...\n     3\t\n     4\tdef add(a, b):\n     5\t    return a + b"
    )
    await use(world, "edit", path="f", old="    return a + b", new="    total = a + b\n    return total")
    assert world.files[FILE].endswith(b"def add(a, b):\r\n    total = a + b\r\n    return total\r\n")


async def test_the_view_shows_the_edited_lines_of_grep():
    world = world_with('a\x0c\n"\u2028\x85"\n\x1c\nreturn 4\nend\n'.encode())
    done = await use(world, "edit", path="f", old="return 4", new="return 3")
    assert done.output == 'edited f, now:\n     2\t"\u2028\x85"\n     3\t\x1c\n     4\treturn 3\n     5\tend'


async def test_the_view_of_a_long_edit_shows_both_ends():
    world = world_with(b"a\nb\nc\n")
    done = await use(world, "edit", path="f", old="b", new="\n".join(f"n{i}" for i in range(500)))
    seen = done.output.split("\n")
    assert seen[1:4] == ["     1\ta", "     2\tn0", "     3\tn1"]
    assert seen[-2:] == ["   501\tn499", "   502\tc"]
    assert len(seen) < 70
    minified = world_with(b"x" * 100_000 + b"yz")
    assert len((await use(minified, "edit", path="f", old="yz", new="w")).output) < 5000


@pytest.mark.parametrize(
    "data", [b"a\r\nb\r\n", MARK + b"a\nb\n", LE + "a\nb\n".encode("utf-16-le"), b"a\nb\xe9\n"]
)
@pytest.mark.parametrize("die_at", [1, 2])
async def test_an_edit_that_was_done_before_a_crash_is_recognised(data, die_at):
    arguments = {"path": "f", "old": "a\nb", "new": "a\nb\na\nb"}
    calm = world_with(data)
    await use(calm, "edit", **arguments)
    world = world_with(data, Points(die_at))
    sandbox = MemorySandbox(world)
    prepared = await tools.BUILT_IN.prepare("edit", Call(arguments, "e", sandbox))
    with pytest.raises(Crash):
        await tools.BUILT_IN.perform("edit", Call(arguments, "e", sandbox, 5, 4000), prepared)
    again = await tools.BUILT_IN.perform("edit", Call(arguments, "e", sandbox, 5, 4000), prepared)
    assert again.ok
    assert world.files == calm.files
    world.files[FILE] += b"\n"
    changed = await tools.BUILT_IN.perform("edit", Call(arguments, "e", sandbox, 5, 4000), prepared)
    assert (changed.ok, changed.output) == (False, "f was changed meanwhile: read it again")


async def test_write_keeps_how_a_file_was_written_and_says_so():
    world = world_with(b"a\r\nb\r\n")
    done = await use(world, "write", path="f", content="x\ny\n")
    assert (done.output, world.files[FILE]) == ("wrote f, 6 bytes; kept its CRLF line ends", b"x\r\ny\r\n")
    done = await use(world_with(None), "write", path="f", content="x\r\ny\n")
    assert done.output == "wrote f, 5 bytes"
    world = world_with(b"\0binary")
    await use(world, "write", path="f", content="x\n")
    assert world.files[FILE] == b"x\n"


async def test_a_write_that_a_crash_interrupted_says_the_same():
    """The second time the file is there as written, in UTF-8: how it was before comes from the effect."""
    arguments = {"path": "f", "content": "日\n"}
    world = world_with(b"caf\xe9\r\n", Points(2))
    sandbox = MemorySandbox(world)
    prepared = await tools.BUILT_IN.prepare("write", Call(arguments, "e", sandbox))
    with pytest.raises(Crash):
        await tools.BUILT_IN.perform("write", Call(arguments, "e", sandbox, 5, 4000), prepared)
    again = await tools.BUILT_IN.perform("write", Call(arguments, "e", sandbox, 5, 4000), prepared)
    calm = await use(world_with(b"caf\xe9\r\n"), "write", **arguments)
    assert again == calm
    assert world.files[FILE] == "日\r\n".encode()


async def test_a_failing_command_with_crlf_is_told_about_it():
    world = world_with(None)
    world.runner = lambda world, command: (127, "not found")
    assert "CRLF line ends" in (await use(world, "bash", command="if true; then\r\nls\r\nfi\r\n")).output
    assert "CRLF" not in (await use(world_with(None), "bash", command="printf 'a\r\n'")).output


# ---- search and list -----------------------------------------------------------------------------


def programs(folder: Path, *without: str) -> str:
    """A PATH on which these programs do not exist; `grep -P` can be left out like a program."""
    folder.mkdir()
    for place in ("/bin", "/usr/bin"):
        for path in Path(place).iterdir():
            if path.name not in without and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    if "rg" not in without and not (folder / "rg").exists() and (ripgrep := shutil.which("rg")):
        (folder / "rg").symlink_to(ripgrep)
    if "grep -P" in without:
        (folder / "grep").unlink()
        shim = f'#!/bin/sh\ncase "$*" in -*P*) exit 2;; esac\nexec {shutil.which("grep")} "$@"\n'
        (folder / "grep").write_text(shim)
        (folder / "grep").chmod(0o755)
    return str(folder)


@pytest.fixture(scope="module", params=["", "rg", "rg,grep -P"], ids=["all", "grep", "plain grep"])
def path(request, tmp_path_factory) -> str:
    """What this machine has; without ripgrep; without Perl's expressions too."""
    return programs(tmp_path_factory.mktemp("path") / "bin", *filter(None, request.param.split(",")))


@pytest.fixture
def tree(tmp_path) -> Path:
    files = {
        "crlf.py": b"def foo():\r\n    return 'x'\r\n\r\nfoox\r\nend foo\r\n",
        "feed.py": b"\x0c\n\x0b\x1c\nthe \x85 foo\n" + "\u2028 foo\n".encode(),
        "latin.txt": b"caf\xe9 foo\n",
        "wide.txt": LE + "first\r\nwide foo\r\n".encode("utf-16-le"),
        "-dash.txt": b"-e foo\n",
        "binary.dat": b"\0\1\2\nfoo\n\0",
        "sub/deep.ts": b"foo 1\n",
        "sub/a b:3:c.tsx": b"foo 2\n",
        "sub/new\nline.py": b"x\nfoo 3\n",
        ".hidden": b"foo hidden\n",
        ".gitignore": b"ignored\n",
        "ignored": b"foo ignored\n",
        ".git/config": b"foo git\n",
        "node_modules/m.js": b"foo module\n",
        "long.txt": "é".encode() * 3000 + b" foo\n",
    }
    root = tmp_path / "tree"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def looked(tree: Path, path: str, pattern: str, where: str = ".", glob: str | None = None) -> search.Found:
    script = search.script(str(tree), os.path.normpath(tree / where), pattern, glob)
    done = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, env={"PATH": path}, check=True)  # fmt: skip
    assert b"\0" not in done.stdout
    return search.read(done.stdout.decode("utf-8", "replace"))


def test_search_numbers_lines_as_read_does(tree, path):
    found = looked(tree, path, "foo", glob="*.py")
    assert sorted(found.matches.split("\n")) == [
        '"sub/new\\nline.py":2:foo 3', "crlf.py:1:def foo():", "crlf.py:4:foox", "crlf.py:5:end foo",
        "feed.py:3:the \ufffd foo", "feed.py:4:\u2028 foo",
    ]  # fmt: skip
    assert (found.more, found.said) == (0, "")


def test_search_looks_into_every_file_but_those_that_it_says_it_leaves_out(tree, path):
    found = looked(tree, path, "foo")
    assert sorted(line.partition(":")[0] for line in found.matches.split("\n") if "binary" not in line) == [
        '"sub/new\\nline.py"', "-dash.txt", ".hidden", "crlf.py", "crlf.py", "crlf.py", "feed.py", "feed.py",
        "ignored", "latin.txt", "long.txt", "sub/a b", "sub/deep.ts", "wide.txt",
    ]  # fmt: skip
    assert "sub/a b:3:c.tsx:1:foo 2" in found.matches
    assert "wide.txt:2:wide foo" in found.matches
    assert "latin.txt:1:caf\ufffd foo" in found.matches
    assert "binary.dat: binary file matches" in found.matches
    assert "é [… cut]" in found.matches
    assert looked(tree, path, "foo", "node_modules").matches == "node_modules/m.js:1:foo module"
    assert "git:" not in looked(tree, path, "foo", ".").matches


@pytest.mark.parametrize(
    ("pattern", "where", "glob", "matches"),
    [
        ("foo$", "crlf.py", None, "crlf.py:5:end foo"),
        ("^$", "crlf.py", None, "crlf.py:3:"),
        (r"\(\):$", "crlf.py", None, "crlf.py:1:def foo():"),
        (r"[$x]$", "crlf.py", None, "crlf.py:4:foox"),
        ("-e foo", ".", "*.txt", "-dash.txt:1:-e foo"),
        ("--version|--help", ".", None, ""),
        ("foo", "-dash.txt", None, "-dash.txt:1:-e foo"),
        ("foo [12]", ".", "*.{ts,tsx}", "sub/a b:3:c.tsx:1:foo 2\nsub/deep.ts:1:foo 1"),
        ("foo", ".", "sub/*.ts", "sub/deep.ts:1:foo 1"),
        ("foo", ".", "**/*.ts", "sub/deep.ts:1:foo 1"),
        ("foo", ".", "sub/**/*.ts", "sub/deep.ts:1:foo 1"),
        (r"^foo\s\w$", "sub/deep.ts", None, "sub/deep.ts:1:foo 1"),
        ("foo 1\n", ".", None, "sub/deep.ts:1:foo 1"),
        ("'; echo pwned; '", ".", None, ""),
        ("nowhere", ".", None, ""),
    ],
)
def test_search_patterns(tree, path, pattern, where, glob, matches):
    found = looked(tree, path, pattern, where, glob)
    assert (found.matches, found.said) == (matches, "")


@pytest.mark.parametrize(
    ("pattern", "where", "words"),
    [("foo(", ".", ("unclosed", "parenthesis", "Unmatched")), ("foo", "nowhere", ("No such file",))],
)
def test_what_a_search_could_not_do_is_told(tree, path, pattern, where, words):
    found = looked(tree, path, pattern, where)
    assert found.matches == ""
    assert any(word in found.said for word in words), found.said


def test_utf_16_that_cannot_be_searched_is_told(tree, tmp_path):
    found = looked(tree, programs(tmp_path / "few", "rg", "iconv"), "wide")
    assert found.said == "./wide.txt is UTF-16 text and was not searched: iconv is missing"


def test_many_matches_are_counted(tree, path):
    (tree / "many").write_bytes(b"many\n" * 1234)
    found = looked(tree, path, "many")
    assert (found.matches.count("\n") + 1, found.more) == (search.MATCHES, 1234 - search.MATCHES)


async def test_a_search_is_told_in_full():
    world = world_with(None)
    world.runner = lambda world, command: (0, "./a\x1f3:foo\n\x1e7\x1egrep: ./b: Permission denied\n")
    done = await use(world, "search", pattern="foo")
    assert done.output == (
        "a:3:foo\n[7 more matches: search with a narrower pattern, path or glob]\n"
        "grep: ./b: Permission denied"
    )
    world = world_with(None)
    world.runner = lambda world, command: (0, "\x1e0\x1egrep: missing )\n")
    done = await use(world, "search", pattern="foo")
    assert (done.ok, done.output) == (False, "[nothing found; the search said:]\ngrep: missing )")
    world = world_with(None)
    world.runner = lambda world, command: (0, "\x1e0\x1e")
    assert await use(world, "search", pattern="foo") == Result(True, "[no match]")
    assert "no line break" in (await use(world, "search", pattern="a\nb")).output


def test_list_tells_names_as_they_are_and_what_it_could_not_see(tree, path):
    def listed(folder: Path) -> tuple[int, tuple[str, str]]:
        done = subprocess.run(["/bin/sh", "-c", listing.script(str(folder))], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env={"PATH": path})  # fmt: skip
        return done.returncode, listing.read(done.stdout.decode())

    code, (names, said) = listed(tree)
    assert (code, said) == (0, "")
    assert names.split("\n") == [
        "-dash.txt", ".gitignore", ".hidden", "binary.dat", "crlf.py", "feed.py", "ignored", "latin.txt",
        "long.txt", "sub", "sub/a b:3:c.tsx", "sub/deep.ts", '"sub/new\\nline.py"', "wide.txt",
    ]  # fmt: skip
    code, (names, _) = listed(tree / "nowhere")
    assert code != 0
    assert "nowhere" in names
    for number in range(400):
        (tree / f"z{number}").touch()
    assert listed(tree)[1][0].endswith(f"[{400 + 14 - listing.ENTRIES} more: list a folder]")
