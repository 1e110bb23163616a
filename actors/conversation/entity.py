"""The conversation entity: takes messages, runs one turn after the other, and never loses one.

A message is accepted in one transaction: its row, its event, and either a new turn (with the action that
runs it) or a place in the queue. `run_turn` is that action: performed at least once until it returns, so
a turn goes on after any crash, from the graph's last committed step. The turn's end is one transaction
too: open tool calls are closed, `turn.finished` is written, and the next turn begins if messages wait.

Cancelling sets a mark in the state first (so that it survives a crash), then ends the graph, the agents,
the model call and the whole process tree of every running command, and closes the turn as cancelled.
What was done to the files is kept.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
from typing import Any

from actors.agent.sandbox_tools import SandboxCommands, finished
from actors.agent.turn_log import Superseded, TurnLog
from actors.conversation import closing, core, turns, worktree
from actors.conversation.closing import TurnEnd
from actors.conversation.forking import Forking
from actors.conversation.turns import TurnWork
from actors.conversation.workspace import GitWorkspace
from graphs.limits import Limits
from runtime import Action, Turn, durable, effect, model_keys, readonly, typed, volatile
from schema import agents, checkpoints, conversations, events, messages, rewind_points
from terminalpp.types.errors import (
    DeadlineExceeded,
    DiskFull,
    Fenced,
    InvalidInput,
    NotOwner,
    Overloaded,
    SandboxNotRunning,
    TerminalError,
    Unavailable,
)
from terminalpp.types.ids import Ref, derived_id
from terminalpp.types.providers import SCRIPTED, provided
from terminalpp.types.states import AgentRole, TurnOutcome

MODEL = Ref("model", "0")
STOP_SECONDS = 20.0  # how long a cancellation waits for an agent that cannot be reached
# Trouble around the turn, not in it: the action is tried again and goes on at the last committed step.
WAITED_OUT = (Unavailable, DeadlineExceeded, DiskFull, NotOwner, Overloaded, SandboxNotRunning)


class Conversation(Forking):
    """One conversation with one team about one workspace."""

    kind = "conversation"
    group = "conversation"
    in_quarantine = frozenset({"cancel", "describe", "abandon", "destroy"})

    def __init__(self, ref: Ref, context: Any) -> None:
        super().__init__(ref, context)
        self._cancelled = asyncio.Event()

    # ---- what the person does ---------------------------------------------------------------------

    @durable
    async def create(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Make it, its row and its five agents. Raises InvalidInput; again with the same id: nothing."""
        if not turn.state.get("sandbox_id"):
            typed(payload, ("user_id",))
            state = core.created(payload).to_json()
            state["model"] = state["model"] or self.context.settings.model or await self._default_model()
            Limits.of(self.context.settings, state["limits"])
            kept = {
                name: state[name] for name in core.SETTINGS if name not in ("sandbox_id", "title", "model")
            }
            await conversations.create(
                turn.connection,
                self.ref.id,
                str(payload["user_id"]),
                state["sandbox_id"],
                title=state["title"],
                model=state["model"],
                settings=kept,
            )
            await agents.create_team(turn.connection, self.ref.id, list(AgentRole))
            turn.state.update(state)
            if source := payload.get("fork_of"):
                await self._begin_as(turn, source["conversation_id"], source["point_id"])
        return {"conversation_id": self.ref.id, "model": turn.state["model"]}

    @durable
    async def post(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Accept a message. It starts a turn, or is queued for the running one.

        Raises NotFound, InvalidInput, TooLarge, Conflict.
        """
        core.exists(turn.state, self.ref.id)
        typed(payload, ("message_id",), message_id=str, text=str)
        text, message_id = str(payload.get("text") or ""), payload["message_id"]
        core.check_message(turn.state, text)
        if await messages.add(turn.connection, message_id, self.ref.id, "user", text):
            await events.append(
                turn.connection,
                self.ref.id,
                [("message.accepted", "user", {"message_id": message_id, "text": text})],
            )
            await self._step(turn, core.Accept(self.ref.id, message_id, time.time()))
        its_own = derived_id(self.ref.id, "turn", message_id)
        running = (turn.state["turn"] or {}).get("turn_id", its_own)
        return {"message_id": message_id, "turn_id": running, "queued": running != its_own}

    @durable
    async def cancel(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask the running turn to end; `turn.finished` tells when it has."""
        core.exists(turn.state, self.ref.id)
        asked = await self._step(turn, core.Cancel())
        if asked:
            self._end(turn)
        return {"cancelled": asked}

    def _end(self, turn: Turn) -> None:
        self._cancelled.set()  # its effects wait for this turn's commit before they write anything
        if self.context.quarantined:  # `run_turn`, which else closes the turn, waits for the release
            turn.act("abandon", {"turn_id": turn.state["turn"]["turn_id"]}, key=turn.state["cancel"])

    @durable
    async def destroy(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Delete it with its messages, events, checkpoints, agents and memories; its sandbox stays.

        It is hidden at once. A running turn is cancelled first, and its end takes the rest away.
        """
        if turn.state.get("sandbox_id"):
            await self._step(turn, core.Delete())
            if turn.state["turn"] is not None:
                self._end(turn)
                await conversations.set_status(turn.connection, self.ref.id, "deleted")
            else:
                await self._forget(turn)
        return {"deleted": True}

    async def _forget(self, turn: Turn) -> None:
        await checkpoints.delete_thread(turn.connection, self.ref.id)
        await conversations.delete(turn.connection, self.ref.id)
        turn.state.clear()

    @durable
    async def set_model(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Use another model from the next call on. Raises InvalidInput."""
        core.exists(turn.state, self.ref.id)
        typed(payload, model=str)
        model = str(payload.get("model") or "").strip()
        if not model:
            raise InvalidInput("model is missing")
        await self._step(turn, core.SetModel(model))
        await conversations.update_settings(turn.connection, self.ref.id, {"model": model})
        return {"model": model}

    @volatile
    async def diff(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What has changed since the first turn began: `{patch (base64), files, tree, left}`.

        Raises NotFound and what the sandbox raises.
        """
        core.exists(self.state, self.ref.id)
        if self.state["baseline"] is None:
            return {"patch": "", "files": [], "tree": None, "left": []}
        sandbox = self._sandbox()
        try:
            change, tree = await self._workspace(sandbox).now(self.state["baseline"])
        finally:
            await sandbox.close()
        patch = base64.b64encode(change.patch).decode()
        return {"patch": patch, "files": change.files, "tree": tree, "left": worktree.bounded(change.left)}

    @readonly
    async def describe(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The settings, the running turn and the queue."""
        core.exists(self.state, self.ref.id)
        told = ("turn", "queue", "turns", "cancel", "rewinding")
        return {name: self.state.get(name) for name in (*core.SETTINGS, *told)}

    # ---- turns --------------------------------------------------------------------------------------

    async def _step(self, turn: Turn, op: core.Op) -> bool:
        """Change the state, and start the turn that begins with it; False when nothing changed."""
        applied = core.step(turn.state, op)
        if applied is not None and applied.begun is not None:
            await self._begin(turn, applied.begun)
        return applied is not None

    async def _begin(self, turn: Turn, begun: dict[str, Any]) -> None:
        self._cancelled = asyncio.Event()
        asked = await events.find(turn.connection, self.ref.id, "message.accepted", begun["message_id"])
        task = asked.payload["text"] if asked is not None else ""
        seq = await events.append(
            turn.connection,
            self.ref.id,
            [
                (
                    "turn.started",
                    "system",
                    {
                        "turn_id": begun["turn_id"],
                        "message_id": begun["message_id"],
                        "task": task[:4000],
                        "mode": begun["mode"],
                        "model": begun["model"],
                        "scripted": begun["model"].startswith("scripted:"),
                        "agents": [
                            {"id": agents.agent_id(self.ref.id, role), "role": str(role)}
                            for role in AgentRole
                        ],
                    },
                )
            ],
        )
        core.step(turn.state, core.Announced(begun["turn_id"], seq))
        turn.act("run_turn", {"turn_id": begun["turn_id"]}, key=begun["turn_id"])

    @effect
    async def run_turn(self, action: Action) -> None:
        """Run or go on with a turn, to its end."""
        turn_id, turn = action.payload["turn_id"], self.state.get("turn")
        if turn is None or turn["turn_id"] != turn_id:
            return  # it was closed; only the mark of this action was lost
        await self.context.live.publish(self.ref.id, turn["seq"])
        try:
            await self._run_turn(turn)
        except Superseded as moved:  # the runtime knows this as Fenced: this activation is dropped
            raise Fenced(str(moved)) from moved

    async def _run_turn(self, turn: dict[str, Any]) -> None:
        sandbox = self._sandbox()
        try:
            ending = await self._until_cancelled(turn, sandbox)
            ended: list[closing.Entry] = []
            if ending is None:
                ended = await self._stop_everything(turn, sandbox)
                ending = TurnEnd(TurnOutcome.CANCELLED, "cancelled by the person")
            place = self._workspace(sandbox, self._log(turn))
            ending = await turns.with_diff(ending, turn, place, sandbox)
            kept = await place.keep(f"after turn {turn['number']}")
        finally:
            await sandbox.close()
        await self._finish(turn, ending, ended, kept)

    @effect
    async def abandon(self, action: Action) -> None:
        """Close a cancelled turn without the graph: in quarantine that may be what is broken."""
        turn = self.state.get("turn")
        if turn is None or turn["turn_id"] != action.payload["turn_id"]:
            return
        sandbox = self._sandbox()
        ended: list[closing.Entry] = []
        try:
            with contextlib.suppress(Exception):  # the turn is closed whatever can still be reached
                ended = await self._stop_everything(turn, sandbox)
        finally:
            await sandbox.close()
        await self._finish(turn, TurnEnd(TurnOutcome.CANCELLED, "cancelled by the person"), ended)

    async def _until_cancelled(self, turn: dict[str, Any], sandbox: SandboxCommands) -> TurnEnd | None:
        """The work's ending, or None when the person cancelled it first."""
        if self.state["cancel"] == turn["turn_id"]:
            return None
        cancelled = self._cancelled
        work = asyncio.create_task(self._work(turn, sandbox), name=f"turn {turn['turn_id']}")
        watch = asyncio.create_task(cancelled.wait(), name=f"cancellation of turn {turn['turn_id']}")
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            return None if cancelled.is_set() else work.result()
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _work(self, turn: dict[str, Any], sandbox: SandboxCommands) -> TurnEnd:
        """Run the graph. Raises Fenced when superseded, and what shall be waited out."""
        try:
            log = self._log(turn)
            return await TurnWork(self.context, self.ref.id, self.state, turn, sandbox, log).run()
        except (*WAITED_OUT, Fenced):
            raise
        except TerminalError as error:
            return TurnEnd(TurnOutcome.ERROR, error.detail, error=error.to_json())

    async def _stop_everything(self, turn: dict[str, Any], sandbox: SandboxCommands) -> list[closing.Entry]:
        """End agents, model call and commands of a cancelled turn; the ends of its commands."""
        log = self._log(turn)
        refs = [Ref("agent", agents.agent_id(self.ref.id, role)) for role in AgentRole]
        await asyncio.gather(*(self._ask(ref, "cancel", {}) for ref in refs))
        left = closing.loose(await log.read(closing.TYPES))
        await asyncio.gather(*(self._ask(MODEL, "cancel", {"call_id": id}) for id in left.models))
        ended: list[closing.Entry] = []
        for id in left.terminals:
            with contextlib.suppress(TerminalError):
                by = {"by": "the cancelled turn"}
                await self.context.runtime.send(
                    Ref("terminal", id), "end", by, message_id=f"{id}:cancelled", wait=False)
        for exec_id in left.hidden:
            with contextlib.suppress(TerminalError):
                await sandbox.end(exec_id, STOP_SECONDS)
        for actor, started in left.commands:
            exec_id = started["exec_id"]
            try:
                seen = await sandbox.observation(exec_id, await sandbox.end(exec_id, STOP_SECONDS))
                ended.append(("command.finished", actor, finished(exec_id, seen)))
            except TerminalError as error:  # its sandbox cannot be reached
                ended.append(
                    ("command.finished", actor, {
                        "exec_id": exec_id,
                        "status": "killed",
                        "exit_code": None,
                        "duration_ms": 0,
                        "output_bytes": 0,
                        "reason": error.detail,
                    })
                )
        return ended

    async def _ask(self, ref: Ref, method: str, payload: dict[str, Any]) -> None:
        """A call whose failure may not hold a cancellation up."""
        with contextlib.suppress(TerminalError):
            await self.context.runtime.call(ref, method, payload, timeout_s=STOP_SECONDS)

    async def _finish(
        self, turn: dict[str, Any], ending: TurnEnd, ended: list[closing.Entry], kept: str | None = None
    ) -> None:
        """Close the turn and begin the next, in one transaction. `kept`: the files as it leaves them."""
        async with self.context.turn() as t:
            last = await self._close(t, turn["turn_id"], ending, ended, kept)
        if last is not None:
            await self.context.live.publish(self.ref.id, last)

    async def _close(
        self, t: Turn, turn_id: str, ending: TurnEnd, ended: list[closing.Entry], kept: str | None = None
    ) -> int | None:
        """Write the end of the turn; the number of the last event. None when it was closed already."""
        turn = t.state.get("turn")
        if turn is None or turn["turn_id"] != turn_id:
            return None
        if t.state.get("deleted"):
            await self._forget(t)
            return None
        told = await events.read_types(t.connection, self.ref.id, closing.TYPES, turn["seq"])
        entries = closing.entries(told, turn, ending, time.time(), ended)
        first = await events.append(t.connection, self.ref.id, entries)
        asked = await events.find(t.connection, self.ref.id, "message.accepted", turn["message_id"])
        delivered = frozenset(row.payload["message_id"] for row in told if row.type == "message.delivered")
        task = asked.payload["text"] if asked else ""
        spent = closing.usage(told)
        await conversations.add_usage(
            t.connection, self.ref.id, spent.input_tokens + spent.output_tokens, spent.cost_usd
        )
        await messages.add(
            t.connection,
            derived_id(turn_id, "summary"),
            self.ref.id,
            "assistant",
            ending.summary or ending.reason or str(ending.outcome),
            {"turn_id": turn_id, "outcome": str(ending.outcome)},
        )
        words = (task, ending.outcome, ending.summary)
        await self._step(t, core.Close(self.ref.id, turn_id, *words, delivered, time.time()))
        last = first + len(entries) - 1
        if kept is not None:
            known = core.known(core.Conversation.from_json(t.state))
            about = {"snapshot_id": kept, "label": f"after turn {turn['number']}: {ending.outcome}"}
            await rewind_points.add(t.connection, self.ref.id, last, f"end:{turn_id}", **about, state=known)
        self._go_on_back(t)
        return last

    async def on_effect_failed(self, turn: Turn, payload: dict[str, Any]) -> None:
        """The turn could not go on after many tries: close it with the error, keep what was done."""
        error = payload["error"]
        if payload["action"]["name"] == "go_back":
            await self._cannot_go_back(turn, error)
            return
        ending = TurnEnd(TurnOutcome.ERROR, str(error.get("detail", "")), error=error)
        await self._close(turn, payload["action"]["payload"]["turn_id"], ending, [])

    # ---- small things -------------------------------------------------------------------------------

    def _sandbox(self) -> SandboxCommands:
        return SandboxCommands(self.context, self.state["sandbox_id"], self.ref.id, None)

    def _workspace(self, sandbox: SandboxCommands, log: TurnLog | None = None) -> GitWorkspace:
        return turns.workspace(self.context, self.ref.id, self.state, sandbox, log)

    def _log(self, turn: dict[str, Any]) -> TurnLog:
        return TurnLog(
            self.context.database, self.context.live, self.context.fence, turn["turn_id"], turn["seq"]
        )

    async def _default_model(self) -> str:
        """By the provider's key that is stored, or that the server was started with."""
        stored = await asyncio.to_thread(model_keys.of(self.context.settings.home).all)
        found = provided(os.environ, stored)
        return found[0] if found else SCRIPTED
