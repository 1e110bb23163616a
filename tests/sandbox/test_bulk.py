"""A whole tree at once: walks in pages, many files read and written, on every driver."""

from __future__ import annotations

import errno
import stat

import pytest

from actors.sandbox.tppd import bulk
from actors.sandbox.tppd.bulk import Found, Item
from terminalpp.types.errors import Fenced, FileProblem, NotFound
from tests.sandbox.conftest import Sandbox

ROOT = "/home/user"
MAKE = r"""
mkdir -p tree/a/b/c tree/ab tree/'a b' tree/z/empty; cd tree
for d in . a a/b a/b/c ab 'a b' z; do for i in 1 2 3; do echo $i > "$d/f$i"; done; done
ln -s f1 link; ln -s nowhere a/dangling; mkfifo z/pipe; printf x > "$(printf 'odd \377\nx')"
"""


async def walked(
    sandbox: Sandbox, root: str, page_bytes: int | None = None
) -> dict[bytes, dict[bytes, Found]]:
    found: dict[bytes, dict[bytes, Found]] = {}
    async for page, clock in bulk.walk(sandbox.tppd, root, page_bytes):
        assert clock > 0
        for record in page:
            assert record.path not in found, "a directory comes once"
            assert record.errno == 0
            found[record.path] = bulk.entries_of(record.raw)
    return found


async def test_a_walk_tells_all_there_is_whatever_its_pages(sandbox: Sandbox) -> None:
    await sandbox.sh(MAKE)
    whole = await walked(sandbox, f"{ROOT}/tree")
    assert set(whole) == {b"", b"a", b"a b", b"a/b", b"a/b/c", b"ab", b"z", b"z/empty"}
    assert [*whole[b""]] == sorted(whole[b""])
    assert set(whole[b""]) == {b"a", b"a b", b"ab", b"f1", b"f2", b"f3", b"link", b"odd \xff\nx", b"z"}
    assert whole[b""][b"link"].target == b"f1"
    assert stat.S_ISFIFO(whole[b"z"][b"pipe"].mode)
    assert whole[b"a"][b"f1"].size == 2
    for page_bytes in (0, 1, 400, 2000):
        paged = await walked(sandbox, f"{ROOT}/tree", page_bytes)
        assert paged == whole
        assert [*paged] == [*whole]
    again = [record async for page, _ in bulk.walk(sandbox.tppd, f"{ROOT}/tree") for record in page]
    assert again == [record async for page, _ in bulk.walk(sandbox.tppd, f"{ROOT}/tree") for record in page]
    with pytest.raises(NotFound):
        await walked(sandbox, f"{ROOT}/none")
    with pytest.raises(FileProblem):
        await walked(sandbox, f"{ROOT}/tree/f1")


async def test_a_deep_and_wide_tree_is_told_in_order(sandbox: Sandbox) -> None:
    """More directories beside each other, and within each other, than are looked into ahead."""
    await sandbox.sh(
        """mkdir t; cd t; for i in $(seq 150); do mkdir -p w$i/x/y; echo $i > w$i/f; echo $i > w$i/x/y/g; done
        deep=.; for i in $(seq 120); do deep=$deep/d; mkdir $deep $deep/side; echo $i > $deep/side/f; done"""
    )
    listed = (await sandbox.sh("cd t; find . -mindepth 1 -type d -printf '%P\\n'")).text.split("\n")
    names = sorted((name.encode() for name in listed), key=lambda name: name.split(b"/"))
    for page_bytes in (None, 0, 3000):
        found = await walked(sandbox, f"{ROOT}/t", page_bytes)
        assert [*found] == [b"", *names]
        assert found[b"w77/x/y"][b"g"].size == 3
        assert [*found[b"d/d/side"]] == [b"f"]


async def test_what_may_not_be_looked_at_is_told(sandbox: Sandbox) -> None:
    await sandbox.sh(
        "mkdir -p t/closed t/names t/open; echo x > t/names/f; chmod 000 t/closed; chmod 600 t/names"
    )
    found = [(one.path, one.errno) async for page, _ in bulk.walk(sandbox.tppd, f"{ROOT}/t") for one in page]
    assert found == [(b"", 0), (b"closed", errno.EACCES), (b"names", errno.EACCES), (b"open", 0)]
    await sandbox.sh("chmod 700 t/closed t/names")


async def test_many_files_are_read_each_with_its_own_fate(sandbox: Sandbox) -> None:
    await sandbox.sh(
        "mkdir -p r/d; printf one > r/a; head -c 100000 /dev/zero > r/b; ln -s a r/l; sleep 0.05"
    )
    names = [b"a", b"b", b"none", b"d", b"l", b"a/b"]
    read = await bulk.read_files(sandbox.tppd, f"{ROOT}/r", names, longest=5000)
    told = [one.errno for one in read]
    assert told == [0, errno.EFBIG, errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENOTDIR]
    assert (read[0].data, read[0].settled, read[0].found.size) == (b"one", True, 3)
    assert read[1].found.size == 100_000
    whole = await bulk.read_files(sandbox.tppd, f"{ROOT}/r", [b"b"])
    assert whole[0].data == bytes(100_000)
    await sandbox.sh("cd r; for i in 1 2 3 4 5; do head -c 3000000 /dev/zero > big$i; done")
    some = await bulk.read_files(sandbox.tppd, f"{ROOT}/r", [b"big%d" % n for n in range(1, 6)])
    assert 1 <= len(some) < 5
    assert all(len(one.data) == 3_000_000 for one in some)


async def test_what_is_written_replaces_what_is_there(sandbox: Sandbox) -> None:
    await sandbox.sh(
        "mkdir -p w/full/inner w/empty; echo old > w/file; ln -s file w/link; echo x > w/full/inner/f"
    )
    items = [
        Item(b"file", stat.S_IFREG | 0o755, b"new"),
        Item(b"link", stat.S_IFREG | 0o644, b"a file now"),
        Item(b"empty", stat.S_IFLNK, b"file"),
        Item(b"full", stat.S_IFREG | 0o644, b"no"),
        Item(b"made", stat.S_IFDIR | 0o700),
        Item(b"made/deep", stat.S_IFREG | 0o400, bytes(200_000) + b"end"),
        Item(b"none/deep", stat.S_IFREG | 0o644, b"no"),
        Item(b"gone", 0),
        Item(b"/etc/x", stat.S_IFREG | 0o644, b"no"),
        Item(b"fifo", stat.S_IFIFO | 0o644),
    ]
    failed = await bulk.write_files(sandbox.tppd, f"{ROOT}/w", items, epoch=sandbox.epoch)
    assert [(item.path, number) for item, number in failed] == [
        (b"full", errno.ENOTEMPTY),
        (b"none/deep", errno.ENOENT),
        (b"/etc/x", errno.EINVAL),
        (b"fifo", errno.EINVAL),
    ]
    told = await sandbox.sh(
        "cd w; cat file link; echo; stat -c '%a %n' file made made/deep; readlink empty; ls -A"
    )
    assert told.text.split("\n") == [
        "newa file now",
        "755 file",
        "700 made",
        "400 made/deep",
        *("file", "empty", "file", "full", "link", "made"),
    ]
    assert int((await sandbox.sh("stat -c %b w/made/deep")).text) < 300  # zeros take no room
    again = await bulk.write_files(sandbox.tppd, f"{ROOT}/w", items[:3], epoch=sandbox.epoch)
    assert again == []
    with pytest.raises(Fenced):
        await bulk.write_files(sandbox.tppd, f"{ROOT}/w", items[:1], epoch=0)


async def write(sandbox: Sandbox, *items: Item) -> list[tuple[bytes, int]]:
    failed = await bulk.write_files(sandbox.tppd, f"{ROOT}/c", items, epoch=sandbox.epoch)
    return [(item.path, number) for item, number in failed]


async def stamps(sandbox: Sandbox) -> dict[bytes, bytes]:
    """As a walk tells them, of the directory `c`; none of them of the clock's present tick."""
    await sandbox.sh("sleep 0.05")
    return {name: one.stamp for name, one in (await walked(sandbox, f"{ROOT}/c"))[b""].items()}


async def told(sandbox: Sandbox) -> list[str]:
    """Each name in `c` with its content or target."""
    script = 'cd c; for f in $(ls -A); do echo "$f:$(readlink "$f" || cat "$f" 2>/dev/null)"; done'
    return (await sandbox.sh(script)).text.split()


FILE = stat.S_IFREG | 0o644


@pytest.mark.parametrize(("kind", "after"), [(FILE, "new"), (stat.S_IFLNK, "new"), (0, "")])
async def test_what_is_not_as_expected_is_not_replaced(sandbox: Sandbox, kind: int, after: str) -> None:
    await sandbox.sh("mkdir -p c; cd c; echo one > f; ln -s one l")
    seen = await stamps(sandbox)
    await sandbox.sh("cd c; printf two 1<>f; ln -sfn two l")  # of the same size
    old = [Item(name, kind, b"new", seen[name]) for name in (b"f", b"l")]
    assert await write(sandbox, *old) == [(b"f", bulk.MEANWHILE), (b"l", bulk.MEANWHILE)]
    assert await told(sandbox) == ["f:two", "l:two"]
    seen = await stamps(sandbox)
    assert await write(sandbox, *(Item(name, kind, b"new", seen[name]) for name in (b"f", b"l"))) == []
    assert await told(sandbox) == ([f"f:{after}", f"l:{after}"] if kind else [])
    gone = Item(b"none", kind, b"new", seen[b"f"])
    assert await write(sandbox, gone) == [(b"none", bulk.MEANWHILE)]
    assert await told(sandbox) == ([f"f:{after}", f"l:{after}"] if kind else [])


async def test_where_nothing_is_expected_nothing_is_replaced(sandbox: Sandbox) -> None:
    await sandbox.sh("mkdir -p c; cd c; echo one > f; ln -s one l; mkdir d; echo moved > source")
    items = [
        *(Item(name, FILE, b"new", bulk.NOTHING) for name in (b"f", b"l", b"d", b"free")),
        *(Item(name, stat.S_IFLNK, b"new", bulk.NOTHING) for name in (b"f", b"l", b"d", b"free2")),
        *(Item(name, stat.S_IFDIR | 0o755, b"", bulk.NOTHING) for name in (b"f", b"l")),
        Item(b"f", FILE, b"source", bulk.NOTHING, moved=True),
    ]
    failed = await write(sandbox, *items)
    assert failed == [(name.encode(), bulk.MEANWHILE) for name in "fldfldflf"]
    assert await told(sandbox) == ["d:", "f:one", "free:new", "free2:new", "l:one"]


async def test_what_is_set_aside_stays_beside_it(sandbox: Sandbox) -> None:
    await sandbox.sh("mkdir -p c; cd c; echo one > f; echo two > g; echo long > source")
    items = [Item(b"f", FILE, b"new", bulk.SET_ASIDE), Item(b"g", 0, expects=bulk.SET_ASIDE)]
    assert await write(sandbox, *items) == []
    found = await told(sandbox)
    assert [one.partition(":")[2] for one in found[:2]] == ["one", "two"]
    assert all(one.encode().startswith(bulk.ASIDE) for one in found[:2])
    assert found[2:] == ["f:new", "source:long"]
    moved = Item(b"f", FILE, b"source", (await stamps(sandbox))[b"f"], moved=True)
    assert await write(sandbox, moved) == []
    assert (await told(sandbox))[2:] == ["f:long"]
    odd = [Item(b"f", FILE, name, bulk.NOTHING, moved=True) for name in (b"", b"/etc/hostname", b"no")]
    assert [number for _, number in await write(sandbox, *odd)] == [errno.EINVAL, errno.EINVAL, errno.ENOENT]
