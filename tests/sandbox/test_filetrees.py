"""Stamps, conditions, trees, moves and copies: what HTTP's file routes stand on, on every driver."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from actors.sandbox.tppd import connection, files
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.files import Conditions
from terminalpp.types.errors import (
    FileProblem,
    InvalidInput,
    NotFound,
    Overloaded,
    PreconditionFailed,
    TerminalError,
)
from tests.eventually import eventually
from tests.sandbox.conftest import Sandbox


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def put(sandbox: Sandbox, path: str, *parts: bytes, **options: object) -> files.State:
    return await files.write(sandbox.tppd, path, pieces(*parts), epoch=sandbox.epoch, **options)


async def names(sandbox: Sandbox, path: str = ".", depth: int = 99, limit: int = 3) -> list[str]:
    """Of all pages."""
    found: list[files.Entry] = []
    more = True
    while more:
        after = found[-1].path if found else b""
        page, more = await files.tree(sandbox.tppd, path, depth=depth, after=after, limit=limit)
        found += page
    assert [e.path for e in found] == sorted({e.path for e in found}, key=lambda path: path.split(b"/"))
    return [os.fsdecode(entry.path) for entry in found]


async def test_a_stamp_tells_states_apart_however_fast_they_follow(sandbox: Sandbox) -> None:
    seen = {(await files.settled(sandbox.tppd, "f", await put(sandbox, "f", b"0"))).stamp}
    for n in range(1, 20):
        # Written into by a command, at once: the size is the same, and perhaps the kernel's time.
        await sandbox.sh(f"printf {n % 10} 1<>f")
        found = await files.settled(sandbox.tppd, "f", await files.state(sandbox.tppd, "f"))
        assert found.settled
        assert found.stamp not in seen
        seen.add(found.stamp)
    assert (await files.state(sandbox.tppd, ".")).stamp is None


async def test_conditions_on_writing(sandbox: Sandbox) -> None:
    first = await put(sandbox, "f", b"1", conditions=Conditions(none_match=("*",)))
    assert first.created
    with pytest.raises(PreconditionFailed):
        await put(sandbox, "f", b"2", conditions=Conditions(none_match=("*",)))
    second = await put(sandbox, "f", b"2", b"2", conditions=Conditions(match=("x", first.stamp)))
    assert not second.created
    for wrong in (
        Conditions(match=(first.stamp,)),
        Conditions(none_match=(second.stamp,)),
        Conditions(match=(second.stamp,), none_match=("*",)),
    ):
        for parts in ((b"3",), (b"3", b"3")):
            with pytest.raises(PreconditionFailed):
                await put(sandbox, "f", *parts, conditions=wrong)
    with pytest.raises(PreconditionFailed):
        await put(sandbox, "other", b"", conditions=Conditions(match=("*",)))
    assert await sandbox.tppd.read_file("f") == b"22"
    assert await names(sandbox) == ["f"]  # nothing aside


async def test_conditions_on_removing_and_changing(sandbox: Sandbox) -> None:
    tppd, epoch = sandbox.tppd, sandbox.epoch
    old = await put(sandbox, "f", b"1")
    new = await files.change(tppd, "f", epoch=epoch, mode=0o600, conditions=Conditions(match=(old.stamp,)))
    assert (new.mode, new.stamp != old.stamp) == (0o600, True)
    with pytest.raises(PreconditionFailed):
        await files.change(tppd, "f", epoch=epoch, mode=0o644, conditions=Conditions(match=(old.stamp,)))
    moved = await files.change(tppd, "f", epoch=epoch, mtime_ns=-1_500_000_001)
    assert (moved.mtime_ns, moved.mode) == (-1_500_000_001, 0o600)
    with pytest.raises(PreconditionFailed):
        await files.remove(tppd, "f", epoch=epoch, conditions=Conditions(match=(old.stamp,)))
    await files.remove(tppd, "f", epoch=epoch, conditions=Conditions(match=(moved.stamp,)))
    with pytest.raises(PreconditionFailed):
        await files.remove(tppd, "f", epoch=epoch, conditions=Conditions(match=("*",)))
    await files.remove(tppd, "f", epoch=epoch)
    with pytest.raises(NotFound):
        await files.change(tppd, "f", epoch=epoch, mode=0o644)


async def test_of_many_who_write_on_one_condition_one_wins(sandbox: Sandbox) -> None:
    """From different connections, each with a file process of its own."""
    clients = [Tppd(sandbox.run_dir) for _ in range(8)]
    stamp = (await put(sandbox, "f", b"")).stamp

    async def attempt(client: Tppd, n: int) -> bool:
        try:
            await files.write(client, "f", pieces(b"%d" % n), epoch=sandbox.epoch,
                              conditions=Conditions(match=(stamp,)))  # fmt: skip
        except PreconditionFailed:
            return False
        return True

    for _ in range(20):
        won = await asyncio.gather(*(attempt(client, n) for n, client in enumerate(clients)))
        assert sum(won) == 1
        assert await sandbox.tppd.read_file("f") == b"%d" % won.index(True)
        stamp = (await files.state(sandbox.tppd, "f")).stamp
    for client in clients:
        await client.close()


async def test_a_writer_that_was_killed_holds_nobody_up_and_leaves_nothing(sandbox: Sandbox) -> None:
    other = Tppd(sandbox.run_dir)
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        yield b"y" * 1000
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(files.write(other, "f", endless(), epoch=sandbox.epoch))
    await begun.wait()
    assert await names(sandbox) == []  # not to be seen while it is written
    other._files["files"]._transport.abort()
    writing.cancel()
    with pytest.raises((asyncio.CancelledError, TerminalError)):
        await writing
    assert (await put(sandbox, "f", b"mine")).created
    assert await names(sandbox) == ["f"]
    await other.close()


async def test_what_is_given_up_leaves_nothing_and_frees_its_place(sandbox: Sandbox) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        yield b"y"
        raise ConnectionError

    for _ in range(100):  # a file process keeps 64 at once
        with pytest.raises(ConnectionError):
            await files.write(sandbox.tppd, "d/f", broken(), epoch=sandbox.epoch)
    assert await names(sandbox) == ["d"]


async def test_a_read_tells_what_was_read(sandbox: Sandbox) -> None:
    found = await files.settled(sandbox.tppd, "f", await put(sandbox, "f", b"abcdef"))
    assert await files.read(sandbox.tppd, "f", 2, 3) == (found, b"cde")
    assert (await files.read(sandbox.tppd, "f", 9))[1] == b""
    state, data = await files.read(sandbox.tppd, "/proc/self/status", 0)
    assert state.size_bytes == 0
    assert b"tppd-files" in data


async def test_a_tree_in_pages(sandbox: Sandbox) -> None:
    await sandbox.sh("mkdir -p a/b/c 'a b' a.d; touch a/x a/b/y a/b/c/z a.c a.d/q; ln -s a link; mkfifo fifo")
    every = await names(sandbox)
    assert every == ["a", "a/b", "a/b/c", "a/b/c/z", "a/b/y", "a/x", "a b", "a.c", "a.d", "a.d/q", "fifo",
                     "link"]  # fmt: skip
    assert await names(sandbox, depth=1, limit=1) == ["a", "a b", "a.c", "a.d", "fifo", "link"]
    assert await names(sandbox, depth=2, limit=2) == [name for name in every if name.count("/") < 2]
    assert await names(sandbox, "link", limit=1) == ["b", "b/c", "b/c/z", "b/y", "x"]
    kinds = {e.path: e.state for e in (await files.tree(sandbox.tppd, "."))[0]}
    assert kinds[b"link"].target == b"a"
    assert {path: state.kind for path, state in kinds.items()} == {
        b"a": "directory", b"a b": "directory", b"a.d": "directory", b"a.c": "file", b"fifo": "other",
        b"link": "symlink",
    }  # fmt: skip
    for path, error in (("a.c", FileProblem), ("nothing", NotFound), ("fifo", FileProblem)):
        with pytest.raises(error):
            await files.tree(sandbox.tppd, path)


async def test_pages_go_on_whatever_is_made_and_removed_between(sandbox: Sandbox) -> None:
    await sandbox.sh("mkdir -p d/e; touch a d/e/f d/g m z")
    page, more = await files.tree(sandbox.tppd, ".", depth=9, limit=4)
    assert ([e.path for e in page], more) == ([b"a", b"d", b"d/e", b"d/e/f"], True)
    await sandbox.sh("rm -r d/e; touch aa d/h mm")
    page, more = await files.tree(sandbox.tppd, ".", depth=9, limit=100, after=b"d/e/f")
    assert ([e.path for e in page], more) == ([b"d/g", b"d/h", b"m", b"mm", b"z"], False)
    await sandbox.sh("rm -r d")
    page, more = await files.tree(sandbox.tppd, ".", depth=9, limit=100, after=b"d/g")
    assert ([e.path for e in page], more) == ([b"m", b"mm", b"z"], False)


async def test_what_cannot_be_listed_says_so(sandbox: Sandbox) -> None:
    await sandbox.sh("mkdir -p d/closed d/open; touch d/open/f; chmod 0 d/closed")
    page, _ = await files.tree(sandbox.tppd, "d", depth=2)
    assert [(e.path, e.errno) for e in page] == [(b"closed", 13), (b"open", 0), (b"open/f", 0)]
    await sandbox.sh("chmod 700 d/closed")


@pytest.mark.chaos
async def test_a_hundred_thousand_entries(sandbox: Sandbox) -> None:
    await sandbox.sh("mkdir many; cd many; seq -w 0 99999 | xargs touch", wait_s=60)
    first, more = await files.tree(sandbox.tppd, "many", limit=1000)
    assert (first[0].path, first[-1].path, more) == (b"00000", b"00999", True)
    last, more = await files.tree(sandbox.tppd, "many", limit=1000, after=b"99989")
    assert ([e.path for e in last], more) == ([b"%d" % n for n in range(99990, 100_000)], False)
    await files.remove(sandbox.tppd, "many", epoch=sandbox.epoch, recursive=True)


async def test_moving(sandbox: Sandbox) -> None:
    tppd, epoch = sandbox.tppd, sandbox.epoch
    await sandbox.sh("echo one > a; echo two > b; mkdir -p d/sub full/x; touch d/sub/f; ln -s nowhere link")
    with pytest.raises(FileProblem, match="File exists"):
        await files.move(tppd, "a", "b", epoch=epoch)
    assert await tppd.read_file("b") == b"two\n"
    await files.move(tppd, "a", "b", epoch=epoch, overwrite=True)
    assert await tppd.read_file("b") == b"one\n"
    await files.move(tppd, "d", "new/deep/d", epoch=epoch)
    await files.move(tppd, "link", "new/link", epoch=epoch)
    assert (await tppd.stat("new/link", follow=False)).target == "nowhere"
    with pytest.raises(FileProblem, match="not empty"):
        await files.move(tppd, "new", "full", epoch=epoch, overwrite=True)
    with pytest.raises(FileProblem):
        await files.move(tppd, "new", "new/deep/inside", epoch=epoch)
    with pytest.raises(NotFound, match="gone"):
        await files.move(tppd, "gone", "x", epoch=epoch)
    with pytest.raises(NotFound, match="no/parent"):
        await files.move(tppd, "b", "no/parent", epoch=epoch, parents=False)
    with pytest.raises(InvalidInput):
        await files.move(tppd, "b", "", epoch=epoch)
    assert await names(sandbox) == ["b", "full", "full/x", "new", "new/deep", "new/deep/d", "new/deep/d/sub",
                                    "new/deep/d/sub/f", "new/link"]  # fmt: skip


async def test_copying(sandbox: Sandbox) -> None:
    tppd, epoch = sandbox.tppd, sandbox.epoch
    await sandbox.sh("mkdir -p d/s; head -c 3000000 /dev/urandom > d/big; echo x > d/s/run; "
                     "chmod 751 d/s/run; ln -s ../big d/s/link; chmod 500 d/s; mkfifo d/pipe; "
                     "touch other")  # fmt: skip
    await files.copy(tppd, "d", "copy/of/d", epoch=epoch)
    look = "cd %s; find . -printf '%%P %%m %%y %%l\\n' | sort; sha256sum big"
    assert (await sandbox.sh(look % "copy/of/d")).text == (await sandbox.sh(look % "d")).text
    with pytest.raises(FileProblem, match="File exists"):
        await files.copy(tppd, "d/big", "other", epoch=epoch)
    await files.copy(tppd, "d/big", "other", epoch=epoch, overwrite=True)
    assert (await sandbox.sh("cmp other d/big && echo same")).text == "same"
    for to in ("d/s2", "d", "copy/of/d/../../../d/s2/x"):
        with pytest.raises(FileProblem):
            await files.copy(tppd, "d", to, epoch=epoch)
    await files.copy(tppd, "d/s/link", "link", epoch=epoch)
    assert (await tppd.stat("link", follow=False)).target == "../big"
    await files.copy(tppd, "/proc/version", "version", epoch=epoch)
    assert b"Linux" in await tppd.read_file("version")
    for path in ("/dev/null", "/dev"):
        with pytest.raises(FileProblem):
            await files.copy(tppd, path, "device", epoch=epoch)
    assert not [name for name in await names(sandbox) if ".tppd" in name or "device" in name]
    await sandbox.sh("chmod -R u+rwx .")


async def test_long_work_is_bounded_and_ends_with_its_caller(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ALONE_MAX", 2)
    await sandbox.sh("mkdir d; truncate -s 9G /dev/shm/huge")  # of another file system: nothing is shared
    tppd, epoch = sandbox.tppd, sandbox.epoch
    copies = [asyncio.create_task(files.copy(tppd, "/dev/shm/huge", f"d/{n}", epoch=epoch)) for n in range(2)]
    await eventually(lambda: tppd._alone == 2)
    with pytest.raises(Overloaded):
        await files.copy(tppd, "/dev/shm/huge", "d/9", epoch=epoch)
    assert (await files.state(tppd, "/dev/shm/huge")).size_bytes == 9 << 30  # others go on
    for copy in copies:
        copy.cancel()
    await asyncio.gather(*copies, return_exceptions=True)

    async def nothing_left() -> bool:
        return await names(sandbox) == ["d"]

    await eventually(nothing_left, timeout_s=30)
    await sandbox.sh("rm /dev/shm/huge")


async def test_older_owners_change_nothing(sandbox: Sandbox) -> None:
    tppd = sandbox.tppd
    await put(sandbox, "f", b"1")
    old = sandbox.epoch - 1
    for act in (
        files.change(tppd, "f", epoch=old, mode=0o600),
        files.move(tppd, "f", "g", epoch=old),
        files.copy(tppd, "f", "g", epoch=old),
        files.remove(tppd, "f", epoch=old, recursive=True),
        files.write(tppd, "f", pieces(b"2"), epoch=old),
    ):
        with pytest.raises(TerminalError, match="is over"):
            await act
    assert await tppd.read_file("f") == b"1"
    assert await names(sandbox) == ["f"]
