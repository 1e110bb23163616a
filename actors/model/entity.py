"""The model entity: one call to a language model, told to the event log while it happens.

What it guarantees
- A call has an id chosen by the caller. Asked again under the same id, it returns the reply that
  is already in the event log, or joins the call that is under way: a resumed agent never pays twice
  for a reply that was recorded.
- Every event is written under the conversation's fence. When the conversation has moved to a newer
  owner, the first write is refused and the call is dropped.
- Each retry shows as `model.retried`; a reply nobody can work with is an error, never an empty one.

What it refuses: to hold anything that is not in the event log. It can die at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from typing import Any

from actors.model import failures, provider, scripted
from actors.model.replies import Reply
from runtime import Entity, model_keys, readonly
from schema import events
from terminalpp.types import errors
from terminalpp.types.ids import Fence

FIRST_WAIT_S = 0.5  # doubles with each try, plus up to half of itself at random
LONGEST_WAIT_S = 30.0  # a longer Retry-After is not waited for: the error is shown instead
FLUSH_S = 0.08  # text is written to the event log at most this often

# Only what may be different next time is tried again; a mistake of ours never is.
_WORTH_A_RETRY = (errors.ModelOverloaded, errors.ModelUnreachable, errors.ModelReplyInvalid)


class Model(Entity):
    """Calls models through litellm on behalf of every agent of a node."""

    kind = "model"
    group = "model"
    idle_seconds = float("inf")  # importing litellm again would cost 5 s

    def __init__(self, ref: Any, context: Any) -> None:
        super().__init__(ref, context)
        self._under_way: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def activated(self) -> None:
        """No call is under way yet."""
        self.context.spawn(asyncio.to_thread(provider.library), "import litellm")

    @readonly
    async def capabilities(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What `payload["model"]` can do; see `provider.capabilities`."""
        return await asyncio.to_thread(provider.capabilities, payload["model"], self.context.settings)

    @readonly
    async def judge(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Why `payload["model"]` cannot be asked: `{problem, hint}`, both empty when it may be."""
        stored = await asyncio.to_thread(model_keys.of(self.context.settings.home).all)
        problem, hint = await asyncio.to_thread(provider.problem, payload["model"], os.environ, stored)
        return {"problem": problem, "hint": hint}

    @readonly
    async def complete(self, payload: dict[str, Any]) -> dict[str, Any]:
        """One model call; returns the payload of its `model.finished` event.

        `payload`: call_id, task_id, conversation_id, fence, agent (role), model, messages (OpenAI
        shape), and optionally tools, max_tokens, temperature, timeout_s, compactions (how often this
        conversation was too long). Raises the model errors of
        the tree, and Conflict when the conversation has moved to a newer owner.
        """
        call_id = payload["call_id"]
        task = self._under_way.get(call_id)
        if task is None:
            task = asyncio.create_task(self._complete(payload), name=f"model call {call_id}")
            self._under_way[call_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(call_id, None))
        # The caller may vanish (its cell died); the call goes on, so that its reply is recorded.
        try:
            return await asyncio.shield(task)
        except errors.Fenced as fenced:
            # The conversation's fence, not ours: as Fenced the runtime would drop this whole entity.
            raise errors.Conflict(f"the conversation has a newer owner: {fenced.detail}") from fenced

    @readonly
    async def cancel(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Stop the call `payload["call_id"]`; harmless when there is none. Returns {"cancelled": bool}."""
        task = self._under_way.get(payload["call_id"])
        if task is None:
            return {"cancelled": False}
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, errors.TerminalError):
            await task
        return {"cancelled": True}

    async def _complete(self, request: dict[str, Any]) -> dict[str, Any]:
        recorded = await events.find(
            self.context.database, request["conversation_id"], "model.finished", request["call_id"]
        )
        if recorded is not None:
            return recorded.payload
        log = _Log(self.context, request)
        await log.append("model.started", scripted=scripted.is_scripted(request["model"]))
        started = time.monotonic()
        for attempt in range(1, self.context.settings.model_retries + 2):
            try:
                reply = await self._attempt(request, log, attempt)
                break
            except Exception as problem:
                error = failures.translate(problem, request["model"])
                error.detail = model_keys.of(self.context.settings.home).hidden(error.detail)
                await self._wait_or_raise(problem, error, attempt, log)
        settings = self.context.settings
        return await log.append(
            "model.finished",
            **reply.to_json(),
            cost_usd=provider.price_usd(request["model"], reply.usage, settings),
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    async def _attempt(self, request: dict[str, Any], log: _Log, attempt: int) -> Reply:
        await asyncio.to_thread(provider.library)  # the first call may come before the import is done
        reply, flushed = Reply(), time.monotonic()
        async for chunk in provider.stream(request, self.context.settings):
            reply.add(chunk)
            if time.monotonic() - flushed >= FLUSH_S:
                if text := reply.unseen():
                    await log.append("model.delta", text=text, attempt=attempt)
                flushed = time.monotonic()
        if text := reply.unseen(last=True):
            await log.append("model.delta", text=text, attempt=attempt)
        reply.check()
        return reply

    async def _wait_or_raise(
        self, problem: Exception, error: errors.TerminalError, attempt: int, log: _Log
    ) -> None:
        """Wait before the next attempt, or raise `error` when another try cannot help."""
        asked = failures.retry_after_seconds(problem)
        wait = FIRST_WAIT_S * 2 ** (attempt - 1) * (1 + random.random() / 2)
        wait = max(wait, asked or 0.0)
        # A malformed or empty reply is worth one more try: sampling differs from call to call.
        hopeless = isinstance(error, errors.ModelReplyInvalid) and attempt >= 2
        last = attempt > self.context.settings.model_retries
        if not isinstance(error, _WORTH_A_RETRY) or hopeless or last or wait > LONGEST_WAIT_S:
            raise error from problem
        await log.append(
            "model.retried", attempt=attempt, code=error.code, detail=error.detail, wait_ms=round(wait * 1000)
        )
        await asyncio.sleep(wait)


class _Log:
    """Writes one call's events under the conversation's fence and wakes whoever listens."""

    def __init__(self, context: Any, request: dict[str, Any]) -> None:
        self._context = context
        self._conversation_id = request["conversation_id"]
        self._fence = Fence.from_json(request["fence"])
        self._agent = request["agent"]
        self._common = {
            "call_id": request["call_id"],
            "task_id": request.get("task_id"),
            "agent": request["agent"],
            "model": request["model"],
        }

    async def append(self, type: str, **payload: Any) -> dict[str, Any]:
        body = (
            {"call_id": self._common["call_id"], **payload}
            if type == "model.delta"
            else self._common | payload
        )
        async with self._context.database.fenced(self._fence) as connection:
            seq = await events.append(connection, self._conversation_id, [(type, self._agent, body)])
        await self._context.live.publish(self._conversation_id, seq)
        return body
