"""A directory into a real sandbox, as a tar, over HTTP; and files out of it."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import AsyncIterator

import pytest
import zstandard

from terminalpp.client import Client
from terminalpp.types import errors
from tests.gateway.conftest import Served
from tests.gateway.test_tar_reader import member, packed


async def test_everything_arrives_as_it_was(api: Client, box: str) -> None:
    odd = b"caf\xe9 \n.txt".decode("utf-8", "surrogateescape")
    big = os.urandom(3 * 1024 * 1024 + 17)
    data = packed(
        (member("sub", tarfile.DIRTYPE, 0o555), b""),
        (member("sub/run.sh", mode=0o755), b"#!/bin/sh\necho ran\n"),
        (member("sub/deep/er/file", mode=0o600), b"deep"),
        (member(odd), b"odd"),
        (member("big"), big),
        (member("link", tarfile.SYMTYPE, link="sub/run.sh"), b""),
        (member("twin", tarfile.LNKTYPE, link="sub/run.sh"), b""),
        (member("empty"), b""),
        (member("twice"), b"first"),
        (member("twice"), b"second"),
    )  # fmt: skip
    done = await api.upload_archive(box, "/home/user/work", data)
    assert done == {"files": 8, "directories": 1, "symlinks": 1, "bytes": len(big) + 19 + 4 + 3 + 5 + 6}
    look = "./link; ./twin; stat -c '%a %n' sub/run.sh sub/deep/er/file; cat twice"
    listing = await api.run_command(box, look, cwd="/home/user/work", wait_ms=10_000)
    assert listing["stdout"] == "ran\nran\n755 sub/run.sh\n600 sub/deep/er/file\nsecond"
    assert await api.read_file(box, "/home/user/work/big") == big
    assert await api.read_file(box, f"/home/user/work/{odd}") == b"odd"
    assert await api.read_file(box, "/home/user/work/empty") == b""


async def test_many_files_at_once(api: Client, box: str) -> None:
    count = 3000

    async def stream() -> AsyncIterator[bytes]:
        data = packed(*((member(f"d{n % 50}/f{n}"), b"%d" % n) for n in range(count)))
        for at in range(0, len(data), 10_000):
            yield data[at : at + 10_000]

    assert (await api.upload_archive(box, "/home/user/many", stream()))["files"] == count
    look = "find . -type f | wc -l; cat d7/f57"
    ran = await api.run_command(box, look, cwd="/home/user/many", wait_ms=20_000)
    assert ran["stdout"].split() == [str(count), "57"]


LINK = member("out", tarfile.SYMTYPE, link="/tmp")
THROUGH = {
    "a file below": [LINK, member("out/planted")],
    "a directory below": [LINK, member("out/planted", tarfile.DIRTYPE)],
    "a symlink below": [LINK, member("out/planted", tarfile.SYMTYPE, link="x")],
    "a hard link below": [member("f"), LINK, member("out/planted", tarfile.LNKTYPE, link="f")],
    "odd spellings": [LINK, member("./out//./planted")],
    "deep": [member("a/b/out", tarfile.SYMTYPE, link="/tmp"), member("a/b/out/" + "d/" * 500 + "planted")],
    "a link to a link": [
        member("first", tarfile.SYMTYPE, link="/tmp"), member("out", tarfile.SYMTYPE, link="first"),
        member("out/planted"),
    ],
    "by its own name twice": [LINK, LINK, member("out/planted")],
    "a hard link to it": [
        member("out", tarfile.SYMTYPE, link="/etc/passwd"), member("h", tarfile.LNKTYPE, link="out"),
    ],
    "a hard link through it": [LINK, member("h", tarfile.LNKTYPE, link="out/secret")],
    "a hard link before it": [
        member("h", tarfile.LNKTYPE, link="out"), member("out", tarfile.SYMTYPE, link="/etc/passwd"),
    ],
    "a hard link to nothing": [member("h", tarfile.LNKTYPE, link="later"), member("later")],
    "a hard link to a directory": [member("d", tarfile.DIRTYPE), member("h", tarfile.LNKTYPE, link="d")],
}  # fmt: skip


async def test_nothing_goes_through_the_archives_own_symlink(api: Client, box: str) -> None:
    await api.run_command(box, "echo secret > /tmp/secret", wait_ms=5000)
    for way, members in THROUGH.items():
        with pytest.raises(errors.InvalidInput, match=r"symlink|hard link"):
            await api.upload_archive(box, f"/home/user/{way}", packed(*((one, b"") for one in members)))
    ran = await api.run_command(box, "ls /tmp; find . -name h -size +0", wait_ms=5000)
    assert ran["stdout"] == "secret\n"


async def test_a_later_entry_of_the_same_name_replaces_the_symlink(api: Client, box: str) -> None:
    data = packed(
        (member("f", tarfile.SYMTYPE, link="/tmp/target"), b""),
        (member("f"), b"mine"),
        (member("h", tarfile.SYMTYPE, link="/tmp/target"), b""),
        (member("h", tarfile.LNKTYPE, link="f"), b""),
        (member("d/below"), b"kept"),
        (member("twin", tarfile.LNKTYPE, link="h"), b""),
        (member("out", tarfile.SYMTYPE, link="/tmp/there"), b""),
        (member("out/", tarfile.DIRTYPE), b""),
        (member("out/mine"), b"mine"),
    )
    await api.run_command(box, "echo theirs > /tmp/target; mkdir /tmp/there", wait_ms=5000)
    await api.upload_archive(box, "/home/user/again", data)
    look = "cat /tmp/target f h twin d/below; ls /tmp/there; find . -type l | wc -l; cat out/mine"
    ran = await api.run_command(box, look, cwd="/home/user/again", wait_ms=5000)
    assert ran["stdout"] == "theirs\nminemineminekept0\nmine"


async def test_a_symlink_does_not_take_the_place_of_what_is_under_way(api: Client, box: str) -> None:
    """The files below are still on their way when the symlink of their directory's name comes."""
    members = [(member(f"out/f{n}"), b"x" * 2000) for n in range(40)]
    data = packed(*members, (member("out", tarfile.SYMTYPE, link="/tmp"), b""))
    with pytest.raises((errors.FileProblem, errors.Conflict)):
        await api.upload_archive(box, "/home/user/race", data)
    ran = await api.run_command(box, "ls /tmp | wc -l; ls race/out | wc -l", wait_ms=5000)
    assert ran["stdout"].split() == ["0", "40"]


def squeezed(data: bytes) -> dict[str, bytes]:
    half = len(data) // 2
    zstd = zstandard.ZstdCompressor()
    return {
        "gzip": gzip.compress(data),
        "gzip in members": gzip.compress(data[:half]) + gzip.compress(data[half:]) + bytes(1024),
        "zstd": zstd.compress(data),
        "zstd in frames": zstd.compress(data[:half]) + zstd.compress(data[half:]),
        "zstd of unknown size": _flowing(data),
    }


def _flowing(data: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return stream.compress(data) + stream.flush()


async def test_gzip_and_zstd_are_taken(api: Client, box: str) -> None:
    zeros, noise = bytes(9_000_000), os.urandom(300_000)
    data = packed((member("zeros"), zeros), (member("noise"), noise), (member("dir/small"), b"small"))
    for name, body in squeezed(data).items():
        done = await api.upload_archive(box, "/home/user/squeezed", body)
        assert (done["files"], done["bytes"]) == (3, len(zeros) + len(noise) + 5), name
        assert await api.read_file(box, "/home/user/squeezed/noise") == noise
        ran = await api.run_command(box, "tr -d '\\0' < squeezed/zeros | wc -c; rm -r squeezed", wait_ms=9000)
        assert ran["stdout"] == "0\n"


async def test_squeezed_archives_that_are_broken(api: Client, box: str) -> None:
    data = packed((member("a"), os.urandom(5000)))
    for name, body in squeezed(data).items():
        for broken in (body[: len(body) * 2 // 3], body[:40] + b"\xff" * 40 + body[80:], body + b"not of it"):
            with pytest.raises(errors.InvalidInput):
                await api.upload_archive(box, "/home/user/broken", broken)
            assert name


@pytest.mark.parametrize("way", ["gzip", "zstd"])
async def test_a_bomb_is_bounded_by_what_comes_out(stack: Served, api: Client, box: str, way: str) -> None:
    object.__setattr__(stack.app.gateway.settings, "archive_limit_bytes", 3_000_000)
    data = packed((member("a"), bytes(60_000_000)))
    bomb = gzip.compress(data) if way == "gzip" else zstandard.compress(data)
    assert len(bomb) < 100_000
    with pytest.raises(errors.TooLarge, match="3000000"):
        await api.upload_archive(box, "/home/user/bomb", bomb)
    assert (await api.run_command(box, "cat bomb/a | wc -c", wait_ms=5000))["stdout"] == "0\n"


async def test_errors_name_the_entry_and_the_rest_is_not_pretended(api: Client, box: str) -> None:
    with pytest.raises(errors.InvalidInput, match="ends early"):
        await api.upload_archive(box, "/home/user/cut", packed((member("a"), b"x" * 9000))[:4000])
    await api.run_command(box, "mkdir -p /home/user/p/a", wait_ms=5000)
    with pytest.raises(errors.FileProblem, match="/home/user/p/a"):
        await api.upload_archive(box, "/home/user/p", packed((member("a"), b"a directory is there")))
    for path in ("relative", "/home/user/../..", "/proc/nothing"):
        with pytest.raises((errors.InvalidInput, errors.FileProblem, errors.NotFound)):
            await api.upload_archive(box, path, packed((member("a"), b"x")))
    with pytest.raises(errors.InvalidInput):
        await api.upload_archive(box, "/home/user/zip", b"PK\3\4" + bytes(2000))


async def test_archive_limit(stack: Served, api: Client, box: str) -> None:
    object.__setattr__(stack.app.gateway.settings, "archive_limit_bytes", 100_000)
    data = packed((member("a"), b"x" * 200_000))
    with pytest.raises(errors.TooLarge, match="TPP_ARCHIVE_LIMIT_BYTES"):
        await api.upload_archive(box, "/home/user/x", data)

    async def stream() -> AsyncIterator[bytes]:
        yield data

    with pytest.raises(errors.TooLarge, match="100000"):
        await api.upload_archive(box, "/home/user/x", stream())


async def test_files_that_cannot_be_read(api: Client, box: str) -> None:
    with pytest.raises(errors.NotFound):
        await api.read_file(box, "/home/user/nothing")
    with pytest.raises(errors.FileProblem, match="directory"):
        await api.read_file(box, "/home/user")
