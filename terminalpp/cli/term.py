"""`tpp sh` and `tpp term`: open a terminal in a sandbox, list terminals, come back to one, replay one."""

from __future__ import annotations

import json as jsons
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.execute import without_dashes
from terminalpp.cli.verb import Json, finish, one_of

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen

term = typer.Typer(
    name="term", no_args_is_help=True, rich_markup_mode=None,
    help="Terminals of sandboxes: list them, come back to one, read, replay or end it.",
)
Id = Annotated[str, typer.Argument(metavar="TERMINAL", help="Its id, or the beginning of it.")]


def sh(
    sandbox: Annotated[str, typer.Argument(help="The beginning of a sandbox's id.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", callback=without_dashes,
                       help="A program and its arguments, instead of a shell."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="What it is called in lists.")
    ] = None,
    cwd: Annotated[str | None, typer.Option("--cwd", metavar="DIR", help="Where it begins.")] = None,
    json: Json = False,
) -> None:
    """Open a shell in a sandbox. Its exit status is the shell's.

    Options stand before the sandbox's id; what follows belongs to the program.
    ctrl-p ctrl-q leaves it running (`./tpp term attach` comes back); ctrl-p ctrl-t takes control when
    somebody else types.

    \b
    Examples:
      ./tpp sh 7d0c4d57
      ./tpp sh 7d0c4d57 htop
    """
    async def work(screen: Screen) -> Any:
        from terminalpp.cli import terminal
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected
        from terminalpp.types.errors import CommandNotStarted

        terminal.require_terminal()
        async with connected() as client:
            id, (cols, rows) = await _sandbox(client, sandbox), terminal.size()
            made = await client.create_terminal(
                id, command=list(command) if command else None, name=name, cwd=cwd, cols=cols, rows=rows)
            if made["status"] == "failed":
                raise CommandNotStarted(made["reason"] or "it could not be started")
            return await terminal.attach(client, id, made["id"], screen, fresh=True, as_json=json)

    finish(work, json)


@term.command("ls")
def ls(
    all: Annotated[bool, typer.Option("--all", "-a", help="Those that have ended too.")] = False,
    json: Json = False,
) -> None:
    """List terminals, the newest first.

    \b
    Example:
      ./tpp term ls --all
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing
        from terminalpp.cli.session import connected

        async with connected() as client:
            rows = await client.terminals(open=not all)
        head = ["TERMINAL", "SANDBOX", "STATE", "SIZE", "AGE", "OF", "NAME", "COMMAND"]
        return listing(screen, json, rows, head, lambda row: [
            row["id"][:8], row["sandbox_id"][:8], _state(row), f"{row['cols']}x{row['rows']}",
            age(row["created_at"]), row["agent"] or "", row["name"], row["command"] or "shell"],
            "There are no terminals." if all else "No terminal is open.")

    finish(work, json)


def _state(row: Any) -> str:
    if row["exit_code"] is not None:
        return f"{row['status']} ({row['exit_code']})"
    return f"{row['status']} (signal {row['signal']})" if row["signal"] is not None else row["status"]


@term.command("attach")
def attach(
    id: Id,
    role: Annotated[
        str, typer.Option("--role", metavar="writer|viewer", help="Type too, or only look.")
    ] = "writer",
    json: Json = False,
) -> None:
    """Come back to a terminal, with what stands on its screen.

    \b
    Examples:
      ./tpp term attach 5b1e9a00
      ./tpp term attach 5b1e9a00 --role viewer
    """
    one_of(role, "--role", "writer", "viewer")

    async def work(screen: Screen) -> Any:
        from terminalpp.cli import terminal
        from terminalpp.cli.session import connected

        terminal.require_terminal()
        async with connected() as client:
            row = await _terminal(client, id)
            return await terminal.attach(
                client, row["sandbox_id"], row["id"], screen, role=role, as_json=json)

    finish(work, json)


@term.command("screen")
def show(
    id: Id,
    history: Annotated[int, typer.Option("--history", metavar="N", help="The last N lines instead.")] = 0,
    json: Json = False,
) -> None:
    """Print what stands on a terminal's screen, as text.

    \b
    Examples:
      ./tpp term screen 5b1e9a00
      ./tpp term screen 5b1e9a00 --history 200
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.exits import Exit
        from terminalpp.cli.sanitize import clean
        from terminalpp.cli.session import connected

        async with connected() as client:
            row = await _terminal(client, id)
            told = await client.terminal_screen(row["sandbox_id"], row["id"], history=history)
        if json:
            screen.line(jsons.dumps(told))
        else:
            lines = told["history"] if told["history"] is not None else told["lines"]
            screen.line(clean("\n".join(lines).rstrip("\n")))
        return Exit.OK

    finish(work, json)


@term.command("search")
def search(
    id: Id,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", "-i", help="Great and small letters alike.")
    ] = False,
    json: Json = False,
) -> None:
    """Look for text in what a terminal shows or has scrolled away, the newest first.

    \b
    Example:
      ./tpp term search 5b1e9a00 -i error
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.inspect import listing
        from terminalpp.cli.session import connected

        async with connected() as client:
            row = await _terminal(client, id)
            rows = await client.search_terminal(row["sandbox_id"], row["id"], text, ignore_case=ignore_case)
        return listing(screen, json, rows, ["LINE", "TEXT"], lambda hit: [str(hit["line"]), hit["text"]],
                       "It is neither on the screen nor in the lines that are kept above it.")

    finish(work, json)


@term.command("end")
def end(id: Id, json: Json = False) -> None:
    """End a terminal's program and all that it left; what was printed stays.

    \b
    Example:
      ./tpp term end 5b1e9a00
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.exits import Exit
        from terminalpp.cli.session import connected

        async with connected() as client:
            row = await _terminal(client, id)
            row = await client.end_terminal(row["sandbox_id"], row["id"])
        screen.line(jsons.dumps(row) if json else f"ended {row['id']} ({_state(row)})")
        return Exit.OK

    finish(work, json)


@term.command("replay")
def replay(
    id: Id,
    speed: Annotated[
        float, typer.Option("--speed", metavar="X", min=0.01, help="So many times as fast.")
    ] = 1.0,
    idle: Annotated[
        float, typer.Option("--idle", metavar="S", min=0.0, help="Longest pause, in seconds.")
    ] = 2.0,
    cast: Annotated[
        str | None,
        typer.Option(
            "--cast", metavar="FILE", help="Write the recording (asciicast v3) instead; `-`: standard output."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Play again what a terminal printed, as it came.

    \b
    Examples:
      ./tpp term replay 5b1e9a00 --speed 4
      ./tpp term replay 5b1e9a00 --cast build.cast
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli import replay
        from terminalpp.cli.session import connected

        async with connected() as client:
            row = await _terminal(client, id)
            pieces = client.terminal_recording(row["sandbox_id"], row["id"])
            if cast is not None or json:
                return await replay.save(pieces, cast or "-", screen)
            return await replay.play(pieces, screen, speed, idle)

    finish(work, json)


async def _terminal(client: Any, id: str) -> Any:
    from terminalpp.cli.id_prefix import chosen

    return chosen(await client.terminals(), id, "a terminal", "`./tpp term ls --all` lists them.")
