"""The prompt of `chat` on a terminal: editing, history, completion, and a line that says how things stand.

The conversation is written above the prompt while a person types; what is not a whole line yet stands right
over it. Enter sends; Alt-Enter, or a backslash at the end of the line, begins a new one; what is pasted stays
one message however many lines it has. Ctrl-R searches what was typed before, Tab completes, Ctrl-Z puts the
program to sleep, Ctrl-D on an empty line leaves. Ctrl-C takes back what is being typed when nothing runs,
else it is the conversation's (`interrupt`).

Needs a terminal that can move its cursor: `possible` says whether there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from terminalpp.cli.screen import Screen, fitting

WAITING = 100  # messages typed ahead of the program; then it takes no more until one is done
PASSING_COLUMNS = 400


def possible(screen: Screen) -> bool:
    """Whether standard input and output are a terminal that is not a dumb one."""
    dumb = os.environ.get("TERM", "dumb").lower() in ("", "dumb", "unknown")
    return sys.stdin.isatty() and screen.tty and not dumb


class Prompt:
    """Use with `async with`; `get` gives one message after the other, None at the end.

    `standing`: what the line below says, part by part, what matters most first. `busy`: whether Ctrl-C has
    something to stop; it and Ctrl-C on an empty line call `interrupt`. `commands`: names for completion;
    `root`: the project, for `@files`.
    """

    def __init__(
        self, screen: Screen, *, standing: Callable[[], list[str]], busy: Callable[[], bool],
        interrupt: Callable[[], None], commands: Iterable[str], root: Path | None,
    ) -> None:  # fmt: skip
        self._screen = screen
        self._standing = standing
        self._busy = busy
        self._interrupt = interrupt
        self._passing = ""
        self._messages: asyncio.Queue[str | None] = asyncio.Queue(WAITING)
        self._session = self._make(commands, root)
        self._around = contextlib.ExitStack()

    async def __aenter__(self) -> Prompt:
        from prompt_toolkit.patch_stdout import StdoutProxy

        proxy = self._around.enter_context(StdoutProxy(raw=True))
        self._around.enter_context(self._screen.beside(proxy, self._show))  # type: ignore[arg-type]
        self._reader = asyncio.create_task(self._read(), name="prompt")
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        # The proxy's thread writes what is left; it must not be waited for on the loop that it may need.
        await asyncio.to_thread(self._around.close)

    async def get(self) -> str | None:
        """The next message that the person has sent; None at the end of input."""
        return await self._messages.get()

    def refresh(self) -> None:
        """Draw the line below anew."""
        self._session.app.invalidate()

    def _show(self, text: str) -> None:
        if text != self._passing:
            self._passing = text[-PASSING_COLUMNS:]
            self.refresh()

    async def _read(self) -> None:
        while True:
            try:
                text = await self._session.prompt_async(
                    self._above, handle_sigint=False, set_exception_handler=False
                )
            except (EOFError, OSError):  # Ctrl-D; or the terminal is gone
                await self._messages.put(None)
                return
            await self._messages.put(text)

    def _above(self) -> list[tuple[str, str]]:
        you = ("bold", "you ▸ ")
        if not self._passing:
            return [you]
        return [("class:passing", fitting(self._passing, self._screen.width - 1) + "\n"), you]

    def _below(self) -> list[tuple[str, str]]:
        words = ""
        for part in self._standing():
            longer = f"{words} · {part}" if words else part
            if words and fitting(longer, self._screen.width - 2) != longer:
                break
            words = longer
        return [("class:standing", " " + fitting(words, self._screen.width - 2))]

    def _make(self, commands: Iterable[str], root: Path | None) -> Any:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.output.color_depth import ColorDepth
        from prompt_toolkit.styles import Style

        from terminalpp.cli.inputs import PromptCompleter, PromptHistory

        style = Style.from_dict({"bottom-toolbar": "noreverse", "standing": "ansibrightblack",
                                 "passing": "ansibrightblack"})
        session: Any = PromptSession(
            history=PromptHistory(), completer=PromptCompleter(commands, root),
            complete_in_thread=True, multiline=True,
            complete_while_typing=Condition(lambda: PromptCompleter.wanted(session.default_buffer.document)),
            key_bindings=self._keys(), bottom_toolbar=self._below, style=style, erase_when_done=True,
            enable_suspend=True, color_depth=None if self._screen.colour else ColorDepth.DEPTH_1_BIT,
            prompt_continuation="      ", reserve_space_for_menu=6,
        )  # fmt: skip
        session.app.min_redraw_interval = 0.05
        session.app.ttimeoutlen = 0.1
        return session

    def _keys(self) -> Any:
        from prompt_toolkit.enums import DEFAULT_BUFFER
        from prompt_toolkit.filters import has_focus, is_searching
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER) & ~is_searching

        @keys.add("enter", filter=typing)
        def enter(event: Any) -> None:
            buffer = event.current_buffer
            if buffer.complete_state and buffer.complete_state.current_completion:
                buffer.complete_state = None  # what was picked stands in the text already
            elif buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            elif buffer.text.strip():
                buffer.validate_and_handle()

        @keys.add("escape", "enter", filter=typing)
        def newline(event: Any) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c", filter=typing)
        def interrupt(event: Any) -> None:
            if event.current_buffer.text and not self._busy():
                event.current_buffer.reset()
            else:
                self._interrupt()

        return keys
