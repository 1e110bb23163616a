"""`tpp cp`: files and directories into a sandbox and out of it, in a stream each way.

As `cp -r` does: into a directory that is there the thing goes under its own name, else it gets the new name.
A file appears whole or not at all on both sides; modes and symlinks are kept. What comes out of a sandbox is
not trusted: a path that leads elsewhere, by `..`, an absolute name or a symlink of the archive's own, is
refused before anything is written for it, devices and pipes are left out, and both are said.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import queue
import secrets
import shutil
import sys
import tarfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from terminalpp.cli.exits import Exit
from terminalpp.cli.sanitize import clean
from terminalpp.types.errors import FileProblem, InvalidInput, NotFound

if TYPE_CHECKING:
    from terminalpp.cli.screen import Screen
    from terminalpp.client import Client

HOME = "/home/user"
PIECE_BYTES = 1024 * 1024


def split(word: str) -> tuple[str, str] | None:
    """`(sandbox, path)` of SANDBOX:PATH; None for a path of this machine. Relative ones start at
    /home/user."""
    sandbox, colon, path = word.partition(":")
    if not colon or "/" in sandbox or not sandbox:
        return None
    return sandbox, posixpath.join(HOME, path) if path else HOME


async def copy(client: Client, source: str, target: str, screen: Screen) -> Exit:
    """Raises InvalidInput unless exactly one side is in a sandbox, NotFound, FileProblem."""
    from terminalpp.cli.processes import _sandbox

    there, here = split(source), split(target)
    if (there is None) == (here is None):
        raise InvalidInput("exactly one side is in a sandbox", "Write that one as SANDBOX:PATH.")
    if here is not None:
        box = await _sandbox(client, here[0])
        told = await _into(client, source, box, here[1])
    else:
        assert there is not None
        box = await _sandbox(client, there[0])
        told = await _out(client, box, there[1], target, screen)
    screen.line(told)
    return Exit.OK


# ---- into a sandbox -------------------------------------------------------------------------------------


async def _into(client: Client, source: str, box: str, target: str) -> str:
    if source == "-":
        row = await client.write_file(box, target, _read(sys.stdin.buffer))
        return f"{row['size']:,} bytes to {clean(row['path'], one_line=True)}"
    path, name, is_folder = _here(source)
    target = await _under(client, box, target, name)
    if is_folder:
        await client.make_directory(box, target)
        sent = await client.upload_archive(box, target, _packed(path))
        return f"{sent['files']} files, {sent['bytes']:,} bytes to {target}"
    try:
        with path.open("rb") as file:
            mode = f"{os.fstat(file.fileno()).st_mode & 0o777:04o}"
            row = await client.write_file(box, target, _read(file), mode=mode)
    except OSError as error:
        raise FileProblem(f"{source}: {error.strerror}") from None
    return f"{row['size']:,} bytes to {clean(row['path'], one_line=True)}"


def _here(source: str) -> tuple[Path, str, bool]:
    """The path, its own name, and whether it is a directory. Raises NotFound."""
    path = Path(source)
    if not path.exists() and not path.is_symlink():
        raise NotFound(f"{source} does not exist", "Check the path.")
    return path, path.resolve().name, path.is_dir()


def _new(target: str, name: str) -> Path:
    """The whole new name: below `target` where that is a directory."""
    path = Path(target)
    return path / name if path.is_dir() else path


async def _under(client: Client, box: str, target: str, name: str) -> str:
    """The whole new name: below `target` where that is a directory, or ends like one."""
    with contextlib.suppress(NotFound):
        if (await client.stat_file(box, target, follow=True))["type"] == "directory":
            return posixpath.join(target, name)
    return posixpath.join(target, name) if target.endswith("/") else target


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


async def _packed(folder: Path) -> AsyncIterator[bytes]:
    """A directory as a tar, made by a thread while it is sent."""
    pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(8)
    gone = threading.Event()

    class Pipe:
        def write(self, data: bytes) -> int:
            while not gone.is_set():
                with contextlib.suppress(queue.Full):
                    pieces.put(bytes(data), timeout=0.5)
                    return len(data)
            raise BrokenPipeError

    def pack() -> None:
        try:
            with tarfile.open(fileobj=Pipe(), mode="w|", format=tarfile.GNU_FORMAT) as tar:  # type: ignore[arg-type]
                for name in sorted(os.listdir(folder)):
                    tar.add(folder / name, arcname=name, filter=_plain)
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    threading.Thread(target=pack, daemon=True).start()
    try:
        while (piece := await asyncio.to_thread(pieces.get)) is not None:
            if isinstance(piece, OSError):
                raise FileProblem(f"{piece.filename or folder}: {piece.strerror}") from None
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        gone.set()


def _plain(found: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Files, directories and symlinks, of nobody; sockets, pipes and devices stay, and are said."""
    if not (found.isfile() or found.isdir() or found.issym() or found.islnk()):
        sys.stderr.write(f"left out: {clean(found.name, one_line=True)} is no file, directory or symlink\n")
        return None
    found.uid = found.gid = 0
    found.uname = found.gname = ""
    return found


# ---- out of a sandbox -----------------------------------------------------------------------------------


async def _out(client: Client, box: str, source: str, target: str, screen: Screen) -> str:
    found = await client.stat_file(box, source, follow=True)
    if target == "-":
        if found["type"] != "file":
            raise InvalidInput(f"{source} is no regular file", "A directory cannot be written to `-`.")
        async for piece in client.stream_file(box, source):
            await asyncio.to_thread(sys.stdout.buffer.write, piece)
        sys.stdout.flush()
        raise SystemExit(0)  # nothing of ours among its bytes
    path = _new(target, posixpath.basename(source.rstrip("/")))
    try:
        if found["type"] == "directory":
            count = await _unpacked(client.download_archive(box, source), path)
            return f"{count} files to {path}"
        size = await _written(client.stream_file(box, source), path, int(found["mode"], 8))
    except OSError as error:
        raise FileProblem(f"{error.filename or path}: {error.strerror}") from None
    return f"{size:,} bytes to {path}"


async def _written(pieces: AsyncIterator[bytes], path: Path, mode: int) -> int:
    """Under another name beside it first, so that it is there whole or not at all."""
    aside, size = path.with_name(f".{path.name}.{secrets.token_hex(4)}"), 0
    try:
        with aside.open("xb") as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
                size += len(piece)
        aside.chmod(mode & 0o777)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return size


async def _unpacked(pieces: AsyncIterator[bytes], folder: Path) -> int:
    """The tar below `folder`, member by member, in a thread that reads what arrives."""
    waiting: queue.Queue[bytes | None] = queue.Queue(8)

    class Arriving:
        rest = b""

        def read(self, size: int) -> bytes:
            while len(self.rest) < size and (piece := waiting.get()) is not None:
                self.rest += piece
            data, self.rest = self.rest[:size], self.rest[size:]
            return data

    def unpack() -> int:
        count = 0
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=Arriving(), mode="r|") as tar:  # type: ignore[arg-type]
            for member in tar:
                try:
                    _extract(tar, member, folder)
                except ValueError as refused:
                    sys.stderr.write(f"left out: {clean(str(refused), one_line=True)}\n")
                    continue
                count += member.isfile()
        return count

    work = asyncio.ensure_future(asyncio.to_thread(unpack))
    try:
        async for piece in pieces:
            while not work.done():
                with contextlib.suppress(queue.Full):
                    waiting.put_nowait(piece)
                    break
                await asyncio.sleep(0.005)
    finally:
        await asyncio.to_thread(waiting.put, None)
    return await work


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a member below `folder`. Raises ValueError for what could write, or lead, out of it.

    Nothing is ever written through a symlink, so what a link points to is no way out. (`tarfile.data_filter`
    came with Python 3.11.4.)
    """
    path, place = folder, member.name.rstrip("/")
    *above, _ = parts = place.split("/")
    if not place or ".." in parts or place.startswith("/"):
        raise ValueError(f"{place!r} is not a path within the directory")
    for part in above:
        path /= part
        if path.is_symlink():
            raise ValueError(f"{place!r} lies behind the symlink {path.name!r}")
        path.mkdir(exist_ok=True)
    path = folder / place
    if member.isdir():
        if path.is_symlink():
            raise ValueError(f"{place!r} is a symlink here")
        path.mkdir(exist_ok=True)
    elif member.issym():
        there = os.path.realpath(path.parent / member.linkname)
        if os.path.isabs(member.linkname) or not Path(there).is_relative_to(os.path.realpath(folder)):
            raise ValueError(f"{place!r} is a symlink to {member.linkname!r}, outside of the directory")
        if os.path.lexists(path):
            path.unlink()
        path.symlink_to(member.linkname)
    elif member.isfile():
        content = tar.extractfile(member)
        assert content is not None
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with aside.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            aside.chmod(member.mode & 0o755 | 0o600)
            os.utime(aside, (member.mtime, member.mtime))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    else:
        raise ValueError(f"{place!r} is neither a file nor a directory nor a symlink")


def listed(entry: Any) -> list[str]:
    """A line of `tpp files ls`."""
    name = entry["path"] + (f" -> {entry['target']}" if entry["target"] else "")
    size = f"{entry['size']:,}" if entry["type"] == "file" else ""
    return [entry["mode"], entry["type"], size, (entry["modified_at"] or "")[:19].replace("T", " "), name]
