"""`tpp quarantine` and `tpp dead-letters`: what was put aside, why, and the way back.

An entity whose code failed too often is put aside until an operator releases it; it can be stopped, deleted
and read all the while. A message that failed for good is a dead letter, to be read and replayed or dropped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli.verb import Json, finish

if TYPE_CHECKING:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.screen import Screen
    from terminalpp.client import Client

quarantine = typer.Typer(
    name="quarantine", no_args_is_help=True, rich_markup_mode=None,
    help="What was put aside after defects: list it, read why, release it.",
)
dead_letters = typer.Typer(
    name="dead-letters", no_args_is_help=True, rich_markup_mode=None,
    help="Messages that failed for good: list, read, replay or drop them.",
)
Entity = Annotated[str, typer.Argument(help="Its id or the beginning of it, or kind/id, as `ls` shows it.")]
Letter = Annotated[str, typer.Argument(help="The letter's id, or its beginning.")]


# ---- quarantine -----------------------------------------------------------------------------------------


@quarantine.command("ls")
def quarantine_ls(json: Json = False) -> None:
    """List what is in quarantine.

    \b
    Example:
      ./tpp quarantine ls
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing

        async with _client() as client:
            rows = await client.quarantine()
        head = ["ENTITY", "SINCE", "WAITING", "REASON"]
        return listing(screen, json, rows, head, lambda row: [
            f"{row['kind']}/{row['id'][:8]}", age(row["since"]), str(row["messages"] + row["actions"]),
            row["reason"]], "Nothing is in quarantine.")

    finish(work, json)


@quarantine.command("show")
def quarantine_show(entity: Entity, json: Json = False) -> None:
    """Show why one entity is in quarantine and what waits for it.

    \b
    Example:
      ./tpp quarantine show sandbox/3f2a91c0
    """
    async def work(screen: Screen) -> Exit:
        async with _client() as client:
            return _show(screen, json, await _entity(client, entity))

    finish(work, json)


@quarantine.command("release")
def quarantine_release(entity: Entity, json: Json = False) -> None:
    """Let an entity work again; what waits for it is done within seconds.

    \b
    Example:
      ./tpp quarantine release sandbox/3f2a91c0
    """
    async def work(screen: Screen) -> Exit:
        async with _client() as client:
            row = await _entity(client, entity)
            await client.release(row["kind"], row["id"])
        return _done(screen, json, "released", f"{row['kind']}/{row['id']}")

    finish(work, json)


# ---- dead letters ---------------------------------------------------------------------------------------


@dead_letters.command("ls")
def letters_ls(
    all: Annotated[bool, typer.Option("--all", "-a", help="Replayed ones too.")] = False, json: Json = False
) -> None:
    """List dead letters, the newest first.

    \b
    Example:
      ./tpp dead-letters ls
    """
    async def work(screen: Screen) -> Exit:
        from terminalpp.cli.inspect import age, listing

        async with _client() as client:
            rows = await client.dead_letters(replayed=all)
        head = ["LETTER", "ENTITY", "METHOD", "TRIES", "AGE", "REASON"]
        return listing(screen, json, rows, head, lambda row: [
            row["id"][:8], f"{row['kind']}/{row['entity_id'][:8]}", row["method"], str(row["attempts"]),
            age(row["created_at"]), ("(replayed) " if row["replayed_at"] else "") + row["reason"]],
            "There are no dead letters.")

    finish(work, json)


@dead_letters.command("show")
def letters_show(letter: Letter, json: Json = False) -> None:
    """Show one dead letter; its payload is cut, and without secrets.

    \b
    Example:
      ./tpp dead-letters show 3f2a91c0
    """
    async def work(screen: Screen) -> Exit:
        async with _client() as client:
            return _show(screen, json, await client.dead_letter(await _letter(client, letter)))

    finish(work, json)


@dead_letters.command("replay")
def letters_replay(letter: Letter, json: Json = False) -> None:
    """Have it done after all, once: at the end of its entity's mailbox.

    \b
    Example:
      ./tpp dead-letters replay 3f2a91c0
    """
    async def work(screen: Screen) -> Exit:
        async with _client() as client:
            row = await client.replay(await _letter(client, letter))
        return _done(screen, json, "replayed", row["id"])

    finish(work, json)


@dead_letters.command("drop")
def letters_drop(letter: Letter, json: Json = False) -> None:
    """Forget a dead letter; it is not done.

    \b
    Example:
      ./tpp dead-letters drop 3f2a91c0
    """
    async def work(screen: Screen) -> Exit:
        async with _client() as client:
            id = await _letter(client, letter)
            await client.drop(id)
        return _done(screen, json, "dropped", id)

    finish(work, json)


# ---- shared ---------------------------------------------------------------------------------------------


def _client() -> Any:
    from terminalpp.cli.session import connected

    return connected()


async def _entity(client: Client, words: str) -> dict[str, Any]:
    """The one in quarantine that is meant. Raises NotFound, InvalidInput (several are)."""
    from terminalpp.cli.id_prefix import chosen

    kind, _, id = words.rpartition("/")
    rows = [row for row in await client.quarantine() if kind in ("", row["kind"])]
    return dict(chosen(rows, id, "what is in quarantine", "`./tpp quarantine ls` lists what is."))


async def _letter(client: Client, words: str) -> str:
    """The id that begins so. Raises NotFound, InvalidInput."""
    from terminalpp.cli.id_prefix import chosen

    if len(words) == 36:
        return words
    rows = await client.dead_letters(replayed=True)
    return chosen(rows, words, "a dead letter", "`./tpp dead-letters ls` lists them.")["id"]


def _show(screen: Screen, as_json: bool, row: Any) -> Exit:
    from terminalpp.cli.exits import Exit
    from terminalpp.cli.sanitize import clean

    if as_json:
        screen.line(json.dumps(row))
        return Exit.OK
    for name, value in row.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        screen.line(f"{name:12} {clean(text, one_line=True)}")
    return Exit.OK


def _done(screen: Screen, as_json: bool, what: str, id: str) -> Exit:
    from terminalpp.cli.exits import Exit

    screen.line(json.dumps({what: id}) if as_json else f"{what} {id}")
    return Exit.OK
