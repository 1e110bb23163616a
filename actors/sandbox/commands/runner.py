"""The commands of one running sandbox: accepted once, started once, recorded once.

The order that makes it so. (1) The row is inserted under the entity's fence: from here on the command is
accepted. (2) tppd is told to start it under the row's id, which it does once however often it is told.
(3) The end is read from tppd's exit record and written to the row, in the background (`following.py`).
A crash after (1) or (2) is made good by `adopt`: what was not started is started, what runs is watched, what
has ended is recorded. A command whose sandbox died is `failed`, reason `lost`, and never run again.

What is wrong with one command ends that command and nothing else: bad input is refused before (1); what tppd
refuses for its own sake is recorded as `not-started`, before the caller is told; for want of processes too
(Overloaded), and that is final; with no room for its start record (DiskFull) it is withdrawn, its id is free.

The caller's path is one insert and one round trip to tppd, which has the process ready by then. Reads are
from the journals on the host, so a reader never waits for a writer. Nothing here is state: all of it can be
made again from rows and journals.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from actors.sandbox.commands import views
from actors.sandbox.commands.following import CommandFollower
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.journal import ExitRecord, Outcome
from actors.sandbox.tppd.protocol import Fields
from runtime.context import Context
from schema import executions
from terminalpp.types import commands
from terminalpp.types.commands import Command, Execution, whole
from terminalpp.types.errors import (
    CommandNotStarted,
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

MAX_WAIT_MS = 600_000
MAX_HEAD_BYTES = 1024 * 1024
STARTING_SECONDS = 0.005


class CommandRunner(CommandFollower):
    """See the head of this file. `revive` starts the sandbox anew; it raises why it could not."""

    def __init__(
        self, context: Context, sandbox_id: str, run_dir: str,
        died: Callable[[], Awaitable[bool]], revive: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        super().__init__(context, sandbox_id, run_dir, died)
        self._revive = revive

    # ---- run ------------------------------------------------------------------------------------

    async def run(self, payload: dict[str, Any], user_id: str) -> tuple[Execution, bool]:
        """Accept and start; the command after its end or `wait_ms`, and whether this call created it. See
        `Sandbox.run`."""
        wanted, exec_id, wait_s, head = Command.parse(payload), id_of(payload), *wait_of(payload, "wait_ms")
        mine, created = exec_id not in self._starting, False  # of several callers at once the first starts it
        self._starting.add(exec_id)
        self.used_at = time.monotonic()
        prepared = asyncio.create_task(self._prepare(exec_id, wanted), name=f"prepare {exec_id}")
        try:
            row, created = await executions.create(
                self._context.database, exec_id, self._sandbox_id, payload.get("user_id") or user_id,
                wanted.text, wanted.cwd, wanted.row_environment(), payload.get("mode") or "manual",
                payload.get("idempotency_key"), fence=self._context.fence, agent=payload.get("agent"),
                conversation_id=payload.get("conversation_id"),
            )
            if created:
                record = await self._begin(exec_id, wanted, wait_s, await prepared)
                if record is not None:
                    self._background(exec_id, lambda: self._finish(record))
                    return views.told(self.run_dir, row, record, head), True
        except (Fenced, Overloaded, DiskFull):
            raise  # the new owner adopts it; it is recorded as refused; it is withdrawn
        except BaseException:
            # Accepted is accepted, whatever became of the caller.
            if created:
                with contextlib.suppress(Fenced):
                    self._watch(exec_id)
            raise
        finally:
            if mine:
                self._starting.discard(exec_id)
            prepared.cancel()
        if mine and not created and not ExecutionState(row.status).final:
            self._watch(exec_id)  # accepted by an owner before us; `adopt` left it alone meanwhile
        return await self.wait(exec_id, 0 if created else wait_s, head), created

    async def _begin(
        self, exec_id: str, wanted: Command, wait_s: float, prepared: Fields | None
    ) -> ExitRecord | None:
        """`_start` for a caller who is told of a refusal: first its row says so, then he is."""
        try:
            return await self._start(exec_id, wanted, wait_s, prepared)
        except Overloaded as error:
            await self._ends.record(views.not_started(exec_id, error))
            hint = "It is recorded so and will not run. End processes, then send it as a new command."
            raise Overloaded(error.detail, hint, {"command_id": exec_id}) from None
        except DiskFull:
            await self._ends.withdraw(exec_id)
            raise

    async def repeated(self, payload: dict[str, Any]) -> Execution | None:
        """A command that was started before, without a sandbox; None for a new one.

        Raises InvalidInput, IdempotencyMismatch.
        """
        wanted, exec_id, _, head = Command.parse(payload), id_of(payload), *wait_of(payload, "wait_ms")
        try:
            row = await executions.get(self._context.database, exec_id)
        except NotFound:
            return None
        executions.require_same(row, self._sandbox_id, wanted.text, wanted.cwd, wanted.row_environment())
        unstarted = journal.outcome(self.run_dir, exec_id) is Outcome.NOT_STARTED
        if row.status == ExecutionState.PENDING and unstarted:
            return None
        return await self.wait(exec_id, 0, head)

    async def _prepare(self, exec_id: str, wanted: Command) -> Fields | None:
        """Have the process made ready while Postgres commits the row. None: `_start` will say why not."""
        attached = self._attached
        if attached is None:
            return None
        argv, options = wanted.arguments(attached.shell), wanted.options(attached.environment)
        try:
            return await self.tppd.prepare(exec_id, argv, epoch=self.epoch, **options)
        except (TerminalError, ValueError):
            return None

    async def _start(
        self, exec_id: str, wanted: Command, wait_s: float, prepared: Fields | None = None, again: bool = True
    ) -> ExitRecord | None:
        """Have tppd start it; its end if that came within `wait_s`, else a watcher stays behind.

        Safe to repeat: tppd knows the id. A sandbox that was dead already is started anew once: the
        journal proves that the command was not started in it. Raises Fenced, and Overloaded or DiskFull when
        nothing was started or recorded; every other refusal is the command's end.
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
            return journal.exit_record(self.run_dir, exec_id) or views.not_started(exec_id, error)
        except SandboxNotRunning:
            if not await self._died():
                self._watch(exec_id)
                return None
            if again and journal.outcome(self.run_dir, exec_id) is Outcome.NOT_STARTED:
                with contextlib.suppress(TerminalError):  # its own state tells why it did not start
                    await self._revive()
                    return await self._start(exec_id, wanted, wait_s, again=False)
            return views.end_of(self.run_dir, exec_id)
        except (Unavailable, DeadlineExceeded):
            self._watch(exec_id)  # whether it runs is not known: the watcher finds out
            return None
        except (Fenced, Overloaded, DiskFull):
            raise
        except (TerminalError, ValueError) as error:
            return views.not_started(exec_id, error)
        if status.record is not None:
            return status.record
        self._watch(exec_id)
        return None

    # ---- waiting and reading --------------------------------------------------------------------

    async def wait(self, exec_id: str, wait_s: float, head: int = views.HEAD_BYTES) -> Execution:
        """The command after its end or after `wait_s` seconds. Raises NotFound."""
        record = journal.exit_record(self.run_dir, exec_id) or await self._end_within(exec_id, wait_s)
        row = await executions.get(self._context.database, exec_id)
        if row.sandbox_id != self._sandbox_id:
            raise NotFound(f"sandbox {self._sandbox_id} has no command {exec_id}")
        record = record or journal.exit_record(self.run_dir, exec_id)
        return views.told(self.run_dir, row, record, head)

    async def _end_within(self, exec_id: str, wait_s: float) -> ExitRecord | None:
        """Asks tppd, not a watcher: the command may be in the hands of another call just now."""
        deadline = time.monotonic() + wait_s
        while self._tppd is not None and (left := deadline - time.monotonic()) > 0:
            try:
                return (await self._tppd.wait(exec_id, timeout_s=left)).record
            except NotFound:
                if exec_id not in self._starting and exec_id not in self._tasks:
                    return None
                await asyncio.sleep(STARTING_SECONDS)  # who has it in hand has not told tppd yet
            except (SandboxNotRunning, Unavailable, DeadlineExceeded):
                return None
        return None


def id_of(payload: dict[str, Any]) -> str:
    """The command's id. Raises InvalidInput unless it is a UUID."""
    exec_id = payload.get("exec_id")
    if not commands.is_uuid(exec_id):
        raise InvalidInput("exec_id: a UUID")
    return str(exec_id)


def wait_of(payload: dict[str, Any], name: str) -> tuple[float, int]:
    """How long to wait (seconds), and how much of each stream an answer holds. Raises InvalidInput."""
    wait_ms = whole(payload, name, 0, 2**53)
    head = whole(payload, "head_bytes", 0, MAX_HEAD_BYTES, views.HEAD_BYTES)
    return min(wait_ms, MAX_WAIT_MS) / 1000, head
