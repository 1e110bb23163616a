"""The network of a bubblewrap sandbox that asked for one: `pasta` (Debian's package passt).

It carries what comes out of the sandbox's own network namespace over ordinary sockets of the host.

What is reachable: whatever the host itself reaches, by its routes. What is not: the host's loopback and its
abstract sockets, and the sandbox from the host: no port is forwarded, in either direction. A service of
the host that listens on another interface's address is reached like any machine's.

`tppd guard` keeps it: it is there before `start` returns, is started again should it die, and ends with the
sandbox. Its words are in `<sandbox>/network.log`; that file's lock, which both inherit, tells whether one of
them lives. When somebody killed both, the next look at the sandbox, within half a minute, connects it again
(`Driver.inspect`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from pathlib import Path

from actors.node.accounts import Accounts
from actors.node.bubblewrap_command import free_stage
from terminalpp.types.errors import IsolationUnavailable, SandboxFailed

FIX = "Install it (`apt install passt`, `dnf install passt`), start Docker, or leave the network out."
_READY_SECONDS = 10.0
_TICK_SECONDS = 0.005
_OPTIONS = ["--foreground", "--quiet", "--config-net", "--no-map-gw"]
_NO_PORTS = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]

# As root: /dev/net/tun may be root's alone, so a private mount namespace gets one for the sandbox's account.
# $1 stage, then what to run.
_AS_ROOT = """
set -e
stage=$1
shift
mount -t tmpfs -o mode=755,size=64k tpp "$stage"
mknod -m 666 "$stage/tun" c 10 200
mount --bind "$stage/tun" /dev/net/tun
exec "$@"
"""


def find(wanted: str | None = None) -> str:
    """The path of pasta (`wanted`: this one). Raises IsolationUnavailable with what to install."""
    path = shutil.which(wanted or "pasta", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if path is None:
        raise IsolationUnavailable("an open network needs pasta under bubblewrap, and it is not here", FIX)
    if not os.path.exists("/dev/net/tun"):
        raise IsolationUnavailable("an open network needs /dev/net/tun, and it is not here", FIX)
    return path


async def attach(folder: Path, tppd: Path, pasta: str, pid: int, accounts: Accounts) -> None:
    """Connect the sandbox whose process 1 is `pid`; returns once it has a route. Held by `folder`'s lock.

    Raises IsolationUnavailable, SandboxFailed (with pasta's own words).
    """
    root = os.getuid() == 0 and accounts.helper is not None
    ids = [str(accounts.helper), str(accounts.helper_group)] if root else ["0", "0"]
    words = [str(tppd), "guard", str(pid), *ids, pasta, *_OPTIONS, *_NO_PORTS]
    if root:
        stage = free_stage(str(tppd), pasta)
        head = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _AS_ROOT, "tpp", stage]
        words = head + words
    log = folder / "network.log"
    with log.open("wb") as said:
        fcntl.flock(said, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = await asyncio.create_subprocess_exec(
            "setsid", "--fork", *words, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"},
        )  # fmt: skip
        await process.wait()
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    while not _has_route(pid):
        if asyncio.get_running_loop().time() > deadline:
            words = [line for line in log.read_text(errors="replace").splitlines() if "syslog" not in line]
            raise SandboxFailed(f"the network could not be connected: {' | '.join(words[-3:])}")
        await asyncio.sleep(_TICK_SECONDS)


def attached(folder: Path) -> bool:
    """Whether a guard or a pasta of this sandbox lives."""
    try:
        with (folder / "network.log").open("rb") as said:
            fcntl.flock(said, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _has_route(pid: int) -> bool:
    """Whether the network namespace of `pid` has a default route."""
    try:
        routes = Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
        routes6 = Path(f"/proc/{pid}/net/ipv6_route").read_text().splitlines()
    except OSError:
        return False
    return any(line.split()[1] == "0" * 8 for line in routes) or any(
        line.startswith("0" * 32 + " 00") and not line.endswith(" lo") for line in routes6
    )


def resolvers() -> str:
    """A resolv.conf with the host's name servers that can be reached from another network namespace.

    Where the host asks a resolver of its own on loopback, systemd-resolved's list of those behind it.
    """
    kept: list[str] = []
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        kept = [line for line in lines if line.strip() and not _local(line)]
        if any(line.startswith("nameserver") for line in kept):
            break
    return "".join(f"{line}\n" for line in kept)


def _local(line: str) -> bool:
    return line.startswith("nameserver") and line.split()[1:2] != [] and (
        line.split()[1].startswith("127.") or line.split()[1] == "::1")  # fmt: skip
