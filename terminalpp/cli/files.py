"""`tpp files` and `tpp cp`: look at a sandbox's files, change them, copy them in and out.

Nothing here is undone by itself; `rm` of a directory wants `--recursive`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.verb import Json, finish, told

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen

files = typer.Typer(
    name="files", no_args_is_help=True, rich_markup_mode=None,
    help="Files of a sandbox: list, read, make directories, move, remove, bring back.",
)
Place = Annotated[
    str, typer.Argument(metavar="SANDBOX:PATH", help="Where; relative paths start at /home/user.")
]


def cp(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="A path here, or SANDBOX:PATH; `-`: standard input.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="SANDBOX:PATH, or a path here; `-`: standard output.")
    ],
    json: Json = False,
) -> None:
    """Copy a file or a directory into a sandbox, or out of it.

    \b
    Examples:
      ./tpp cp notes.txt 7d0c4d57:
      ./tpp cp 7d0c4d57:work/dist ./dist
      ./tpp cp 7d0c4d57:/home/user/log.txt - | less
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli import transfer
        from terminalpp.cli.session import connected

        async with connected() as client:
            return await transfer.copy(client, source, target, screen)

    finish(work, json)


@files.command("ls")
def ls(
    place: Place,
    depth: Annotated[int, typer.Option("--depth", metavar="N", min=1, max=64, help="So many levels.")] = 1,
    json: Json = False,
) -> None:
    """List what is in a directory of a sandbox.

    \b
    Example:
      ./tpp files ls 7d0c4d57:work --depth 2
    """
    async def act(client: Any, box: str, path: str, screen: Screen) -> Exit:
        from terminalpp.cli.inspect import listing
        from terminalpp.cli.transfer import listed

        rows = await client.list_files(box, path, depth=depth)
        head = ["MODE", "TYPE", "SIZE", "MODIFIED", "PATH"]
        return listing(screen, json, rows, head, listed, "It is empty.")

    _at(place, act, json)


@files.command("cat")
def cat(place: Place, json: Json = False) -> None:
    """Print a file of a sandbox, byte for byte.

    \b
    Example:
      ./tpp files cat 7d0c4d57:notes.txt
    """
    async def act(client: Any, box: str, path: str, screen: Screen) -> Exit:
        import sys

        from terminalpp.cli.exits import Exit

        if json:
            return told(screen, True, await client.stat_file(box, path, follow=True), "")
        async for piece in client.stream_file(box, path):
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return Exit.OK

    _at(place, act, json)


@files.command("mkdir")
def mkdir(place: Place, json: Json = False) -> None:
    """Make a directory, with those above it.

    \b
    Example:
      ./tpp files mkdir 7d0c4d57:work/new
    """
    async def act(client: Any, box: str, path: str, screen: Screen) -> Exit:
        return told(screen, json, await client.make_directory(box, path), f"made {path}")

    _at(place, act, json)


@files.command("mv")
def mv(
    place: Place,
    to: Annotated[str, typer.Argument(metavar="PATH", help="The new name, in the same sandbox.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
    json: Json = False,
) -> None:
    """Rename a file or a directory.

    \b
    Example:
      ./tpp files mv 7d0c4d57:draft.md final.md
    """
    async def act(client: Any, box: str, path: str, screen: Screen) -> Exit:
        import posixpath

        from terminalpp.cli.transfer import HOME

        new = posixpath.join(HOME, to)
        return told(
            screen, json, await client.move_file(box, path, new, overwrite=force), f"{path} is {new}"
        )

    _at(place, act, json)


@files.command("rm")
def rm(
    place: Place,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="A directory with all in it.")] = False,
    json: Json = False,
) -> None:
    """Remove a file, a symlink or, with --recursive, a directory.

    \b
    Example:
      ./tpp files rm 7d0c4d57:work/build --recursive
    """
    async def act(client: Any, box: str, path: str, screen: Screen) -> Exit:
        await client.stat_file(box, path)  # what is not there is said
        await client.delete_file(box, path, recursive=recursive)
        return told(screen, json, {"removed": path}, f"removed {path}")

    _at(place, act, json)


@files.command("versions")
def versions(place: Place, json: Json = False) -> None:
    """List what a file was before, as the snapshots found it; the newest first.

    \b
    Example:
      ./tpp files versions 7d0c4d57:project/README.md
    """
    async def act(client: Any, box: str, path: str, screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing

        rows = await client.file_versions(box, path)
        head = ["VERSION", "CHANGE", "AGE", "SIZE", "SNAPSHOT"]
        return listing(screen, json, rows, head, lambda row: [
            str(row["version"]), row["change"], age(row["created_at"]), f"{row['size']:,}",
            row["message"] or ""], "There are no versions: no snapshot has seen it.")

    _at(place, act, json)


@files.command("restore")
def restore(
    place: Place,
    version: Annotated[int, typer.Option("--version", metavar="N", min=1, help="Which of its versions.")],
    json: Json = False,
) -> None:
    """Make a file what it was in one of its versions. What is there now is kept in a snapshot first.

    \b
    Example:
      ./tpp files restore 7d0c4d57:project/README.md --version 3
    """
    async def act(client: Any, box: str, path: str, screen: Screen) -> Exit:
        data = await client.file_version(box, path, version)
        await client.take_snapshot(box, f"before: {path} restored"[:255])
        row = await client.write_file(box, path, data)
        return told(screen, json, row, f"{path} is as in version {version} ({len(data):,} bytes)")

    _at(place, act, json)


def _at(place: str, act: Callable[[Any, str, str, Screen], Awaitable[Exit]], as_json: bool) -> None:
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected
        from terminalpp.cli.transfer import split
        from terminalpp.types.errors import InvalidInput

        found = split(place)
        if found is None:
            raise InvalidInput(f"{place!r} names no sandbox", "Write it as SANDBOX:PATH.")
        async with connected() as client:
            return await act(client, await _sandbox(client, found[0]), found[1], screen)

    finish(work, as_json)
