"""`ps SANDBOX` and `kill`: what runs in a sandbox, and ending it."""

from __future__ import annotations

import json

from terminalpp.cli.exits import Exit
from terminalpp.cli.id_prefix import chosen
from terminalpp.cli.inspect import age, table
from terminalpp.cli.screen import Screen
from terminalpp.cli.session import connected
from terminalpp.client import Client


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
            rows = [{"id": id} for id in set(ids)]
            id = chosen(rows, command, "a command that runs", f"`./tpp ps {prefix}` lists what runs.")["id"]
            killed = ids.count(id)
            await client.signal(sandbox, id, "KILL", tree=True)
    screen.line(json.dumps({"killed": killed}) if as_json else f"{killed} processes ended")
    return Exit.OK


async def _sandbox(client: Client, prefix: str) -> str:
    if len(prefix) == 36:
        return prefix
    return chosen(await client.sandboxes(1000), prefix, "a sandbox", "`./tpp sandbox ls` lists them.")["id"]
