"""`tpp rewind`: go back in a conversation to an earlier point of it, with its files; and `/rewind` in the
chat.

Nothing is lost by it: what is left stays as a branch, and the command that undoes it is printed.
"""

from __future__ import annotations

import json as jsons
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.verb import Json, finish, told

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen

Conversation = Annotated[str, typer.Argument(metavar="CONVERSATION", help="Its id, or the beginning of it.")]
SHOWN = 30  # changed paths that a preview prints


def rewind(
    id: Conversation,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="POINT", help="A number of --list, or a point's id. Unset: before the last turn."
        ),
    ] = None,
    list: Annotated[bool, typer.Option("--list", help="Show the points that can be gone back to.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only show which files it would change.")
    ] = False,
    all: Annotated[
        bool, typer.Option("--all", help="List the points of branches that were left, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Go back in a conversation: its files, the chat, and what the team knows of it.

    \b
    Examples:
      ./tpp rewind 3f2a91c0 --list
      ./tpp rewind 3f2a91c0 --to 4 --preview
      ./tpp rewind 3f2a91c0
    """

    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.session import connected, resolve

        async with connected() as client:
            conversation = (await resolve(client, id))["id"]
            if list:
                return await show_points(client, conversation, screen, all=all, as_json=json)
            point = await chosen_point(client, conversation, to)
            if preview:
                return await show_preview(client, conversation, point, screen, as_json=json)
            return await go(client, conversation, point, screen, as_json=json)

    finish(work, json)


def fork(
    id: Conversation,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="POINT", help="A number of `rewind --list`, or a point's id. Unset: as it is now."
        ),
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="The first thing to say in it.")
    ] = None,
    json: Json = False,
) -> None:
    """Begin another conversation with what one was at a point, in a sandbox of its own; prints its id.

    \b
    Examples:
      ./tpp fork 3f2a91c0
      ./tpp fork 3f2a91c0 --at 4 --message "Try it with a lookup table instead."
    """

    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.session import connected, resolve

        async with connected() as client:
            conversation = (await resolve(client, id))["id"]
            point = await chosen_point(client, conversation, at) if at else None
            row = await client.fork(conversation, point["id"] if point else None, message=message)
        return told(screen, json, row, row["id"])

    finish(work, json)


async def show_points(
    client: Any, id: str, screen: Screen, *, all: bool = False, as_json: bool = False
) -> Exit:
    """The points with their numbers, which are the same whether those of left branches are shown or not."""
    from terminalpp.cli.inspect import age, listing

    rows = [{**row, "number": number} for number, row in enumerate(await client.points(id, all=True), 1)]
    return listing(
        screen,
        as_json,
        [row for row in rows if all or row["present"]],
        ["#", "AGE", "EVENT", "POINT"],
        lambda row: [
            str(row["number"]),
            age(row["created_at"]),
            str(row["seq"]),
            row["label"] + ("" if row["present"] else " (left)"),
        ],
        "There is nothing to go back to yet.",
    )


async def chosen_point(client: Any, id: str, to: str | None) -> Any:
    """The point that was meant; without `to` the newest one before a turn. Raises NotFound, InvalidInput."""
    from terminalpp.cli.id_prefix import chosen
    from terminalpp.types.errors import NotFound

    rows = await client.points(id, all=True)
    hint = f"`./tpp rewind {id[:8]} --list` lists them."
    if to is None:
        before = [row for row in rows if row["followed"] and row["label"].startswith("before: ")]
        if not before:
            raise NotFound("there is no turn to go back behind", hint)
        return before[-1]
    if to.isdigit() and 1 <= int(to) <= len(rows):
        return rows[int(to) - 1]
    return chosen(rows, to, "a point", hint)


async def show_preview(client: Any, id: str, point: Any, screen: Screen, *, as_json: bool = False) -> Exit:
    """What files it would change."""
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.sanitize import clean
    from terminalpp.cli.snapshots import changed_line

    changes = await client.preview_rewind(id, point["id"])
    if as_json:
        for one in changes:
            screen.line(jsons.dumps(one))
        return Exit.OK
    screen.line(
        clean(
            f"Going back to {point['label']} would change {len(changes)} files and directories:",
            one_line=True,
        )
    )
    for one in changes[:SHOWN]:
        screen.line("  " + changed_line(one))
    if len(changes) > SHOWN:
        screen.line(f"  and {len(changes) - SHOWN} more")
    screen.line("Files outside of the conversation's directory stay as they are.")
    return Exit.OK


async def go(client: Any, id: str, point: Any, screen: Screen, *, as_json: bool = False) -> Exit:
    """Go back, and tell what came of it."""
    from terminalpp.cli import rewound
    from terminalpp.cli.exits import Exit

    done = await client.rewind(id, point["id"])
    if as_json:
        screen.line(jsons.dumps(done))
    elif done["status"] == "running":
        screen.line(f"It is under way; `./tpp logs {id[:8]}` tells when it is done.")
    else:
        for line in rewound.lines({**done, "label": point["label"]}):
            screen.line(line)
        screen.line(f"To undo it: ./tpp rewind {id[:8]} --to {done['undo_point_id']}")
    return Exit.OK
