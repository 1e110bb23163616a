"""The verb `chat`: type, watch, type again.

What is typed while the team works is posted at once; the server queues it and the coder sees it at
its next step. Lines beginning with `/` are for the program:

    /diff            what has changed so far
    /apply           bring the changes into the working tree
    /model [NAME]    show or change the model (from the next step on)
    /show [K]        print what was folded under the number K; without it, what was folded last
    /cost            tokens, money and tests so far
    /rewind [N]      list the points that can be gone back to; go back to one, with its files
    /fork [N]        begin another conversation with what this one is, or was at a point
    /cancel          stop the turn that runs (as Ctrl-C does)
    /quit            leave; the conversation is kept

On a terminal that can move its cursor there is a prompt with editing, history and completion (`prompt`).
Without a person at the terminal each line of standard input is a message, sent when the turn before
it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from terminalpp.cli import diffs, rewinds
from terminalpp.cli.deliver import Destination, deliver
from terminalpp.cli.exits import Exit, NotApplied, of_outcome
from terminalpp.cli.folded_output import FoldedOutputs
from terminalpp.cli.prompt import Prompt, possible
from terminalpp.cli.run import not_applied
from terminalpp.cli.sanitize import Sanitizer, clean, overwritten
from terminalpp.cli.screen import Screen
from terminalpp.cli.session import Options, Session, check_task, open_session, resumed
from terminalpp.cli.watch import interruptible
from terminalpp.types.errors import TerminalError

HELP = (__doc__ or "").split("\n\n")[2]
COMMANDS = ("/diff", "/apply", "/model", "/show", "/cost", "/cancel", "/rewind", "/fork", "/quit", "/help")
SHOW_BYTES = 8 << 20  # of one command's output that /show prints


class Chat:
    """One conversation at a prompt. `idle` is set while no turn runs or waits to."""

    def __init__(self, session: Session, screen: Screen, as_json: bool) -> None:
        self.session = session
        self.screen = screen
        self.as_json = as_json
        self.person = sys.stdin.isatty()
        self.totals = session.watch.renderer.totals
        self.idle = asyncio.Event()
        if not self.totals.running:
            self.idle.set()
        self.quitting = asyncio.Event()
        self.prompt: Prompt | None = None
        self.outcome = ""
        self.presses = 0

    async def run(self) -> Exit:
        """Until /quit, the end of the input, or Ctrl-C while nothing runs."""
        watching: asyncio.Task[None] | None = None
        with interruptible(self._pressed, self._pressed):
            try:
                async with self._typing() as lines:
                    watching = asyncio.create_task(self._watch())
                    ended = await self._converse(lines, watching)
                if ended and self.person and self.prompt is None:
                    self.screen.line()
            finally:
                if watching is not None:
                    watching.cancel()
                    with contextlib.suppress(asyncio.CancelledError, TerminalError):
                        await watching
        return await self._leave()

    async def _converse(self, lines: Any, watching: asyncio.Task[None]) -> bool:
        """Do what is typed; True when the input has ended."""
        while not self.quitting.is_set():
            self._ask()
            if not self.person:
                await _first(self.idle.wait(), self.quitting.wait(), watching)
            line = await _first(lines.get(), self.quitting.wait(), watching)
            if watching.done():
                watching.result()
            if not isinstance(line, str):
                return line is None
            if await self._entered(line.rstrip("\n")):
                return False
        return False

    @contextlib.asynccontextmanager
    async def _typing(self) -> AsyncIterator[Any]:
        """Where messages come from: `get` gives the next one, None at the end."""
        if self.as_json or not possible(self.screen):
            yield _lines()
            return
        record, loop = self.session.record, asyncio.get_running_loop()
        self.prompt = Prompt(
            self.screen, standing=self.totals.standing, busy=lambda: not self.idle.is_set(),
            interrupt=self._pressed, commands=COMMANDS, root=Path(record.root) if record else None,
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGHUP):  # the terminal must be given back as it was
            loop.add_signal_handler(number, self.quitting.set)
        try:
            async with self.prompt as prompt:
                yield prompt
        finally:
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _ask(self) -> None:
        asks = self.person and self.screen.tty and self.prompt is None and not self.as_json
        if asks and self.idle.is_set():
            self.screen.words(self.screen.paint("you ▸ ", "bold"))

    def _pressed(self) -> None:
        self.presses += 1
        if self.idle.is_set() or self.presses > 1:
            self.quitting.set()
            return
        self.screen.line("Cancelling… Ctrl-C again leaves; the work then goes on.", "yellow")
        self._cancelling = asyncio.create_task(self._cancel())

    async def _cancel(self) -> None:
        try:
            await self.session.client.cancel(self.session.id)
        except TerminalError as error:
            self.screen.line(f"could not be cancelled: {error.detail}", "red")

    async def _watch(self) -> None:
        async for event in self.session.watch.events():
            if event["type"] == "turn.finished":
                self.outcome = str(event["payload"].get("outcome"))
                self.presses = 0
                self.idle.set()
                self._ask()
            elif event["type"] == "turn.started":
                self.idle.clear()
            if self.prompt is not None:
                self.prompt.refresh()

    async def _entered(self, line: str) -> bool:
        """Do what a line says; True to leave."""
        if not line.strip():
            return False
        self.screen.end_words()
        if line.startswith("/"):
            if self.prompt is not None:  # which leaves no trace of what was typed
                self.screen.line(f"▸ {clean(line, one_line=True)}", "bold")
            word, _, rest = line[1:].partition(" ")
            return await self._command(word.lower(), rest.strip())
        try:
            queued = not self.idle.is_set()
            self.idle.clear()
            await self.session.client.post_message(self.session.id, check_task(line))
            if queued and not self.as_json and self.prompt is None:
                self.screen.line("  (queued: the team sees it at its next step)", "dim")
        except TerminalError as error:
            if not self.totals.running:
                self.idle.set()
            self._problem(error)
        return False

    async def _command(self, word: str, rest: str) -> bool:
        if word in ("quit", "exit", "q"):
            return True
        actions = {"diff": self._diff, "apply": self._apply, "cost": self._cost, "cancel": self._cancel}
        taking = {"model": self._model, "show": self._show, "rewind": self._rewind, "fork": self._fork}
        try:
            if word in taking:
                await taking[word](rest)
            elif word in actions:
                await actions[word]()
            else:
                self.screen.line(HELP)
        except TerminalError as error:
            self._problem(error)
        return False

    async def _diff(self) -> None:
        patch = (await self.session.changes()).patch
        if not patch:
            self.screen.line("No files were changed.")
        elif self.as_json:
            text = patch.decode("utf-8", "replace")
            self.screen.line(json.dumps({"type": "cli.diff", "payload": {"patch": text}}))
        else:
            diffs.show(self.screen, patch)

    async def _apply(self) -> None:
        if self.session.record is None:
            self.screen.line("This conversation was not started here; `./tpp run --resume` has --patch.")
            return
        try:
            changes = await self.session.changes()
            deliver(self.screen, self.session.record, changes, Destination(to_tree=True), green=True,
                    as_json=self.as_json)
        except NotApplied as problem:
            not_applied(self.screen, problem, self.as_json)

    async def _model(self, name: str) -> None:
        if name:
            await self.session.client.set_model(self.session.id, name)
        row = await self.session.client.conversation(self.session.id)
        self.totals.model = str(row["model"])
        self.screen.line(f"Model: {clean(self.totals.model, one_line=True)}")

    async def _rewind(self, to: str) -> None:
        client, id = self.session.client, self.session.id
        if not to:
            await rewinds.show_points(client, id, self.screen, as_json=self.as_json)
            self.screen.line("`/rewind N` goes back to one; `/rewind N ?` shows which files that changes.")
            return
        number, _, asked = to.partition(" ")
        point = await rewinds.chosen_point(client, id, number)
        if asked.strip() == "?":
            await rewinds.show_preview(client, id, point, self.screen, as_json=self.as_json)
        else:
            await rewinds.go(client, id, point, self.screen, as_json=self.as_json)

    async def _fork(self, at: str) -> None:
        client, id = self.session.client, self.session.id
        point = await rewinds.chosen_point(client, id, at) if at else None
        row = await client.fork(id, point["id"] if point else None)
        self.screen.line(f"It is {row['id']}; `./tpp run --resume {row['id'][:8]} TASK` goes on with it.")

    async def _show(self, number: str) -> None:
        folds = self.session.watch.renderer.folds or FoldedOutputs()
        fold = folds.get(number)
        self.screen.line(clean(fold.title, one_line=True), "bold")
        if not fold.exec_id:
            for line in clean(fold.text).split("\n"):
                self.screen.line(f"  │ {line}")
            return
        neutral, offset, partial = Sanitizer(), 0, ""
        client, sandbox_id = self.session.client, self.session.watch.sandbox_id
        while offset < SHOW_BYTES and not self.quitting.is_set():
            piece = await client.output(sandbox_id, fold.exec_id, offset=offset)
            if piece.gap_bytes:
                self.screen.line(f"  ┆ … {piece.gap_bytes:,} bytes are not kept", "dim")
            *lines, partial = (partial + neutral.feed_bytes(piece.data)).split("\n")
            for line in lines:
                self.screen.line(f"  │ {overwritten(line)}")
            if not piece.data:
                break
            offset = piece.next_offset
        if partial:
            self.screen.line(f"  │ {overwritten(partial)}")
        if offset >= SHOW_BYTES:
            path = f"/v1/sandboxes/{sandbox_id}/commands/{fold.exec_id}/output"
            self.screen.line(f"  ┆ … there may be more: GET {path}?offset={offset}", "dim")

    async def _cost(self) -> None:
        self.screen.line(self.totals.cost_words())
        if self.totals.tests_words():
            self.screen.line(f"tests: {self.totals.tests_words()}")

    def _problem(self, error: TerminalError) -> None:
        self.screen.line(f"✗ {error.detail}", "red")
        self.screen.line(f"  → {error.next_step}")

    async def _leave(self) -> Exit:
        running = not self.idle.is_set()
        if not self.as_json:
            words = "The turn goes on by itself. " if running else ""
            again = f"./tpp chat --conversation {self.session.id[:8]}"
            self.screen.line(f"{words}The conversation is kept: {again}", "dim")
        if self.person or not self.outcome:
            return Exit.OK
        return of_outcome(self.outcome)


async def chat(directory: str, options: Options, screen: Screen, *, as_json: bool) -> Exit:
    """A new conversation about a directory."""
    async with open_session(directory, screen, options, "", as_json=as_json) as session:
        session.watch.renderer.folds = FoldedOutputs()
        _greet(screen, as_json)
        return await Chat(session, screen, as_json).run()


async def chat_again(prefix: str, screen: Screen, *, as_json: bool) -> Exit:
    """An old conversation: everything so far is shown first."""
    async with resumed(prefix, screen, as_json=as_json) as session:
        session.watch.renderer.folds = FoldedOutputs()
        await session.watch.replay(follow=False)
        _greet(screen, as_json)
        return await Chat(session, screen, as_json).run()


def _greet(screen: Screen, as_json: bool) -> None:
    if not as_json and screen.tty:
        screen.line("Type a task. /help lists the commands, Ctrl-C cancels, Ctrl-D leaves.", "dim")


def _lines() -> asyncio.Queue[str | None]:
    """Standard input line by line; None at its end. A thread reads: a terminal cannot be awaited
    without changing its mode for every program that shares it. The queue holds what a person types
    ahead; at 1000 lines the thread waits."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(1000)
    loop = asyncio.get_running_loop()

    def read() -> None:
        rest = b""
        with contextlib.suppress(RuntimeError, OSError):  # the loop is closed: the program is leaving
            # not sys.stdin: its lock, held by a waiting thread, would abort the interpreter's exit
            while data := os.read(0, 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    put(line.decode("utf-8", "replace"))
            if rest:
                put(rest.decode("utf-8", "replace"))
            put(None)

    def put(line: str | None) -> None:
        asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()

    threading.Thread(target=read, name="stdin", daemon=True).start()
    return queue


async def _first(*awaitables: Any) -> Any:
    """The result of whichever is done first; the others are cancelled unless they are tasks already."""
    tasks = [asyncio.ensure_future(item) for item in awaitables]
    mine = [task for task, item in zip(tasks, awaitables, strict=True) if task is not item]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in mine:
            task.cancel()
    return next((task.result() for task in tasks if task in done and not task.exception()), False)
