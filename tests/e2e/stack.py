"""A whole Terminal++ for tests: its own home, started and stopped through the verbs a person types."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminalpp.client import Client
from tests.eventually import eventually
from tests.payloads import check_event

ROOT = Path(__file__).parents[2]

# Asks Ray, not us: its list of named actors, then each of them.
ASK_RAY = """
import json, sys, ray
from ray._private import ray_constants
ray_constants.ENABLE_RAY_CLUSTER = False  # else Ray takes the machine's outward address for 127.0.0.1
ray.init(address=sys.argv[1], namespace="terminalpp", log_to_driver=False, logging_level="ERROR")
names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
cells = []
for name in names:
    if name.startswith("cell/"):
        try:
            cell = ray.get_actor(name, namespace="terminalpp")
            told = json.loads(ray.get(cell.describe.remote(), timeout=20))
        except (ValueError, ray.exceptions.RayActorError):
            continue  # a spare that was ended since it was listed
        refs = [entity["kind"] + "/" + entity["id"] for entity in told["entities"]]
        cells.append({"name": name, "pid": told["pid"], "entities": refs})
print(json.dumps(cells))
"""


@dataclass
class Stack:
    """One home. `environment` is what the server sees besides a bare PATH and HOME."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TPP_IMAGE_BASE", "LANG") if name in os.environ}
        return kept | {"HOME": str(self.home.parent), "TPP_HOME": str(self.home)} | self.environment

    def tpp(
        self, *arguments: str, cwd: Path | None = None, timeout_s: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a CLI verb as a person would, without the launcher's install step."""
        return subprocess.run(
            [sys.executable, "-m", "terminalpp.cli.main", *arguments],
            cwd=cwd or self.home.parent,
            env=self.environ() | environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self) -> None:
        done = self.tpp("up")
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        done = self.tpp("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        return json.loads((self.home / "run" / "state.json").read_text())

    def client(self, **options: Any) -> Client:
        token = (self.home / "secrets" / "owner.token").read_text().strip()
        return Client(self.state()["url"], token, **options)

    def processes(self, *marks: str) -> list[int]:
        """Pids of this home's processes whose command line holds every mark."""
        return find_processes(str(self.home), *marks)

    def cells(self) -> list[dict[str, Any]]:
        """Every cell as Ray itself knows it: name, pid and the entities it hosts (`kind/id`)."""
        address = self.state()["services"]["ray"]["detail"]
        environ = self.environ() | {
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.home / "secrets" / "ray.token"),
        }
        done = subprocess.run(
            [sys.executable, "-c", ASK_RAY, address], env=environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def hosts_of(self, kind: str) -> list[int]:
        """Pids of the cells that host entities of `kind`."""
        return [c["pid"] for c in self.cells() if any(ref.startswith(f"{kind}/") for ref in c["entities"])]

    def kill(self, *pids: int) -> None:
        assert pids, "nothing to kill"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it ended since it was listed
                os.kill(pid, signal.SIGKILL)


def find_processes(home: str, *marks: str) -> list[int]:
    """Pids whose command line, TPP_HOME or working directory names `home`, and whose command line holds every
    mark. (Redis overwrites its environment with its title.)"""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            environment = (entry / "environ").read_bytes().decode("utf-8", "replace").split("\0")
            ours = home in line or f"TPP_HOME={home}" in environment
            if not line or not (ours or os.readlink(entry / "cwd").startswith(home)):
                continue
            if all(mark in line for mark in marks):
                found.append(int(entry.name))
    return found


async def collect(
    client: Client, conversation_id: str, *, until: str, after: int = 0, timeout_s: float = 180
) -> list:
    """The events behind `after` up to and with the first one of type `until`."""
    events = []

    async def read() -> None:
        async for event in client.events(conversation_id, after=after):
            check_event(event["type"], event["payload"])
            events.append(event)
            if event["type"] == until:
                return

    try:
        async with asyncio.timeout(timeout_s):
            await read()
    except TimeoutError:
        raise AssertionError(
            f"no {until} within {timeout_s} s; last: {[e['type'] for e in events[-12:]]}"
        ) from None
    return events


async def running_sandbox(client: Client, **options: Any) -> dict[str, Any]:
    row = await client.create_sandbox(**options)
    return await client.wait_for_sandbox(row["id"], timeout_s=600)


async def ready(client: Client, timeout_s: float = 60) -> None:
    async def probe() -> bool:
        with contextlib.suppress(Exception):
            return (await client.readyz())["ready"]
        return False

    await eventually(probe, timeout_s)
