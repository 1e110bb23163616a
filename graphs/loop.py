"""The agent loop: ask the model, run what it calls for, show it the result, until it has its answer.

The loop holds no state of its own. It starts by folding the task's events and then does whatever comes
next, so that killing it anywhere and starting it again goes on where it was:

- killed before the model answered: the same call id is asked again, the model actor knows the reply;
- killed between reply and tools, or between two tools: the open calls are found and run, in order;
- killed inside a tool: the recorded effect says how to finish it; its command is joined, not restarted;
- killed after the answer: the answer is in the log and is returned.

Before each model call it checks every stop condition: limits of the turn (steps, seconds, tokens,
dollars), replies that cannot be used (three in a row), and running in circles (one nudge, then the end).

A model's weakness ends a task with a status, so that the work done until then can still be judged: an empty
answer after one nudge, or a third reply that cannot be used, is `malformed`. What the provider or its network
refuse is raised; "too long" first makes the transcript shorter, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphs import arguments, messages, stuck, toolbox, tools, transcript
from graphs import limits as limits_of
from graphs.limits import Limits, Spent
from graphs.ports import LoopPort, Sandbox
from graphs.structured import Malformed
from graphs.toolbox import Toolbox
from graphs.transcript import Call, Step, Transcript
from terminalpp.types.errors import ModelReplyCut, ModelReplyInvalid, ModelRequestTooLong
from terminalpp.types.ids import derived_id

PLAN_REMINDER_EVERY = 10
MAX_COMPACTIONS = 5  # each halves what is sent: from 400,000 characters to 12,500
MAX_DOUBTS = 2  # times the agent is told that its call was written as text


@dataclass(frozen=True)
class Task:
    """One piece of work for one agent. `task_id` names it for ever; equal ids mean equal tasks."""

    task_id: str
    conversation_id: str
    role: str
    model: str
    system: str
    text: str
    tools: tuple[str, ...]
    native: bool
    limits: Limits
    started_at: float  # of the turn, Unix seconds
    spent: Spent = field(default_factory=Spent)  # by the turn before this task
    context_characters: int = 400_000
    max_calls: int | None = None  # tool calls allowed in all
    reminder: str | None = None  # the plan, told again every ten steps
    takes_messages: bool = False  # whether what the person types meanwhile goes to this agent
    answer: Callable[[str], dict[str, Any]] | None = None  # reads the final reply; raises Malformed
    toolbox: Toolbox = field(default_factory=lambda: tools.BUILT_IN)  # `tools` names its own


async def run(task: Task, port: LoopPort, sandbox: Sandbox) -> dict[str, Any]:
    """Work until there is an answer or a limit. Returns `{status, content, answer, limit, value, spent}`.

    `status` is done, malformed (the answer stayed empty or unreadable; `content` is then whatever there is)
    or stopped. Raises the model's errors and, when superseded by another activation, Fenced.
    """
    state = transcript.fold(
        task.task_id,
        await port.history(),
        native=task.native,
        schemas=task.toolbox.schemas,
        tools=task.tools,
    )
    loop = _Loop(task, port, sandbox, state)
    while True:
        if state.steps:
            await loop.finish_calls(state.steps[-1])
        if state.stopped is not None:
            return loop.result("stopped", limit=state.stopped["limit"], value=state.stopped["value"])
        done = await loop.answered()
        if done is not None:
            return done
        if await loop.may_ask() and (ended := await loop.ask()) is not None:
            return ended


class _Loop:
    def __init__(self, task: Task, port: LoopPort, sandbox: Sandbox, state: Transcript) -> None:
        self.task, self.port, self.sandbox, self.state = task, port, sandbox, state

    async def answered(self) -> dict[str, Any] | None:
        """The result, when the last reply is the agent's answer and nobody has spoken since."""
        step = self.state.steps[-1] if self.state.steps else None
        if step is None or step.calls or step.words:
            return None
        content = str(step.reply.get("content") or "").strip()
        if step.problem:
            await self.nudge("malformed", step.problem)
            return None
        if step.doubt:
            if self.state.nudges("written") >= MAX_DOUBTS:
                return self.result("malformed", content=content)
            await self.nudge("written", step.doubt)
            return None
        if not content:
            return await self.empty(step)
        if await self.deliver():
            return None
        if self.task.answer is None:
            return self.result("done", content=content)
        try:
            return self.result("done", content=content, answer=self.task.answer(content))
        except Malformed as problem:
            if self.state.nudges("repair"):
                return self.result("malformed", content=content)
            await self.nudge(
                "repair",
                f"Your answer could not be read: {problem}. Answer again with the JSON "
                "object alone, in the form you were given.",
            )
            return None

    async def empty(self, step: Step) -> dict[str, Any] | None:
        """A reply without words or calls, or of thoughts alone: one nudge, then the end."""
        before = self.state.steps[-2].words if len(self.state.steps) > 1 else []
        if any(word.get("reason") == "empty" for word in before):
            return self.result("malformed", content=self.last_content())
        words = "You thought, but gave no answer." if step.reply.get("reasoning") else "Your reply was empty."
        await self.nudge("empty", f"{words} Go on with your tools, or give your answer.")
        return None

    def last_content(self) -> str:
        """The last words of the agent; its last thoughts when it never said any."""
        for name in ("content", "reasoning"):
            for step in reversed(self.state.steps):
                if str(step.reply.get(name) or "").strip():
                    return str(step.reply[name]).strip()
        return ""

    async def may_ask(self) -> bool:
        """Check every stop condition; a limit is put on the log, a nudge is given instead of a call."""
        if transcript.malformed_in_a_row(self.state) >= limits_of.MALFORMED_IN_A_ROW:
            await self.stop("malformed", limits_of.MALFORMED_IN_A_ROW)
            return False
        circle = stuck.circling(transcript.deeds(self.state))
        if circle is not None:
            if self.state.nudges("stuck"):
                await self.stop("stuck", self.state.nudges("stuck") + 1)
                return False
            await self.nudge(
                "stuck",
                f"You are going in circles: {circle}. Stop, think about what you have "
                "learnt, and try something else or give your answer.",
            )
        total = _sum(self.task.spent, self.state.spent)
        reached = limits_of.check(self.task.limits, total, self.port.now() - self.task.started_at)
        if reached is not None:
            await self.stop(reached.limit, reached.value)
            return False
        await self.deliver()
        steps = len(self.state.steps)
        if (
            self.task.reminder
            and steps
            and steps % PLAN_REMINDER_EVERY == 0
            and not any(word.get("reason") == "plan" for word in self.state.last_words())
        ):
            await self.nudge("plan", self.task.reminder)
        return True

    async def ask(self) -> dict[str, Any] | None:
        """One model call. An unusable reply is a nudge, the third in a row the end: the result, if it is."""
        task, state = self.task, self.state
        compactions = len(state.compactions())
        model = str((state.steps[-1].reply.get("model") if state.steps else None) or task.model)
        said = messages.build(state, task.system, task.text, task.context_characters, model)
        request = {
            "call_id": derived_id(
                task.task_id, "model", len(state.steps), state.nudges("reply") + compactions
            ),
            "task_id": task.task_id,
            "conversation_id": task.conversation_id,
            "agent": task.role,
            "model": task.model,
            "messages": said,
            "built_for": model,  # a port that asks another model sends `messages.plain`
            "tools": task.toolbox.definitions(task.tools) if task.native and task.tools else None,
            "compactions": compactions,
        }
        try:
            reply = await self.port.complete(request)
        except ModelRequestTooLong:
            if compactions >= MAX_COMPACTIONS:
                raise
            await self.nudge(
                "compact",
                "The conversation had become too long for the model: older outputs were left out. "
                "Read or run again what you need.",
                budget=messages.size(said) // 2,
            )
            return None
        except (ModelReplyInvalid, ModelReplyCut) as problem:
            if transcript.malformed_in_a_row(state) + 1 >= limits_of.MALFORMED_IN_A_ROW:
                if not state.steps:
                    raise  # nothing was done that could be judged
                return self.result("malformed", content=self.last_content())
            await self.nudge(
                "reply",
                f"Your last reply could not be used: {problem.detail} Answer again"
                f"{', more briefly' if isinstance(problem, ModelReplyCut) else ''}.",
            )
            return None
        transcript.add(state, "model.finished", reply, task.toolbox.schemas)
        return None

    async def finish_calls(self, step: Step) -> None:
        """Run the reply's calls that have no result yet, one after the other."""
        for call in step.open_calls:
            called = step.called.get(call.id) or await self.call(step, call)
            result = await self.perform(call, called)
            payload = {
                "task_id": self.task.task_id,
                "tool_call_id": call.id,
                "tool": call.name,
                "ok": result.ok,
                "output": result.output,
            }
            for name, value in (
                ("exec_id", called.get("exec_id")),
                ("exit_code", result.exit_code),
                ("malformed", result.malformed or None),
            ):
                if value is not None:
                    payload[name] = value
            await self.emit("tool.finished", payload)

    async def call(self, step: Step, call: Call) -> dict[str, Any]:
        """Check a call, work its effect out and put it on the log before anything acts."""
        payload: dict[str, Any] = {
            "task_id": self.task.task_id,
            "call_id": step.reply.get("call_id"),
            "tool_call_id": call.id,
            "tool": call.name,
            "arguments": call.arguments,
        }
        refusal = arguments.problem(call.name, call.arguments, self.task.tools, self.task.toolbox.schemas)
        used = sum(len(earlier.calls) for earlier in self.state.steps[:-1]) + step.calls.index(call)
        if refusal is None and self.task.max_calls is not None and used >= self.task.max_calls:
            refusal = f"you have used your {self.task.max_calls} calls: give your answer now"
        if refusal is not None:
            payload["effect"] = {"refused": refusal, "malformed": True}
        else:
            wanted = toolbox.Call(call.arguments, derived_id(call.id, "exec"), self.sandbox)
            prepared = await self.task.toolbox.prepare(call.name, wanted)
            if isinstance(prepared, toolbox.Result):
                payload["effect"] = {"refused": prepared.output}
            else:
                payload["effect"] = prepared.effect
                if prepared.exec_id is not None:
                    payload["exec_id"] = prepared.exec_id
        await self.emit("tool.called", payload)
        return payload

    async def perform(self, call: Call, called: dict[str, Any]) -> toolbox.Result:
        effect = called.get("effect") or {}
        if "refused" in effect:
            return toolbox.Result(False, effect["refused"], malformed=bool(effect.get("malformed")))
        left_s = self.task.limits.max_seconds - (self.port.now() - self.task.started_at)
        wanted = toolbox.Call(
            call.arguments,
            derived_id(call.id, "exec"),
            self.sandbox,
            timeout_s=max(1.0, min(self.task.limits.tool_timeout_seconds, left_s)),
            limit=self.task.limits.observation_max_bytes,
        )
        prepared = toolbox.Prepared(effect, called.get("exec_id"))
        return await self.task.toolbox.perform(call.name, wanted, prepared)

    async def deliver(self) -> bool:
        """Give the agent what the person typed meanwhile. True when there was something."""
        if not self.task.takes_messages:
            return False
        came = await self.port.messages()
        for message in came:
            transcript.add(self.state, "message.delivered", message, self.task.toolbox.schemas)
        return bool(came)

    async def nudge(self, reason: str, text: str, **more: Any) -> None:
        about = {"agent": self.task.role, "task_id": self.task.task_id, "reason": reason, "text": text}
        await self.emit("nudge.given", about | more)

    async def stop(self, limit: str, value: float) -> None:
        await self.emit(
            "limit.reached",
            {"agent": self.task.role, "task_id": self.task.task_id, "limit": limit, "value": value},
        )

    async def emit(self, type: str, payload: dict[str, Any]) -> None:
        await self.port.emit(type, payload)
        transcript.add(self.state, type, payload, self.task.toolbox.schemas)

    def result(self, status: str, **values: Any) -> dict[str, Any]:
        last = self.state.steps[-1].reply.get("content") if self.state.steps else ""
        return {
            "status": status,
            "content": str(last or ""),
            "spent": self.state.spent.to_json(),
            "steps": len(self.state.steps),
            **values,
        }


def _sum(before: Spent, now: Spent) -> Spent:
    costs = [cost for cost in (before.cost_usd, now.cost_usd) if cost is not None]
    return Spent(
        before.steps + now.steps,
        before.input_tokens + now.input_tokens,
        before.output_tokens + now.output_tokens,
        before.cached_tokens + now.cached_tokens,
        sum(costs) if costs else None,
    )
