"""`tpp sandbox network`: what a sandbox may reach, and what it was refused.

Without an option it prints both. `--allow` and `--allow-private` add to the list, `--remove` takes away; a
sandbox that has none becomes one with an allowlist by the first `--allow`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.verb import Json, finish, one_of

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen
    from terminalpp.client.networks import SandboxNetwork

NETWORKS = ("none", "allowlist", "open")
Allow = Annotated[list[str] | None, typer.Option(
    "--allow", metavar="HOST", help="HOST[:PORT], *.HOST, or pypi, npm, debian, github. Repeatable.")]
AllowPrivate = Annotated[list[str] | None, typer.Option(
    "--allow-private", metavar="HOST", help="A HOST[:PORT] that may have a private address. Repeatable.")]
NetworkOption = Annotated[str | None, typer.Option(
    "--network", metavar="none|allowlist|open",
    help="The sandbox's network. Default: none; with --allow: allowlist.")]


def network(
    id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    wanted: Annotated[str | None, typer.Argument(
        metavar="[none|allowlist|open]",
        help="Another network; to and from open while it is stopped.")] = None,
    allow: Allow = None,
    allow_private: AllowPrivate = None,
    remove: Annotated[list[str] | None, typer.Option(
        "--remove", metavar="HOST", help="Take an entry away again. Repeatable.")] = None,
    json: Json = False,
) -> None:
    """Print what a sandbox may reach and what it was refused, or change it while it runs.

    \b
    Examples:
      ./tpp sandbox network 7d0c4d57
      ./tpp sandbox network 7d0c4d57 --allow pypi --allow api.example.com:443
      ./tpp sandbox network 7d0c4d57 none
    """
    one_of(wanted, "network", *NETWORKS)

    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        async with connected() as client:
            sandbox = await _sandbox(client, id)
            now = await client.network(sandbox)
            given = _changed(now, allow or [], allow_private or [], remove or [])
            if wanted is not None or given:
                now = await client.set_network(sandbox, wanted, **given)
        return _told(screen, now, json)

    finish(work, json)


def _changed(now: SandboxNetwork, allow: list[str], private: list[str], remove: list[str]) -> dict[str, Any]:
    """The lists that are sent: as they are, and what is added, without what is taken away. Raises
    InvalidInput for an entry that is not there."""
    from terminalpp.types.errors import InvalidInput

    lists = {"allow": [*now["allow"], *allow], "allow_private": [*now["allow_private"], *private]}
    for entry in remove:
        if not any(entry in entries for entries in lists.values()):
            raise InvalidInput(f"--remove {entry}: it is not in the list",
                               f"In it are: {', '.join([*now['allow'], *now['allow_private']]) or 'none'}.")
    changed = {name: [entry for entry in entries if entry not in remove] for name, entries in lists.items()}
    return {name: entries for name, entries in changed.items() if entries != now[name]}  # type: ignore[literal-required]


def _told(screen: Screen, now: SandboxNetwork, as_json: bool) -> Exit:
    import json

    from terminalpp.cli.exits import Exit
    from terminalpp.cli.sanitize import clean

    if as_json:
        screen.line(json.dumps(now))
        return Exit.OK
    lines = [f"network {now['network']}"]
    if now["network"] == "allowlist":
        lines += [f"allow {entry}" for entry in now["allow"]]
        lines += [f"allow private {entry}" for entry in now["allow_private"]]
        if not now["allow"] and not now["allow_private"]:
            known = ", ".join(now["presets"])
            lines.append(f"allow nothing yet; --allow HOST, or a preset: {known}")
    for line in lines:
        screen.line(clean(line, one_line=True))
    if now["note"]:
        screen.line(clean(f"note: {now['note']}", one_line=True), "yellow")
    for one in now["refusals"]:
        times = f" ({one['count']} times)" if one["count"] > 1 else ""
        screen.line(clean(f"refused {one['last_at']} {one['detail']}{times}", one_line=True), "yellow")
    return Exit.OK
