"""Commands of a sandbox as objects: `sandbox.commands.run("…")`, and the handle of one that runs on.

What is left running: nothing that `run` started and did not hand back. When it is cancelled, or a callback
raises, the command is killed with all its processes before the exception goes on. `timeout` is kept by the
sandbox itself, whatever becomes of this program. `background=True` hands the command to the caller: it runs
until it ends, is killed, or its `timeout` is over; to stop waiting for it does not stop it.

Output is read from the server's journal by offset, so that a lost connection costs no byte. A result holds
what came until the command's own process ended; what a process it left behind prints later is in
`output()`. Of each stream the last KEPT_BYTES are in the result, and `gap_bytes` says how much is not.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from terminalpp.client import shapes
from terminalpp.client.client import Client
from terminalpp.client.result import Gathering, Result
from terminalpp.client.transport import field
from terminalpp.types import errors

CLEANUP_S = 10.0  # how long a cancellation may wait for what it has to undo

R = TypeVar("R")
# Called with each piece of a stream as text; of the asynchronous face it may be a coroutine function.
OnText = Callable[[str], Any]


class CommandOptions(TypedDict, total=False):
    """`timeout`: seconds, then all its processes are ended (reason `timeout`); without: no limit. `stdin`:
    keep standard input open for `send_stdin`; without it the command reads an empty one."""

    cwd: str | None
    envs: dict[str, str] | None
    stdin: bool
    timeout: float | None


async def held(making: Coroutine[Any, Any, R], undo: Callable[[R], Awaitable[object]]) -> R:
    """What `making` makes; when the caller is cancelled meanwhile, it is made and undone."""
    task = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(errors.TerminalError, TimeoutError):
            async with asyncio.timeout(CLEANUP_S):
                await undo(await task)
        raise


class AsyncCommand:
    """A command that was started. Each method may be called any number of times, from any program."""

    def __init__(self, client: Client, sandbox_id: str, id: str, *, written: int | None = None) -> None:
        self.id = id
        self.sandbox_id = sandbox_id
        self._client = client
        self._written = written  # bytes of standard input so far, where that is known
        self._writing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"

    async def record(self) -> shapes.Execution:
        """Its record as it stands."""
        return await self._client.command(self.sandbox_id, self.id)

    async def output(
        self, *, stdout_offset: int = 0, stderr_offset: int = 0
    ) -> AsyncGenerator[shapes.OutputEvent, None]:
        """Both streams from these bytes on, `exited`, and what processes that it left print, up to `end`."""
        stream = self._client.stream_output(
            self.sandbox_id, self.id, stdout_offset=stdout_offset, stderr_offset=stderr_offset
        )
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def __aiter__(self) -> AsyncGenerator[shapes.OutputEvent, None]:
        """From the first byte to the end of its own process: the event `exited` is the last."""
        async with aclosing(self.output()) as events:
            async for event in events:
                yield event
                if event.kind in ("exited", "end"):
                    return

    async def wait(
        self, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None, check: bool = True
    ) -> Result:
        """Its result once it has ended, the callbacks having seen all of its output from the first byte.

        Raises CommandFailed unless it ended by itself with 0; with `check=False` that is a result too."""
        gathering = Gathering(self.id)
        called = {"stdout": on_stdout, "stderr": on_stderr}
        async with aclosing(self.__aiter__()) as events:
            async for event in events:
                for stream, text in gathering.feed(event):
                    if (call := called[stream]) and inspect.isawaitable(said := call(text)):
                        await said
        return gathering.result(check)

    async def kill(self) -> bool:
        """End it with all its processes; after its end, those it left. False: there was nothing left."""
        try:
            await self._client.signal(self.sandbox_id, self.id, "KILL", tree=True)
        except (errors.CommandFinished, errors.SandboxNotRunning):
            return False
        return True

    async def signal(self, signal: str, *, tree: bool = False) -> None:
        """`signal`: INT, TERM, HUP, …; `tree`: to all its processes. Raises CommandFinished."""
        await self._client.signal(self.sandbox_id, self.id, signal, tree=tree)

    async def send_stdin(self, data: str | bytes) -> None:
        """Raises CommandFinished; needs `stdin=True` at its start."""
        await self._write(data.encode() if isinstance(data, str) else data, eof=False)

    async def close_stdin(self) -> None:
        """It reads the end of its input behind what was sent."""
        await self._write(b"", eof=True)

    async def _write(self, data: bytes, *, eof: bool) -> None:
        async with self._writing:
            if self._written is None:  # started elsewhere: nothing, written at 0, tells how much there was
                told = await self._client.write_stdin(self.sandbox_id, self.id, b"", offset=0)
                self._written = int(field(told, "offset"))
            told = await self._client.write_stdin(
                self.sandbox_id, self.id, data, offset=self._written, eof=eof
            )
            self._written = int(field(told, "offset"))


class AsyncCommands:
    """`sandbox.commands`."""

    def __init__(self, client: Client, sandbox_id: str) -> None:
        self._client = client
        self._sandbox_id = sandbox_id

    @overload
    async def run(
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
    async def run(
        self, cmd: str | Sequence[str], *, background: Literal[True], **options: Unpack[CommandOptions]
    ) -> AsyncCommand: ...

    async def run(
        self,
        cmd: str | Sequence[str],
        *,
        background: bool = False,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        check: bool = True,
        **options: Unpack[CommandOptions],
    ) -> Result | AsyncCommand:
        """Run a shell line, or a program with its arguments, to its end.

        `on_stdout`, `on_stderr`: called with each piece as it comes. `check`: raise CommandFailed unless it
        ended by itself with 0. `background`: return at once with its handle."""
        command = await held(self.start(cmd, **options), AsyncCommand.kill)
        if background:
            return command
        try:
            return await command.wait(on_stdout=on_stdout, on_stderr=on_stderr, check=check)
        except (errors.CommandFailed, errors.Unavailable):  # it has ended; or it cannot be reached
            raise
        except BaseException:
            with suppress(errors.TerminalError, TimeoutError):
                async with asyncio.timeout(CLEANUP_S):
                    await command.kill()
            raise

    async def start(self, cmd: str | Sequence[str], **options: Unpack[CommandOptions]) -> AsyncCommand:
        """As `run(…, background=True)`."""
        timeout = options.get("timeout")
        record = await self._client.run_command(
            self._sandbox_id,
            cmd if isinstance(cmd, str) else None,
            argv=None if isinstance(cmd, str) else list(cmd),
            cwd=options.get("cwd"),
            env=options.get("envs"),
            stdin=options.get("stdin", False),
            timeout_ms=None if timeout is None else max(1, round(timeout * 1000)),
        )
        return AsyncCommand(self._client, self._sandbox_id, field(record, "id"), written=0)

    async def connect(self, command_id: str) -> AsyncCommand:
        """The handle of a command that was started before, here or elsewhere. Raises NotFound."""
        record = await self._client.command(self._sandbox_id, command_id)
        return AsyncCommand(self._client, self._sandbox_id, field(record, "id"))

    async def list(self, *, status: str | None = None, limit: int = 100) -> list[shapes.ExecutionListed]:
        """Newest first, without output. `status`: pending, running, completed, failed or killed."""
        return await self._client.commands(self._sandbox_id, limit, status=status)

    async def kill(self, command_id: str) -> bool:
        """As `connect(…).kill()`. Raises NotFound."""
        return await AsyncCommand(self._client, self._sandbox_id, command_id).kill()
