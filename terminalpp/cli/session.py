"""One run from the project on disk to its changes on disk: the steps that `run`, `chat` and `demo` share.

`open_session` looks at the project before anything is started (a wrong path fails at once), starts
the system when it is not up, starts a sandbox while the history is being copied, streams the
project into it, and makes the conversation. `Session.ask` posts a task and watches its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminalpp.cli import archive, history, home, repository, server
from terminalpp.cli.id_prefix import chosen
from terminalpp.cli.models import Choice
from terminalpp.cli.records import Record, find
from terminalpp.cli.sanitize import clean
from terminalpp.cli.screen import Screen
from terminalpp.cli.watch import Watch, guarded
from terminalpp.client import Client, Diff
from terminalpp.types.errors import InvalidInput, TooLarge
from terminalpp.types.limits import MESSAGE_BYTES

TITLE_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Options:
    """What a run was asked to use; None: the server's default."""

    choice: Choice | None = None
    image: str | None = None
    network: str | None = None
    allow: tuple[str, ...] = ()
    mode: str = "team"
    test_command: str | None = None
    setup_command: str | None = None
    limits: dict[str, Any] | None = None
    include: tuple[str, ...] = ()


def check_task(text: str) -> str:
    """Raises InvalidInput for an empty task, TooLarge beyond the limit."""
    if not text.strip():
        raise InvalidInput("the task is empty", 'Say what is to be done: ./tpp run "make the tests pass"')
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("the task is not valid UTF-8 text") from None
    if "\0" in text:
        raise InvalidInput("the task holds a NUL character", "Send text; name files by their path.")
    if size > MESSAGE_BYTES:
        raise TooLarge(f"the task is {size:,} bytes: the limit is {MESSAGE_BYTES:,}",
                       "Put the long part into a file of the project and name it in the task.")
    return text


class Session:
    """A conversation with a screen, and the project it came from when that is on this machine."""

    def __init__(self, client: Client, watch: Watch, record: Record | None) -> None:
        self.client = client
        self.watch = watch
        self.record = record

    @property
    def id(self) -> str:
        """The conversation's id."""
        return self.watch.id

    async def ask(self, text: str) -> dict[str, Any]:
        """Post a task and watch until its turn has ended. Raises Detached and TerminalError."""
        await self.client.post_message(self.id, check_task(text))
        return await guarded(self.watch)

    async def changes(self) -> Diff:
        """What the team has changed so far. Raises TerminalError."""
        return await self.client.diff(self.id)


@contextlib.asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[Client]:
    """The client of the running system; `options` are the client's. Raises Unavailable when it is not up."""
    url, token = home.address()
    async with Client(url, token, socket=home.socket(), **options) as client:
        yield client


@contextlib.asynccontextmanager
async def open_session(
    directory: str, screen: Screen, options: Options, task: str, *, as_json: bool
) -> AsyncIterator[Session]:
    """A new sandbox with a copy of `directory`, and a conversation about it. Raises TerminalError."""
    with home.scratch("copy") as scratch:
        found = await asyncio.to_thread(repository.survey, directory, scratch, options.include)
        await asyncio.to_thread(server.ensure_up, screen, as_json)
        async with connected() as client:
            manifest: archive.Manifest = {}
            sandbox = await _sandbox(client, screen, options, found, scratch, manifest, as_json)
            workspace = f"/home/user/{found.name}"
            title = clean(task, one_line=True)[:TITLE_CHARACTERS] or None
            conversation = await client.create_conversation(
                sandbox["id"], workspace, title=title, mode=options.mode,
                model=options.choice.model if options.choice else None,
                test_command=options.test_command, setup_command=options.setup_command, limits=options.limits,
                include=found.include or None,
            )
            record = Record(str(conversation["id"]), str(sandbox["id"]), str(found.root), found.name,
                            found.is_git, found.head, workspace, task)
            record.save(manifest)
            _tell_ids(screen, conversation, sandbox, as_json)
            yield Session(client, Watch(client, conversation, screen, as_json=as_json), record)


@contextlib.asynccontextmanager
async def resumed(prefix: str, screen: Screen, *, as_json: bool) -> AsyncIterator[Session]:
    """A conversation that exists. Raises NotFound."""
    await asyncio.to_thread(server.ensure_up, screen, as_json)
    async with connected() as client:
        conversation = await resolve(client, prefix)
        yield Session(client, Watch(client, conversation, screen, as_json=as_json), find(conversation["id"]))


async def resolve(client: Client, prefix: str) -> dict[str, Any]:
    """The conversation whose id begins with `prefix`. Raises NotFound, InvalidInput when several do."""
    if len(prefix) == 36:
        return dict(await client.conversation(prefix))
    rows = await client.conversations(1000, status="all")
    return dict(chosen(rows, prefix, "a conversation", "`./tpp conversation ls --all` lists them."))


async def _sandbox(
    client: Client, screen: Screen, options: Options, found: repository.Survey, scratch: Path,
    manifest: archive.Manifest, as_json: bool,
) -> dict[str, Any]:
    """Start a sandbox and, while it starts, make the history; then send everything."""
    row = await client.create_sandbox(name=found.name, image=options.image, network=options.network,
                                      allow=list(options.allow) or None)

    def progress(detail: str) -> None:
        if not as_json:
            screen.status(f"  … sandbox: {clean(detail, one_line=True)}")

    waiting = asyncio.create_task(client.wait_for_sandbox(row["id"], progress=progress))
    try:
        made = await asyncio.to_thread(history.copy_history, found, scratch)
        sandbox = await waiting
    except BaseException:
        waiting.cancel()
        raise
    if as_json:
        for warning in found.warnings:
            screen.line(json.dumps({"type": "cli.warning", "payload": {"detail": warning}}))
    else:
        screen.line(f"  sandbox {sandbox['id'][:8]} · {sandbox['driver']} ({sandbox['isolation']}) · "
                    f"network {sandbox['network']}", "dim")
        if missing := [name for name, how in (sandbox.get("limits") or {}).items() if how.startswith("not")]:
            screen.line(f"  not enforced here: {', '.join(missing)} (`./tpp ps --json` says why)", "dim")
        screen.line(f"  copied {found.root} · {found.describe()}", "dim")
        if sandbox.get("status_detail"):  # e.g. why it is not Docker
            screen.line(f"  note: {clean(str(sandbox['status_detail']), one_line=True)}", "yellow")
        for warning in found.warnings:
            screen.line(f"  note: {warning}", "yellow")
    pieces = archive.stream(found, made, manifest)
    if not as_json:
        screen.status(f"  … copying {found.describe()}")
    await client.upload_archive(sandbox["id"], f"/home/user/{found.name}", archive.send(pieces))
    return dict(sandbox)


def _tell_ids(screen: Screen, conversation: Any, sandbox: Any, as_json: bool) -> None:
    if as_json:
        ids = {"conversation_id": conversation["id"], "sandbox_id": sandbox["id"]}
        screen.line(json.dumps({"type": "cli.started", "payload": ids}))
    else:
        screen.line(f"  conversation {conversation['id']}", "dim")
