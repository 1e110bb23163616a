"""Following the commands of one sandbox behind their callers' backs: to their ends, and over every crash.

Each accepted command that has not ended has one task here. What goes wrong with one ends that one and nothing
else: weather (a database that is away or full) is waited out; after a mistake of ours it is tried again, then
that command is given up. After a crash `adopt` begins all tasks anew from rows and journals; `settle` records
what a dead sandbox left.

A command ends with its own process. What that left behind may hold its streams open and print for longer:
its row gets the rest when they have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from actors.sandbox.commands import views
from actors.sandbox.commands.ends import RETRY_SECONDS, WEATHER, EndWriter, insist
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.journal import ExitRecord, Outcome
from runtime.context import Context
from schema import executions
from terminalpp.types import commands
from terminalpp.types.commands import Command
from terminalpp.types.errors import (
    DeadlineExceeded,
    DiskFull,
    Fenced,
    InvalidInput,
    NotFound,
    Overloaded,
    SandboxNotRunning,
    TerminalError,
    Unavailable,
)
from terminalpp.types.states import ExecutionState

log = logging.getLogger("terminalpp.sandbox")
WATCH_SECONDS = 60.0          # one wait on tppd; it is repeated until the end
ATTEMPTS = 5                  # to follow one command, when it is our own mistake that it does not work


@dataclass(frozen=True, slots=True)
class Attached:
    """The way to the sandbox as it was started last. `environment` is what every command finds."""

    run_dir: str
    generation: int
    shell: str
    environment: dict[str, str]


class CommandFollower:
    """See the head of this file; `Commands` is what callers use.

    `died` is called when nobody answers in the sandbox, and says whether it is really dead.
    """

    def __init__(
        self, context: Context, sandbox_id: str, run_dir: str, died: Callable[[], Awaitable[bool]]
    ) -> None:
        self._context = context
        self._sandbox_id = sandbox_id
        self.run_dir = run_dir  # the same for every generation: journals outlive the sandbox
        self._died = died
        self._attached: Attached | None = None
        self._tppd: Tppd | None = None
        self._tasks: dict[str, asyncio.Task[Any]] = {}    # until their ends are recorded
        self._closing: dict[str, asyncio.Task[Any]] = {}  # ended, with a stream that something left open
        self._starting: set[str] = set()
        self._ends = EndWriter(context, run_dir)
        self.used_at = time.monotonic()  # when a command last began or ended

    async def _start(self, exec_id: str, wanted: Command, wait_s: float) -> ExitRecord | None:
        """Have tppd start it; its end if it is known already. Raises Fenced, Overloaded, DiskFull."""
        raise NotImplementedError

    # ---- which sandbox --------------------------------------------------------------------------

    async def attach(self, attached: Attached | None) -> None:
        """Use this generation from now on; None: nothing runs."""
        if attached == self._attached:
            return
        self._attached = attached
        old, self._tppd = self._tppd, Tppd(attached.run_dir) if attached else None
        if old is not None:
            await old.close()

    @property
    def tppd(self) -> Tppd:
        """Raises SandboxNotRunning."""
        if self._tppd is None:
            raise SandboxNotRunning(f"sandbox {self._sandbox_id} is not running")
        return self._tppd

    @property
    def epoch(self) -> int:
        """The epoch under which commands are started."""
        return self._context.fence.epoch

    @property
    def busy(self) -> bool:
        """A command is being started or is still running."""
        return bool(self._starting or self._tasks)

    # ---- ends -----------------------------------------------------------------------------------

    def _background(self, exec_id: str, work: Callable[[], Awaitable[None]]) -> None:
        task = self._tasks[exec_id] = self._context.spawn(self._mind(exec_id, work), f"command {exec_id}")
        task.add_done_callback(lambda done: _forget(self._tasks, exec_id, done))

    async def _mind(self, exec_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work of one command. Whatever goes wrong with it is that command's end."""
        attempts = 0
        while True:
            try:
                await work()
                return
            except Fenced:
                raise
            except WEATHER:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                log.exception("following command %s", exec_id)
                attempts += 1
                if attempts == ATTEMPTS:
                    await self._give_up(exec_id, error)
                    return
                await asyncio.sleep(RETRY_SECONDS * attempts)

    async def _give_up(self, exec_id: str, error: Exception) -> None:
        with contextlib.suppress(Exception):
            await self.tppd.kill_tree(exec_id, epoch=self.epoch)
        try:
            await self._ends.give_up(exec_id, error)
        except Fenced:
            raise
        except Exception:
            log.exception("command %s cannot even be given up", exec_id)

    def _watch(self, exec_id: str) -> None:
        if exec_id not in self._tasks:
            self._background(exec_id, lambda: self._until_end(exec_id))

    async def _until_end(self, exec_id: str) -> None:
        """Wait for the end, however long, and record it. What was not started yet is started."""
        database, marked = self._context.database, False
        while True:
            if not marked and journal.outcome(self.run_dir, exec_id) is not Outcome.NOT_STARTED:
                await insist(lambda: executions.mark_running(database, exec_id))
                marked = True
            try:
                status = await self.tppd.wait(exec_id, timeout_s=WATCH_SECONDS)
            except SandboxNotRunning:
                # Not awaited here: settling the dead sandbox's commands is not this one's affair.
                self._context.spawn(self._look_again(exec_id), "looking after the sandbox")
                return
            except NotFound:
                row = await executions.get(database, exec_id)
                if ExecutionState(row.status).final:
                    return  # it was refused, and its caller knows: it must not be started now
                if (record := await self._start_again(row)) is not None:
                    await self._finish(record)
                    return
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if status.state != "running":
                    await self._finish(status.record or views.end_of(self.run_dir, exec_id))
                    return

    async def _start_again(self, row: executions.ExecutionRow) -> ExitRecord | None:
        """Start what was accepted and is not known to have been started; as `_start` answers."""
        try:
            wanted = Command.from_row(row.command, row.working_directory, row.environment_vars)
        except (ValueError, TypeError, AttributeError) as error:
            return views.not_started(row.id, InvalidInput(f"its row cannot be read: {error}"))
        try:
            return await self._start(row.id, wanted, 0.0)
        except Overloaded as error:
            return views.not_started(row.id, error)
        except DiskFull:
            await asyncio.sleep(RETRY_SECONDS)  # nobody was told no: it starts when there is room
            return None

    async def _look_again(self, exec_id: str) -> None:
        """Until it is known: the sandbox is dead and its commands are settled, or it answers again.

        Docker calls a container alive for a moment after its process died.
        """
        while True:
            try:
                if await self._died():
                    return
                await self.tppd.hello(self.epoch)
            except (SandboxNotRunning, *WEATHER):
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._watch(exec_id)
            return

    async def _finish(self, record: ExitRecord) -> None:
        await self._ends.record(record)
        self.used_at = time.monotonic()
        if record.streams_open:
            self._watch_streams(record.exec_id)

    def _watch_streams(self, exec_id: str) -> None:
        if exec_id not in self._closing:
            task = self._context.spawn(self._until_closed(exec_id), f"streams of {exec_id}")
            self._closing[exec_id] = task
            task.add_done_callback(lambda done: _forget(self._closing, exec_id, done))

    async def _until_closed(self, exec_id: str) -> None:
        """The command has ended; when its streams have too, its row gets what they brought meanwhile."""
        try:
            while True:
                try:
                    if (await self.tppd.wait(exec_id, timeout_s=WATCH_SECONDS, until="closed")).closed:
                        break
                except (SandboxNotRunning, NotFound):
                    break
                except (Unavailable, DeadlineExceeded):
                    await asyncio.sleep(RETRY_SECONDS)
            await self._ends.close(exec_id)
        except Exception:
            log.exception("the output of command %s after its end", exec_id)  # its row keeps what it has

    # ---- after a crash --------------------------------------------------------------------------

    async def adopt(self) -> None:
        """Take over the open commands of a sandbox that runs: start, watch or record each.

        The greeting with our epoch comes first: from then on nobody older can start or type anything.
        """
        try:
            await self.tppd.hello(self.epoch)
        except (SandboxNotRunning, Unavailable, DeadlineExceeded):
            await self._died()
            return
        database = self._context.database
        for row in await executions.list_open(database, self._sandbox_id):
            if row.id not in self._starting:
                self._watch(row.id)
        for exec_id in await executions.list_unclosed(database, self._sandbox_id):
            self._watch_streams(exec_id)

    async def settle(self) -> None:
        """The sandbox is dead: record each open command as its journal says, else as lost."""
        database = self._context.database
        for row in await executions.list_open(database, self._sandbox_id):
            if row.id not in self._starting:
                await self._mind(row.id, lambda id=row.id: self._settle(id))
        for exec_id in await executions.list_unclosed(database, self._sandbox_id):
            await self._mind(exec_id, lambda id=exec_id: self._ends.close(id))

    async def _settle(self, exec_id: str) -> None:
        await self._ends.record(views.end_of(self.run_dir, exec_id))

    async def kill_all(self, grace_s: float = 2.0) -> None:
        """End what runs inside: a polite signal, then, after `grace_s`, the other one."""
        tppd = self.tppd
        for signo, wait_s in ((15, grace_s), (9, grace_s)):
            for exec_id in await tppd.list():
                try:
                    await tppd.signal(exec_id, signo, epoch=self.epoch, tree=True)
                except TerminalError:
                    continue  # it ended meanwhile
            if self._tasks:
                await asyncio.wait(list(self._tasks.values()), timeout=wait_s)


def _forget(tasks: dict[str, asyncio.Task[Any]], exec_id: str, done: asyncio.Task[Any]) -> None:
    if tasks.get(exec_id) is done:
        del tasks[exec_id]


def attached_of(started: dict[str, Any], generation: int, own: dict[str, str]) -> Attached:
    """From the driver's record as the entity keeps it. `own`: the sandbox's own variables."""
    shell = str(started.get("shell") or "/bin/sh")
    image = dict((started.get("details") or {}).get("environment") or {})
    return Attached(str(started["run_dir"]), generation, shell, commands.environment(image, own, shell))
