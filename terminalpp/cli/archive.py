"""A survey as a tar stream, and the manifest of what was sent.

The stream is made while it is sent: no file of the size of the project is written. The manifest
notes for each path its kind and the SHA-256 of the very bytes that were sent; applying the result
later compares against it, so a file that changed meanwhile is found out even when its size and time
did not. Names go in GNU format as raw bytes: any name that the file system allows arrives unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import hashlib
import json
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from terminalpp.cli.repository import Entry, Survey, show
from terminalpp.types.errors import Conflict

PIECE_BYTES = 1024 * 1024
WHOLE_BYTES = 8 * 1024 * 1024  # a file up to this size is read before its header is written

# path -> (kind, sha256 of the content or of the link's target); kind: "file", "exec" or "link"
Manifest = dict[str, tuple[str, str]]


def stream(found: Survey, history: Path | None, manifest: Manifest) -> Iterator[bytes]:
    """The tar in pieces; `manifest` is filled on the way. Raises Conflict when a file shrinks meanwhile."""
    return _gathered(_blocks(found, history, manifest))


async def send(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same, read in a thread: the file system may be slow, the event loop must not wait for it."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _gathered(blocks: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _blocks(found: Survey, history: Path | None, manifest: Manifest) -> Iterator[bytes]:
    if history is not None:
        yield from _folder(history)
    for folder in found.folders:
        yield _header(folder + "/", 0, 0o755, tarfile.DIRTYPE)
    for entry in found.entries:
        yield from _entry(found.root, entry, manifest)
    yield b"\0" * 1024


def _header(name: str, size: int, mode: int, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = size, mode, kind, target
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return b"\0" * (-size % 512)


def _folder(history: Path) -> Iterator[bytes]:
    """The fresh `.git`; nothing else writes there, so sizes hold still."""
    for folder, folders, names in os.walk(history):
        folders.sort()
        inside = os.path.relpath(folder, history)
        prefix = ".git" if inside == "." else f".git/{inside}"
        yield _header(prefix + "/", 0, 0o755, tarfile.DIRTYPE)
        for name in sorted(names):
            with open(os.path.join(folder, name), "rb") as source:
                size = os.fstat(source.fileno()).st_size
                yield _header(f"{prefix}/{name}", size, 0o644)
                while data := source.read(PIECE_BYTES):
                    yield data
                yield _padding(size)


def _entry(root: Path, entry: Entry, manifest: Manifest) -> Iterator[bytes]:
    full = os.path.join(root, entry.path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # removed since it was listed
        if entry.link:
            target = os.readlink(full)
            manifest[entry.path] = ("link", hashlib.sha256(os.fsencode(target)).hexdigest())
            yield _header(entry.path, 0, 0o777, tarfile.SYMTYPE, target)
        else:
            yield from _file(full, entry, manifest)


def _file(full: str, entry: Entry, manifest: Manifest) -> Iterator[bytes]:
    try:
        source = open(os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # noqa: SIM115
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Conflict(f"{show(entry.path)} changed while it was copied", "Run again.") from error
        raise
    with source:
        found = os.fstat(source.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Conflict(f"{show(entry.path)} changed while it was copied", "Run again.")
        executable = bool(found.st_mode & 0o100)
        mode = 0o755 if executable else 0o644
        digest = hashlib.sha256()
        if found.st_size <= WHOLE_BYTES:
            data = source.read()
            digest.update(data)
            yield _header(entry.path, len(data), mode)
            yield data
            yield _padding(len(data))
        else:
            yield _header(entry.path, found.st_size, mode)
            left = found.st_size
            while left:
                data = source.read(min(PIECE_BYTES, left))
                if not data:
                    raise Conflict(f"{show(entry.path)} became shorter while it was copied", "Run again.")
                digest.update(data)
                left -= len(data)
                yield data
            yield _padding(found.st_size)
    manifest[entry.path] = ("exec" if executable else "file", digest.hexdigest())


# ---- the manifest on disk -----------------------------------------------------------------------


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as a compressed file's bytes; the same for the same manifest."""
    return gzip.compress(json.dumps(manifest).encode("ascii"), compresslevel=1)


def read_manifest(data: bytes) -> Manifest:
    """Raises ValueError or OSError when it is damaged."""
    return {path: (kind, digest) for path, (kind, digest) in json.loads(gzip.decompress(data)).items()}


def present(full: str | os.PathLike[str]) -> tuple[str, str] | None:
    """What stands at a path now, in the manifest's terms; None when nothing does."""
    try:
        found = os.lstat(full)
        if stat.S_ISLNK(found.st_mode):
            return "link", hashlib.sha256(os.fsencode(os.readlink(full))).hexdigest()
        if not stat.S_ISREG(found.st_mode):
            return "other", ""
        with open(os.open(full, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return "exec" if found.st_mode & 0o100 else "file", digest
