"""A model's reply, put together from the pieces of its stream.

Pure: chunks in, one `Reply` out. Whatever provider stands behind litellm, this is the shape that
reaches the event log (`model.finished`) and the agents.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from terminalpp.types import errors


@dataclass
class Usage:
    """Tokens as the provider counted them. `cached_tokens` is the part of the input read from its cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def to_json(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
        }


@dataclass
class _ToolCall:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass
class Reply:
    """The reply as far as it has arrived."""

    content: str = ""
    finish_reason: str = ""
    usage: Usage = field(default_factory=Usage)
    _calls: dict[int, _ToolCall] = field(default_factory=dict)

    def add(self, chunk: Any) -> str:
        """Take one litellm stream chunk; returns the text it added ("" for none)."""
        self._take_usage(getattr(chunk, "usage", None))
        added = ""
        for choice in getattr(chunk, "choices", None) or []:
            delta = getattr(choice, "delta", None)
            if delta is not None:
                added += getattr(delta, "content", None) or ""
                for position, part in enumerate(getattr(delta, "tool_calls", None) or []):
                    self._take_call(position, part)
            if getattr(choice, "finish_reason", None):
                self.finish_reason = choice.finish_reason
        self.content += added
        return added

    def _take_call(self, position: int, part: Any) -> None:
        index = getattr(part, "index", None)
        call = self._calls.setdefault(position if index is None else index, _ToolCall())
        call.id = getattr(part, "id", None) or call.id
        function = getattr(part, "function", None)
        if function is not None:
            call.name = getattr(function, "name", None) or call.name
            call.arguments += getattr(function, "arguments", None) or ""

    def _take_usage(self, usage: Any) -> None:
        if usage is None:
            return
        details = getattr(usage, "prompt_tokens_details", None)
        self.usage = Usage(
            input_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            output_tokens=getattr(usage, "completion_tokens", 0) or 0,
            cached_tokens=(getattr(details, "cached_tokens", 0) or 0) if details is not None else 0,
        )

    def tool_calls(self, call_id: str) -> list[dict[str, Any]]:
        """The tool calls, each with an id (the provider's, else one made from `call_id`).

        `arguments` is a dict, or the raw string when the model wrote something that is not a JSON
        object: the agent answers that with an error the model can read.
        """
        calls = []
        for index in sorted(self._calls):
            call = self._calls[index]
            try:
                arguments = json.loads(call.arguments or "{}")
            except json.JSONDecodeError:
                arguments = call.arguments
            if not isinstance(arguments, dict):
                arguments = call.arguments
            calls.append({"id": call.id or f"{call_id}-{index}", "name": call.name, "arguments": arguments})
        return calls

    def check(self) -> None:
        """Refuse a reply nobody can work with. Raises ModelReplyCut, ModelReplyInvalid."""
        if self.finish_reason == "length":
            raise errors.ModelReplyCut(
                f"the reply was cut after {self.usage.output_tokens or len(self.content) // 4} tokens"
            )
        if not self.content.strip() and not self._calls:
            raise errors.ModelReplyInvalid("the model's reply was empty")
        if any(not call.name for call in self._calls.values()):
            raise errors.ModelReplyInvalid("the model called a tool without naming it")
