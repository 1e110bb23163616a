"""The commands of one running sandbox: accepted once, started once, recorded once.

The order that makes it so. (1) The row is inserted under the entity's fence: from here on the command is
accepted. (2) tppd is told to start it under the row's id, which it does once however often it is told.
(3) The end is read from tppd's exit record and written to the row, behind the caller's back. A crash
after (1) or (2) is made good by `adopt`: what was not started is started, what runs is watched, what has
ended is recorded. A command whose sandbox died is recorded as `failed`, reason `lost`, and never run again.

The caller's path is one insert and one round trip to tppd, which has the process ready by then. Reads are
from the journals on the host, so a reader never waits for a writer. Nothing here is state: all of it can be
made again from rows and journals.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from actors.sandbox import answers, command, journal
from actors.sandbox.command import Command
from actors.sandbox.journal import ExitRecord, Outcome
from actors.sandbox.tppd import Tppd
from actors.sandbox.wire import Fields
from runtime.context import Context
from schema import Database, executions
from terminalpp.types.errors import (
    CommandNotStarted,
    DeadlineExceeded,
    Fenced,
    NotFound,
    SandboxNotRunning,
    TerminalError,
    Unavailable,
)
from terminalpp.types.states import ExecutionState

WATCH_SECONDS = 60.0          # one wait on tppd; it is repeated until the end
MAX_WAIT_SECONDS = 600.0
RETRY_SECONDS = 0.5
STARTING_SECONDS = 0.005
GATHER_SECONDS = 0.05         # ends of commands are written to their rows together


@dataclass(frozen=True, slots=True)
class Attached:
    """Where commands of one generation go. `environment` is what every command finds."""

    run_dir: str
    generation: int
    shell: str
    environment: dict[str, str]


class Commands:
    """See the head of this file.

    `died` is called when nobody answers in the sandbox, and says whether it is really dead; `revive`
    starts it anew and returns once it runs (or raises why not).
    """

    def __init__(
        self, context: Context, sandbox_id: str, run_dir: str,
        died: Callable[[], Awaitable[bool]], revive: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._context = context
        self._sandbox_id = sandbox_id
        self.run_dir = run_dir  # the same for every generation: journals outlive the sandbox
        self._died = died
        self._revive = revive
        self._attached: Attached | None = None
        self._tppd: Tppd | None = None
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._starting: set[str] = set()
        self._ends = Ends(context.database)
        self.used_at = time.monotonic()  # when a command last began or ended

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
        return self._context.fence.epoch

    @property
    def busy(self) -> bool:
        """A command is being started or is still running."""
        return bool(self._starting or self._tasks)

    # ---- run ------------------------------------------------------------------------------------

    async def run(self, payload: dict[str, Any], user_id: str) -> dict[str, Any]:
        """Accept and start; the answer after its end or `wait_ms`. See `Sandbox.run`."""
        wanted = Command.parse(payload)
        exec_id = journal.check_exec_id(str(payload["exec_id"]))
        wait_s = _wait_seconds(payload.get("wait_ms", 0))
        head = int(payload.get("head_bytes", answers.HEAD_BYTES))
        self._starting.add(exec_id)
        self.used_at = time.monotonic()
        created = False
        prepared = asyncio.create_task(self._prepare(exec_id, wanted), name=f"prepare {exec_id}")
        try:
            row, created = await executions.create(
                self._context.database, exec_id, self._sandbox_id, payload.get("user_id") or user_id,
                wanted.text, wanted.cwd, wanted.row_environment(), payload.get("mode") or "manual",
                payload.get("idempotency_key"), fence=self._context.fence, agent=payload.get("agent"),
                conversation_id=payload.get("conversation_id"),
            )
            if created:
                record = await self._start(exec_id, wanted, wait_s, await prepared)
                if record is not None:
                    self._background(exec_id, self._record(record))
                    answer = answers.of_record(self.run_dir, record, head)
                    return _accepted(answer, row, created)
        except Fenced:
            raise  # the new owner adopts it
        except BaseException:
            # Accepted is accepted, whatever became of the caller.
            if created:
                with contextlib.suppress(Fenced):
                    self._watch(exec_id)
            raise
        finally:
            self._starting.discard(exec_id)
            prepared.cancel()
        return _accepted(await self.wait(exec_id, 0 if created else wait_s, head), row, created)

    async def repeated(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of `run` to a command that was started before, without a sandbox; None for a new one.

        Raises InvalidInput, IdempotencyMismatch.
        """
        wanted, exec_id = Command.parse(payload), str(payload["exec_id"])
        try:
            row = await executions.get(self._context.database, exec_id)
        except NotFound:
            return None
        executions.require_same(row, self._sandbox_id, wanted.text, wanted.cwd, wanted.row_environment())
        unstarted = journal.outcome(self.run_dir, exec_id) is Outcome.NOT_STARTED
        if row.status == ExecutionState.PENDING and unstarted:
            return None
        head = int(payload.get("head_bytes", answers.HEAD_BYTES))
        return _accepted(await self.wait(exec_id, 0, head), row, False)

    async def _prepare(self, exec_id: str, wanted: Command) -> Fields | None:
        """Have the process made ready while Postgres commits the row. None: `_start` will say why not."""
        attached = self._attached
        if attached is None:
            return None
        argv, options = wanted.arguments(attached.shell), wanted.options(attached.environment)
        try:
            return await self.tppd.prepare(exec_id, argv, epoch=self.epoch, **options)
        except (TerminalError, UnicodeError):
            return None

    async def _start(
        self, exec_id: str, wanted: Command, wait_s: float, prepared: Fields | None = None, again: bool = True
    ) -> ExitRecord | None:
        """Have tppd start it; its end if that came within `wait_s`, else a watcher stays behind.

        Safe to repeat: tppd knows the id. A sandbox that was dead already is started anew once: the
        journal proves that the command was not started in it.
        """
        try:
            attached, tppd = self._attached, self.tppd
            assert attached is not None
            if prepared is None:
                argv, options = wanted.arguments(attached.shell), wanted.options(attached.environment)
                status = await tppd.run(exec_id, argv, epoch=self.epoch, wait_s=wait_s, **options)
            else:
                status = await tppd.run_prepared(exec_id, prepared, wait_s)
        except CommandNotStarted as error:
            return journal.exit_record(self.run_dir, exec_id) or answers.not_started(exec_id, error)
        except SandboxNotRunning:
            if not await self._died():
                self._watch(exec_id)
                return None
            if again and journal.outcome(self.run_dir, exec_id) is Outcome.NOT_STARTED:
                with contextlib.suppress(TerminalError):  # its own state tells why it did not start
                    await self._revive()
                    return await self._start(exec_id, wanted, wait_s, again=False)
            return answers.end_of(self.run_dir, exec_id)
        except (Unavailable, DeadlineExceeded):
            self._watch(exec_id)  # whether it runs is not known: the watcher finds out
            return None
        if status.record is not None:
            return status.record
        self._watch(exec_id)
        return None

    # ---- waiting and reading --------------------------------------------------------------------

    async def wait(self, exec_id: str, wait_s: float, head: int = answers.HEAD_BYTES) -> dict[str, Any]:
        """The command after its end or after `wait_s` seconds. Raises NotFound."""
        record = journal.exit_record(self.run_dir, exec_id) or await self._end_within(exec_id, wait_s)
        if record is None:
            row = await executions.get(self._context.database, exec_id)
            if row.sandbox_id != self._sandbox_id:
                raise NotFound(f"sandbox {self._sandbox_id} has no command {exec_id}")
            if ExecutionState(row.status).final:
                return answers.of_row(row)
            record = journal.exit_record(self.run_dir, exec_id)
            if record is None:
                return answers.of_open(self.run_dir, row, head)
        return answers.of_record(self.run_dir, record, head)

    async def _end_within(self, exec_id: str, wait_s: float) -> ExitRecord | None:
        """No watcher is asked: the command may be in the hands of another call just now."""
        deadline = time.monotonic() + wait_s
        while self._tppd is not None and (left := deadline - time.monotonic()) > 0:
            try:
                return (await self._tppd.wait(exec_id, timeout_s=left)).record
            except NotFound:
                if exec_id not in self._starting:
                    return None
                await asyncio.sleep(STARTING_SECONDS)  # that other call has not told tppd yet
            except (SandboxNotRunning, Unavailable, DeadlineExceeded):
                return None
        return None

    # ---- ends -----------------------------------------------------------------------------------

    def _background(self, exec_id: str, work: Any) -> None:
        task = self._tasks[exec_id] = self._context.spawn(work, f"command {exec_id}")
        task.add_done_callback(lambda done: self._forget(exec_id, done))

    def _forget(self, exec_id: str, done: asyncio.Task[Any]) -> None:
        if self._tasks.get(exec_id) is done:
            del self._tasks[exec_id]

    def _watch(self, exec_id: str) -> None:
        if exec_id not in self._tasks:
            self._background(exec_id, self._until_end(exec_id))

    async def _until_end(self, exec_id: str) -> None:
        """Wait for the end, however long, and record it."""
        database = self._context.database
        await _insist(lambda: executions.mark_running(database, exec_id))
        while True:
            try:
                status = await self.tppd.wait(exec_id, timeout_s=WATCH_SECONDS)
            except SandboxNotRunning:
                # Not awaited here: settling the dead sandbox's commands is not this one's affair.
                self._context.spawn(self._look_again(exec_id), "looking after the sandbox")
                return
            except NotFound:
                row = await executions.get(database, exec_id)
                if (record := await self._start(exec_id, _command_of(row), 0.0)) is not None:
                    await self._record(record)
                    return
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if status.state != "running":
                    await self._record(status.record or answers.end_of(self.run_dir, exec_id))
                    return

    async def _look_again(self, exec_id: str) -> None:
        """Until it is known: the sandbox is dead and its commands are settled, or it answers again.

        Docker calls a container alive for a moment after its process died.
        """
        while not await self._died():
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self.tppd.hello(self.epoch)
            except (SandboxNotRunning, Unavailable, DeadlineExceeded):
                continue
            self._watch(exec_id)
            return

    async def _record(self, record: ExitRecord) -> None:
        """Write the end into the row, once Postgres answers: until then the journal keeps it.

        What tppd recorded is a fact whoever writes it, so it needs no fence, and ends that come close
        together are written together: the next command need not wait for the last one's commit.
        That a command is lost is a judgement: only the owner's counts.
        """
        end = answers.end_for_row(self.run_dir, record)
        if record.reason == "lost":
            await _insist(lambda: self._judge(end))
        else:
            await self._ends.write(end)
        self.used_at = time.monotonic()

    async def _judge(self, end: executions.End) -> None:
        async with self._context.fenced() as connection:
            await executions.finish(connection, end)

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
        for row in await executions.list_open(self._context.database, self._sandbox_id):
            if row.id in self._starting or row.id in self._tasks:
                continue
            match journal.outcome(self.run_dir, row.id):
                case Outcome.RUNNING:
                    self._watch(row.id)
                case Outcome.NOT_STARTED:
                    record = await self._start(row.id, _command_of(row), 0.0)
                    if record is not None:
                        await self._record(record)
                case Outcome.ENDED | Outcome.LOST:
                    await self._record(answers.end_of(self.run_dir, row.id))

    async def settle(self) -> None:
        """The sandbox is dead: record each open command as its journal says, else as lost."""
        for row in await executions.list_open(self._context.database, self._sandbox_id):
            if row.id not in self._starting:
                await self._record(answers.end_of(self.run_dir, row.id))

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


class Ends:
    """Writes ends to their rows, those of `GATHER_SECONDS` in one commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[executions.End] = []
        self._writing: asyncio.Future[None] | None = None

    async def write(self, end: executions.End) -> None:
        """Returns when it is written."""
        self._waiting.append(end)
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())
        await asyncio.shield(self._writing)

    async def _write(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        ends, self._waiting, self._writing = self._waiting, [], None
        await _insist(lambda: executions.finish_all(self._database, ends))


def _accepted(answer: dict[str, Any], row: executions.Execution, created: bool) -> dict[str, Any]:
    return answer | {"created_at": row.created_at.isoformat(), "created": created}


async def _insist(act: Callable[[], Awaitable[Any]]) -> None:
    """Do it again until the database answers."""
    while True:
        try:
            await act()
            return
        except Unavailable:
            await asyncio.sleep(RETRY_SECONDS)


def _command_of(row: executions.Execution) -> Command:
    return Command.from_row(row.command, row.working_directory, row.environment_vars)


def _wait_seconds(wait_ms: Any) -> float:
    return min(max(float(wait_ms or 0) / 1000, 0.0), MAX_WAIT_SECONDS)


def attached_of(started: dict[str, Any], generation: int, own: dict[str, str]) -> Attached:
    """From the driver's record as the entity keeps it. `own`: the sandbox's own variables."""
    shell = str(started.get("shell") or "/bin/sh")
    image = dict((started.get("details") or {}).get("environment") or {})
    return Attached(str(started["run_dir"]), generation, shell, command.environment(image, own, shell))
