"""The streaming tar reader: equal to Python's on whole archives, and suspicious of all others."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tar_reader import Entry, Reader, Source, clean
from terminalpp.types.errors import InvalidInput

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read(data: bytes, size: int = 700) -> list[tuple[Entry, bytes]]:
    reader, found = Reader(Source(chunks(data, size))), []
    while (entry := await reader.next()) is not None:
        content = b""
        while piece := await reader.content(1000):
            content += piece
        found.append((entry, content))
    return found


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    return info


names = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=70)
    .filter(lambda part: part not in (".", "..")),
    min_size=1, max_size=6,
).map("/".join)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, st.binary(max_size=3000)), max_size=5), st.sampled_from(FORMATS[1:]),
       st.integers(1, 2000))  # fmt: skip
async def test_reads_what_python_writes(files, form, size) -> None:
    data = packed(*((member(name), content) for name, content in files), form=form)
    found = await read(data, size)
    assert [(entry.name, entry.kind, content) for entry, content in found] == [
        (clean(name), "file", content) for name, content in files
    ]


@pytest.mark.parametrize("form", FORMATS)
async def test_kinds_modes_and_bytes_that_are_not_utf8(form: int) -> None:
    odd = b"caf\xe9\n.txt".decode("utf-8", "surrogateescape")
    data = packed(
        (member("./", tarfile.DIRTYPE), b""),
        (member("bin/", tarfile.DIRTYPE, 0o750), b""),
        (member("bin/run", mode=0o4755), b"#!"),
        (member(odd), b"x"),
        (member("link", tarfile.SYMTYPE, link="/anywhere/../else"), b""),
        (member("twin", tarfile.LNKTYPE, link="./bin/run"), b""),
        form=form,
    )  # fmt: skip
    entries = [entry for entry, _ in await read(data)]
    assert entries[1:] == [
        Entry("bin", "directory", 0, 0o750, ""),
        Entry("bin/run", "file", 2, 0o755, ""),
        Entry(odd, "file", 1, 0o644, ""),
        Entry("link", "symlink", 0, 0o644, "/anywhere/../else"),
        Entry("twin", "hardlink", 0, 0o644, "bin/run"),
    ]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (member("/etc/passwd"), "absolute"),
        (member("a/../../b"), "leads out"),
        (member(".."), "leads out"),
        (member("dev", tarfile.CHRTYPE), "character device"),
        (member("dev", tarfile.BLKTYPE), "block device"),
        (member("pipe", tarfile.FIFOTYPE), "fifo"),
        (member("link", tarfile.SYMTYPE, link=""), "nothing"),
        (member("twin", tarfile.LNKTYPE, link="/etc/shadow"), "absolute"),
        (member("twin", tarfile.LNKTYPE, link="../x"), "leads out"),
        (member("d/" * 2048 + "f"), "longer than 4095 bytes"),
        (member("é" * 2048), "longer than 4095 bytes"),
        (member("link", tarfile.SYMTYPE, link="x/" * 2048), "longer than 4095 bytes"),
    ],
)
async def test_refused_by_name_and_reason(info: tarfile.TarInfo, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await read(packed((info, b"")))


async def test_extended_headers_without_end_are_forgotten() -> None:
    """What is kept of them does not grow with their number."""
    info = member("plain")
    info.pax_headers = {f"key{n}": "v" * 100 for n in range(2000)}
    source = Reader(Source(chunks(packed((info, b"x")), 700)))
    assert (await source.next()).name == "plain"
    data = packed((member("a"), b"x"))
    noise = b"".join(tarfile.TarInfo.create_pax_global_header({f"g{n}": "v" * 400}) for n in range(500))
    reader = Reader(Source(chunks(noise + data, 700)))
    assert (await reader.next()).name == "a"
    assert reader._global == {}


async def test_an_archive_that_is_cut_never_looks_whole() -> None:
    data = packed((member("a"), b"x" * 5000), (member("b"), b"y"))
    whole = len(data.rstrip(b"\0"))
    for end in range(0, whole, 97):
        with pytest.raises(InvalidInput, match="ends early"):
            await read(data[:end])


async def test_what_is_no_tar_is_refused() -> None:
    for data in (b"PK\x03\x04" + b"x" * 2000, b"\x1f\x8b" + b"\x00x" * 2000, b"\xff" * 512):
        with pytest.raises(InvalidInput):
            await read(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 4000))
async def test_damage_is_an_error_of_ours_or_nothing(noise: bytes, at: int) -> None:
    data = bytearray(packed((member("a/" + "n" * 150), b"x" * 900), (member("é" * 90), b"y" * 30)))
    data[at : at + len(noise)] = noise
    try:
        for entry, _ in await read(bytes(data)):
            assert ".." not in entry.name.split("/")
            assert not entry.name.startswith("/")
    except InvalidInput:
        pass
