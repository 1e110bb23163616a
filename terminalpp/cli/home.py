"""TPP_HOME as the client sees it: where the server is, the owner's token, and the client's own folders.

The client reads `run/state.json` and `secrets/owner.token`, which the server writes, and owns
`tmp/` (copies in the making), `patches/` (diffs that were not applied), `runs/` (what each run
copied, so that it can be applied later) and `demo/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from terminalpp.types.errors import DiskFull, HomeCorrupt, Unavailable
from terminalpp.types.home import path
from terminalpp.types.proof import SOCKET

__all__ = ["address", "folder", "path", "scratch", "socket", "state", "write_atomically"]


def folder(name: str) -> Path:
    """A private folder in the home, made when missing. Raises HomeCorrupt and DiskFull."""
    result = path() / name
    try:
        result.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        result.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _told(error) from error
    return result


def _told(error: OSError) -> DiskFull | HomeCorrupt:
    if error.errno == 28:
        return DiskFull(f"no space left under {path()}")
    return HomeCorrupt(f"{error.filename}: {error.strerror}")


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A temporary folder inside the home, removed afterwards whatever happens."""
    made = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=folder("tmp")))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_atomically(target: Path, data: bytes) -> None:
    """The whole of `data` or nothing. Raises DiskFull and HomeCorrupt."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        fresh.replace(target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise _told(error) from error


def state() -> dict[str, Any] | None:
    """What the supervisor wrote about itself, or None when nothing was started. Raises HomeCorrupt."""
    target = path() / "run" / "state.json"
    try:
        return json.loads(target.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HomeCorrupt(f"{target} cannot be read: {error}") from error


def socket() -> Path | None:
    """The Unix socket on which the server listens for this machine's clients; None when there is none."""
    target = path() / "run" / SOCKET
    return target if target.is_socket() else None


def address() -> tuple[str, str]:
    """The gateway's URL and the owner's token. Raises Unavailable when the system is not up."""
    found = state()
    if not found or not found.get("url"):
        raise Unavailable("Terminal++ is not running", "Start it: `./tpp up`.")
    target = path() / "secrets" / "owner.token"
    try:
        return str(found["url"]), target.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise HomeCorrupt(f"{target} cannot be read: {error}") from error
