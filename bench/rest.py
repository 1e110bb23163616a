"""A command over REST beside its parts: a bare FastAPI route, one committed insert, fork/exec.

    python -m bench.rest [N]

The claim: `true` over REST costs at most twice the sum of the three, and is ten times faster than
`docker exec`. All rows are measured in this run, on this machine, interleaved in time.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from bench.home import booted, client
from bench.measure import row, table, timed

BARE = """
import sys, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
app = FastAPI()
class Body(BaseModel):
    command: str
    wait_ms: int
@app.post("/")
async def route(body: Body): return {"status": "completed", "exit_code": 0, "stdout": "", "stderr": ""}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn_true() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


async def bare_route(n: int) -> list[float]:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            for _ in range(200):
                try:
                    await http.post("/", json={"command": "true", "wait_ms": 5000})
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
            return await timed(lambda: http.post("/", json={"command": "true", "wait_ms": 5000}), n)
    finally:
        server.terminate()
        server.wait()


async def committed_insert(home: Path, n: int) -> list[float]:
    """One row of the size of a command's, committed, over one open connection to the same Postgres."""
    from runtime.settings import load
    from schema import Database

    settings = load(resolved(home))
    database = await Database.connect(settings.database_url, max_size=1, application_name="bench")
    try:
        async with database.acquire() as connection:
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS bench_rows (id uuid PRIMARY KEY, body jsonb)"
            )
            sql = "INSERT INTO bench_rows VALUES (gen_random_uuid(), $1)"
            taken = await timed(lambda: connection.execute(sql, {"command": "true", "cwd": "/home/user"}), n)
            await connection.execute("DROP TABLE bench_rows")
        return taken
    finally:
        await database.close()


def resolved(home: Path) -> dict[str, str]:
    """The environment the gateway of `home` was started with: it holds the resolved addresses."""
    pid = int(json.loads((home / "run" / "gateway.json").read_text())["pid"])
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


async def docker_exec(n: int) -> list[float] | None:
    """`docker exec` of `true` in a container of the base image; None where no daemon answers."""
    image = os.environ.get("TPP_IMAGE_BASE", "tpp-base")
    if (
        not shutil.which("docker")
        or subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode
    ):
        return None
    run = ["docker", "run", "-d", "--rm", "--network", "none", image, "sleep", "600"]
    name = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    try:
        return await timed(lambda: subprocess.run(["docker", "exec", name, "true"], check=True), n, warm=2)
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=True)


async def main(n: int) -> None:
    with booted() as home:
        async with client(home) as api:
            sandbox = await api.wait_for_sandbox((await api.create_sandbox())["id"], timeout_s=900)
            over_rest = await timed(lambda: api.run_command(sandbox["id"], argv=["true"], wait_ms=5000), n)
            shell = await timed(lambda: api.run_command(sandbox["id"], "true", wait_ms=5000), n)
            insert = await committed_insert(home, n)
            route = await bare_route(n)
            fork = await timed(spawn_true, n)
            await api.delete_sandbox(sandbox["id"])
        docker = await docker_exec(max(10, n // 20))
    rows = [
        row(f"`true` over REST ({sandbox['isolation']})", over_rest),
        row("`sh -c true` over REST", shell),
        row("a bare FastAPI route", route),
        row("one committed insert", insert),
        row("fork/exec of /bin/true", fork),
    ]
    parts = sum(one["p50_ms"] for one in rows[2:5])
    if docker:
        rows.append(row("docker exec true", docker))
    table("A command over REST, and its parts", rows)
    print(f"\nover REST / sum of the parts (p50): {rows[0]['p50_ms'] / parts:.2f}  (target ≤ 2)")
    if docker:
        print(f"docker exec / over REST (p50): {rows[-1]['p50_ms'] / rows[0]['p50_ms']:.1f}  (target ≥ 10)")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
