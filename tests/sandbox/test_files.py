"""Files: done inside with the sandbox user's rights, byte-exact, whatever the names."""

from __future__ import annotations

import asyncio
import os

import pytest

from actors.sandbox.tppd.client import Tppd
from terminalpp.types.errors import FileProblem, InvalidInput, NotFound, TooLarge
from tests.sandbox.conftest import Sandbox

ODD_NAMES = [
    "new\nline",
    " lead and trail ",
    "-rf",
    "quote'\"",
    "ünï",
    os.fsdecode(b"\xff\xfe bad"),
    "a" * 255,
]


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, 5_000_000])
async def test_round_trip(sandbox: Sandbox, size: int) -> None:
    data = os.urandom(size)
    await sandbox.tppd.write_file("dir/file", data, epoch=sandbox.epoch)
    assert await sandbox.tppd.read_file("dir/file") == data
    assert await sandbox.tppd.read_file("dir/file", 10, 100) == data[10:110]
    stat = await sandbox.tppd.stat("dir/file")
    assert (stat.kind, stat.size_bytes, stat.mode) == ("file", size, 0o644)
    assert [e.name for e in await sandbox.tppd.listdir("dir")] == ["file"]  # nothing left aside


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
async def test_odd_names(sandbox: Sandbox, name: str) -> None:
    await sandbox.tppd.write_file(f"odd/{name}", b"x", epoch=sandbox.epoch)
    assert [e.name for e in await sandbox.tppd.listdir("odd")] == [name]
    assert await sandbox.tppd.read_file(f"odd/{name}") == b"x"
    assert (await sandbox.sh('cat odd/*"" odd/.[!.]* 2>/dev/null')).out == b"x"
    await sandbox.tppd.remove(f"odd/{name}", epoch=sandbox.epoch)
    assert await sandbox.tppd.listdir("odd") == []


async def test_modes_are_kept_or_set(sandbox: Sandbox) -> None:
    write = sandbox.tppd.write_file
    await write("s", b"#!/bin/sh\necho hi\n", 0o755, epoch=sandbox.epoch)
    assert (await sandbox.sh("./s")).text == "hi"
    await write("s", b"#!/bin/sh\necho ho\n", epoch=sandbox.epoch)
    assert (await sandbox.sh("./s")).text == "ho"
    assert (await sandbox.sh("stat -c '%U %G %a' s")).text == "user user 755"


async def test_a_write_is_all_or_nothing_for_readers(sandbox: Sandbox) -> None:
    await sandbox.tppd.write_file("f", b"a" * 3_000_000, epoch=sandbox.epoch)
    exec_id = await sandbox.begin(
        "while [ ! -e stop ]; do tr -d '\\n' < f | fold -w 1 -s | head -c 2 | "
        "tr -d '\\n'; stat -c ' %s' f; done"
    )
    for letter in b"bcd":
        await sandbox.tppd.write_file("f", bytes([letter]) * 3_000_000, epoch=sandbox.epoch)
    await sandbox.tppd.write_file("stop", b"", epoch=sandbox.epoch)
    await sandbox.tppd.wait(exec_id, timeout_s=20)
    assert {line.split()[-1] for line in sandbox.output(exec_id).splitlines()} == {b"3000000"}


async def test_symlinks(sandbox: Sandbox) -> None:
    tppd, epoch = sandbox.tppd, sandbox.epoch
    await tppd.write_file("real", b"1", epoch=epoch)
    await tppd.symlink("link", "real", epoch=epoch)
    await tppd.symlink("dangling", "sub/nowhere", epoch=epoch)
    assert (await tppd.stat("link", follow=False)).target == "real"
    assert (await tppd.stat("link")).kind == "file"
    await tppd.write_file("link", b"2", epoch=epoch)  # through the link, as editors do
    assert await tppd.read_file("real") == b"2"
    await tppd.write_file("dangling", b"3", epoch=epoch)
    assert await tppd.read_file("sub/nowhere") == b"3"
    await tppd.symlink("link", "sub", epoch=epoch)  # replaced
    await tppd.remove("link", epoch=epoch, recursive=True)
    assert await tppd.read_file("sub/nowhere") == b"3"  # never through it
    await tppd.symlink("loop", "loop", epoch=epoch)
    with pytest.raises(FileProblem):
        await tppd.write_file("loop", b"", epoch=epoch)


async def test_no_path_leads_out(sandbox: Sandbox, tmp_path: object) -> None:
    tppd, epoch = sandbox.tppd, sandbox.epoch
    await tppd.symlink("root", "/", epoch=epoch)
    await tppd.symlink("p1", "/proc/1/root", epoch=epoch)
    secret = f"{tmp_path}/secret"
    with open(secret, "w") as file:
        file.write("host")
    for path in (f"root{secret}", f"p1{secret}", secret, "../../../.." + secret, sandbox.run_dir):
        with pytest.raises((NotFound, FileProblem)):
            await tppd.read_file(path)
    for path in ("/etc/evil", "/usr/bin/evil", "/evil", "root/etc/passwd", "/proc/sys/kernel/core_pattern"):
        with pytest.raises((NotFound, FileProblem)):
            await tppd.write_file(path, b"x", epoch=epoch)
    for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/dev/mem"):
        with pytest.raises((NotFound, FileProblem)):
            await tppd.read_file(path)


async def test_what_is_not_a_file_does_not_hold_anybody(sandbox: Sandbox) -> None:
    await sandbox.sh("mkfifo pipe")
    for path in ("pipe", ".", "/dev/zero", "/dev/null"):
        with pytest.raises(FileProblem):
            async with asyncio.timeout(5):
                await sandbox.tppd.read_file(path)
    for path in ("pipe", "."):
        with pytest.raises(FileProblem):
            await sandbox.tppd.write_file(path, b"x", epoch=sandbox.epoch)


async def test_directories(sandbox: Sandbox) -> None:
    tppd, epoch = sandbox.tppd, sandbox.epoch
    await tppd.mkdir("a/b/c", epoch=epoch)
    await tppd.mkdir("a/b/c", epoch=epoch)
    with pytest.raises(FileProblem):
        await tppd.mkdir("a", epoch=epoch, parents=False)
    await sandbox.sh("mkdir -p a/ro && touch a/ro/f && chmod 500 a/ro && chmod 000 a/b/c")
    with pytest.raises(FileProblem):
        await tppd.remove("a", epoch=epoch)
    await tppd.remove("a", epoch=epoch, recursive=True)
    await tppd.remove("a", epoch=epoch, recursive=True)
    with pytest.raises(NotFound):
        await tppd.listdir("a")
    with pytest.raises(NotFound):
        await tppd.read_file("a/x")


async def test_bad_paths(sandbox: Sandbox) -> None:
    for path, error in (
        ("", InvalidInput),
        ("a\0b", InvalidInput),
        ("a/" * 3000, TooLarge),
        ("b" * 256, FileProblem),
    ):
        with pytest.raises(error):
            await sandbox.tppd.stat(path)


async def test_five_thousand_small_files(sandbox: Sandbox) -> None:
    for base in range(0, 5000, 500):
        await asyncio.gather(
            *(
                sandbox.tppd.write_file(f"many/{n % 50}/{n}", b"%d" % n, epoch=sandbox.epoch)
                for n in range(base, base + 500)
            )
        )
    assert (await sandbox.sh("find many -type f | wc -l; cat many/7/1007")).text == "5000\n1007"
    await sandbox.tppd.remove("many", epoch=sandbox.epoch, recursive=True)


async def test_a_slow_file_connection_holds_up_no_other(sandbox: Sandbox) -> None:
    await sandbox.tppd.write_file("big", bytes(4 << 20), epoch=sandbox.epoch)
    slow = Tppd(sandbox.run_dir)
    await slow.stat("big")
    slow._files["files"]._transport.pause_reading()  # a client that asks and does not read
    asked = [asyncio.create_task(slow.read_file("big")) for _ in range(20)]
    assert (await sandbox.sh("echo alive")).text == "alive"
    assert len(await sandbox.tppd.read_file("big")) == 4 << 20
    slow._files["files"]._transport.resume_reading()
    assert {len(data) for data in await asyncio.gather(*asked)} == {4 << 20}
    await slow.close()


async def test_a_full_disk_is_an_error(sandbox: Sandbox) -> None:
    limit = (await sandbox.sh("df -B1 --output=size /dev/shm | tail -1")).text
    if int(limit) > 1 << 30:
        limit = "0"
    assert int(limit) > 0, "/dev/shm has no size of its own"
    with pytest.raises(Exception, match="No space left"):
        await sandbox.tppd.write_file("/dev/shm/big", bytes(int(limit) + 4096), epoch=sandbox.epoch)
    assert await sandbox.tppd.listdir("/dev/shm") == []
