"""The sandbox entity: the shell around `core` that persists, publishes and acts.

A sandbox's life (`core.Sandbox`) is its state. Turns change it, together with the row that people see
and the effect that makes it true; effects reach the driver through the node entity. What happens inside
goes to tppd directly (`Commands`), for callers too: `attach` hands them the way in.

Who wakes it. `run` and `attach` start a sandbox that sleeps, died or was never started; one that a
person stopped is started by `attach` and `start` alone, and `run` says SandboxNotRunning. While it runs,
a reminder looks after it every half minute: is it alive, is a command left behind by a crash, has nobody
used it for `auto_sleep_after_minutes` (a running command is use). After a crash of its cell the same
reminder, or the next call, activates it again, and it adopts what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.sandbox import core, machine, state
from actors.sandbox.commands.ends import insist
from actors.sandbox.commands.following import attached_of
from actors.sandbox.commands.runner import CommandRunner, id_of, wait_of
from actors.sandbox.core import Wanted
from actors.sandbox.interruptions import Interruptions
from actors.sandbox.networked import Networked
from actors.sandbox.versions.entity import VersionedFiles
from runtime import Action, Context, Turn, durable, effect, readonly, volatile
from runtime.disk import Disk
from schema import sandboxes
from terminalpp.types import errors
from terminalpp.types.ids import Ref
from terminalpp.types.states import Network, SandboxState

TEND = "tend"
TEND_SECONDS = 30.0
ATTACH_SECONDS = 600.0   # longest wait for a start; an image may have to be built
NODE_WAIT_MS = 1000


class Sandbox(Interruptions, Networked, VersionedFiles):
    """One sandbox: its life, and the commands in it."""

    kind = "sandbox"
    in_quarantine = frozenset({"stop", "destroy", "status", "settled", "wait", "attach", "halt", "remove",
                               "resume", "hold"})

    def __init__(self, ref: Ref, context: Context) -> None:
        super().__init__(ref, context)
        self.run_dir = str(Path(context.settings.home) / "sandboxes" / ref.id / "run")
        self.commands = CommandRunner(context, ref.id, self.run_dir, self._look_after, self._usable)
        self._disk = Disk(context.settings.home, context.settings.disk_reserve_bytes)
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()
        self._touched = 0.0

    @property
    def core(self) -> core.Sandbox:
        """The state, as the rules see it."""
        return state.core_of(self.state)

    async def activated(self) -> None:
        """Adopt what runs, in the background."""
        if self.state:
            self.context.spawn(insist(self._adopt), "adopting commands")

    async def passivated(self) -> None:
        """Let go of the connection; commands go on."""
        await self.commands.attach(None)
        await self._let_go()

    # ---- life: durable --------------------------------------------------------------------------

    @durable
    async def create(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Make the sandbox and its row (or take over the row that is there), and start it.

        Payload: user_id, and optionally name, image, network, allow, allow_private, resource_limits,
        environment, auto_sleep_after_minutes, description, start (true), from_snapshot (the id of a
        snapshot whose files it begins with). Returns what `status` returns, at once. Raises InvalidInput,
        Conflict (deleted, or another user's).
        """
        if not turn.state:
            turn.state.update(await state.create(turn.connection, self.ref.id, payload, self.context))
        elif state.core_of(turn.state).wanted is Wanted.DESTROYED:
            raise errors.Conflict(f"sandbox {self.ref.id} was deleted")
        if payload.get("start", True):
            await self._step(turn, core.Start())
        return state.describe(self.ref.id, turn.state)

    @durable
    async def start(self, turn: Turn, _payload: dict[str, Any]) -> dict[str, Any]:
        """Start it if it does not run. Returns `status` at once; it may still be starting."""
        self._exists(turn.state)
        self._goes_on(state.core_of(turn.state))
        await self._step(turn, core.Start())
        return state.describe(self.ref.id, turn.state)

    @durable
    async def stop(self, turn: Turn, _payload: dict[str, Any]) -> dict[str, Any]:
        """End it and its commands; the workspace stays. Returns at once; `settled` waits."""
        self._exists(turn.state)
        await self._step(turn, core.Stop())
        return state.describe(self.ref.id, turn.state)

    @durable
    async def destroy(self, turn: Turn, _payload: dict[str, Any]) -> dict[str, Any]:
        """End it and delete all of it: its row at once, its processes and workspace in the background."""
        if turn.state:
            await self._step(turn, core.Destroy())
            await sandboxes.delete(turn.connection, self.ref.id)
        return {"id": self.ref.id, "destroyed": True}

    async def on_reminder(self, turn: Turn, payload: dict[str, Any]) -> None:
        """Look after it: put it to sleep if nobody uses it, else see in the background that all is well."""
        if payload.get("name") != TEND:
            return
        if not self.core.usable:
            if self.core.held:
                self.context.spawn(insist(self._look_after), "looking after a paused sandbox")
            else:
                turn.cancel_reminder(TEND)
            return
        if self.commands.used_at > self._touched or self.commands.busy:
            self._touched = time.monotonic()
            await sandboxes.touch(turn.connection, self.ref.id)
        minutes = turn.state.get("auto_sleep_after_minutes")
        used = (await sandboxes.get(turn.connection, self.ref.id)).last_activity_at
        idle_s = (datetime.now(UTC) - used).total_seconds()
        if minutes and not self.commands.busy and idle_s > minutes * 60:
            await self._step(turn, core.Stop(idle=True))
        else:
            self.context.spawn(insist(self._adopt), "looking after commands")
            if self.core.spec.get("network") == Network.OPEN:
                self.context.spawn(insist(self._inspect), "looking after the network")

    async def on_effect_failed(self, turn: Turn, payload: dict[str, Any]) -> None:
        """An effect was given up: say so on the record rather than wait for ever."""
        action = payload.get("action") or {}
        generation = int((action.get("payload") or {}).get("generation", 0))
        detail = str((payload.get("error") or {}).get("detail", ""))
        match action.get("name"):
            case "launch":
                await self._step(turn, core.StartFailed(generation, payload.get("error") or {}))
            case "hold":
                await self._step(turn, core.Held(generation, self.core.frozen, payload.get("error") or {}))
            case "halt":
                await self._step(turn, core.Died(generation, f"it could not be stopped: {detail}"))
            case "bring_back":
                await self._restore_failed(turn, action, payload.get("error") or {})
            case "apply_network":
                return  # it runs on, and nothing gets out; its next start, or change, does it again
            case _:
                with contextlib.suppress(errors.NotFound):
                    await sandboxes.set_status(turn.connection, self.ref.id, SandboxState.ERROR, detail)

    # ---- use: volatile --------------------------------------------------------------------------

    @volatile
    async def run(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Run a command once per `exec_id`, wait up to `wait_ms` for its end.

        Payload: exec_id, `command` (text for the shell) or `argv`, and optionally cwd, env, merge, stdin,
        timeout_ms, agent, conversation_id, mode, wait_ms (0), head_bytes (64 KiB), `room` (refuse a new
        command with DiskFull while the disk is nearly full). Returns the `Execution` with the first
        `head_bytes` of each stream, and `created` (false: an earlier call started it). A command that could
        not be started is an answer (`failed`, exit_code 127, reason `not-started: …`): it was accepted.
        Raises InvalidInput, SandboxNotRunning (a person stopped it), IdempotencyMismatch, Overloaded (no
        process to be had: recorded as not started, for good), DiskFull (not accepted, the id is free), and
        what starting a sandbox raises.
        """
        if payload.get("room") and self._disk.low:
            if (before := await self.commands.repeated(payload)) is not None:
                return {**before.to_json(), "created": False}
            self._disk.check()
        if not self.core.usable:
            if (before := await self.commands.repeated(payload)) is not None:
                return {**before.to_json(), "created": False}
            if self.core.wanted is Wanted.STOPPED:
                raise errors.SandboxNotRunning(f"sandbox {self.ref.id} was stopped")
            await self._usable()
        ran, created = await self.commands.run(payload, self.state["user_id"])
        return {**ran.to_json(), "created": created}

    @volatile
    async def wait(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The command `exec_id` after its end or `timeout_ms`, an `Execution`. Raises NotFound."""
        return (await self.commands.wait(id_of(payload), *wait_of(payload, "timeout_ms"))).to_json()

    @volatile
    async def attach(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What `SandboxAccess` needs; starts the sandbox where needed, and waits at most `timeout_ms` for it.

        Raises NotFound, DeadlineExceeded (still starting), and what starting a sandbox raises. In quarantine
        it lets readers into one that runs, and starts none.
        """
        if self.context.quarantined and not self.core.usable:
            raise errors.Quarantined(f"sandbox {self.ref.id} does not run and was put aside")
        await self._usable(float(payload.get("timeout_ms", ATTACH_SECONDS * 1000)) / 1000)
        if not await self._answers() and await self._look_after():
            await self._usable()
        self.commands.used_at = time.monotonic()
        s = self.core
        started = s.started or {}
        return {
            "sandbox_id": self.ref.id, "run_dir": started.get("run_dir", self.run_dir),
            "epoch": self.context.fence.epoch, "generation": s.generation,
            "network": s.spec.get("network", "none"), "isolation": started.get("isolation"),
            "shell": started.get("shell", "/bin/sh"),
            "environment": attached_of(started, s.generation, s.environment).environment if started else {},
        }

    @volatile
    async def kill(self, payload: dict[str, Any]) -> None:
        """Kill `exec_id` and every process it left; returns when none is there."""
        await self.commands.tppd.kill_tree(id_of(payload), epoch=self.context.fence.epoch)

    @readonly
    async def status(self, _payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """Its present state: status, generation, driver, isolation, limits, error, … Raises NotFound."""
        self._exists(self.state)
        return state.describe(self.ref.id, self.state)

    @readonly
    async def settled(self, payload: dict[str, Any]) -> dict[str, Any]:
        """`status` once nothing is under way (no start, no stop), or after `timeout_ms`."""
        deadline = time.monotonic() + float(payload.get("timeout_ms", 30_000)) / 1000
        while not state.at_rest(self.core) and time.monotonic() < deadline:
            await self._news(deadline)
        return await self.status()

    # ---- effects --------------------------------------------------------------------------------

    @effect
    async def launch(self, action: Action) -> None:
        """Have the node start this generation; its progress becomes the row's detail."""
        s, generation = self.core, int(action.payload["generation"])
        if s.generation != generation or s.status is not SandboxState.STARTING:
            return
        self._mark(False)
        try:
            answer = await self._launch(s)
            await self._lead_out(answer["started"]["run_dir"])
            if snapshot_id := self.state.get("from_snapshot"):
                await self._populate(snapshot_id)
        except errors.TerminalError as error:
            if error.retryable:
                raise
            await self._apply(core.StartFailed(generation, error.to_json()))
            return
        started = {**answer["started"], "boot_id": machine.boot_id(),
                   "shell": await machine.find_shell(answer["started"]["run_dir"])}
        machine.forget_mark(self.run_dir)
        await self._apply(core.Started(generation, answer["driver"], started, answer.get("note") or ""))
        await self._adopt()

    @effect
    async def halt(self, action: Action) -> None:
        """End the commands, then the sandbox of this generation."""
        s, generation = self.core, int(action.payload["generation"])
        if s.generation != generation or not s.ending:
            return
        await self._attach()
        await self._freeze(False)
        if not self.context.quarantined:  # there the polite way may be what is broken
            with contextlib.suppress(errors.SandboxNotRunning, errors.Unavailable, errors.DeadlineExceeded):
                await self.commands.kill_all()
        await self._node("stop_sandbox", {"sandbox_id": self.ref.id, "driver": s.driver}, 120)
        await self._apply(core.Stopped(generation))

    @effect
    async def remove(self, action: Action) -> None:
        """Delete all that is left of it."""
        await self.commands.attach(None)
        await self._node("remove_sandbox", {"sandbox_id": self.ref.id, "driver": self.core.driver}, 120)
        self.idle_seconds = 0.0  # nobody comes any more: its cell is free for the next

    async def _launch(self, s: core.Sandbox) -> dict[str, Any]:
        """The node's last answer. Progress is written at most twice a second."""
        seen, said = 0, 0.0
        request = {"spec": {"sandbox_id": self.ref.id, "generation": s.generation, **s.spec},
                   "driver": s.driver, "wait_ms": NODE_WAIT_MS}
        while True:
            answer = await self._node("start_sandbox", {**request, "seen": seen}, 30)
            if answer["state"] == "started":
                return answer
            seen = answer["seen"]
            if answer["lines"] and time.monotonic() - said > 0.5:
                said = time.monotonic()
                async with self.context.fenced() as connection:
                    await sandboxes.set_status(connection, self.ref.id, SandboxState.STARTING,
                                               answer["lines"][-1][:500])

    async def _node(self, method: str, payload: dict[str, Any], timeout_s: float) -> Any:
        """Call the node. Raises what they raise, or Unavailable."""
        ref = Ref("node", str(self.state.get("node_id") or self.context.node_id))
        return await self.context.runtime.call(ref, method, payload, timeout_s=timeout_s)

    async def _inspect(self) -> Any:
        """The driver's record if it runs, else None; an open network that was cut is connected again."""
        asked = {"sandbox_id": self.ref.id, "driver": self.core.driver}
        return await self._node("inspect_sandbox", asked, 30)

    # ---- inside ---------------------------------------------------------------------------------

    def _exists(self, saved: dict[str, Any]) -> None:
        if not saved or state.core_of(saved).wanted is Wanted.DESTROYED:
            raise errors.NotFound(f"there is no sandbox {self.ref.id}")

    async def _step(self, turn: Turn, op: core.Op) -> core.Applied | None:
        """Apply `op` within the turn: state, row, effects and the reminder are committed together."""
        before = state.core_of(turn.state)
        if (applied := core.apply(before, op)) is None:
            return None
        await state.write_row(turn.connection, self.ref.id, before, applied.sandbox, self.context.node_id)
        turn.state["core"] = applied.sandbox.to_json()
        for action in applied.actions:
            name = {"start": "launch", "stop": "halt", "hold": "hold", "remove": "remove"}[action.name]
            key = f"{action.generation}.{applied.sandbox.holds}" if name == "hold" else str(action.generation)
            turn.act(name, {"generation": action.generation}, key=key)
        if isinstance(op, core.Started):
            turn.state.pop("from_snapshot", None)  # it has its files
        if isinstance(op, core.Started) and applied.sandbox.usable:
            turn.remind(TEND, after_seconds=TEND_SECONDS, every_seconds=TEND_SECONDS)
        elif applied.ended:
            turn.cancel_reminder(TEND)
        return applied

    async def _apply(self, op: core.Op) -> None:
        """`_step` in a turn of its own, and what must follow its commit."""
        async with self.context.turn() as turn:
            applied = await self._step(turn, op) if turn.state else None
        self._changed.set()
        if applied is not None and applied.ended:
            self._mark(False)
            await self.commands.attach(None)
            await self.commands.settle()

    async def _attach(self) -> None:
        """Let `commands` use the generation that runs, or none."""
        s = self.core
        runs = s.status is SandboxState.RUNNING and s.started
        attached = attached_of(s.started, s.generation, s.environment) if runs and s.started else None
        await self.commands.attach(attached)

    async def _adopt(self) -> None:
        """Make what is open right again: after an activation, a start, and every now and then."""
        await self._attach()
        s = self.core
        if s.usable:
            await self.commands.adopt()
        elif s.status in (SandboxState.STOPPED, SandboxState.ERROR):
            await self.commands.settle()

    async def _usable(self, timeout_s: float = ATTACH_SECONDS) -> None:
        """Return once commands may be started, starting the sandbox if it does not run.

        Raises NotFound, DeadlineExceeded, or why it could not be started.
        """
        self._exists(self.state)
        if self.core.held and not await self._look_after():
            self._goes_on(self.core)
        deadline = time.monotonic() + timeout_s
        if self.core.wanted is not Wanted.RUNNING or self.core.status is SandboxState.ERROR:
            await self._apply(core.Start())
        while not self.core.usable:
            s = self.core
            self._goes_on(s)
            if s.wanted is Wanted.DESTROYED:
                raise errors.NotFound(f"sandbox {self.ref.id} was deleted")
            if s.wanted is Wanted.STOPPED:
                raise errors.SandboxNotRunning(f"sandbox {self.ref.id} was stopped")
            if s.status is SandboxState.ERROR:
                raise errors.from_json(s.error) if s.error else errors.SandboxFailed(s.detail)
            if time.monotonic() > deadline:
                raise errors.DeadlineExceeded(f"sandbox {self.ref.id} is still starting: {s.detail}")
            await self._news(deadline)
        await self._attach()

    async def _look_after(self) -> bool:
        """Nobody answered: whether the sandbox is dead. If so, that is now its recorded state."""
        async with self._looking:
            s = self.core
            if s.status is not SandboxState.RUNNING:
                return True
            if s.ending or await self._answers():
                return False
            try:
                found = await self._inspect()
            except errors.TerminalError:
                return False  # the node does not know just now; the reminder asks again
            if found is not None and found["generation"] == s.generation:
                return False
            detail, expected = machine.why_it_died(s.started or {}, self.run_dir)
            await self._apply(core.Died(s.generation, detail, expected))
            return True
