"""Building tppd, the helper that runs inside every sandbox: static, named after its sources.

`bin/tppd-<hash>`: a changed source gives a new name, so a running sandbox keeps the file that it was
started with, and an unchanged one is never built again. The system's C compiler builds it where it
can link statically; else the `ziglang` wheel, installed by hash into our own environment, does. Its
caches stay in the home and are removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from runtime.services import ROOT, Progress
from terminalpp.types.errors import ServiceFailed

SOURCES = ROOT / "tppd"
FLAGS = ["-static", "-O2", "-Wall"]


def sources(folder: Path = SOURCES) -> list[Path]:
    """The C files in a fixed order; headers count for the hash."""
    return sorted(path for path in folder.glob("*.[ch]") if path.is_file())


def path(home: Path, folder: Path = SOURCES) -> Path:
    """Where the helper built from the present sources is (or will be)."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sources(folder):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return home / "bin" / f"tppd-{digest.hexdigest()[:16]}"


async def build(home: Path, progress: Progress, folder: Path = SOURCES) -> Path:
    """Build the helper if it is not there yet. Raises ServiceFailed with the compiler's words."""
    target = path(home, folder)
    if target.exists():
        return target
    files = [str(source) for source in sources(folder) if source.suffix == ".c"]
    if not files:
        raise ServiceFailed(f"no C sources in {folder}", "The checkout is incomplete: clone it again.")
    attempt = target.with_name(f".{target.name}.{os.getpid()}")
    cache = home / "bin" / f".zig-{os.getpid()}"
    try:
        said = await _with_cc(attempt, files, progress)
        if said:
            progress("progress", "the system's compiler cannot do it; using the ziglang wheel")
            said = await _with_zig(attempt, files, cache, progress) or ""
        if said or not attempt.exists():
            raise ServiceFailed(
                f"tppd could not be built:\n{said}", "Install gcc and libc6-dev, then try again."
            )
        attempt.chmod(0o755)  # executed by the sandbox's own user as well
        os.replace(attempt, target)
    finally:
        attempt.unlink(missing_ok=True)
        await asyncio.to_thread(shutil.rmtree, cache, True)
    return target


async def _with_cc(target: Path, files: list[str], progress: Progress) -> str:
    """Empty when it worked, else why not."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler or not shutil.which(compiler):
        return "no C compiler on PATH"
    progress("progress", f"compiling with {Path(compiler).name}")
    return await _run([compiler, *FLAGS, "-o", str(target), *files])


async def _with_zig(target: Path, files: list[str], cache: Path, progress: Progress) -> str:
    if importlib.util.find_spec("ziglang") is None:
        progress("progress", "installing the ziglang wheel (about 100 MB, once)")
        said = await _run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--no-cache-dir",
                "--no-deps",
                "--disable-pip-version-check",
                "--require-hashes",
                "-q",
                "-r",
                str(ROOT / "requirements-cc.lock"),
            ]
        )
        if said:
            return said
    progress("progress", "compiling with zig")
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    return await _run(
        [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            f"{platform.machine()}-linux-musl",
            *FLAGS,
            "-o",
            str(target),
            *files,
        ],
        caches,
    )


async def _run(command: list[str], extra: dict[str, str] | None = None) -> str:
    """Run to the end: empty when it succeeded, else its last words."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, **(extra or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return str(error)
    output, _ = await process.communicate()
    said = output.decode("utf-8", "replace").strip()
    return (
        ("\n".join(said.splitlines()[-12:]) or f"status {process.returncode}") if process.returncode else ""
    )
