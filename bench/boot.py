"""Boot time and the first event: cold home, second boot, and a warm conversation.

python -m bench.boot [N]
"""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from bench.home import client, tpp
from bench.measure import row, table

EXAMPLE = Path(__file__).parents[1] / "examples" / "demo-repo"


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(EXAMPLE, arcname=".", filter=lambda info: None if "__pycache__" in info.name else info)
    return buffer.getvalue()


def once(home: Path, verb: str) -> float:
    start = time.perf_counter()
    tpp(home, verb)
    return time.perf_counter() - start


async def first_event(home: Path) -> tuple[float, float]:
    """Seconds from "start a sandbox" to the first agent's first event; and from the message alone."""
    async with client(home) as api:
        start = time.perf_counter()
        sandbox = await api.wait_for_sandbox((await api.create_sandbox())["id"], timeout_s=900)
        await api.upload_archive(sandbox["id"], "/home/user/demo", archive())
        conversation = await api.create_conversation(sandbox["id"], "/home/user/demo", model="scripted:demo")
        sent = time.perf_counter()
        await api.post_message(
            conversation["id"], "Make the failing test pass; find out why words that tie are out of order."
        )
        async for event in api.events(conversation["id"]):
            if event["type"] == "model.started":
                break
        seen = time.perf_counter()
        async for event in api.events(conversation["id"]):
            if event["type"] == "turn.finished":
                break
        await api.delete_sandbox(sandbox["id"])
    return seen - start, seen - sent


async def main(n: int) -> None:
    cold, warm, down, whole, message = [], [], [], [], []
    for _ in range(max(1, n // 5)):
        folder = Path(tempfile.mkdtemp(prefix="tpp-bench-"))
        home = folder / "home"
        cold.append(once(home, "up"))
        down.append(once(home, "down"))
        warm.append(once(home, "up"))
        for _ in range(n):
            from_start, from_message = await first_event(home)
            whole.append(from_start)
            message.append(from_message)
        down.append(once(home, "down"))
        shutil.rmtree(folder, ignore_errors=True)
    table(
        "Boot and first event",
        [
            row("up, new home", cold),
            row("up, second time", warm),
            row("down", down),
            row("sandbox + copy + message → first agent's first event", whole),
            row("message → first agent's first event", message),
        ],
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
