"""`tpp model`: keys of model providers, set while the server runs.

A key is typed without echo or comes on standard input, never as an argument, which every program of the
machine could read. It goes to the server, which keeps it encrypted in the home, and is never shown again.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.verb import Json, finish, told

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen

model = typer.Typer(
    name="model", no_args_is_help=True, rich_markup_mode=None,
    help="Keys of model providers, set while the server runs: add, list, remove them.",
)
Provider = Annotated[str, typer.Argument(help="As litellm names it: openai, anthropic, gemini, …")]
LONGEST = 4096


@model.command("add")
def add(provider: Provider, json: Json = False) -> None:
    """Store a provider's key; it is asked for, or read from standard input.

    \b
    Examples:
      ./tpp model add openai
      ./tpp model add anthropic < key.txt
    """
    def work(screen: Screen) -> Any:
        known(provider)
        key = asked(provider)  # before there is an event loop, which would swallow the first Ctrl-C
        return store(screen, key)

    async def store(screen: Screen, key: str) -> Exit:
        async with _connected(screen, json) as client:
            row = await client.put_model_key(provider, key)
        return told(screen, json, row, f"The key for {provider} is stored, and used from now on.")

    finish(work, json)


@model.command("ls")
def ls(json: Json = False) -> None:
    """List the providers with a stored key, and the models that can be asked.

    \b
    Example:
      ./tpp model ls
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.exits import Exit
        from terminalpp.cli.inspect import age
        from terminalpp.cli.sanitize import clean

        async with _connected(screen, json) as client:
            keys, models = await client.model_keys(), await client.models()
        if json:
            return told(screen, json, {"keys": keys, "models": models}, "")
        for row in keys:
            said = "" if row["usable"] else "  cannot be decrypted: add it again"
            screen.line(f"{row['provider']:<16} key stored {age(row['added_at'])} ago{said}")
        if not keys:
            screen.line("No key is stored: `./tpp model add PROVIDER`.")
        for one in models:
            screen.line(f"  {clean(one['id'])}{'  (default)' if one['default'] else ''}", "dim")
        return Exit.OK

    finish(work, json)


@model.command("rm")
def rm(provider: Provider, json: Json = False) -> None:
    """Forget a provider's stored key.

    \b
    Example:
      ./tpp model rm openai
    """
    async def work(screen: Screen) -> Exit:
        known(provider)
        async with _connected(screen, json) as client:
            await client.delete_model_key(provider)
        return told(screen, json, {"removed": provider}, f"The key for {provider} is forgotten.")

    finish(work, json)


def known(provider: str) -> None:
    """Raises InvalidInput for a provider that takes no key here."""
    from terminalpp.types.errors import InvalidInput
    from terminalpp.types.providers import KEYED

    if provider not in KEYED:
        raise InvalidInput(f"no provider {provider[:40]!r} is known",
                           f"One of: {', '.join(KEYED)}. For a server of your own: TPP_MODEL_BASE_URL and "
                           "TPP_MODEL_API_KEY.")


def asked(provider: str) -> str:
    """The key, typed without echo or from standard input. Raises InvalidInput."""
    from terminalpp.types.errors import InvalidInput

    if sys.stdin.isatty():
        from getpass import getpass

        key = getpass(f"Key for {provider}: ").strip()
    else:
        raw = sys.stdin.buffer.read(LONGEST + 64)
        key = raw.decode("ascii", "replace").strip()
    if not key or len(key) > LONGEST or not all("!" <= char <= "~" for char in key):
        raise InvalidInput("this is no key: it must be one word of printable ASCII characters",
                           "Give the key alone: `./tpp model add PROVIDER` asks for it.")
    return key


def _connected(screen: Screen, as_json: bool) -> Any:
    from terminalpp.cli import server
    from terminalpp.cli.session import connected

    server.ensure_up(screen, as_json)
    return connected()
