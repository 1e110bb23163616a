"""A terminal's life: made, started, followed to its end, which is recorded once. `entity.py` has the rest."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from actors.sandbox.commands.ends import RETRY_SECONDS, WEATHER, insist
from actors.sandbox.tppd.journal import ExitRecord
from actors.terminal import core
from actors.terminal.audience import Audience
from actors.terminal.program import Program
from actors.terminal.screen import Screen
from runtime import Action, Context, Entity, Turn, durable, effect, typed
from schema import sandboxes, terminals
from terminalpp.types import errors
from terminalpp.types.ids import Ref
from terminalpp.types.states import TerminalState
from terminalpp.types.terminals import ENVIRONMENT, Policy, Wanted

log = logging.getLogger("terminalpp.terminal")
TEND = "tend"
TEND_SECONDS = 30.0


class TerminalLife(Entity):
    """The part of `Terminal` that needs nobody to look at it."""

    def __init__(self, ref: Ref, context: Context) -> None:
        super().__init__(ref, context)
        self._audience = Audience()
        self._of: Program | None = None
        self._title = ""
        self._used_at = 0.0  # when the sandbox was told that somebody looks

    async def activated(self) -> None:
        """Go on following what runs."""
        if not self.state:
            return
        s = self.state
        self._audience.stage = core.Stage(s["cols"], s["rows"], Policy(s["policy"]))
        if self._status is TerminalState.RUNNING:
            self.context.spawn(self._follow(), "following the terminal")

    async def passivated(self) -> None:
        """Let go of the connection and the screen; the program goes on."""
        if self._of is not None:
            await self._of.close()

    # ---- life: durable --------------------------------------------------------------------------

    @durable
    async def create(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Make the terminal and its row, and start its program; again with the same id: nothing.

        Payload: sandbox_id, and optionally user_id (else its owner), name, command or argv, cwd, env, cols,
        rows, policy, agent, conversation_id. Returns what `describe` does, at once; `settled` waits. Raises
        InvalidInput, NotFound.
        """
        if not turn.state:
            typed(
                payload,
                ("sandbox_id",),
                sandbox_id=str,
                user_id=str,
                agent=str,
                conversation_id=str,
            )
            wanted = Wanted.parse(payload)
            row = await sandboxes.get(turn.connection, payload["sandbox_id"])
            payload = {**payload, "user_id": payload.get("user_id") or row.user_id}
            name = wanted.name or f"terminal-{self.ref.id[:8]}"
            command = wanted.command.text if wanted.command else ""
            await terminals.create(
                turn.connection, self.ref.id, payload["sandbox_id"], payload["user_id"], name=name,
                command=command, cwd=wanted.cwd, cols=wanted.cols, rows_=wanted.rows,
                agent=payload.get("agent"), conversation_id=payload.get("conversation_id"))
            kept = ("sandbox_id", "user_id", "agent", "conversation_id", "command", "argv", "cwd", "env")
            turn.state.update(
                {key: payload[key] for key in kept if payload.get(key) is not None},
                name=name, cols=wanted.cols, rows=wanted.rows, policy=str(wanted.policy),
                status=str(TerminalState.STARTING))
            self._audience.stage = core.Stage(wanted.cols, wanted.rows, wanted.policy)
            turn.act("launch", key="launch")
        return self._told(turn.state)

    @durable
    async def end(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Kill its program and all that left; what was printed stays. Returns at once; `settled` waits."""
        self._exists(turn.state)
        typed(payload, by=str)
        if not TerminalState(turn.state["status"]).final:
            turn.state["ended_by"] = payload.get("by") or "somebody"
            turn.act("halt", key="halt")
        return self._told(turn.state)

    async def on_reminder(self, turn: Turn, payload: dict[str, Any]) -> None:
        """Being called is what it is for: after a crash of its cell nobody else may come."""
        if payload.get("name") == TEND and (not turn.state or TerminalState(turn.state["status"]).final):
            turn.cancel_reminder(TEND)

    async def on_effect_failed(self, turn: Turn, payload: dict[str, Any]) -> None:
        """It could not be started or ended, for good."""
        action, detail = payload.get("action") or {}, str((payload.get("error") or {}).get("detail", ""))
        if turn.state and action.get("name") == "launch":
            await self._finish(turn, TerminalState.FAILED, reason=detail)

    # ---- effects --------------------------------------------------------------------------------

    @effect
    async def launch(self, _action: Action) -> None:
        """Start the program in its sandbox, which is started where it sleeps."""
        s = self.state
        if not s or self._status is not TerminalState.STARTING:
            return
        try:
            status = await self._program.start(Wanted.parse(s), self._stage.size)
        except errors.TerminalError as error:
            if error.retryable and not isinstance(error, errors.Overloaded):
                raise
            await self._conclude(TerminalState.FAILED, reason=error.detail)
            return
        if status.state == "lost":
            await self._conclude(TerminalState.LOST, reason="its sandbox died while it was started")
            return
        async with self.context.turn() as turn:
            if turn.state.get("status") != TerminalState.STARTING:
                return
            turn.state.update(status=str(TerminalState.RUNNING), generation=self._program.generation)
            await terminals.started(turn.connection, self.ref.id)
            turn.remind(TEND, after_seconds=TEND_SECONDS, every_seconds=TEND_SECONDS)
        await self._audience.changed()
        self.context.spawn(self._follow(), "following the terminal")

    @effect
    async def halt(self, _action: Action) -> None:
        """Kill what runs in it. Its end is recorded by who follows it."""
        if not self.state or self._status.final:
            return
        by = f"ended by {self.state.get('ended_by', 'somebody')}"
        try:
            await self._program.kill()
        except (errors.SandboxNotRunning, errors.NotFound, errors.Quarantined):
            await self._conclude(TerminalState.LOST, reason=by)
            return
        if self.context.quarantined or self._status is TerminalState.STARTING:
            await self._conclude(TerminalState.ENDED, reason=by)

    # ---- following ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Feed the screen as output comes, answer what is asked, and record the end."""
        while not self._status.final:
            try:
                await self._ended(await self._program.follow(self._retitle, self._tend))
                return
            except errors.Fenced:
                raise
            except (errors.SandboxNotRunning, errors.NotFound, errors.Quarantined, errors.SandboxFailed):
                if await self._is_lost():
                    return
                await asyncio.sleep(RETRY_SECONDS)
            except WEATHER:
                await asyncio.sleep(RETRY_SECONDS)

    async def _retitle(self) -> None:
        screen = self._program.screen
        if screen is not None and (title := screen.title) != self._title:
            self._title = title
            await self._audience.changed()

    async def _tend(self) -> None:
        """Now and then: forget silent viewers, and have the sandbox know that somebody looks."""
        now = time.monotonic()
        await self._apply(core.Expire(now))
        if now - self._used_at < TEND_SECONDS:
            return
        self._used_at = now
        s = self.state
        env = [*ENVIRONMENT, *(s.get("env") or {})]
        fields = {
            "pid": await self._program.pid(),
            "cwd": s.get("cwd"),
            "env_vars": env,
            "terminal_id": self.ref.id,
        }
        await self.context.live.hold_terminal(s["sandbox_id"], self.ref.id, fields, 3 * TEND_SECONDS)
        if self._stage.viewers:
            await (
                self._program.attach()
            )  # which counts as use: a sandbox somebody looks into does not fall asleep

    async def _is_lost(self) -> bool:
        """Nobody answers in the sandbox: whether what held the terminal is gone. Then its end is recorded."""
        record = await self._program.end()
        if record is None and await self._program.there():
            return False
        if record is None or record.reason == "lost":
            await self._conclude(TerminalState.LOST, reason="its sandbox ended")
        else:
            await self._ended(record)
        return True

    async def _ended(self, record: ExitRecord) -> None:
        if record.reason == "lost":
            await self._conclude(TerminalState.LOST, reason=record.error)
            return
        reason = record.reason if record.reason not in ("exited", "signalled") else None
        if self.state.get("ended_by"):
            reason = f"ended by {self.state['ended_by']}"
        await self._conclude(
            TerminalState.ENDED, exit_code=record.exit_code, signal=record.signal, reason=reason)

    async def _conclude(self, status: TerminalState, **end: Any) -> None:
        size = await self._program.length()

        async def write() -> None:
            async with self.context.turn() as turn:
                await self._finish(turn, status, output_bytes=size, **end)

        await insist(write)
        await self.context.live.drop_terminal(self.state["sandbox_id"], self.ref.id)
        await self._audience.changed()

    async def _finish(self, turn: Turn, status: TerminalState, **end: Any) -> None:
        if TerminalState(turn.state["status"]).final:
            return
        turn.state.update(status=str(status), end=end)
        await terminals.finish(turn.connection, self.ref.id, str(status), **end)
        turn.cancel_reminder(TEND)

    # ---- inside ---------------------------------------------------------------------------------

    @property
    def _status(self) -> TerminalState:
        return TerminalState(self.state["status"])

    @property
    def _program(self) -> Program:
        if self._of is None:
            s = self.state
            self._of = Program(self.context, s["sandbox_id"], s.get("generation"), self._stage.size)
        return self._of

    def _exists(self, state: dict[str, Any]) -> None:
        if not state:
            raise errors.NotFound(f"there is no terminal {self.ref.id}")

    def _runs(self) -> None:
        if self._status.final:
            raise errors.CommandFinished("the terminal's program has ended")

    async def _apply(self, op: core.Op) -> None:
        """Change who looks, and the terminal's size where that follows from it."""
        resized = await self._audience.apply(op)
        if resized and self.state and self._status is TerminalState.RUNNING:
            size = self._stage.size
            await self._program.resize(*size)
            await terminals.resize(self.context.database, self.ref.id, *size)

    @property
    def _stage(self) -> core.Stage:
        return self._audience.stage

    async def _painted(self) -> Screen:
        self._exists(self.state)
        return await self._program.painted(self._status is not TerminalState.STARTING)

    def _told(self, state: dict[str, Any]) -> dict[str, Any]:
        kept = ("sandbox_id", "name", "status", "agent", "conversation_id")
        return {
            "id": self.ref.id,
            **{name: state.get(name) for name in kept},
            **self._stage.to_json(),
            "title": self._title,
            "version": self._audience.version,
            "epoch": self.context.fence.epoch,
            "end": state.get("end"),
            "offset": self._of.screen.offset if self._of and self._of.screen else None,
        }
