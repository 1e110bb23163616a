"""The verbs that look: `ps`, `logs`, `status`, `doctor`, `db`, `version`.

They change nothing, save for `db migrate`; each prints plain lines, or one JSON value with --json.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from terminalpp import __version__
from terminalpp.cli import home, server
from terminalpp.cli.exits import Exit
from terminalpp.cli.sanitize import clean
from terminalpp.cli.screen import Screen
from terminalpp.cli.session import connected, resolve
from terminalpp.cli.watch import Watch, interruptible
from terminalpp.types.errors import TerminalError, Unavailable, from_json


async def ps(screen: Screen, *, as_json: bool, everything: bool) -> Exit:
    """Conversations, their agents, and sandboxes."""
    async with connected() as client:
        conversations = await client.conversations(1000 if everything else 20)
        sandboxes = await client.sandboxes()
        agents = await client.agents()
    if as_json:
        value = {"conversations": conversations, "sandboxes": sandboxes, "agents": agents}
        screen.line(json.dumps(value, indent=2))
        return Exit.OK
    active = [row for row in sandboxes if row["status"] != "stopped" or row.get("quarantined") is not None]
    shown = sandboxes if everything else active[:20]
    table(screen, ["CONVERSATION", "SANDBOX", "STATE", "MODE", "MODEL", "AGE", "TOKENS", "TITLE"], [
        [row["id"][:8], row["sandbox_id"][:8], state(row), row["mode"], row["model"] or "",
         age(row["created_at"]),
         f"{row['total_tokens']:,}", row["title"] or ""] for row in conversations])
    screen.line()
    table(screen, ["SANDBOX", "NAME", "STATE", "ISOLATION", "NETWORK", "AGE", "DETAIL"], [
        [row["id"][:8], row["name"], state(row), row["isolation"] or "", row["network"] or "",
         age(row["created_at"]), row.get("quarantined") or row["status_detail"] or ""] for row in shown])
    screen.line()
    current = {row["id"] for row in conversations}
    wanted: list[dict[str, Any]] = [dict(row) for row in agents if row["conversation_id"] in current]
    table(screen, ["AGENT", "CONVERSATION", "ROLE", "STATE"], [
        [row["id"][:8], row["conversation_id"][:8], str(row.get("type") or row.get("role")), row["status"]]
        for row in (wanted if everything else wanted[:20])])
    return Exit.OK


async def logs(prefix: str, screen: Screen, *, follow: bool, as_json: bool) -> Exit:
    """A conversation from its first event."""
    async with connected() as client:
        watch = Watch(client, await resolve(client, prefix), screen, as_json=as_json, live=follow)
        task = asyncio.create_task(watch.replay(follow=follow))
        with interruptible(task.cancel, task.cancel):
            try:
                await task
            except asyncio.CancelledError:
                if not task.cancelled():
                    raise
                return Exit.CANCELLED
    return Exit.OK


def status(screen: Screen, *, as_json: bool, memory: bool) -> Exit:
    """What runs, from the supervisor's own record."""
    found = _single("status", *(["--memory"] if memory else []))
    if found.get("running"):
        found["quarantined"] = asyncio.run(_aside())
    if as_json:
        screen.line(json.dumps(found, indent=2))
    else:
        state = str(found.get("state"))
        colour = "green" if state in ("ready", "running") else "yellow"
        screen.line(f"Terminal++ {screen.paint(state, colour)}  {found.get('url') or ''}  home {home.path()}")
        rows = []
        for name, unit in (found.get("services") or {}).items():
            size = f"{unit['memory_bytes'] // 1024**2} MiB" if unit.get("memory_bytes") else ""
            rows.append([name, str(unit.get("state")), str(unit.get("pid") or ""),
                         str(unit.get("restarts", 0)), size, str(unit.get("detail") or "")])
        if rows:
            table(screen, ["SERVICE", "STATE", "PROCESS", "RESTARTS", "MEMORY", "DETAIL"], rows)
        if room := found.get("disk"):
            colour = "red" if room["low"] else "yellow" if room["warning"] else "dim"
            screen.line(screen.paint(f"disk: {room['detail']}", colour))
            parts = sorted(room["parts"].items(), key=lambda part: -part[1])
            told = ", ".join(f"{name} {size // 1024**2} MiB" for name, size in parts if size >= 1024**2)
            screen.line(f"home: {told}" + ("" if room["whole"] else " (not all could be counted in time)"))
        if found.get("quarantined"):
            screen.line(f"{found['quarantined']} in quarantine: ./tpp quarantine ls", "yellow")
        if not found.get("running"):
            screen.line("Start it: ./tpp up")
    return Exit.OK if found.get("running") else Exit.NOT_GREEN


async def _aside() -> int | None:
    """How many entities are in quarantine; None when the server does not say so within seconds."""
    try:
        async with connected(patience_s=0.0, timeout_s=3.0) as client:
            return len(await client.quarantine())
    except TerminalError:
        return None


def doctor(screen: Screen, *, as_json: bool) -> Exit:
    """Every fact of this machine, green or red with the fix."""
    red = 0
    for fact in server.lines("doctor"):
        if "exit" in fact:
            red = int(fact["exit"])
            if red > 1:
                raise Unavailable(f"doctor failed: {fact['stderr'].strip()[-500:]}")
        elif as_json:
            screen.line(json.dumps(fact))
        elif "name" in fact:
            ok = fact.get("ok")
            mark = screen.paint("✓", "green") if ok else screen.paint("✗", "red") if ok is False else "·"
            screen.line(f"{mark} {fact['name']}: {clean(str(fact.get('detail')), one_line=True)}")
            if ok is False and fact.get("fix"):
                screen.line(f"    → {clean(str(fact['fix']), one_line=True)}")
        elif fact.get("detail"):
            screen.line(f"{fact.get('step')}: {fact['detail']}", "red")
    return Exit.NOT_GREEN if red else Exit.OK


def db(action: str, screen: Screen, *, as_json: bool) -> Exit:
    """The database's migrations. Status 1 when `verify` finds a difference."""
    found: dict[str, Any] = {}
    for line in server.lines("db", action):
        if "exit" in line:
            if not found:
                raise Unavailable(f"db {action} failed: {line['stderr'].strip()[-500:]}")
        elif line.get("error"):
            raise from_json(line["error"])
        else:
            found = line
    items = found.get("items") or []
    if as_json:
        screen.line(json.dumps({"action": action, "detail": found.get("detail"), "items": items}))
    else:
        screen.line(f"db {action}: {clean(str(found.get('detail')), one_line=True)}")
        for item in items:
            screen.line("  " + (_fields(item) if isinstance(item, dict) else clean(str(item), one_line=True)))
    return Exit.NOT_GREEN if found.get("state") == "failed" else Exit.OK


async def version(screen: Screen, *, as_json: bool) -> Exit:
    """The client's version, and the server's when it runs."""
    running = None
    try:
        async with connected() as client:
            running = await client.version()
    except TerminalError:
        running = None  # not up: the client's own version is still an answer
    python = ".".join(str(part) for part in sys.version_info[:3])
    if as_json:
        screen.line(json.dumps({"version": __version__, "python": python, "server": running}))
    else:
        words = f"server {running.get('version')}" if running else "server not running"
        screen.line(f"Terminal++ {__version__} (Python {python}, {words})")
    return Exit.OK


def table(screen: Screen, head: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their content; the last takes the rest."""
    cells = [[clean(str(cell), one_line=True) for cell in row] for row in rows]
    widths = [min(40, max(len(row[column]) for row in [head, *cells])) for column in range(len(head))]
    for index, row in enumerate([head, *cells]):
        parts = [cell[: widths[place]].ljust(widths[place]) for place, cell in enumerate(row[:-1])]
        text = "  ".join([*parts, row[-1][:80]]).rstrip()
        screen.line(text, *(("bold",) if index == 0 else ()))


def listing(
    screen: Screen, as_json: bool, rows: Sequence[Any], head: list[str], cells: Callable[[Any], list[str]],
    none: str,
) -> Exit:
    """A table, the words `none`, or with --json one object a line."""
    if as_json:
        for row in rows:
            screen.line(json.dumps(row))
    elif rows:
        table(screen, head, [cells(row) for row in rows])
    else:
        screen.line(none)
    return Exit.OK


def state(row: Any) -> str:
    """The record's state; that it was put aside comes first."""
    return row["status"] if row.get("quarantined") is None else f"quarantined ({row['status']})"


def age(stamp: str | None) -> str:
    """How long ago, for people."""
    if not stamp:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def _fields(item: dict[str, Any]) -> str:
    return clean("  ".join(f"{name}={value}" for name, value in item.items()), one_line=True)


def _single(*arguments: str) -> dict[str, Any]:
    """The one object a runtime verb prints. Raises TerminalError when it failed."""
    found: dict[str, Any] = {}
    for line in server.lines(*arguments):
        if "exit" in line:
            if not found:
                raise Unavailable(f"`{arguments[0]}` failed: {line['stderr'].strip()[-500:]}")
        elif line.get("state") == "failed" and line.get("error"):
            raise from_json(line["error"])
        else:
            found = line
    return found
