"""The part of the sandbox entity that interrupts what runs in it: restart, pause and resume.

A pause freezes every process, `tppd` among them, by the kernel's freezer: nothing inside notices, and nothing
inside answers. So a mark beside the run directory says it to everybody on this machine who would ask tppd
(`tppd/protocol.py`): they are refused at once (SandboxPaused) instead of waiting. The mark is set before the
freeze and taken away after the thaw. The state decides: the effect `hold` makes mark and processes agree with
it, and is carried out again after a crash. A person's pause holds: nothing resumes it but `resume`, and what
ends the sandbox (stop, restart, delete, `down`, a restart of the machine) ends the pause with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from actors.sandbox import core, state
from actors.sandbox.commands.runner import CommandRunner
from actors.sandbox.tppd.protocol import PAUSED_MARK
from runtime import Action, Entity, Turn, durable, effect
from terminalpp.types import errors
from terminalpp.types.states import SandboxState

START = "Start it first: POST /v1/sandboxes/{id}/start."
ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.25  # in case a change came from a turn that tells nobody


class Interruptions(Entity):
    """See the head of this file. The sandbox brings what is declared here."""

    run_dir: str
    commands: CommandRunner
    core: core.Sandbox
    _changed: asyncio.Event
    _exists: Callable[[dict[str, Any]], None]
    _step: Callable[[Turn, core.Op], Awaitable[core.Applied | None]]
    _apply: Callable[[core.Op], Awaitable[None]]
    _adopt: Callable[[], Awaitable[None]]
    _node: Callable[[str, dict[str, Any], float], Awaitable[Any]]

    # ---- durable --------------------------------------------------------------------------------

    @durable
    async def restart(self, turn: Turn, _payload: dict[str, Any]) -> dict[str, Any]:
        """End its commands and start it again; the workspace stays. Returns at once; `settled` waits.

        Raises NotFound, Conflict (it is being paused or resumed at this moment).
        """
        self._exists(turn.state)
        if state.core_of(turn.state).holding:
            raise errors.Conflict(f"sandbox {self.ref.id} is being paused or resumed",
                                  "Ask again in a moment.")
        await self._step(turn, core.Restart())
        return state.describe(self.ref.id, turn.state)

    @durable
    async def pause(self, turn: Turn, _payload: dict[str, Any]) -> dict[str, Any]:
        """Freeze its processes. Returns at once; `settled` waits, and has an `error` when it cannot be.

        Raises NotFound, Conflict (it does not run).
        """
        self._exists(turn.state)
        s = state.core_of(turn.state)
        if s.status is not SandboxState.RUNNING or s.ending:
            raise errors.Conflict(f"sandbox {self.ref.id} does not run: there is nothing to pause", START)
        await self._step(turn, core.Pause())
        return state.describe(self.ref.id, turn.state)

    @durable
    async def resume(self, turn: Turn, _payload: dict[str, Any]) -> dict[str, Any]:
        """Let its processes go on; nothing, when they do. Returns at once. Raises NotFound."""
        self._exists(turn.state)
        await self._step(turn, core.Resume())
        return state.describe(self.ref.id, turn.state)

    @effect
    async def hold(self, action: Action) -> None:
        """Make the processes stand still or go on, as the state wants it now."""
        s, generation = self.core, int(action.payload["generation"])
        if s.generation != generation or not s.holding:
            return
        try:
            await self._freeze(s.paused)
        except errors.TerminalError as error:
            if error.retryable:
                raise
            await self._apply(core.Held(generation, s.frozen, error.to_json()))
            return
        await self._apply(core.Held(generation, s.paused))
        if not s.paused:
            await self._adopt()

    # ---- inside ---------------------------------------------------------------------------------

    @cached_property
    def _freezing(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def _freeze(self, frozen: bool) -> None:
        """Freeze or thaw, with the mark. Thawing what nobody marked does nothing."""
        async with self._freezing:
            if not frozen and not self._marked:
                return
            asked = {"sandbox_id": self.ref.id, "driver": self.core.driver, "frozen": frozen}
            was = self._marked
            self._mark(True)
            try:
                await self._node("freeze_sandbox", asked, 30)
            except BaseException:
                self._mark(was)
                raise
            self._mark(frozen)

    @property
    def _marked(self) -> bool:
        return (Path(self.run_dir).parent / PAUSED_MARK).exists()

    def _mark(self, paused: bool) -> None:
        file = Path(self.run_dir).parent / PAUSED_MARK
        if paused:
            file.touch()
        else:
            file.unlink(missing_ok=True)

    def _goes_on(self, s: core.Sandbox) -> None:
        """Raises SandboxPaused."""
        if s.held:
            raise errors.SandboxPaused(f"sandbox {self.ref.id} is {s.detail or 'paused'}")

    async def _news(self, deadline: float) -> None:
        """Return when something changed, or soon."""
        self._changed.clear()
        left = max(0.01, deadline - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(POLL_SECONDS, left)):
                await self._changed.wait()

    async def _answers(self) -> bool:
        try:
            await self.commands.tppd.hello(self.context.fence.epoch, timeout_s=ANSWER_SECONDS)
        except (errors.SandboxNotRunning, errors.Unavailable, errors.DeadlineExceeded):
            return False
        return True
