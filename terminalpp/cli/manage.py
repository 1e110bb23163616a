"""`tpp conversation` and `tpp sandbox`: list, rename, archive, start, stop, restart, pause, delete.

What cannot be undone is asked for: on a terminal the question says what goes; elsewhere `--yes` says yes.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.network import NETWORKS, Allow, AllowPrivate, NetworkOption, network
from terminalpp.cli.verb import Json, finish, told

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen
    from terminalpp.client import Client

conversation = typer.Typer(
    name="conversation", no_args_is_help=True, rich_markup_mode=None,
    help="Conversations: list, rename, archive, restore, delete them.",
)
sandbox = typer.Typer(
    name="sandbox", no_args_is_help=True, rich_markup_mode=None,
    help="Sandboxes: make, list, show, start, stop, restart, pause, delete them; what was run in one.",
)
sandbox.command("network")(network)
Id = Annotated[str, typer.Argument(help="Its id, or the beginning of it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LIMIT = 1000


# ---- conversations --------------------------------------------------------------------------------------


@conversation.command("ls")
def conversation_ls(
    all: Annotated[bool, typer.Option("--all", "-a", help="Archived ones too.")] = False, json: Json = False
) -> None:
    """List conversations, the newest first.

    \b
    Example:
      ./tpp conversation ls --all
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing, state

        async with _client() as client:
            rows = await client.conversations(LIMIT, status="all" if all else None)
        head = ["CONVERSATION", "SANDBOX", "STATE", "AGE", "TOKENS", "TITLE"]
        return listing(screen, json, rows, head, lambda row: [
            row["id"][:8], row["sandbox_id"][:8], state(row), age(row["created_at"]),
            f"{row['total_tokens']:,}", row["title"] or ""], "There are no conversations.")

    finish(work, json)


@conversation.command("rename")
def conversation_rename(
    id: Id, title: Annotated[str, typer.Argument(help="The new title.")], json: Json = False
) -> None:
    """Give a conversation another title.

    \b
    Example:
      ./tpp conversation rename 3f2a91c0 "the cart's rounding"
    """
    _change("renamed", id, json, title=title)


@conversation.command("archive")
def conversation_archive(id: Id, json: Json = False) -> None:
    """Take a conversation out of the lists; all of it is kept.

    \b
    Example:
      ./tpp conversation archive 3f2a91c0
    """
    _change("archived", id, json, archived=True)


@conversation.command("restore")
def conversation_restore(id: Id, json: Json = False) -> None:
    """Bring an archived conversation back into the lists.

    \b
    Example:
      ./tpp conversation restore 3f2a91c0
    """
    _change("restored", id, json, archived=False)


@conversation.command("rm")
def conversation_rm(id: Id, yes: Yes = False, json: Json = False) -> None:
    """Delete a conversation with its messages and events; its sandbox and the files stay.

    \b
    Example:
      ./tpp conversation rm 3f2a91c0
    """
    async def find(client: Client) -> tuple[str, str]:
        row = await _conversation(client, id)
        return row["id"], f"the conversation {row['id'][:8]} ({row['title'] or 'no title'}) with its history"

    _delete(find, lambda client, id: client.delete_conversation(id), yes, json)


# ---- sandboxes ------------------------------------------------------------------------------------------


@sandbox.command("ls")
def sandbox_ls(json: Json = False) -> None:
    """List sandboxes, the newest first.

    \b
    Example:
      ./tpp sandbox ls
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing, state

        async with _client() as client:
            rows = await client.sandboxes(LIMIT)
        head = ["SANDBOX", "NAME", "STATE", "ISOLATION", "NETWORK", "AGE", "DETAIL"]
        return listing(screen, json, rows, head, lambda row: [
            row["id"][:8], row["name"], state(row), row["isolation"] or "", row["network"] or "",
            age(row["created_at"]), row.get("quarantined") or row["status_detail"] or ""],
            "There are no sandboxes.")

    finish(work, json)


@sandbox.command("create")
def sandbox_create(
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="What it is called in lists.")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="I", help="Another image (Docker).")] = None,
    network: NetworkOption = None,
    allow: Allow = None,
    allow_private: AllowPrivate = None,
    cpu: Annotated[
        str | None, typer.Option("--cpu", metavar="C", help="CPUs, such as 1, 0.5 or 500m.")
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="M", help="Such as 512MB or 2GB.")] = None,
    sleep: Annotated[
        int | None,
        typer.Option(
            "--auto-sleep", metavar="MIN", min=0, help="Sleep after so many idle minutes; 0: never."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a sandbox and start it; prints its id.

    \b
    Examples:
      ./tpp sandbox create --name scratch
      ./tpp sandbox create --allow pypi --allow api.example.com:8443
      ./tpp sh $(./tpp sandbox create)
    """
    from terminalpp.cli.verb import one_of

    one_of(network, "--network", *NETWORKS)

    async def work(screen: Screen) -> Exit:
        limits = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value is not None}
        async with _client() as client:
            row = await client.create_sandbox(
                name=name, image=image, network=network, allow=allow, allow_private=allow_private,
                resource_limits=limits or None, auto_sleep_after_minutes=sleep, wait=True)
            if row["status"] != "running":
                row = await client.wait_for_sandbox(
                    row["id"], progress=lambda words: sys.stderr.write(f"{words}\n"))
        return told(screen, json, row, row["id"])

    finish(work, json)


@sandbox.command("show")
def sandbox_show(id: Id, json: Json = False) -> None:
    """Print a sandbox's record: state, limits and by which means they hold, image, isolation, sleep.

    \b
    Example:
      ./tpp sandbox show 7d0c4d57
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.exits import Exit
        from terminalpp.cli.sanitize import clean

        async with _client() as client:
            row = await client.sandbox((await _sandbox(client, id))["id"])
            refused = [] if json else (await client.network(row["id"]))["refusals"][:10]
        if json:
            return told(screen, True, row, "")
        for field, value in row.items():
            pairs = value.items() if isinstance(value, dict) else [("", value)]
            for part, one in pairs:
                if one is not None:
                    label = f"{field}.{part}" if part else field
                    screen.line(f"{label:<26} {clean(str(one), one_line=True)}")
        for one in refused:
            screen.line(f"{'network.refused':<26} {clean(one['detail'], one_line=True)}", "yellow")
        return Exit.OK

    finish(work, json)


@sandbox.command("logs")
def sandbox_logs(
    id: Id,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="The last N. Default: 50.")
    ] = 50,
    json: Json = False,
) -> None:
    """List what was run in a sandbox, the oldest first; `./tpp attach` prints what one printed.

    \b
    Example:
      ./tpp sandbox logs 7d0c4d57
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing

        async with _client() as client:
            rows = await client.commands((await _sandbox(client, id))["id"], limit)
        head = ["COMMAND", "AGE", "STATE", "EXIT", "TOOK", "OF", "LINE"]
        return listing(screen, json, rows[::-1], head, lambda row: [
            row["id"][:8], age(row["created_at"]), row["status"],
            "" if row["exit_code"] is None else str(row["exit_code"]),
            "" if row["duration_ms"] is None else f"{row['duration_ms'] / 1000:.1f} s", row["agent"] or "",
            " ".join(row["command"].split())[:100]], "Nothing was run in it.")

    finish(work, json)


@sandbox.command("start")
def sandbox_start(id: Id, json: Json = False) -> None:
    """Start a sandbox that was stopped or has failed.

    \b
    Example:
      ./tpp sandbox start 7d0c4d57
    """
    _turn("started", id, lambda client, id: client.start_sandbox(id), json)


@sandbox.command("stop")
def sandbox_stop(id: Id, json: Json = False) -> None:
    """End every process in a sandbox; its files stay, and the next command starts it again.

    \b
    Example:
      ./tpp sandbox stop 7d0c4d57
    """
    _turn("stopped", id, lambda client, id: client.stop_sandbox(id), json)


@sandbox.command("restart")
def sandbox_restart(id: Id, json: Json = False) -> None:
    """End every process in a sandbox and start it again; its files stay.

    \b
    Example:
      ./tpp sandbox restart 7d0c4d57
    """
    _turn("restarted", id, lambda client, id: client.restart_sandbox(id), json)


@sandbox.command("pause")
def sandbox_pause(id: Id, json: Json = False) -> None:
    """Freeze every process in a sandbox until it is resumed; new commands are refused meanwhile.

    \b
    Example:
      ./tpp sandbox pause 7d0c4d57
    """
    _turn("paused", id, lambda client, id: client.pause_sandbox(id), json)


@sandbox.command("resume")
def sandbox_resume(id: Id, json: Json = False) -> None:
    """Let the processes of a paused sandbox go on.

    \b
    Example:
      ./tpp sandbox resume 7d0c4d57
    """
    _turn("resumed", id, lambda client, id: client.resume_sandbox(id), json)


@sandbox.command("rm")
def sandbox_rm(id: Id, yes: Yes = False, json: Json = False) -> None:
    """Delete a sandbox with its files, its commands and its conversations.

    \b
    Example:
      ./tpp sandbox rm 7d0c4d57
    """
    async def find(client: Client) -> tuple[str, str]:
        row = await _sandbox(client, id)
        talks = [one for one in await client.conversations(LIMIT, status="all")
                 if one["sandbox_id"] == row["id"]]
        lost = f"the sandbox {row['id'][:8]} ({row['name']}) with all its files and commands"
        some = f", and {len(talks)} conversation{'s' if len(talks) > 1 else ''}" if talks else ""
        return row["id"], lost + some

    _delete(find, lambda client, id: client.delete_sandbox(id), yes, json)


# ---- shared ---------------------------------------------------------------------------------------------


def _client() -> Any:
    from terminalpp.cli.session import connected

    return connected()


async def _conversation(client: Client, id: str) -> dict[str, Any]:
    from terminalpp.cli.session import resolve

    return await resolve(client, id)


async def _sandbox(client: Client, id: str) -> Any:
    from terminalpp.cli.id_prefix import chosen

    return chosen(await client.sandboxes(LIMIT), id, "a sandbox", "`./tpp sandbox ls` lists them.")


def _change(what: str, id: str, as_json: bool, **change: Any) -> None:
    async def work(screen: Screen) -> Exit:
        async with _client() as client:
            row = await _conversation(client, id)
            row = await client.change_conversation(row["id"], **change)
        return told(screen, as_json, row, f"{what} {row['id']}")

    finish(work, as_json)


def _turn(what: str, id: str, act: Callable[[Client, str], Awaitable[Any]], as_json: bool) -> None:
    async def work(screen: Screen) -> Exit:
        async with _client() as client:
            row = await act(client, (await _sandbox(client, id))["id"])
        detail = f": {row['status_detail']}" if row["status"] == "error" and row["status_detail"] else ""
        status = told(screen, as_json, row, f"{what} {row['id']} ({row['status']}{detail})")
        return status if row["status"] != "error" else type(status).ENVIRONMENT

    finish(work, as_json)


def _delete(
    find: Callable[[Client], Awaitable[tuple[str, str]]],
    act: Callable[[Client, str], Awaitable[None]],
    yes: bool,
    as_json: bool,
) -> None:
    async def look() -> tuple[str, str]:
        async with _client() as client:
            return await find(client)

    async def delete(screen: Screen, id: str) -> Exit:
        async with _client() as client:
            await act(client, id)
        return told(screen, as_json, {"deleted": id}, f"deleted {id}")

    def work(screen: Screen) -> Any:
        import asyncio

        from terminalpp.cli.exits import Exit

        id, lost = asyncio.run(look())
        if not yes and not _agreed(screen, lost, as_json):  # outside the loop, which would swallow a Ctrl-C
            screen.line("Nothing was deleted.")
            return Exit.CANCELLED
        return delete(screen, id)

    finish(work, as_json)


def _agreed(screen: Screen, lost: str, as_json: bool) -> bool:
    """Raises InvalidInput where nobody can be asked."""
    from terminalpp.cli.sanitize import clean
    from terminalpp.types.errors import InvalidInput

    lost = clean(lost, one_line=True)
    if as_json or not (sys.stdin.isatty() and screen.tty):
        raise InvalidInput(f"this deletes {lost}", "It cannot be undone. Say so: --yes.")
    screen.line(f"This deletes {lost}. It cannot be undone.", "yellow")
    try:
        return input("Delete it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
