"""`tpp snapshot`: all files of a sandbox as they were; taken, listed, compared, brought back, forked.

Nothing here loses anything: before files are brought back they are kept as a snapshot too, and the command to
undo it is printed.
"""

from __future__ import annotations

import json as jsons
import posixpath
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.verb import Json, finish, one_of, told

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen

snapshot = typer.Typer(
    name="snapshot",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Snapshots of a sandbox's files: take, ls, diff, restore, fork, rm.",
)
Box = Annotated[str, typer.Argument(metavar="SANDBOX", help="The sandbox's id, or the beginning of it.")]
Which = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot's id, or the beginning of it.")]
SHOWN = 40  # changed paths that are printed
MARKS = {"created": "+", "modified": "~", "deleted": "-"}
PATCH_BYTES = 1 << 20  # of a file that is compared line by line


@snapshot.command("take")
def take(
    box: Box,
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="What it is called in lists.")
    ] = None,
    json: Json = False,
) -> None:
    """Keep all files below /home/user as they are now; prints the snapshot's id.

    \b
    Example:
      ./tpp snapshot take 7d0c4d57 --name "before the upgrade"
    """

    async def act(client: Any, id: str, screen: Screen) -> Exit:
        row = await client.take_snapshot(id, name)
        _left(row, json)
        return told(screen, json, row, row["id"])

    _in(box, act, json)


@snapshot.command("ls")
def ls(
    box: Box,
    type: Annotated[
        str | None, typer.Option("--type", metavar="T", help="Only manual, auto or scheduled ones.")
    ] = None,
    json: Json = False,
) -> None:
    """List a sandbox's snapshots, the newest first.

    \b
    Example:
      ./tpp snapshot ls 7d0c4d57
    """
    one_of(type, "--type", "manual", "auto", "scheduled")

    async def act(client: Any, id: str, screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing

        rows = await client.snapshots(id, type=type)
        head = ["SNAPSHOT", "TYPE", "AGE", "FILES", "BYTES", "CHANGED", "NAME"]
        return listing(
            screen,
            json,
            rows,
            head,
            lambda row: [
                row["id"][:8],
                row["type"],
                age(row["created_at"]),
                f"{row['files']:,}",
                f"{row['bytes']:,}",
                f"{row['changed']:,}",
                row["name"] + (f" ({row['left_count']} not kept)" if row["left_count"] else ""),
            ],
            "There are no snapshots.",
        )

    _in(box, act, json)


@snapshot.command("diff")
def diff(
    box: Box,
    old: Which,
    new: Annotated[
        str | None,
        typer.Argument(metavar="[LATER]", help="A later snapshot; without it the files as they are."),
    ] = None,
    path: Annotated[
        str, typer.Option("--path", metavar="P", help="Only what is at or below it.")
    ] = "/home/user",
    patch: Annotated[
        bool, typer.Option("--patch", "-p", help="Line by line, for files that are text.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what has changed since a snapshot.

    \b
    Examples:
      ./tpp snapshot diff 7d0c4d57 1f3b
      ./tpp snapshot diff 7d0c4d57 1f3b 9c2e --path project --patch
    """

    async def act(client: Any, id: str, screen: Screen) -> Exit:
        from terminalpp.cli.exits import Exit

        first = await _snapshot(client, id, old)
        place = posixpath.normpath(posixpath.join("/home/user", path))
        if new is None:  # the files as they are: a preview from there to here, turned around
            changes = [_turned(one) for one in await client.preview_restore(id, first["id"], [place])]
            later = (await client.snapshots(id, limit=1))[0]["id"]
        else:
            later = (await _snapshot(client, id, new))["id"]
            changes = await client.diff_snapshots(id, first["id"], later, path=place)
        if json or not patch:
            return _changes(screen, json, changes, "Nothing has changed.", all=True)
        for one in changes:
            for line in await _patch(client, id, first["id"], later, one):
                screen.line(line)
        return Exit.OK

    _in(box, act, json)


@snapshot.command("restore")
def restore(
    box: Box,
    which: Which,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Only these; relative ones start at /home/user."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what it would change.")] = False,
    json: Json = False,
) -> None:
    """Make the files as a snapshot has them. What is there now is kept as a snapshot first.

    \b
    Examples:
      ./tpp snapshot restore 7d0c4d57 1f3b --preview
      ./tpp snapshot restore 7d0c4d57 1f3b project/src
    """

    async def act(client: Any, id: str, screen: Screen) -> Exit:
        from terminalpp.cli.exits import Exit
        from terminalpp.cli.sanitize import clean

        found = await _snapshot(client, id, which)
        scope = [posixpath.normpath(posixpath.join("/home/user", path)) for path in paths or []] or None
        if preview:
            changes = await client.preview_restore(id, found["id"], scope)
            return _changes(screen, json, changes, "It would change nothing.")
        done = await client.restore_snapshot(id, found["id"], scope)
        failed = done["status"] == "failed"
        if json:
            screen.line(jsons.dumps(done))
        elif failed:
            error = done["error"] or {}
            screen.line(f"It could not be restored: {error.get('detail', '')}")
            screen.line(str(error.get("hint") or "Do it again; what was done stays done."))
        else:
            _changes(screen, False, done["changed"], "Nothing had changed.", total=done["changed_count"])
            for one in done["untouched"]:
                screen.line(clean(f"! {one['path']}: {one['why']}", one_line=True))
            for kept in done["meanwhile"]:
                shown = f"./tpp snapshot diff {id[:8]} {done['undo']} {kept}"
                screen.line(f"What was written meanwhile is kept: {shown}")
            if done["running"]:
                screen.line(
                    f"{len(done['running'])} commands went on meanwhile: ./tpp ps, ./tpp kill {id[:8]}"
                )
            screen.line(f"To undo it: ./tpp snapshot restore {id[:8]} {done['undo']}")
        return Exit.NOT_GREEN if failed or done["untouched"] else Exit.OK

    _in(box, act, json)


@snapshot.command("fork")
def fork(
    box: Box,
    which: Annotated[
        str | None, typer.Argument(metavar="[SNAPSHOT]", help="Without it: the files as they are now.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="The new sandbox's name.")] = None,
    json: Json = False,
) -> None:
    """Make another sandbox that begins with these files; prints its id.

    \b
    Example:
      ./tpp sh $(./tpp snapshot fork 7d0c4d57)
    """

    async def act(client: Any, id: str, screen: Screen) -> Exit:
        found = await _snapshot(client, id, which) if which else await client.take_snapshot(id, "for a fork")
        row = await client.fork_snapshot(id, found["id"], name)
        row = await client.wait_for_sandbox(row["id"])
        return told(screen, json, row, row["id"])

    _in(box, act, json)


@snapshot.command("rm")
def rm(box: Box, which: Which, json: Json = False) -> None:
    """Delete a snapshot; what other snapshots hold stays.

    \b
    Example:
      ./tpp snapshot rm 7d0c4d57 1f3b
    """

    async def act(client: Any, id: str, screen: Screen) -> Exit:
        found = await _snapshot(client, id, which)
        await client.delete_snapshot(id, found["id"])
        return told(screen, json, {"deleted": found["id"]}, f"deleted {found['id'][:8]} ({found['name']})")

    _in(box, act, json)


def _in(box: str, act: Callable[[Any, str, Screen], Awaitable[Exit]], as_json: bool) -> None:
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        async with connected() as client:
            return await act(client, await _sandbox(client, box), screen)

    finish(work, as_json)


async def _snapshot(client: Any, box: str, prefix: str) -> Any:
    """Raises NotFound, InvalidInput."""
    from terminalpp.cli.id_prefix import chosen

    if len(prefix) == 36:
        return await client.snapshot(box, prefix)
    rows = await client.snapshots(box, limit=10_000)
    return chosen(rows, prefix, "a snapshot", f"`./tpp snapshot ls {box[:8]}` lists them.")


def _left(row: Any, as_json: bool) -> None:
    import sys

    from terminalpp.cli.sanitize import clean

    if row["left_count"] and not as_json:
        for one in row["left"][:SHOWN]:
            sys.stderr.write(clean(f"not kept: {one['path']}: {one['why']}", one_line=True) + "\n")
        if row["left_count"] > SHOWN:
            sys.stderr.write(f"not kept: and {row['left_count'] - SHOWN} more\n")


def changed_line(one: Any) -> str:
    """A changed path as it is printed."""
    from terminalpp.cli.sanitize import clean

    slash = "/" if one["type"] == "directory" else ""
    return clean(f"{MARKS[one['change']]} {one['path']}{slash}", one_line=True)


def _changes(
    screen: Screen, as_json: bool, changes: Any, nothing: str, *, total: int | None = None, all: bool = False
) -> Exit:
    from terminalpp.cli.exits import Exit

    shown = changes if all else changes[:SHOWN]
    for one in changes if as_json else shown:
        screen.line(jsons.dumps(one) if as_json else changed_line(one))
    count = len(changes) if total is None else total
    if not count and not as_json:
        screen.line(nothing)
    if count > len(shown) and not as_json:
        screen.line(f"and {count - len(shown)} more")
    return Exit.OK


def _turned(one: Any) -> Any:
    """A change seen from the other side."""
    change = {"created": "deleted", "deleted": "created"}.get(one["change"], one["change"])
    return {**one, "change": change, "bytes_before": one["bytes_after"], "bytes_after": one["bytes_before"]}


async def _patch(client: Any, box: str, old: str, new: str, one: Any) -> list[str]:
    """The lines of one file's change; a remark for what is no text or is long."""
    import difflib
    import os
    from urllib.parse import unquote_to_bytes

    from terminalpp.cli.sanitize import clean

    title = clean(f"{MARKS[one['change']]} {one['path']}", one_line=True)
    if one["type"] != "file" or max(one["bytes_before"] or 0, one["bytes_after"] or 0) > PATCH_BYTES:
        return [
            f"{title} ({one['type']})" if one["type"] != "file" else f"{title} (too long to compare here)"
        ]
    path, sides = os.fsdecode(unquote_to_bytes(one["path_raw"])), []
    for side, size in ((old, one["bytes_before"]), (new, one["bytes_after"])):
        data = b"" if size is None else await client.snapshot_file(box, side, path)
        sides.append(data)
    if any(b"\0" in data for data in sides):
        return [f"{title} (binary)"]
    before, after = (data.decode("utf-8", "replace").splitlines() for data in sides)
    lines = list(difflib.unified_diff(before, after, "a" + one["path"], "b" + one["path"], lineterm=""))
    return [clean(line, one_line=True) for line in lines] or [f"{title} (mode or line ends)"]
