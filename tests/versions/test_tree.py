"""Trees: looking, comparing, hashing and planning, on trees that Hypothesis makes."""

from __future__ import annotations

import hashlib
import stat
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sandbox.tppd import bulk
from actors.sandbox.versions.plan import plan, within
from actors.sandbox.versions.tree import Entry, Left, Tree, differences, look, same

NAMES = st.sampled_from([b"a", b"b", b"c", b"d d", b"\xff", b"a.b"])
FILES = st.builds(
    lambda mode, data: Entry(stat.S_IFREG | mode, len(data), b"s" * 24, hashlib.sha256(data).hexdigest()),
    st.sampled_from([0o644, 0o755, 0o400]),
    st.sampled_from([b"", b"one", b"two", b"three"]),
)
UNKEPT = st.just(Entry(stat.S_IFREG | 0o644, 2**40, None))
LINKS = st.builds(
    lambda target: Entry(stat.S_IFLNK | 0o777, 0, b"s" * 24, None, target), st.sampled_from([b"a", b"/x"])
)
DIRECTORIES = st.sampled_from([0o755, 0o700, 0o500, 0o555]).map(
    lambda mode: Entry(stat.S_IFDIR | mode, 0, b"s" * 24)
)


@st.composite
def trees(draw: st.DrawFn, leaves: st.SearchStrategy[Entry] = FILES | LINKS, depth: int = 3) -> Tree:
    found: list[tuple[bytes, Entry]] = []

    def fill(prefix: bytes, left: int) -> None:
        for name in draw(st.sets(NAMES, max_size=3)):
            path = prefix + b"/" + name if prefix else name
            one = draw(leaves | DIRECTORIES if left else leaves)
            found.append((path, one))
            if stat.S_ISDIR(one.mode):
                fill(path, left - 1)

    fill(b"", depth)
    return Tree.of(found)


def contents(tree: Tree) -> dict[bytes, Entry]:
    return dict(tree.items())


@given(trees(FILES | LINKS | UNKEPT), trees(FILES | LINKS | UNKEPT))
def test_differences_are_all_there_is(old: Tree, new: Tree) -> None:
    before, after = contents(old), contents(new)
    for path, was, now in differences(old, new):
        assert (before.get(path), after.get(path)) == (was, now)
        if now is None:
            before.pop(path)
        else:
            before[path] = now
    assert before.keys() == after.keys()
    assert all(same(before[path], after[path]) for path in after)
    assert not differences(old, old)


@given(trees(), trees())
def test_equal_trees_and_only_those_have_equal_hashes(old: Tree, new: Tree) -> None:
    assert (old.digest() == new.digest()) == (not differences(old, new))


@given(trees(FILES | LINKS | UNKEPT))
def test_what_is_not_kept_counts_in_no_hash(tree: Tree) -> None:
    kept = Tree.of((path, entry) for path, entry in tree.items() if entry.kept)
    assert tree.digest() == kept.digest()


@given(trees(FILES | LINKS | UNKEPT), trees(FILES | LINKS | UNKEPT))
def test_a_tree_told_from_another_is_that_tree(old: Tree, new: Tree) -> None:
    made = old.changed((path, now) for path, _, now in differences(old, new))
    assert contents(made).keys() == contents(new).keys()
    assert made.digest() == new.digest()


class Disk:
    """Does to a dict what WRITE_FILES does to files; refuses what the system would. What is outside of the
    scope may be in the way of what is inside: that is told, not done."""

    def __init__(self, tree: Tree) -> None:
        self.there = contents(tree)
        self.refused: list[bytes] = []

    def write(self, path: bytes, mode: int, data: bytes, hash: str | None = None, size: int = 0) -> None:
        folder = path.rpartition(b"/")[0]
        if folder:
            inside = self.there.get(folder)
            if inside is None or not stat.S_ISDIR(inside.mode):
                self.refused.append(path)
                return
            assert inside.mode & 0o300 == 0o300 or (stat.S_ISDIR(mode) and path in self.there), path
        inner = [one for one in self.there if one.startswith(path + b"/")]
        if mode == 0 or (path in self.there and stat.S_IFMT(self.there[path].mode) != stat.S_IFMT(mode)):
            assert not inner, "a directory that is not empty does not go"
            self.there.pop(path, None)
        if mode:
            self.there[path] = Entry(mode, size, b"s" * 24, hash, data)


def _fits(old: Tree, new: Tree) -> bool:
    """No directory that would have to go holds something that stays."""
    stays = [
        path for path, was, now in differences(old, new) if not (was or now).kept or (now and not now.kept)
    ]  # type: ignore[union-attr]
    gone = [path for path, was, now in differences(old, new) if was and (now is None or was.kind != now.kind)]
    return not any(within(one, [path]) for path in gone for one in stays)


@settings(max_examples=500, deadline=None)
@given(
    trees(FILES | LINKS | UNKEPT),
    trees(FILES | LINKS | UNKEPT),
    st.sampled_from([(b"",), (b"a",), (b"a/b", b"c"), (b"a/b/c",)]),
)
def test_a_plan_leads_from_one_tree_to_the_other(old: Tree, new: Tree, scope: tuple[bytes, ...]) -> None:
    steps = plan(old, new, scope)
    if not _fits(old, new):
        return
    disk = Disk(old)
    for stage in steps.stages:
        for item in stage:
            disk.write(item.path, item.mode, item.data)
    for path, entry, _ in steps.files:
        disk.write(path, entry.mode, b"", entry.hash, entry.size)
    for item in steps.modes:
        disk.write(item.path, item.mode, b"")
    top = {path.split(b"/")[0] for path in disk.refused}
    assert all(path in old.directories[b""].entries for path in top), "only what was there is in the way"
    now = Tree.of(disk.there.items())
    before, after = contents(old), contents(new)
    for path in before.keys() | after.keys() | disk.there.keys():
        found = disk.there.get(path)
        if path in disk.refused:
            continue
        if path in steps.untouched or not within(path, scope):
            above = any(top.startswith(path + b"/") for top in scope)
            wanted = after.get(path) if above and path not in before else before.get(path)
            if not above:
                assert found == wanted, path
        else:
            wanted = after.get(path)
            assert (found is None) == (wanted is None), path
            assert found is None or wanted is None or same(found, wanted), path
    assert plan(now, new, scope).empty or disk.refused


def record(entries: dict[bytes, bulk.Found]) -> bytes:
    """A directory's entries as tppd writes them."""
    out = b""
    for name, one in sorted(entries.items()):
        out += struct.pack("<Iq24sHH", one.mode, one.size, one.stamp, len(name), len(one.target))
        out += name + one.target
    return out


def found(mode: int, size: int = 0, changed: int = 5, target: bytes = b"") -> bulk.Found:
    return bulk.Found(mode, size, bulk.STAMP.pack(1, changed, 7), target)


def test_only_what_seems_changed_is_read() -> None:
    files = {b"f": found(stat.S_IFREG | 0o644, 3), b"g": found(stat.S_IFREG | 0o644, 3, changed=9)}
    first = look(Tree(), [(bulk.Directory(b"", 0, record(files)), 10)])
    assert [path for path, _ in first.unread] == [b"f", b"g"]
    for path, one in first.unread:
        first.settle(path, Entry(one.mode, one.size, one.stamp, "0" * 64))
    again = look(first.tree, [(bulk.Directory(b"", 0, record(files)), 10)])
    assert again.unread == []
    assert again.tree.directories[b""] is first.tree.directories[b""]
    files[b"g"] = found(stat.S_IFREG | 0o644, 3, changed=11)
    third = look(first.tree, [(bulk.Directory(b"", 0, record(files)), 20)])
    assert [path for path, _ in third.unread] == [b"g"]


def test_what_changed_in_the_clocks_last_tick_is_read_again() -> None:
    raw = record({b"f": found(stat.S_IFREG | 0o644, 3, changed=10)})
    first = look(Tree(), [(bulk.Directory(b"", 0, raw), 10)])
    first.settle(b"f", Entry(stat.S_IFREG | 0o644, 3, None, "0" * 64))  # reading it has told: not settled
    again = look(first.tree, [(bulk.Directory(b"", 0, raw), 99)])
    assert [path for path, _ in again.unread] == [b"f"]


def test_what_cannot_be_kept_is_told_each_time() -> None:
    raw = record({
        b"fifo": found(stat.S_IFIFO | 0o644),
        b"sock": found(stat.S_IFSOCK | 0o644),
        b"x" * 255: found(stat.S_IFDIR | 0o755),
        b".tppd-1.new": found(stat.S_IFREG | 0o600),
    })  # fmt: skip
    seen = [(bulk.Directory(b"", 0, raw), 10), (bulk.Directory(b"x" * 255, 13, b""), 10)]
    first = look(Tree(), seen)
    wanted = [Left(b"fifo", "a pipe"), Left(b"sock", "a socket")]
    closed = Left(b"x" * 255, "a directory that may not be read")
    assert first.left == [*wanted, closed]
    assert look(first.tree, seen).left == [*wanted, closed]
    assert [path for path, _ in first.tree.items()] == [b"x" * 255]


def test_what_cannot_be_looked_at_is_not_gone() -> None:
    inner = {b"f": found(stat.S_IFREG | 0o644, 3)}
    outer = record({b"d": found(stat.S_IFDIR | 0o755)})
    first = look(Tree(), [(bulk.Directory(b"", 0, outer), 10), (bulk.Directory(b"d", 0, record(inner)), 10)])
    first.settle(b"d/f", Entry(stat.S_IFREG | 0o644, 3, b"s" * 24, "0" * 64))
    closed = record({b"d": found(stat.S_IFDIR | 0o000, changed=6)})
    then = look(first.tree, [(bulk.Directory(b"", 0, closed), 10), (bulk.Directory(b"d", 13, b""), 10)])
    assert [one.path for one in differences(first.tree, then.tree)] == [b"d"]
    assert then.tree.get(b"d/f") == first.tree.get(b"d/f")


def test_what_is_skipped_stays_skipped() -> None:
    root = record({b".tpp": found(stat.S_IFDIR | 0o755), b"f": found(stat.S_IFLNK | 0o777, target=b"x")})
    inner = record({b"inside": found(stat.S_IFREG | 0o644, 3)})
    seen = [(bulk.Directory(b"", 0, root), 10), (bulk.Directory(b".tpp", 0, inner), 10)]
    first = look(Tree(), seen, {b".tpp": ""})
    again = look(first.tree, seen, {b".tpp": ""})
    for one in (first, again):
        assert [path for path, _ in one.tree.items()] == [b"f"]
        assert [*one.tree.directories] == [b""]
        assert (one.unread, one.left) == ([], [])
