"""`tpp exec` and `tpp attach`: one command in a sandbox as if it ran here.

Its two streams come out apart and byte for byte, standard input is piped in where it is no terminal, and the
exit status is the command's (128 and the signal's number where one ended it). Ctrl-C goes to the command; a
second one kills all that it started. What was started with `--detach`, or was left, is taken up again by
`attach`, which shows its output from the first byte.
"""

from __future__ import annotations

import contextlib
import json as jsons
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.verb import Json, finish

if TYPE_CHECKING:
    from terminalpp.cli.screen import Screen
    from terminalpp.client import Client

PIECE_BYTES = 256 * 1024
Sandbox = Annotated[str, typer.Argument(help="The beginning of a sandbox's id.")]


def without_dashes(command: list[str] | None) -> list[str] | None:
    """The words of a command without the `--` that may stand before it, as with docker and kubectl."""
    return command[1:] if command and command[0] == "--" else command


def execute(
    sandbox: Sandbox,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND...",
            callback=without_dashes,
            help="A program and its arguments; a single word with spaces is a shell line.",
        ),
    ],
    cwd: Annotated[str | None, typer.Option("--cwd", metavar="DIR", help="Where it runs.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME=VALUE", help="A variable for it. Repeatable."),
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--stdin", "-i", help="Pass standard input on, also when it is a terminal.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print its id and leave it running.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a command in a sandbox. The exit status is the command's.

    Options stand before the sandbox's id; what follows belongs to the command.

    \b
    Examples:
      ./tpp exec 7d0c4d57 ls -la
      ./tpp exec 7d0c4d57 'make test 2>&1 | tail -3'
      tar c . | ./tpp exec 7d0c4d57 tar x -C /home/user
      ./tpp exec --detach 7d0c4d57 python3 -m http.server
    """
    async def work(screen: Screen) -> int:
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        piped = interactive or not (detach or sys.stdin.isatty())
        words: dict[str, Any] = {"argv": list(command)}
        if len(command) == 1 and any(char in command[0] for char in " \t\n;|&<>$`"):
            words = {"command": command[0]}
        async with connected() as client:
            id = await _sandbox(client, sandbox)
            made = await client.run_command(id, cwd=cwd, env=_variables(env), stdin=piped, **words)
            if detach:
                screen.line(jsons.dumps(made) if json else made["id"])
                return 0
            return await follow(client, id, made["id"], screen, piped=piped, as_json=json)

    finish(work, json)


def attach(
    sandbox: Sandbox,
    command: Annotated[str, typer.Argument(help="The beginning of a command's id.")],
    json: Json = False,
) -> None:
    """Take up a command that runs in a sandbox: its output from the first byte, and its exit status.

    \b
    Example:
      ./tpp attach 7d0c4d57 3f2a91c0
    """
    async def work(screen: Screen) -> int:
        from terminalpp.cli.id_prefix import chosen
        from terminalpp.cli.processes import _sandbox
        from terminalpp.cli.session import connected

        async with connected() as client:
            id = await _sandbox(client, sandbox)
            hint = "`./tpp exec --detach` prints ids."
            row = chosen(await client.commands(id, 1000), command, "a command of this sandbox", hint)
            return await follow(client, id, row["id"], screen, piped=False, as_json=json)

    finish(work, json)


def _variables(given: list[str] | None) -> dict[str, str]:
    """Raises BadParameter."""
    found = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--env")
        found[name] = value
    return found


async def follow(
    client: Client, sandbox: str, command: str, screen: Screen, *, piped: bool, as_json: bool
) -> int:
    """Until its own process has ended: its exit status. With `as_json` its record instead of its output."""
    import asyncio

    from terminalpp.cli.watch import interruptible

    acting: set[asyncio.Task[None]] = set()

    def send(name: str) -> None:
        async def signal() -> None:
            from terminalpp.types.errors import TerminalError

            with contextlib.suppress(TerminalError):  # it has just ended
                await client.signal(sandbox, command, name, tree=True)

        acting.add(task := asyncio.ensure_future(signal()))
        task.add_done_callback(acting.discard)

    feeding = asyncio.ensure_future(feed(client, sandbox, command)) if piped else None
    try:
        with interruptible(lambda: send("INT"), lambda: send("KILL")):
            async for event in client.stream_output(sandbox, command):
                if event.kind == "exited":
                    break
                if event.kind == "gap":
                    sys.stderr.write(f"[tpp: {event.gap_bytes} bytes of {event.stream} were not kept]\n")
                if event.data and not as_json:
                    await asyncio.to_thread(_write, 1 if event.stream == "stdout" else 2, event.data)
            row = await client.wait_command(sandbox, command)
    finally:
        if feeding is not None:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
    if as_json:
        screen.line(jsons.dumps(row))
    return status_of(row)


def status_of(row: Any) -> int:
    """The exit status that stands for a command's end; what is no exit code is told."""
    if row["exit_code"] is not None and row["reason"] in (None, "exited"):
        return row["exit_code"]
    reason = row["reason"] or row["status"]
    if reason.startswith("signal ") and row["exit_code"] is not None:
        return row["exit_code"]
    sys.stderr.write(f"tpp: the command ended without an exit status: {reason}\n")
    known = {"timeout": 124, "out-of-memory": 137}
    return known.get(reason, row["exit_code"] if row["exit_code"] is not None else 125)


async def feed(client: Client, sandbox: str, command: str) -> None:
    """Pass standard input on, to its end. A command that does not read it any more is left in peace."""
    import asyncio

    from terminalpp.types.errors import CommandFinished, DeadlineExceeded, OffsetMismatch

    offset, data = 0, b"-"
    while data:
        data = await asyncio.to_thread(os.read, 0, PIECE_BYTES)
        left = data
        while left or not data:
            try:
                told = await client.write_stdin(sandbox, command, left, offset=offset, eof=not data)
            except CommandFinished:
                return
            except (DeadlineExceeded, OffsetMismatch) as slow:  # it took a part, and will take the rest
                taken = int(slow.extra.get("expected", offset))
            else:
                taken = int(told["offset"])
                if not data:
                    return
            left, offset = left[taken - offset :], taken


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
