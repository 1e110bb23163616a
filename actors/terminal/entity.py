"""The terminal entity: one program on a pseudo-terminal, its screen, and who looks and types.

Who holds what. The pseudo-terminal is tppd's, in the sandbox; every byte it prints is in the journal before
anybody here sees it. The entity reads the journal, keeps the painted screen (`screen.py`), answers what
programs ask their terminal, decides who types (`core.py`) and records the end. Viewers get bytes from the
journal, by offset, past the entity.

What a crash costs. Nothing printed: the journal goes on; the next activation feeds the screen from its beginning,
with the sizes it had, and answers none of the old questions. Nothing typed: what was taken is known to tppd by
writer and offset, so whoever does not know sends it again and it is typed once. Its epoch goes with everything that
is typed: an entity that was frozen and replaced cannot type. Viewers come again by themselves.

A terminal whose sandbox ends is `lost`: its program is gone and is not started anew.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import time
from typing import Any

from actors.sandbox.commands.ends import RETRY_SECONDS, WEATHER, insist
from actors.sandbox.tppd.journal import ExitRecord
from actors.terminal import core
from actors.terminal.program import Program
from actors.terminal.screen import Screen, find
from runtime import Action, Context, Entity, Turn, durable, effect, readonly, typed, volatile
from schema import sandboxes, terminals
from terminalpp.types import errors
from terminalpp.types.commands import whole
from terminalpp.types.ids import Ref
from terminalpp.types.states import TerminalState
from terminalpp.types.terminals import ENVIRONMENT, INPUT_MAX, Policy, Role, Wanted, side

log = logging.getLogger("terminalpp.terminal")
TEND = "tend"
TEND_SECONDS = 30.0
SETTLE_SECONDS = 60.0
SEARCH_MAX = 500


class Terminal(Entity):
    """See the head of this file."""

    kind = "terminal"
    in_quarantine = frozenset({"end", "halt", "describe"})

    def __init__(self, ref: Ref, context: Context) -> None:
        super().__init__(ref, context)
        self._stage = core.Stage()
        self._version = 1
        self._news = asyncio.Condition()
        self._of: Program | None = None
        self._title = ""
        self._used_at = 0.0  # when the sandbox was told that somebody looks

    async def activated(self) -> None:
        """Go on following what runs."""
        if not self.state:
            return
        s = self.state
        self._stage = core.Stage(s["cols"], s["rows"], Policy(s["policy"]))
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

        Payload: sandbox_id, user_id, and optionally name, command or argv, cwd, env, cols, rows, policy, agent,
        conversation_id. Returns what `describe` does, at once; `settled` waits. Raises InvalidInput, NotFound.
        """
        if not turn.state:
            typed(payload, ("sandbox_id", "user_id"), sandbox_id=str, user_id=str, agent=str, conversation_id=str)
            wanted = Wanted.parse(payload)
            await sandboxes.get(turn.connection, payload["sandbox_id"])
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
            self._stage = core.Stage(wanted.cols, wanted.rows, wanted.policy)
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
        await self._changed()
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

    # ---- looking and typing: volatile -----------------------------------------------------------

    @volatile
    async def watch(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Be a viewer, and wait for news: the state once its version is not `version`, or after `timeout_ms`.

        Payload: viewer, user_id, name, role, and optionally agent (true), cols, rows, control (it was in control),
        version, timeout_ms. To be called again and again: who is silent for 30 s has left. Raises NotFound,
        InvalidInput, Overloaded (too many viewers).
        """
        self._exists(self.state)
        viewer = self._viewer(payload)
        await self._apply(core.See(viewer, bool(payload.get("control"))))
        if viewer.id not in self._stage.viewers:
            raise errors.Overloaded(f"{core.VIEWERS_MAX} viewers look at this terminal")
        known, wait_s = payload.get("version"), whole(payload, "timeout_ms", 0, 60_000) / 1000
        if self._version == known:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s), self._news:
                    await self._news.wait_for(lambda: self._version != known)
        return self._told(self.state)

    @volatile
    async def leave(self, payload: dict[str, Any]) -> None:
        """A viewer goes; control that was his is free."""
        await self._apply(core.Leave(str(payload.get("viewer"))))

    @volatile
    async def control(self, payload: dict[str, Any]) -> dict[str, Any]:
        """`do` one of take, ask, release (to another where `to` names him), for `viewer`. Returns the state.

        Raises NotFound, InvalidInput, NotInControl (he may not have it)."""
        self._exists(self.state)
        viewer = str(payload.get("viewer"))
        match payload.get("do"):
            case "take":
                if not core.may_take(self._stage, viewer):
                    raise self._refusal(viewer)
                await self._apply(core.Take(viewer))
            case "ask":
                await self._apply(core.Ask(viewer))
            case "release":
                await self._apply(core.Release(viewer, payload.get("to")))
            case other:
                raise errors.InvalidInput(f"do: {other!r} is none of take, ask and release")
        return self._told(self.state)

    @volatile
    async def resize(self, payload: dict[str, Any]) -> dict[str, Any]:
        """A viewer's size (`viewer`, cols, rows); the terminal's own with `fix`; or another `policy`.

        Returns the state. Raises NotFound, InvalidInput."""
        self._exists(self.state)
        if payload.get("policy") is not None:
            try:
                await self._apply(core.SetPolicy(Policy(payload["policy"])))
            except ValueError:
                raise errors.InvalidInput("policy: latest, smallest or fixed") from None
        if payload.get("cols") is not None or payload.get("rows") is not None:
            cols = side(payload.get("cols"), "cols", self._stage.cols)
            rows = side(payload.get("rows"), "rows", self._stage.rows)
            await self._apply(core.Resize(str(payload.get("viewer")), cols, rows, bool(payload.get("fix"))))
        return self._told(self.state)

    @volatile
    async def type(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Type `data` (base64) at `offset` of what `viewer` typed (or `writer`, for who counts anew each time); who
        types where nobody is in control takes it.

        Returns `offset`, up to which all was taken: the same bytes again are recognised. Raises NotFound,
        InvalidInput, NotInControl, OffsetMismatch, CommandFinished (it has ended), DeadlineExceeded."""
        self._exists(self.state)
        viewer, data = str(payload.get("viewer")), decoded(payload)
        if viewer not in self._stage.viewers:
            await self._apply(core.See(self._viewer(payload)))
        if self._stage.controller != viewer:
            if self._stage.controller is not None or not core.may_take(self._stage, viewer):
                raise self._refusal(viewer)
            await self._apply(core.Take(viewer))
        self._runs()
        offset = whole(payload, "offset", 0, 2**62)
        writer = str(payload.get("writer") or viewer)[:64]
        return {"offset": await self._program.type(writer, offset, data)}

    @volatile
    async def mark(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Note `label` at this place of the recording. Raises NotFound, CommandFinished."""
        self._exists(self.state)
        self._runs()
        return {"offset": await self._program.mark(str(payload.get("label") or ""))}

    @readonly
    async def describe(self, _payload: dict[str, Any]) -> dict[str, Any]:
        """Its state: status, size, title, viewers, who is in control, how it ended. Raises NotFound."""
        self._exists(self.state)
        return self._told(self.state)

    @readonly
    async def settled(self, payload: dict[str, Any]) -> dict[str, Any]:
        """`describe` once it is not starting (with `ended`: once it has ended), or after `timeout_ms`."""
        self._exists(self.state)
        wait_s = whole(payload, "timeout_ms", 0, 600_000, int(SETTLE_SECONDS * 1000)) / 1000
        done = (lambda: self._status.final) if payload.get("ended") else (
            lambda: self._status is not TerminalState.STARTING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self._news:
                await self._news.wait_for(done)
        return self._told(self.state)

    @readonly
    async def paint(self, _payload: dict[str, Any]) -> dict[str, Any]:
        """The painted screen: `data` (base64) for a terminal of `cols` × `rows` that was reset, and the `offset` of
        the next byte of output. Raises NotFound."""
        screen = await self._painted()
        text = screen.text()
        return {"data": base64.b64encode(screen.paint()).decode(), "offset": screen.offset,
                "cols": text.cols, "rows": text.rows}

    @readonly
    async def text(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What stands on the screen, as `screen.Text` in JSON, with `offset`; with `history` (a number) also
        so many of the last lines that were scrolled away or stand there. Raises NotFound."""
        screen = await self._painted()
        told = {**screen.text().to_json(), "offset": screen.offset, "status": str(self._status)}
        if wanted := whole(payload, "history", 0, 100_000):
            told["history"] = screen.history()[-wanted:]
        return told

    @readonly
    async def search(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Lines that hold the text `q`, scrolled away or not, the newest first. Raises NotFound, InvalidInput."""
        wanted = payload.get("q")
        if not isinstance(wanted, str) or not wanted:
            raise errors.InvalidInput("q: the text to look for")
        screen = await self._painted()
        limit = whole(payload, "limit", 1, SEARCH_MAX, 100)
        hits = find(screen.history(), wanted, ignore_case=bool(payload.get("ignore_case")), limit=limit)
        return {"items": hits}

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
            await self._changed()

    async def _tend(self) -> None:
        """Now and then: forget silent viewers, and have the sandbox know that somebody looks."""
        now = time.monotonic()
        await self._apply(core.Expire(now))
        if now - self._used_at < TEND_SECONDS:
            return
        self._used_at = now
        s = self.state
        env = [*ENVIRONMENT, *(s.get("env") or {})]
        fields = {"pid": await self._program.pid(), "cwd": s.get("cwd"), "env_vars": env, "terminal_id": self.ref.id}
        await self.context.live.hold_terminal(s["sandbox_id"], self.ref.id, fields, 3 * TEND_SECONDS)
        if self._stage.viewers:
            await self._program.attach()  # which counts as use: a sandbox somebody looks into does not fall asleep

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
        await self._changed()

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

    def _refusal(self, viewer: str) -> errors.NotInControl:
        one, holder = (self._stage.viewers.get(id or "") for id in (viewer, self._stage.controller))
        reader = one is None or one.role is not Role.WRITER or holder is None
        who = "only a writer may type" if reader else f"{holder.name} is in control of this terminal"
        return errors.NotInControl(who, "", {"controller": self._stage.controller})

    @staticmethod
    def _viewer(payload: dict[str, Any]) -> core.Viewer:
        typed(payload, ("viewer",), viewer=str, user_id=str, name=str, agent=bool)
        try:
            role = Role(payload.get("role") or Role.WRITER)
        except ValueError:
            raise errors.InvalidInput("role: writer or viewer") from None
        if not 0 < len(payload["viewer"]) <= 64:
            raise errors.InvalidInput("viewer: an id of at most 64 characters")
        return core.Viewer(
            payload["viewer"], payload.get("user_id") or "", (payload.get("name") or "somebody")[:80], role,
            bool(payload.get("agent")), side(payload.get("cols") or None, "cols", 0),
            side(payload.get("rows") or None, "rows", 0), time.monotonic())

    async def _apply(self, op: core.Op) -> None:
        """Change who looks, and what follows from it: the terminal's size, and news for all."""
        before, after = self._stage, core.apply(self._stage, op)
        if after is core.IGNORED:
            return
        self._stage = after
        if after.to_json() != before.to_json():
            await self._changed()
        if after.size != before.size and self.state and self._status is TerminalState.RUNNING:
            await self._program.resize(*after.size)
            await terminals.resize(self.context.database, self.ref.id, *after.size)

    async def _changed(self) -> None:
        async with self._news:
            self._version += 1
            self._news.notify_all()

    async def _painted(self) -> Screen:
        self._exists(self.state)
        return await self._program.painted(self._status is not TerminalState.STARTING)

    def _told(self, state: dict[str, Any]) -> dict[str, Any]:
        kept = ("sandbox_id", "name", "status", "agent", "conversation_id")
        return {
            "id": self.ref.id, **{name: state.get(name) for name in kept}, **self._stage.to_json(),
            "title": self._title, "version": self._version, "epoch": self.context.fence.epoch,
            "end": state.get("end"), "offset": self._of.screen.offset if self._of and self._of.screen else None,
        }


def decoded(payload: dict[str, Any]) -> bytes:
    """The bytes in `data`, base64, at most INPUT_MAX. Raises InvalidInput, TooLarge."""
    try:
        data = base64.b64decode(payload.get("data") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise errors.InvalidInput("data: not base64") from None
    if len(data) > INPUT_MAX:
        raise errors.TooLarge(f"data: more than {INPUT_MAX} bytes at once", "Type it in parts.")
    return data
