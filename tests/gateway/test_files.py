"""Files of a real sandbox over HTTP: read, written, listed, moved, copied, packed."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import pytest
import zstandard

from terminalpp.client import Client
from terminalpp.client.transport import segment
from terminalpp.types import errors
from tests.eventually import eventually
from tests.gateway.conftest import Served

HOME = "/home/user"
ODD = os.fsdecode(b"caf\xe9 \n%2F+&#?;.txt")


async def sh(api: Client, box: str, command: str) -> str:
    ran = await api.run_command(box, command, wait_ms=30_000)
    assert ran["exit_code"] == 0, ran
    return ran["stdout"]


def url(box: str, path: str, verb: str = "") -> str:
    return f"/v1/sandboxes/{box}/files{verb}?path={segment(path)}"


async def sending(
    stack: Served, path: str, headers: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A PUT whose body is still to come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
    head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stack.token}\r\n{headers}\r\n"
    writer.write(head.encode())
    await writer.drain()
    return reader, writer


async def test_a_file_is_what_was_put(stack: Served, api: Client, box: str) -> None:
    path = f"{HOME}/deep/er/{ODD}"
    made = await api.write_file(box, path, b"one", mode="750")
    assert (made["size"], made["mode"], made["type"], made["target"]) == (3, "0750", "file", None)
    assert made["name"] == "caf� \n%2F+&#?;.txt"
    assert unquote_to_bytes(made["path_raw"]) == os.fsencode(path)
    assert await api.read_file(box, path) == b"one"
    async with stack.http() as http:
        again = await http.get(f"/v1/sandboxes/{box}/files?path={made['path_raw']}")
        assert (again.status_code, again.content) == (200, b"one")
        put = await http.put(url(box, path), content=b"two")
        assert (put.status_code, put.headers["etag"]) == (200, put.json()["etag"])
        fresh = await http.put(url(box, f"{HOME}/fresh.html"), content=b"<p>")
        assert fresh.status_code == 201
        page = await http.get(url(box, f"{HOME}/fresh.html"))
        assert page.headers["content-type"] == "text/html"
        assert "sandbox" in page.headers["content-security-policy"]
        assert page.headers["etag"] == fresh.headers["etag"]
    assert await sh(api, box, "cat deep/er/caf*; stat -c %a deep/er/caf*") == "two750\n"


async def test_a_large_file_flows_both_ways(api: Client, box: str) -> None:
    piece, count = os.urandom(1 << 20), 70

    async def body() -> AsyncIterator[bytes]:
        for n in range(count):
            yield piece[n:] + piece[:n]

    made = await api.write_file(box, f"{HOME}/big", body())
    assert made["size"] == count << 20
    at = 0
    async for part in api.stream_file(box, f"{HOME}/big"):
        n, offset = divmod(at, 1 << 20)
        turned = piece[n:] + piece[:n]
        assert part[: (1 << 20) - offset] == turned[offset : offset + len(part)]
        at += len(part)
    assert at == count << 20


async def test_conditional_reading(stack: Served, api: Client, box: str) -> None:
    etag = (await api.write_file(box, f"{HOME}/f", b"0123456789"))["etag"]
    assert etag
    assert not etag.startswith("W/")
    async with stack.http() as http:
        for headers, status in [
            ({"if-none-match": etag}, 304),
            ({"if-none-match": f'"x", W/{etag}'}, 304),
            ({"if-none-match": "*"}, 304),
            ({"if-none-match": '"x"'}, 200),
            ({"if-match": etag}, 200),
            ({"if-match": f"W/{etag}"}, 412),
            ({"if-match": '"x"'}, 412),
            ({"if-match": "*"}, 200),
            ({"if-match": "x"}, 400),
            ({"range": "bytes=2-4"}, 206),
            ({"range": "bytes=-3"}, 206),
            ({"range": "bytes=8-99"}, 206),
            ({"range": "bytes=10-"}, 416),
            ({"range": "bytes=-0"}, 416),
            ({"range": "bytes=1-2,4-5"}, 200),
            ({"range": "lines=1-2"}, 200),
            ({"range": "bytes=2-4", "if-range": etag}, 206),
            ({"range": "bytes=2-4", "if-range": '"x"'}, 200),
            ({"range": "bytes=99-", "if-range": '"x"'}, 200),
            ({"range": "bytes=2-4", "if-none-match": etag}, 304),
        ]:
            got = await http.get(url(box, f"{HOME}/f"), headers=headers)
            assert got.status_code == status, (headers, got.text)
            if status in (200, 206, 304):
                assert got.headers["etag"] == etag
            if status == 206:
                first, last = got.headers["content-range"].removeprefix("bytes ").partition("/")[0].split("-")
                assert got.content == b"0123456789"[int(first) : int(last) + 1]
                assert got.headers["content-length"] == str(len(got.content))
            if status == 416:
                assert got.headers["content-range"] == "bytes */10"
                assert got.json()["code"] == "range-not-satisfiable"
            plain = {name: value for name, value in headers.items() if name != "range"}
            head = await http.head(url(box, f"{HOME}/f"), headers=plain)
            assert head.content == b""
            assert head.status_code == (200 if status in (206, 416) else status)
        head = await http.head(url(box, f"{HOME}/f"))
        assert (head.headers["content-length"], head.headers["accept-ranges"]) == ("10", "bytes")


async def test_conditional_writing(stack: Served, api: Client, box: str) -> None:
    path = f"{HOME}/f"
    first = await api.write_file(box, path, b"1", if_none_match="*")
    with pytest.raises(errors.PreconditionFailed):
        await api.write_file(box, path, b"2", if_none_match="*")
    second = await api.write_file(box, path, b"2", if_match=first["etag"])
    with pytest.raises(errors.PreconditionFailed):
        await api.write_file(box, path, b"3", if_match=first["etag"])
    with pytest.raises(errors.PreconditionFailed):
        await api.change_file(box, path, mode="600", if_match=first["etag"])
    with pytest.raises(errors.PreconditionFailed):
        await api.delete_file(box, path, if_match=first["etag"])
    await sh(api, box, "printf x 1<>f")  # of the same size, by a command
    with pytest.raises(errors.PreconditionFailed):
        await api.delete_file(box, path, if_match=second["etag"])
    changed = await api.change_file(box, path, mode="600", modified_at="2001-02-03T04:05:06.789Z")
    assert (changed["mode"], changed["modified_at"]) == ("0600", "2001-02-03T04:05:06.789000Z")
    assert await sh(api, box, "stat -c '%a %y' f") == "600 2001-02-03 04:05:06.789000000 +0000\n"
    await api.delete_file(box, path, if_match=changed["etag"])
    await api.delete_file(box, path)
    with pytest.raises(errors.PreconditionFailed):
        await api.delete_file(box, path, if_match="*")
    # Refused before the body is taken: of this one nothing ever comes.
    reader, writer = await sending(stack, url(box, f"{HOME}/g"), "If-Match: *\r\nContent-Length: 9\r\n")
    assert (await reader.readline()).split()[1] == b"412"
    writer.close()


async def test_an_upload_that_ends_early_leaves_nothing(stack: Served, api: Client, box: str) -> None:
    await api.write_file(box, f"{HOME}/f", b"before")
    for name in ("f", "new"):
        _, writer = await sending(stack, url(box, f"{HOME}/{name}"), "Content-Length: 9000000\r\n")
        writer.write(b"x" * 5_000_000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def only_what_was() -> bool:
        return await sh(api, box, "ls -A; cat f") == "f\nbefore"

    await eventually(only_what_was)


async def test_limits_and_odd_requests(stack: Served, api: Client, box: str) -> None:
    object.__setattr__(stack.app.gateway.settings, "file_limit_bytes", 100_000)
    with pytest.raises(errors.TooLarge, match="TPP_FILE_LIMIT_BYTES"):
        await api.write_file(box, f"{HOME}/f", b"x" * 100_001)

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 200_000

    with pytest.raises(errors.TooLarge, match="100000"):
        await api.write_file(box, f"{HOME}/f", body())
    await sh(api, box, "mkfifo pipe; mkdir -p d/s; ln -s loop loop; ln -s nowhere dangling; test ! -e f")
    async with stack.http() as http:
        async def say(method: str, path: str, verb: str = "", **options: Any) -> tuple[int, str]:
            answer = await http.request(method, url(box, path, verb), **options)
            problem = answer.json() if answer.content else {}
            return answer.status_code, problem.get("code", "")

        for path in ("pipe", "d", "loop", "dangling", "nothing"):
            missing = path in ("dangling", "nothing")
            expected = (404, "not-found") if missing else (422, "file-problem")
            assert await say("GET", f"{HOME}/{path}") == expected, path
        assert await say("PUT", f"{HOME}/pipe", content=b"x") == (422, "file-problem")
        assert await say("PUT", f"{HOME}/d", content=b"x") == (422, "file-problem")
        assert await say("PUT", "/usr/x", content=b"x") == (422, "file-problem")
        assert await say("PUT", f"{HOME}/d/f/g", content=b"x") == (201, "")
        assert await say("DELETE", f"{HOME}/d") == (409, "conflict")
        assert await say("GET", f"{HOME}/{'x' * 300}") == (422, "file-problem")
        assert await say("GET", f"{HOME}/{'x/' * 2100}") == (413, "too-large")
        for bad in ("relative", f"{HOME}/../x", "/a\0b", ""):
            assert await say("GET", bad) == (422, "invalid-input"), bad
            assert await say("PUT", bad, content=b"x") == (422, "invalid-input"), bad
        assert await say("DELETE", "//") == (422, "invalid-input")
        for header in ("content-range", "content-encoding"):
            given = await say("PUT", f"{HOME}/f", content=b"x", headers={header: "gzip"})
            assert given == (400, "bad-request")
        for mode in ("9", "7777777", "rwx"):
            answer = await http.put(url(box, f"{HOME}/f") + f"&mode={mode}", content=b"x")
            assert answer.status_code == 422
        proc = await http.get(url(box, "/proc/self/status"))
        assert b"tppd-files" in proc.content
        assert "etag" not in proc.headers
        assert (await http.head(url(box, "/proc/self/status"))).headers.get("content-length") is None
        assert (await http.get(url(box, f"{HOME}/d/f/g"))).content == b"x"
    assert await sh(api, box, "ls d") == "f\ns\n"


async def test_a_log_that_grows_is_read_and_a_file_that_is_rewritten_is_not_mixed(
    stack: Served, api: Client, box: str
) -> None:
    size = 24 << 20
    await sh(api, box, f"head -c {size} /dev/zero > log; head -c {size} /dev/zero > swap; cp swap next")
    async with stack.http() as http:
        async with http.stream("GET", url(box, f"{HOME}/log")) as answer:
            parts = answer.aiter_bytes()
            got = len(await anext(parts))
            await sh(api, box, "echo more >> log")
            async for part in parts:
                got += len(part)
        assert got == size
        async with http.stream("GET", url(box, f"{HOME}/swap")) as answer:
            parts = answer.aiter_bytes()
            await anext(parts)
            await sh(api, box, "mv next swap")
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in parts:
                    pass


async def test_listing(api: Client, box: str) -> None:
    await sh(api, box, r"mkdir -p a/b; printf 123 > a/b/c; touch a.txt; ln -s a/b link; "
                       r"touch $(printf 'x\351'); chmod 640 a.txt")  # fmt: skip
    everything = await api.list_files(box, HOME, depth=9, limit=3)
    assert [item["path"] for item in everything] == [f"{HOME}/a", f"{HOME}/a/b", f"{HOME}/a/b/c"]
    everything = await api.list_files(box, HOME + "/", depth=2)
    assert [(item["name"], item["type"], item["mode"], item["target"]) for item in everything] == [
        ("a", "directory", "0755", None),
        ("b", "directory", "0755", None),
        ("a.txt", "file", "0640", None),
        ("link", "symlink", "0777", "a/b"),
        ("x�", "file", "0644", None),
    ]
    assert everything[-1]["path_raw"] == f"{HOME}/x%E9"
    link = await api.stat_file(box, f"{HOME}/link")
    assert (link["type"], link["target"], link["etag"]) == ("symlink", "a/b", None)
    assert (await api.stat_file(box, f"{HOME}/link", follow=True))["type"] == "directory"
    for path, error in ((f"{HOME}/a.txt", errors.FileProblem), (f"{HOME}/no", errors.NotFound)):
        with pytest.raises(error):
            await api.list_files(box, path)


async def test_names_are_made_moved_and_copied(api: Client, box: str) -> None:
    made = await api.make_directory(box, f"{HOME}/{ODD}/d", mode="700")
    assert (made["type"], made["mode"]) == ("directory", "0700")
    assert await api.make_directory(box, f"{HOME}/{ODD}/d") == made
    with pytest.raises(errors.Conflict):
        await api.make_directory(box, f"{HOME}/{ODD}/d", parents=False)
    with pytest.raises(errors.NotFound):
        await api.make_directory(box, f"{HOME}/x/y", parents=False)
    await api.write_file(box, f"{HOME}/{ODD}/d/f", b"1")
    moved = await api.move_file(box, f"{HOME}/{ODD}", f"{HOME}/m/n")
    assert moved["path"] == f"{HOME}/m/n"
    copied = await api.copy_file(box, f"{HOME}/m", f"{HOME}/c")
    assert copied["type"] == "directory"
    assert await api.read_file(box, f"{HOME}/c/n/d/f") == b"1"
    await api.write_file(box, f"{HOME}/g", b"2")
    for act in (api.move_file, api.copy_file):
        with pytest.raises(errors.Conflict, match="File exists"):
            await act(box, f"{HOME}/g", f"{HOME}/c/n/d/f")
        with pytest.raises(errors.NotFound):
            await act(box, f"{HOME}/nothing", f"{HOME}/x")
        with pytest.raises(errors.FileProblem):
            await act(box, f"{HOME}/c", f"{HOME}/c/inside")
    with pytest.raises(errors.FileProblem, match="cross-device"):
        await api.move_file(box, f"{HOME}/g", "/dev/shm/g")
    await api.copy_file(box, f"{HOME}/g", "/dev/shm/g")
    await api.delete_file(box, "/dev/shm/g")
    once = await api.move_file(box, f"{HOME}/g", f"{HOME}/c/n/d/f", overwrite=True, key="k")
    assert once == await api.move_file(box, f"{HOME}/g", f"{HOME}/c/n/d/f", overwrite=True, key="k")
    assert await api.read_file(box, f"{HOME}/c/n/d/f") == b"2"
    with pytest.raises(errors.Conflict):
        await api.delete_file(box, f"{HOME}/c")
    await api.delete_file(box, f"{HOME}/c", recursive=True)
    await api.delete_file(box, f"{HOME}/m", recursive=True)
    assert await api.list_files(box, HOME) == []


@pytest.mark.parametrize("form", ["tar", "gzip", "zstd"])
async def test_an_archive_is_what_is_there(api: Client, box: str, form: Any) -> None:
    await sh(api, box, r"mkdir -p p/d/e p/empty; head -c 3000001 /dev/urandom > p/big; "
                       r"printf '#!' > p/d/run; chmod 751 p/d/run; ln -s ../big p/d/link; "
                       r"touch p/$(printf 'x\351') p/$(printf '%0200d' 1); mkfifo p/pipe; "
                       r"for n in $(seq 100); do echo $n > p/d/e/$n; done")  # fmt: skip
    data = b"".join([part async for part in api.download_archive(box, f"{HOME}/p", form)])
    if form == "zstd":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz" if form == "gzip" else "r:") as tar:
        names = {member.name for member in tar}
        assert len(names) == 108
        assert {"big", "d/run", "d/link", "empty", os.fsdecode(b"x\xe9"), f"{1:0200d}"} < names
        assert "pipe" not in names
        assert (tar.getmember("d/run").mode, tar.getmember("d/link").linkname) == (0o751, "../big")
        big = tar.extractfile("big")
        assert big is not None
        assert big.read() == await api.read_file(box, f"{HOME}/p/big")
    if form == "tar":
        await api.upload_archive(box, f"{HOME}/q", data)
        assert await sh(api, box, "rm p/pipe; diff -r p q && echo same") == "same\n"


async def test_archives_by_accept_and_of_what_cannot_be_had(stack: Served, api: Client, box: str) -> None:
    await sh(api, box, "mkdir -p d/closed; echo 1 > f; chmod 0 d/closed; mkfifo pipe")
    async with stack.http() as http:
        path = f"/v1/sandboxes/{box}/archive?path="
        for accept, type in (("*/*", "application/x-tar"), ("a/b, application/zstd", "application/zstd")):
            answer = await http.get(f"{path}{HOME}/f", headers={"accept": accept})
            assert answer.headers["content-type"] == type
        for name, status in (("nothing", 404), ("pipe", 422)):
            assert (await http.get(f"{path}{HOME}/{name}")).status_code == status
        assert (await http.get(f"{path}{HOME}/f&format=rar")).status_code == 422
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(f"{path}{HOME}/d")


async def test_long_work_on_files_starves_nobody(api: Client, box: str) -> None:
    """While trees are removed and large files read, commands and small files go on."""
    await sh(api, box, "mkdir t; cd t; seq 3000 | xargs touch; head -c 50000000 /dev/zero > ../big")
    removing = asyncio.create_task(api.delete_file(box, f"{HOME}/t", recursive=True))
    reading = [asyncio.create_task(api.read_file(box, f"{HOME}/big")) for _ in range(4)]
    for n in range(10):
        assert await sh(api, box, f"echo {n}") == f"{n}\n"
        await api.write_file(box, f"{HOME}/small", b"%d" % n)
    await removing
    assert {len(data) for data in await asyncio.gather(*reading)} == {50_000_000}
