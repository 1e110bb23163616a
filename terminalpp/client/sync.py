"""The synchronous face: sandboxes, commands, files and conversations as objects for ordinary code.

    with Sandbox.create() as sandbox:
        result = sandbox.commands.run("echo hello", on_stdout=print)

Each method waits and does what the asynchronous one does. One connection is shared by all objects that talk
to the same server, and is closed when the interpreter ends. See `blocking`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal, Self, Unpack, overload

from terminalpp.client import shapes
from terminalpp.client.blocking import Background, Blocking, background, blocking, iterating
from terminalpp.client.command import AsyncCommand, AsyncCommands, CommandOptions, OnText
from terminalpp.client.connection import connection
from terminalpp.client.conversation import AsyncConversation, ConversationOptions
from terminalpp.client.filesystem import AsyncFilesystem
from terminalpp.client.ports import AsyncPort
from terminalpp.client.result import Gathering, Result
from terminalpp.client.sandbox import AsyncSandbox, SandboxOptions
from terminalpp.types import errors


class Command(Blocking[AsyncCommand]):
    """A command that was started. Each method may be called any number of times, from any program."""

    @property
    def id(self) -> str:
        """The command's id."""
        return self._inner.id

    record = blocking(AsyncCommand.record)
    output = iterating(AsyncCommand.output)
    __iter__ = iterating(AsyncCommand.__aiter__)
    kill = blocking(AsyncCommand.kill)
    signal = blocking(AsyncCommand.signal)
    send_stdin = blocking(AsyncCommand.send_stdin)
    close_stdin = blocking(AsyncCommand.close_stdin)

    def wait(
        self, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None, check: bool = True
    ) -> Result:
        """Its result once it has ended, the callbacks having seen all of its output from the first byte.

        Raises CommandFailed unless it ended by itself with 0; with `check=False` that is a result too."""
        if on_stdout is None and on_stderr is None:
            return self._background.call(self._inner.wait(check=check))
        gathering = Gathering(self.id)
        called = {"stdout": on_stdout, "stderr": on_stderr}
        for event in self:
            for stream, text in gathering.feed(event):
                if call := called[stream]:
                    call(text)
        return gathering.result(check)


class Commands(Blocking[AsyncCommands]):
    """`sandbox.commands`."""

    @overload
    def run(
        self,
        cmd: str | Sequence[str],
        *,
        background: Literal[False] = False,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        check: bool = True,
        **options: Unpack[CommandOptions],
    ) -> Result: ...

    @overload
    def run(
        self, cmd: str | Sequence[str], *, background: Literal[True], **options: Unpack[CommandOptions]
    ) -> Command: ...

    def run(
        self,
        cmd: str | Sequence[str],
        *,
        background: bool = False,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        check: bool = True,
        **options: Unpack[CommandOptions],
    ) -> Result | Command:
        """Run a shell line, or a program with its arguments, to its end.

        `on_stdout`, `on_stderr`: called with each piece as it comes. `check`: raise CommandFailed unless it
        ended by itself with 0. `background`: return at once with its handle."""
        if not background and on_stdout is None and on_stderr is None:
            return self._background.call(self._inner.run(cmd, check=check, **options))
        command = self.start(cmd, **options)
        if background:
            return command
        try:
            return command.wait(on_stdout=on_stdout, on_stderr=on_stderr, check=check)
        except (errors.CommandFailed, errors.Unavailable):  # it has ended; or it cannot be reached
            raise
        except BaseException:
            with suppress(errors.TerminalError):
                command.kill()
            raise

    def start(self, cmd: str | Sequence[str], **options: Unpack[CommandOptions]) -> Command:
        """As `run(…, background=True)`."""
        inner = self._background.call(self._inner.run(cmd, background=True, **options))
        return Command(inner, self._background)

    def connect(self, command_id: str) -> Command:
        """The handle of a command that was started before, here or elsewhere. Raises NotFound."""
        return Command(self._background.call(self._inner.connect(command_id)), self._background)

    list = blocking(AsyncCommands.list)
    kill = blocking(AsyncCommands.kill)


class Filesystem(Blocking[AsyncFilesystem]):
    """`sandbox.files`. Raises NotFound, FileProblem, Conflict as each method says."""

    read = blocking(AsyncFilesystem.read)
    read_bytes = blocking(AsyncFilesystem.read_bytes)
    write = blocking(AsyncFilesystem.write)
    list = blocking(AsyncFilesystem.list)
    exists = blocking(AsyncFilesystem.exists)
    get_info = blocking(AsyncFilesystem.get_info)
    remove = blocking(AsyncFilesystem.remove)
    rename = blocking(AsyncFilesystem.rename)
    make_dir = blocking(AsyncFilesystem.make_dir)


class Port(Blocking[AsyncPort]):
    """A port of a sandbox; `sandbox.port(8000)`."""

    request = blocking(AsyncPort.request)
    share = blocking(AsyncPort.share)
    unshare = blocking(AsyncPort.unshare)
    url = blocking(AsyncPort.url)


class Sandbox(Blocking[AsyncSandbox]):
    """A sandbox, with its `commands` and `files`."""

    def __init__(self, inner: AsyncSandbox, background: Background) -> None:
        super().__init__(inner, background)
        self.commands = Commands(inner.commands, background)
        self.files = Filesystem(inner.files, background)

    @property
    def id(self) -> str:
        """The sandbox's id."""
        return self._inner.id

    @classmethod
    def create(
        cls, *, url: str | None = None, token: str | None = None, **options: Unpack[SandboxOptions]
    ) -> Self:
        """A new one, running. `url` with `token`: of another server than `connection` finds.

        Raises SandboxFailed with the reason, Unavailable when no server answers."""
        of = background()
        client = of.client(connection(url, token))
        return cls(of.call(AsyncSandbox.create(client=client, **options)), of)

    @classmethod
    def connect(cls, sandbox_id: str, *, url: str | None = None, token: str | None = None) -> Self:
        """One that exists, as it is (`start` starts it). Raises NotFound."""
        of = background()
        client = of.client(connection(url, token))
        return cls(of.call(AsyncSandbox.connect(sandbox_id, client=client)), of)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._background.call(self._inner.__aexit__())

    record = blocking(AsyncSandbox.record)
    network = blocking(AsyncSandbox.network)
    set_network = blocking(AsyncSandbox.set_network)
    start = blocking(AsyncSandbox.start)
    stop = blocking(AsyncSandbox.stop)
    kill = blocking(AsyncSandbox.kill)
    processes = blocking(AsyncSandbox.processes)
    ports = blocking(AsyncSandbox.ports)

    def port(self, port: int) -> Port:
        """One of its ports: to send requests, to share it."""
        return Port(self._inner.port(port), self._background)

    @staticmethod
    def list(*, url: str | None = None, token: str | None = None) -> list[shapes.Sandbox]:
        """The account's sandboxes, newest first."""
        of = background()
        return of.call(AsyncSandbox.list(client=of.client(connection(url, token))))


class Conversation(Blocking[AsyncConversation]):
    """A conversation about a directory of a sandbox."""

    @property
    def id(self) -> str:
        """The conversation's id."""
        return self._inner.id

    @classmethod
    def create(cls, sandbox: Sandbox, workspace: str, **options: Unpack[ConversationOptions]) -> Self:
        """`workspace`: the directory in the sandbox that the team works in.

        Raises InvalidInput (there is no such directory), ModelUnknown."""
        of = sandbox._background
        return cls(of.call(AsyncConversation.create(sandbox._inner, workspace, **options)), of)

    @classmethod
    def connect(cls, sandbox: Sandbox, conversation_id: str) -> Self:
        """One that exists, over the connection of `sandbox`; iteration begins behind its last event.
        Raises NotFound."""
        of = sandbox._background
        return cls(of.call(AsyncConversation.connect(sandbox._inner, conversation_id)), of)

    def __iter__(self) -> Iterator[shapes.Event]:
        """Events behind the last one seen, until the turns that answer what was sent have ended; what has
        happened so far when nothing was sent. Left early, the next iteration goes on there."""
        return self._background.iterate(self._inner.__aiter__())

    send = blocking(AsyncConversation.send)
    events = iterating(AsyncConversation.events)
    wait = blocking(AsyncConversation.wait)
    diff = blocking(AsyncConversation.diff)
    cancel = blocking(AsyncConversation.cancel)
    record = blocking(AsyncConversation.record)
