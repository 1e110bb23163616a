"""A directory into a real sandbox, as a tar, over HTTP; and files out of it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator

import pytest

from terminalpp.client import Client
from terminalpp.types import errors
from tests.gateway.conftest import Served
from tests.gateway.test_tar import member, packed


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


async def test_nothing_is_written_through_the_archives_own_symlink(api: Client, box: str) -> None:
    data = packed((member("out", tarfile.SYMTYPE, link="/tmp"), b""), (member("out/planted"), b"x"))
    with pytest.raises(errors.InvalidInput, match="through the archive's own symlink"):
        await api.upload_archive(box, "/home/user/evil", data)
    assert (await api.run_command(box, "ls /tmp", wait_ms=5000))["stdout"] == ""


async def test_errors_name_the_entry_and_the_rest_is_not_pretended(api: Client, box: str) -> None:
    with pytest.raises(errors.InvalidInput, match="ends early"):
        await api.upload_archive(box, "/home/user/cut", packed((member("a"), b"x" * 9000))[:4000])
    await api.run_command(box, "mkdir -p /home/user/p/a", wait_ms=5000)
    with pytest.raises(errors.FileProblem, match="/home/user/p/a"):
        await api.upload_archive(box, "/home/user/p", packed((member("a"), b"a directory is there")))
    for path in ("relative", "/home/user/../..", "/proc/nothing"):
        with pytest.raises((errors.InvalidInput, errors.FileProblem, errors.NotFound)):
            await api.upload_archive(box, path, packed((member("a"), b"x")))
    gone = io.BytesIO()
    with tarfile.open(fileobj=gone, mode="w:gz"):
        pass
    with pytest.raises(errors.InvalidInput):
        await api.upload_archive(box, "/home/user/gz", gone.getvalue())


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
