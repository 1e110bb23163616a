"""A command over REST beside its parts: a bare FastAPI route, one committed insert, fork/exec.

    python -m bench.rest [N]

The claim: `true` over REST costs at most twice the sum of the three, and is ten times faster than
`docker exec`. All rows are measured in turns of one another within this run, so that what else the
machine does meets all of them: one of each in turn (everything finds the caches as the others left them),
and in blocks (each part alone in a tight loop, which a command's stages never are).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from bench.home import ROOT, booted, client
from bench.measure import Work, in_turns, table
from terminalpp.client import Client

SETTLE_S = 5.0  # a new sandbox takes a warm cell, and the next one is then started in its place

BARE = """
import sys, uvicorn
from fastapi import FastAPI
from gateway.requests import CommandCreate
app = FastAPI()
@app.post("/v1/sandboxes/{sandbox_id}/commands", status_code=201)
async def route(sandbox_id: str, body: CommandCreate):
    return {"id": sandbox_id, "status": "completed", "exit_code": 0, "stdout": "", "stderr": ""}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn_true() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


@contextlib.asynccontextmanager
async def bare_route() -> AsyncIterator[Work]:
    """A FastAPI application with one route that takes the same body, through the same client."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", BARE, str(port)], cwd=ROOT)
    try:
        # It waits until the server is there.
        async with Client(f"http://127.0.0.1:{port}", "none", prove=False) as api:
            yield lambda: api.run_command("1", argv=["true"], wait_ms=5000)
    finally:
        server.terminate()
        server.wait()


@contextlib.asynccontextmanager
async def committed_insert(home: Path) -> AsyncIterator[Work]:
    """One row of the size of a command's, committed, over one open connection to the same Postgres."""
    from runtime.settings import load
    from schema import connection as connections

    settings = load(resolved(home))
    connection = await connections.connect(settings.database_url, application_name="bench")
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench_rows (id uuid PRIMARY KEY, body jsonb)")
        sql = "INSERT INTO bench_rows VALUES (gen_random_uuid(), $1)"
        yield lambda: connection.execute(sql, {"command": "true", "cwd": "/home/user"})
        await connection.execute("DROP TABLE bench_rows")
    finally:
        await connections.close(connection)


def resolved(home: Path) -> dict[str, str]:
    """The environment the gateway of `home` was started with: it holds the resolved addresses."""
    pid = int(json.loads((home / "run" / "gateway.json").read_text())["pid"])
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


@contextlib.contextmanager
def docker_exec() -> Iterator[Work | None]:
    """`docker exec` of `true` in a container of the base image; None where no daemon answers."""
    image = os.environ.get("TPP_IMAGE_BASE", "tpp-base")
    if (
        not shutil.which("docker")
        or subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode
    ):
        yield None
        return
    run = ["docker", "run", "-d", "--rm", "--network", "none", image, "sleep", "600"]
    name = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield lambda: subprocess.run(["docker", "exec", name, "true"], check=True)
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=True)


async def main(n: int) -> None:
    with booted() as home, docker_exec() as docker:
        async with client(home) as api, bare_route() as route, committed_insert(home) as insert:
            sandbox = await api.wait_for_sandbox((await api.create_sandbox())["id"], timeout_s=900)
            await asyncio.sleep(SETTLE_S)
            works = {
                f"`true` over REST ({sandbox['isolation']})": lambda: api.run_command(
                    sandbox["id"], argv=["true"], wait_ms=5000
                ),
                "`sh -c true` over REST": lambda: api.run_command(sandbox["id"], "true", wait_ms=5000),
                "a bare FastAPI route": route,
                "one committed insert": insert,
                "fork/exec of /bin/true": spawn_true,
            }
            if docker:
                works["docker exec true"] = docker
            mixed = await in_turns(works, n, {"docker exec true": 20})
            works.pop("docker exec true", None)
            alone = await in_turns(works, n, block=max(1, n // 10))
            await api.delete_sandbox(sandbox["id"])
    report("A command over REST, and its parts, one of each in turn", mixed, bool(docker))
    report("The same in blocks: each has the caches to itself", alone, False)


def report(title: str, rows: list[dict], docker: bool) -> None:
    parts = sum(one["p50_ms"] for one in rows[2:5])
    table(title, rows)
    print(f"\nover REST / sum of the parts (p50): {rows[0]['p50_ms'] / parts:.2f}  (target ≤ 2)")
    if docker:
        print(f"docker exec / over REST (p50): {rows[5]['p50_ms'] / rows[0]['p50_ms']:.1f}  (target ≥ 10)")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
