"""The agent entity: does one task at a time, and the same task once.

`work` is idempotent by `task_id`: called again it joins the running task, or, after a crash of any kind,
folds the task's events and goes on where they end. It holds no state in the database but its row; its
memory is the event log. When a newer owner of the conversation asks for the same task, the run under the
old fence is dropped (it could write no more) and begun again under the new one: model calls and commands
carry the same ids, so nothing is done twice.

`cancel` ends the task, kills its running commands and returns when nothing of it runs any more. The
conversation closes open tool calls on the log, because it must also do so for agents that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

from actors.agent import tester
from actors.agent.sandbox_tools import AgentSandbox, SandboxCommands
from actors.agent.turn_log import Superseded, TurnLog
from graphs import loop, messages, prompting, structured, tools
from graphs.limits import Limits, Spent
from graphs.ports import Event
from graphs.textfile import NotText, TextFile
from runtime import Entity, volatile
from terminalpp.types.errors import Conflict, FileProblem, NotFound, TerminalError, Unavailable
from terminalpp.types.ids import Fence, Ref

MODEL = Ref("model", "0")
MAX_CALLS = {"planner": 12, "critic": 8}
ANSWERS = {"planner": structured.plan, "critic": structured.verdict}
CHARACTERS_PER_TOKEN = 3  # on the careful side for code
DEFAULT_CONTEXT_TOKENS = 100_000
CONTEXT_SHARE = 0.7  # of the model's context for the transcript; the rest is for tools and reply


@dataclass
class Running:
    """The task that is being done, and who waits for it."""

    task_id: str
    epoch: int  # of the conversation's fence
    done: asyncio.Future[dict[str, Any]]
    work: asyncio.Task[None]


class Agent(Entity):
    """One role of one conversation."""

    kind = "agent"

    def __init__(self, ref: Ref, context: Any) -> None:
        super().__init__(ref, context)
        self._running: Running | None = None
        self.asking: str | None = None  # the model call under way

    @volatile
    async def work(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Do the task and return its result. `payload`: role, task, turn, fence, sandbox_id, workspace.

        Returns `{"status": "superseded"}` when the conversation has moved on. Raises the model's and the
        sandbox's errors.
        """
        task_id, epoch = payload["task"]["task_id"], int(payload["fence"]["epoch"])
        running = self._running
        if running is not None and (
            running.task_id != task_id or running.epoch < epoch or running.done.cancelled()
        ):
            await self._drop(running)
            running = None
        if running is None:
            done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            work = self.context.spawn(self._work(payload, done), f"task {task_id}")
            running = self._running = Running(task_id, epoch, done, work)
        return await asyncio.shield(running.done)

    @volatile
    async def cancel(self, payload: dict[str, Any]) -> dict[str, Any]:
        """End the running task, if any; returns when it has ended."""
        running, asking = self._running, self.asking
        if running is None:
            return {"cancelled": False}
        await self._drop(running)
        if asking is not None:  # else it would go on telling its words behind the end of the turn
            with contextlib.suppress(TerminalError):
                await self.context.runtime.call(MODEL, "cancel", {"call_id": asking})
        return {"cancelled": True}

    async def _drop(self, running: Running) -> None:
        running.work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.work
        if self._running is running:
            self._running = None

    async def _work(self, payload: dict[str, Any], done: asyncio.Future[dict[str, Any]]) -> None:
        """Never raises but for cancellation: an error belongs to the caller, not to this entity's health."""
        try:
            result = await self._perform(payload)
        except asyncio.CancelledError:
            _settle(done, {"status": "superseded"})
            raise
        except Superseded:
            _settle(done, {"status": "superseded"})
        except Exception as error:
            if not done.done():
                done.set_exception(error)
                done.exception()  # retrieved: the caller may be gone
        else:
            _settle(done, result)
        finally:
            # A result that is not taken (the caller died) is made again from the log.
            if self._running is not None and self._running.done is done:
                self._running = None

    async def _perform(self, payload: dict[str, Any]) -> dict[str, Any]:
        role, task, turn = payload["role"], payload["task"], payload["turn"]
        log = TurnLog(
            self.context.database,
            self.context.live,
            Fence.from_json(payload["fence"]),
            turn["turn_id"],
            turn["seq"],
            writer=self.context.fence,
        )
        commands = SandboxCommands(self.context, payload["sandbox_id"], log.conversation_id, role)
        sandbox = AgentSandbox(commands, log, role, payload["workspace"])
        try:
            if task["kind"] == "tests":
                return await tester.run_tests(task, sandbox)
            if task["kind"] == "evidence":
                return await tester.run_evidence(task, sandbox)
            port = Port(self, log, task["task_id"], role, payload["fence"])
            return await loop.run(await self._task(payload, sandbox, log), port, sandbox)
        finally:
            await commands.close()

    async def _task(self, payload: dict[str, Any], sandbox: AgentSandbox, log: TurnLog) -> loop.Task:
        role, task, turn = payload["role"], payload["task"], payload["turn"]
        model = await log.model() or turn["model"]
        able = await self.context.runtime.call(MODEL, "capabilities", {"model": model}, timeout_s=None)
        wanted = getattr(self.context.settings, "model_tools", "auto")
        native = wanted == "native" or (wanted == "auto" and bool(able.get("native_tools")))
        own = tools.ROLE_TOOLS[role]
        written = [] if native else tools.BUILT_IN.definitions(own)
        tokens = int(able.get("context_tokens") or DEFAULT_CONTEXT_TOKENS)
        return loop.Task(
            task_id=task["task_id"],
            conversation_id=log.conversation_id,
            role=role,
            model=model,
            system=prompting.system(role, sandbox.workspace, await instructions(sandbox), written=written),
            text=prompting.task_text(task["kind"], task, turn["task"], turn["earlier"]),
            tools=own,
            native=native,
            limits=Limits.from_json(turn["limits"]),
            started_at=turn["started_at"],
            spent=Spent.from_json(task["spent"]),
            context_characters=int(tokens * CONTEXT_SHARE * CHARACTERS_PER_TOKEN),
            max_calls=MAX_CALLS.get(role),
            reminder=prompting.reminder(task.get("plan")),
            takes_messages=role == "coder",
            answer=ANSWERS.get(role),
        )


class Port:
    """`graphs.ports.LoopPort` of one task."""

    def __init__(self, agent: Agent, log: TurnLog, task_id: str, role: str, fence: dict[str, Any]) -> None:
        self.agent, self.log, self.task_id, self.role, self.fence = agent, log, task_id, role, fence

    async def history(self) -> list[Event]:
        """See graphs.ports.LoopPort."""
        return await self.log.task_history(self.task_id)

    async def emit(self, type: str, payload: dict[str, Any]) -> Event:
        """See graphs.ports.LoopPort."""
        return await self.log.emit(type, self.role, payload)

    async def messages(self) -> list[dict[str, Any]]:
        """See graphs.ports.LoopPort."""
        return await self.log.deliver(self.task_id, self.role)

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """See graphs.ports.LoopPort."""
        model = await self.log.model() or request["model"]
        payload = {**request, "model": model, "fence": self.fence}
        if model != request["built_for"]:  # the person has just chosen another one
            payload["messages"] = messages.plain(request["messages"])
        runtime = self.agent.context.runtime
        self.agent.asking = request["call_id"]
        for _ in range(20):
            try:
                return await runtime.call(MODEL, "complete", payload, timeout_s=None)
            except Conflict:
                await self.log.model()  # Superseded when it is our conversation that has moved on
                await asyncio.sleep(0.1)
        raise Unavailable("the model's actor kept changing its owner")

    def now(self) -> float:
        """See graphs.ports.LoopPort."""
        return time.time()


async def instructions(sandbox: AgentSandbox) -> dict[str, str]:
    """The repository's AGENTS.md and CLAUDE.md, where there are any, in whatever encoding they are."""
    found = {}
    for name in prompting.INSTRUCTION_FILES:
        with contextlib.suppress(NotFound, FileProblem, NotText):
            found[name] = TextFile.of(await sandbox.read_file(f"{sandbox.workspace}/{name}")).shown
    return found


def _settle(done: asyncio.Future[dict[str, Any]], result: dict[str, Any]) -> None:
    if not done.done():
        done.set_result(result)
