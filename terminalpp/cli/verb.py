"""How every verb ends: its work is run, and whatever comes of it is told in words and by the exit status.

Imports nothing heavy, because `--help` does; see `exits` for what each status means.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]


def finish(work: Callable[[Screen], Any], as_json: bool) -> NoReturn:
    """Run a verb's work and leave with its status. Nothing below ever shows a traceback for a
    mistake of the person, the machine or the network."""
    from terminalpp.cli import exits
    from terminalpp.cli.git import GitFailed
    from terminalpp.cli.screen import Screen
    from terminalpp.types.errors import TerminalError

    screen = Screen.stdout()
    try:
        result = work(screen)
        if hasattr(result, "__await__"):
            import asyncio

            result = asyncio.run(result)
        status: Exit = result
    except exits.NotApplied as problem:
        from terminalpp.cli.run import not_applied

        status = not_applied(screen, problem, as_json)
    except TerminalError as error:
        screen.clear_status()
        screen.end_words()
        exits.tell(error, as_json)
        status = exits.of(error)
    except GitFailed as error:
        exits.tell(TerminalError(f"git: {error.words}", "Check the repository with `git status`."), as_json)
        status = exits.Exit.ENVIRONMENT
    except KeyboardInterrupt:
        screen.clear_status()
        screen.end_words()
        sys.stderr.write("cancelled\n")
        status = exits.Exit.CANCELLED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read us has gone; say nothing at exit
        status = exits.Exit.ENVIRONMENT
    raise typer.Exit(int(status))


def told(screen: Screen, as_json: bool, row: Any, words: str) -> Exit:
    """One line of what was done: the words, or with --json the row."""
    import json

    from terminalpp.cli.exits import Exit
    from terminalpp.cli.sanitize import clean

    screen.line(json.dumps(row) if as_json else clean(words, one_line=True))
    return Exit.OK


def one_of(value: str | None, option: str, *allowed: str) -> None:
    """Raises InvalidInput unless the option's value is one of those allowed, or not given."""
    if value is not None and value not in allowed:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(allowed)}", param_hint=option)
