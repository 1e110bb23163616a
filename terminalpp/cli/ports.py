"""`tpp ports`: which ports a sandbox has, links that share one, and a local port that is one of them."""

from __future__ import annotations

import json as jsons
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from terminalpp.cli.verb import Json, finish, told

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen
    from terminalpp.client import Client

WATCH_MS = 30_000
_TIME = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _LsByDefault(TyperGroup):
    """`ports SANDBOX` is `ports ls SANDBOX`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See Click."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["ls", *args]
        return super().parse_args(ctx, args)


ports = typer.Typer(
    name="ports", cls=_LsByDefault, no_args_is_help=True, rich_markup_mode=None,
    help="Ports of a sandbox: list them (`ports SANDBOX`), share one, forward one to this machine.",
)
Sandbox = Annotated[str, typer.Argument(metavar="SANDBOX", help="The beginning of a sandbox's id.")]


@ports.command("ls")
def ls(
    sandbox: Sandbox,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show each change.")] = False,
    json: Json = False,
) -> None:
    """List the ports that are listened on, those declared, and the links that share one.

    `ls` may be left out.

    \b
    Examples:
      ./tpp ports ls 7d0c4d57
      ./tpp ports 7d0c4d57 --watch
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.exits import Exit
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        async with connected() as client:
            id = await _sandbox(client, sandbox)
            found = await client.ports(id)
            _show(screen, found, await client.port_shares(id), json)
            while watch:
                change, found = found["change"], await client.ports(
                    id, change=found["change"], wait_ms=WATCH_MS)
                if found["change"] != change:
                    _show(screen, found, await client.port_shares(id), json)
        return Exit.OK

    finish(work, json)


def _show(screen: Screen, found: Any, shares: list[Any], as_json: bool) -> None:
    from terminalpp.cli.inspect import table

    if as_json:
        screen.line(jsons.dumps({**found, "shares": shares}))
        return
    if not found["running"]:
        screen.line("The sandbox does not run; a request of yours to one of its ports starts it.")
    if found["items"]:
        table(screen, ["PORT", "NAME", "STATE", "PID", "PROGRAM", "URL"], [
            [str(one["port"]), one["name"] or "", _state(one), str(one["pid"] or ""),
             " ".join(one["argv"])[:40], one["url"]] for one in found["items"]])
    elif found["running"]:
        screen.line("Nothing listens in it.")
    alive = [one for one in shares if not one["expired"]]
    if alive:
        screen.line("")
        table(screen, ["SHARE", "PORT", "UNTIL", "NAME"], [
            [one["id"][:8], str(one["port"]), one["expires_at"][:16].replace("T", " ") + " UTC", one["name"]]
            for one in alive])
    elif found["items"]:
        screen.line("A browser needs a link: `./tpp ports share`.")


def _state(one: Any) -> str:
    if not one["listening"]:
        return "nobody listens"
    return "listens" if one["reachable"] else "only on " + ", ".join(one["addresses"])


@ports.command("share")
def share(
    sandbox: Sandbox,
    port: Annotated[int, typer.Argument(min=1, max=65535)],
    time: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90s, 15m, 1h, 7d.")] = "1h",
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="For whom or what.")] = None,
    json: Json = False,
) -> None:
    """Print a link that opens one port to whoever has it, until it expires.

    It starts no sandbox, and opens nothing else. `ports unshare` ends it at once.

    \b
    Examples:
      ./tpp ports share 7d0c4d57 8000
      ./tpp ports share 7d0c4d57 8000 --for 7d --name "for Anna"
    """
    found = _TIME.fullmatch(time)
    if found is None:
        raise typer.BadParameter(f"{time!r} is no time, such as 15m or 1h", param_hint="--for")
    seconds = int(found[1]) * _SECONDS[found[2]]

    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        async with connected() as client:
            id = await _sandbox(client, sandbox)
            made = await client.share_port(id, port, expires_in_seconds=seconds, name=name)
        return told(screen, json, made, made["url"])

    finish(work, json)


@ports.command("unshare")
def unshare(
    sandbox: Sandbox,
    share: Annotated[str, typer.Argument(metavar="SHARE", help="The beginning of a share's id.")],
    json: Json = False,
) -> None:
    """End a link, and what is open by it.

    \b
    Example:
      ./tpp ports unshare 7d0c4d57 5b1e9a00
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.id_prefix import chosen
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        async with connected() as client:
            id = await _sandbox(client, sandbox)
            rows = await client.port_shares(id)
            row = chosen(rows, share, "a share", f"`./tpp ports {sandbox}` lists them.")
            await client.unshare_port(id, row["id"])
        return told(screen, json, {"deleted": row["id"]}, f"port {row['port']} is not shared by it any more")

    finish(work, json)


@ports.command("forward")
def forward(
    sandbox: Sandbox,
    mapping: Annotated[list[str], typer.Argument(
        metavar="PORT[:LOCAL]...", help="A port inside, and the local one. Default: the same; 0: any.")],
    json: Json = False,
) -> None:
    """Make ports of the sandbox ports of this machine, on 127.0.0.1, until Ctrl-C. Any protocol.

    \b
    Examples:
      ./tpp ports forward 7d0c4d57 5432
      ./tpp ports forward 7d0c4d57 8000:3000 5432:0
    """
    pairs = [_pair(text) for text in mapping]

    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        async with connected() as client:
            await _forward(client, await _sandbox(client, sandbox), pairs, screen, json)
        raise AssertionError("unreachable")

    finish(work, json)


def _pair(text: str) -> tuple[int, int]:
    inside, colon, local = text.partition(":")
    given = (inside, local if colon else inside)
    if not all(part.isascii() and part.isdigit() and int(part) <= 65535 for part in given) or not int(inside):
        raise typer.BadParameter(f"{text!r} is no port, such as 8000 or 8000:3000", param_hint="PORT[:LOCAL]")
    return int(inside), int(given[1])


async def _forward(
    client: Client, id: str, pairs: list[tuple[int, int]], screen: Screen, as_json: bool
) -> None:
    import asyncio
    import sys
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        for port, local in pairs:
            one = client.forward_port(id, port, local, told=lambda error: print(
                f"{error.detail}: {error.next_step}", file=sys.stderr, flush=True))
            await stack.enter_async_context(one)
            row = {"port": port, "local_port": one.port}
            told(screen, as_json, row, f"127.0.0.1:{one.port} is port {port} of {id[:8]}; Ctrl-C ends it")
            sys.stdout.flush()
        await asyncio.Event().wait()
