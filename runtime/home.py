"""TPP_HOME on disk: made private, checked before anything is started, locked by whoever runs it.

What it guarantees: the directory is ours, 0700, and was made by Terminal++ (a directory that already
holds other things is refused, because its mode would be changed); files that others must not see
half-written are replaced atomically; secrets are 0600; one lock (`run/lock`, flock) is held for the
life of the supervisor, and the kernel frees it however that ends.

What it refuses: a home of a newer format, another owner's home, a secret that is gone while the data
that needs it is there. All of these raise HomeCorrupt naming the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime import disk
from runtime.settings import MIB
from terminalpp.types.errors import DiskFull, HomeCorrupt, PortInUse

FORMAT = 1
DISK_NEEDED_BYTES = 512 * MIB  # a first boot writes about 120 MB; the rest is room to work in
DISK_LEAST_BYTES = 16 * MIB  # what a boot itself writes: Ray's session, logs, a checkpoint of Postgres
FOLDERS = ("run", "secrets", "logs", "bin", "sandboxes", "artifacts", "demo", "redis", "ray")
# Below the range from which the kernel picks ports of outgoing connections (32768 and up), so that a
# remembered port is not taken by chance while we are down.
PORTS = range(20_000, 32_000)

# Made on demand: by the supervisor, by Postgres' first start, by the CLI.
OTHERS = ("ballast", "chat", "pg", "pg.new", "tmp", "patches", "runs")


class Home:
    """The directory of one installation. Making the object touches nothing; `prepare` does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.logs = path / "logs"
        self.state_file = self.run / "state.json"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def prepare(self) -> None:
        """Make or check the home. Raises HomeCorrupt, or DiskFull when there is no room to begin."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.stat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                raise HomeCorrupt(f"{self.path} belongs to another account")
            self._check_format()
            if stat.S_IMODE(found.st_mode) != 0o700:
                self.path.chmod(0o700)
            self._check_room()
            for name in FOLDERS:
                folder = self.path / name
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise HomeCorrupt(f"{error.filename} is in the way: a directory is needed there") from None
        except PermissionError as error:
            raise HomeCorrupt(f"no permission on {error.filename}") from None
        except OSError as error:
            raise from_os_error(error, self.path) from None
        write_atomically(self.path / "format", f"{FORMAT}\n")

    def _check_room(self) -> None:
        """A first boot needs room; later ones come up with next to none, so that things can be deleted."""
        if not (self.path / "pg").exists():
            check_disk(self.path)
            return
        if disk.free_bytes(self.path) < DISK_LEAST_BYTES:
            (self.path / "ballast").unlink(missing_ok=True)
        check_disk(self.path, DISK_LEAST_BYTES)

    def _check_format(self) -> None:
        marker = self.path / "format"
        if not marker.exists():
            # An interrupted first boot leaves some of our own folders, and the CLI may have been here
            # first (it copies a repository while the services boot); the rest is somebody's data.
            strange = sorted({entry.name for entry in self.path.iterdir()} - {*FOLDERS, *OTHERS})
            if strange:
                raise HomeCorrupt(f"{self.path} is not empty and not ours: it holds {strange[0]!r}")
            return
        text = marker.read_text(errors="replace").strip()
        if not text.isdigit():
            raise HomeCorrupt(f"{marker} is damaged: it says {text[:40]!r} instead of a number")
        if int(text) > FORMAT:
            raise HomeCorrupt(
                f"{self.path} has format {text}, newer than this version's {FORMAT}",
                "Use the newer version of Terminal++, or another TPP_HOME.",
            )

    # ---- locks and secrets

    def try_lock(self) -> int | None:
        """The lock's file descriptor (close it to unlock), or None when a supervisor holds it."""
        descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def locked(self) -> bool:
        """Whether a supervisor runs on this home. False when the home does not exist yet."""
        if not (self.run / "lock").exists():
            return False
        descriptor = self.try_lock()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def secret(self, name: str, *, create: bool = True) -> str:
        """The secret in `secrets/<name>`, made at first use. Raises HomeCorrupt if it is damaged."""
        path = self.path / "secrets" / name
        if not path.exists():
            if not create:
                raise HomeCorrupt(f"{path} is gone, and the data that needs it is still there")
            write_atomically(path, secrets.token_urlsafe(32) + "\n")
        value = path.read_text(errors="replace").strip()
        if len(value) < 16 or not value.isascii() or not value.isprintable() or " " in value:
            raise HomeCorrupt(f"{path} is damaged")
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)
        return value

    # ---- ports

    def port(self, service: str, *, fixed: int = 0, prefer: int = 0, ours: bool = False) -> int:
        """The port of a service on 127.0.0.1: `fixed` or nothing, else the remembered one while it is
        free, else `prefer`, else a free one from a range that starts at a place of this home's own.
        `ours`: the remembered one is held by our own process, which will be adopted or ended.

        Raises PortInUse when `fixed` is taken.
        """
        remembered = self._ports()
        if ours and service in remembered and fixed in (0, remembered[service]):
            return remembered[service]
        if fixed:
            if not port_free(fixed):
                raise PortInUse(f"port {fixed} on 127.0.0.1 is taken by another program")
            self._remember(service, fixed)
            return fixed
        taken = {port for name, port in remembered.items() if name != service}
        for port in self._candidates(service, remembered.get(service), prefer):
            if port not in taken and port_free(port):
                self._remember(service, port)
                return port
        raise PortInUse(f"no free port for {service} between {PORTS.start} and {PORTS.stop}")

    def _remember(self, service: str, port: int) -> None:
        write_atomically(self.run / "ports.json", json.dumps({**self._ports(), service: port}))

    def remembered_port(self, service: str) -> int | None:
        """The port that this home chose for the service, or None before its first start."""
        return self._ports().get(service)

    def _candidates(self, service: str, remembered: int | None, prefer: int) -> Iterator[int]:
        yield from (port for port in (remembered, prefer) if port)
        start = zlib.crc32(f"{self.path}\0{service}".encode("utf-8", "surrogateescape")) % len(PORTS)
        for step in range(len(PORTS)):
            yield PORTS[(start + step) % len(PORTS)]

    def _ports(self) -> dict[str, int]:
        found = read_json(self.run / "ports.json")
        return {str(k): v for k, v in found.items() if isinstance(v, int) and 0 < v < 65536}


def port_free(port: int) -> bool:
    """Whether nobody listens on that port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check_disk(path: Path, needed_bytes: int = DISK_NEEDED_BYTES) -> None:
    """Raises DiskFull when the file system of `path` has less than `needed_bytes` for us."""
    free = disk.free_bytes(path)
    if free < needed_bytes:
        raise DiskFull(f"{path} has {free // MIB} MiB free; {needed_bytes // MIB} MiB are needed")


def from_os_error(error: OSError, path: Path) -> DiskFull | HomeCorrupt:
    """The error of ours that says what an OSError on `path` means."""
    if disk.full(error):
        return DiskFull(f"no space left for {error.filename or path}")
    return HomeCorrupt(f"{error.filename or path}: {error.strerror}")


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` (0600) so that a reader sees the old or the new text, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise from_os_error(error, path) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when the file is missing or is no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
