"""Which files are work, as tables, without a tree."""

from __future__ import annotations

import pytest

from actors.conversation.worktree import (
    TOLD,
    Excluded,
    Listing,
    Seen,
    bounded,
    incidental,
    parse,
    sort,
)


def seen(path: str, kind: str = "f", mode: int | None = None, changed: float = 200.0) -> Seen:
    usual = 0o755 if kind == "d" else 0o644
    return Seen(path.encode(), kind, usual if mode is None else mode, 1, changed)


def listing(*paths: str, **about: object) -> Listing:
    return Listing([seen(path) for path in paths], began=100.0, **about)


@pytest.mark.parametrize(
    ("path", "others", "why", "top"),
    [
        ("node_modules/a/b.js", [], "dependencies", "node_modules"),
        ("web/node_modules/a", [], "dependencies", "web/node_modules"),
        ("pkg/__pycache__/m.pyc", [], "cache", "pkg/__pycache__"),
        ("m.pyc", [], "cache", "m.pyc"),
        ("target/debug/x", ["Cargo.toml"], "build output", "target"),
        ("sub/target/x", ["sub/pom.xml"], "build output", "sub/target"),
        ("build/lib/x.py", ["pyproject.toml"], "build output", "build"),
        ("bin/Debug/a.txt", ["App.csproj"], "build output", "bin"),
        ("a/obj/x", ["a/App.fsproj"], "build output", "a/obj"),
        ("x.egg-info/PKG-INFO", [], "build output", "x.egg-info"),
        ("env/lib/x.py", ["env/pyvenv.cfg"], "dependencies", "env"),
        ("deep/a.o", [], "build output", "deep/a.o"),
        ("test.log", [], "build output", "test.log"),
    ],
)
def test_what_a_rule_keeps_behind(path, others, why, top):
    rule = listing(path, *others).rule(path.encode())
    assert rule is not None
    assert (rule.why, rule.top) == (why, top.encode())


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("target/notes.md", []),
        ("build/make.py", ["src/pyproject.toml"]),
        ("bin/run.sh", ["App.py"]),
        ("lib/mathx.py", ["package.json"]),
        ("node_modules.md", []),
        ("env/settings.py", []),
        ("vendor/x.go", []),
        (".env", []),
        ("data/log", []),
        ("nodes/target", ["Cargo.toml"]),
    ],
)
def test_what_only_looks_like_it_is_work(path, others):
    assert listing(path, *others).rule(path.encode()) is None


def test_tracked_known_and_written_files_stand_against_the_rules():
    made = listing("a.o", "b.o", "c.o", "d.o", tracked=frozenset([b"a.o"]), known=frozenset([b"b.o"]))
    rules = made.candidates()
    assert set(rules) == {b"c.o", b"d.o"}
    found = sort(made, rules, [b"c.o"])
    assert found.files == [b"a.o", b"b.o", b"c.o"]
    assert [(left.path, left.lost) for left in found.left] == [(b"d.o", False)]


def test_what_cannot_be_recorded_is_lost_and_what_cannot_be_read_is_not_gone():
    old = seen("old", "s", changed=9)
    made = Listing(
        [seen("pipe", "p"), seen("shut", mode=0), seen("dark", "d", 0o300), seen(".GIT/x"), old],
        known=frozenset([b"shut", b"dark/x", b"away"]),
        began=100.0,
    )
    found = sort(made, {})
    assert {left.path for left in found.left} == {b"pipe", b"shut", b"dark", b".GIT/x"}
    assert all(left.lost for left in found.left)
    assert found.gone == [b"away"]


def test_files_that_changed_since_the_last_record_began_are_read_again():
    made = Listing([seen("a", changed=198.5), seen("b", changed=199.5)], recorded_at=200.0)
    assert sort(made, {}).again == [b"b"]


def test_empty_folders_are_work_unless_they_are_of_a_rule():
    entries = [seen("void", "d"), seen("node_modules", "d"), seen("full", "d"), seen("full/x")]
    made = Listing(entries, began=1.0)
    found = sort(made, made.candidates())
    assert found.folders == [b"void"]
    assert [left.path for left in found.left] == [b"node_modules"]
    pruned = Listing(entries, began=1.0, whole=False)
    assert sort(pruned, {}).left == []


def test_a_repository_inside_leaves_only_its_history():
    made = Listing([seen(".git", "d"), seen("a", "d"), seen("a/.git", "d"), seen("a/x")], began=1.0)
    found = sort(made, {})
    assert (found.files, [(left.path, left.lost) for left in found.left]) == ([b"a/x"], [(b"a/.git", False)])


def test_a_list_too_long_to_tell_still_says_that_something_is_lost():
    left = [Excluded(b"%03d" % n, 1, "cache") for n in range(TOLD + 5)]
    left += [Excluded(b"z", 1, "a socket", True)]
    told = bounded(left)
    assert len(told) == TOLD + 1
    assert told[0]["path"] == "z", "what is lost comes first"
    assert told[-1]["files"] == 6


def test_names_of_any_bytes_are_read():
    raw = b"f 644 3 1.5 a b\xff\n c\0d 755 0 2.0 d\0"
    assert [(one.path, one.kind, one.mode) for one in parse(raw, b"\0")] == [
        (b"a b\xff\n c", "f", 0o644), (b"d", "d", 0o755),
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "answer"), [("a/server.log", True), ("m.pyc", True), ("log.py", False)])
def test_what_says_nothing_about_the_work(path, answer):
    assert incidental(path) is answer
