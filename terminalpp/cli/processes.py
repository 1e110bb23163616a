"""`ps SANDBOX` and `kill`: what runs in a sandbox, and ending it."""

from __future__ import annotations

import json
from typing import Any

from terminalpp.cli.exits import Exit
from terminalpp.cli.inspect import age, table
from terminalpp.cli.screen import Screen
from terminalpp.cli.session import connected
from terminalpp.client import Client
from terminalpp.types.errors import InvalidInput, NotFound


async def ps(prefix: str, screen: Screen, *, as_json: bool) -> Exit:
    """The processes of one sandbox."""
    async with connected() as client:
        found = await client.processes(await _sandbox(client, prefix))
    if as_json:
        screen.line(json.dumps(found, indent=2))
        return Exit.OK
    table(screen, ["PID", "COMMAND", "STATE", "CPU", "MEMORY", "AGE", "PROGRAM"], [
        [str(one["pid"]), (one["command_id"] or "")[:8], one["state"], f"{one['cpu_ms'] / 1000:.1f} s",
         f"{one['memory_bytes'] / 1024**2:.1f} MiB", age(one["started_at"]),
         " ".join(one["argv"]) or f"[{one['name']}]"] for one in found])
    return Exit.OK


async def kill(prefix: str, command: str | None, screen: Screen, *, as_json: bool) -> Exit:
    """End all of them, or those of one command."""
    async with connected() as client:
        sandbox = await _sandbox(client, prefix)
        if command is None:
            killed = await client.kill_processes(sandbox)
        else:
            ids = [one["command_id"] or "" for one in await client.processes(sandbox)]
            id = _one(command, set(ids), f"`./tpp ps {prefix}` lists what runs.")
            killed = ids.count(id)
            await client.signal(sandbox, id, "KILL", tree=True)
    screen.line(json.dumps({"killed": killed}) if as_json else f"{killed} processes ended")
    return Exit.OK


async def _sandbox(client: Client, prefix: str) -> str:
    if len(prefix) == 36:
        return prefix
    rows: list[Any] = await client.sandboxes(1000)
    return _one(prefix, {str(row["id"]) for row in rows}, "`./tpp ps --all` lists them.")


def _one(prefix: str, ids: set[str], hint: str) -> str:
    """The id that begins with `prefix`. Raises NotFound, InvalidInput."""
    found = [id for id in ids if prefix and id.startswith(prefix.lower())]
    if not found:
        raise NotFound(f"nothing has an id that begins with {prefix!r}", hint)
    if len(found) > 1:
        raise InvalidInput(f"{prefix} is the beginning of {len(found)} ids", "Give more of it.")
    return found[0]
