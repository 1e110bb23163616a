"""What it costs to run `true`: the operating system alone, tppd in a sandbox, `docker exec`.

python -m bench.exec [N]

`fork+exec` is posix_spawn and wait from this very Python process, the least a command can cost from
here. `tppd` is one request on the open socket, until the answer with the exit record is parsed. The
rounds take turns, so that all of them meet the same load. `docker exec` is measured where a daemon
answers and some image is there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from actors.node.bubblewrap import Bubblewrap
from actors.node.driver import SandboxSpec
from actors.sandbox.tppd.client import Tppd
from bench.measure import row, table
from runtime.services import helper
from terminalpp.types.ids import new_id


def spawn_and_wait() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


async def fork_exec() -> None:
    spawn_and_wait()


def tppd_exec(tppd: Tppd, argv: list[str]) -> Callable[[], Awaitable[None]]:
    async def once() -> None:
        await tppd.run(new_id(), argv, epoch=1, wait_s=30)

    return once


def docker_container() -> str | None:
    """The id of a running container to exec into; None without a daemon or an image."""
    if shutil.which("docker") is None:
        return None
    images = subprocess.run(["docker", "images", "-q"], capture_output=True, text=True, check=False)
    if images.returncode != 0 or not images.stdout.split():
        return None
    command = ["docker", "run", "-d", "--rm", "--network", "none", "--entrypoint", "/bin/sleep"]
    made = subprocess.run(
        [*command, images.stdout.split()[0], "600"], capture_output=True, text=True, check=False
    )
    return made.stdout.strip() if made.returncode == 0 else None


def docker_exec(container: str) -> Callable[[], Awaitable[None]]:
    async def once() -> None:
        process = await asyncio.create_subprocess_exec("docker", "exec", container, "true")
        await process.wait()

    return once


async def timed(once: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await once()
    return time.perf_counter() - begun


async def main(count: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="tpp-bench-"))
    (home / "bin").mkdir()
    driver = Bubblewrap(home, await helper.build(home, lambda *_: None))
    try:
        await measure(driver, count)
    finally:
        await driver.remove("bench")
        shutil.rmtree(home)


async def measure(driver: Bubblewrap, count: int) -> None:
    begun = time.perf_counter()
    started = await driver.start(SandboxSpec("bench"))
    boot = time.perf_counter() - begun
    tppd, container = Tppd(started.run_dir), docker_container()
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "fork+exec of true, no sandbox": fork_exec,
        "tppd: true": tppd_exec(tppd, ["/bin/true"]),
        "tppd: sh -c true": tppd_exec(tppd, ["/bin/sh", "-c", "true"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count):
        for name, once in ways.items():
            seconds[name].append(await timed(once))
    if container:
        once = docker_exec(container)
        seconds["docker exec true"] = [await timed(once) for _ in range(max(20, count // 20))]
        subprocess.run(["docker", "kill", container], stdout=subprocess.DEVNULL, check=True)
    table("Running `true`", [row(name, values) for name, values in seconds.items()])
    print(f"start of a bubblewrap sandbox, once: {boot * 1000:.0f} ms")
    await tppd.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
