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
FLAGS = ["-static", "-pthread", "-O2", "-Wall"]


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
        if compiler := await static_compiler(attempt):
            progress("progress", f"compiling with {Path(compiler).name}")
            said = await _run([compiler, *FLAGS, "-o", str(attempt), *files])
        else:
            progress("progress", "no C compiler here that links statically; using the ziglang wheel")
            said = await _with_zig(attempt, files, cache, progress)
        if said or not attempt.exists():
            raise ServiceFailed(
                f"tppd could not be built:\n{said}", "Install gcc and libc6-dev, then try again."
            )
        attempt.chmod(0o755)  # executed by the sandbox's own user as well
        os.replace(attempt, target)
    finally:
        _remove(attempt, attempt.with_name(attempt.name + ".c"))
        await asyncio.to_thread(shutil.rmtree, cache, True)
    return target


async def static_compiler(scratch: Path) -> str | None:
    """The system's C compiler, if it can link a static program (that needs a static libc).

    Tried with an empty program, so that an error in our own sources is shown as what it is and not
    answered with a download.
    """
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source = scratch.with_name(scratch.name + ".c")
    source.write_text("int main(void) { return 0; }\n")
    failure = await _run([compiler, *FLAGS, "-o", str(scratch), str(source)])
    _remove(source, scratch)
    return None if failure else compiler


def _remove(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


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
    progress("progress", "compiling with zig (about a minute, once)")
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
        ("\n".join(said.split("\n")[-12:]) or f"status {process.returncode}") if process.returncode else ""
    )
