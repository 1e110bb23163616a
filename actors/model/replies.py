"""A model's reply, put together from what litellm hands on and what the wire showed.

Pure: chunks in, one `Reply` out. Whatever provider stands behind litellm, this is the shape that
reaches the event log (`model.finished`) and the agents: the answer without thoughts, the thoughts beside it,
the calls with the provider's own ids, and `given`, the fields that the provider wants back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from actors.model.deltas import FILTER, LENGTH, PARTS, Deltas
from graphs import arguments, thinking
from terminalpp.types import errors
from terminalpp.types.text import clean

LONGEST_THOUGHTS = 100_000  # characters of reasoning that are kept
LONGEST_GIVEN = 300_000  # characters of JSON that are kept to be given back


@dataclass
class Usage:
    """Tokens as the provider counted them. `cached_tokens` is the part of the input read from its cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def to_json(self) -> dict[str, int]:
        """The shape `terminalpp.types.events.Usage`."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
        }


@dataclass
class Reply:
    """The reply as far as it has arrived."""

    usage: Usage = field(default_factory=Usage)
    deltas: Deltas = field(default_factory=Deltas)
    _screen: thinking.Screen = field(default_factory=thinking.Screen)

    def add(self, chunk: Any) -> None:
        """Take one litellm chunk or whole response, or, as the last, the `Deltas` of the wire."""
        if isinstance(chunk, Deltas):
            self.deltas = chunk
            return
        self._take_usage(getattr(chunk, "usage", None))
        event = {"choices": [clean(choice.model_dump()) for choice in getattr(chunk, "choices", None) or []]}
        self._screen.add(self.deltas.add(event))

    def unseen(self, *, last: bool = False) -> str:
        """The text of the answer that came since this was last asked, without thoughts."""
        return self._screen.new(last=last)

    @property
    def content(self) -> str:
        """The answer without thoughts."""
        return thinking.split(self.deltas.content)[0]

    @property
    def thoughts(self) -> str:
        """The model's reasoning, for people and logs."""
        said = max(self.deltas.thoughts.values(), key=len, default="")
        inner = thinking.split(self.deltas.content)[1]
        return "\n".join(text for text in (said, inner) if text)[:LONGEST_THOUGHTS]

    @property
    def finish_reason(self) -> str:
        """Why the provider ended it, in its word."""
        return self.deltas.finish

    def _take_usage(self, usage: Any) -> None:
        if usage is None:
            return
        details = getattr(usage, "prompt_tokens_details", None)
        self.usage = Usage(
            input_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            output_tokens=getattr(usage, "completion_tokens", 0) or 0,
            cached_tokens=(getattr(details, "cached_tokens", 0) or 0) if details is not None else 0,
        )

    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls as `{id, name, arguments, given?}`; `id` is the provider's, "" where it gave none.

        `arguments` is a dict, or the raw string when it cannot be read as an object: the agent answers
        that with an error the model can read. `given`: what the provider wants back beside the call.
        """
        calls = []
        for call in self.deltas.calls:
            out = {"id": call.id, "name": call.name, "arguments": arguments.read(call.arguments)}
            calls.append(out | ({"given": call.beside} if _fits(call.beside) else {}))
        return calls

    def given(self) -> dict[str, Any]:
        """The fields of the assistant's message that go back to the provider as they came.

        Of what is too long to keep, plain reasoning is cut and structured fields are left out.
        """
        thoughts = {name: text for name, text in self.deltas.thoughts.items() if name != PARTS}
        out: dict[str, Any] = {name: text[:LONGEST_THOUGHTS] for name, text in thoughts.items()}
        out |= {name: value for name, value in self.deltas.kept.items() if _fits(value)}
        if isinstance(more := out.get("provider_specific_fields"), dict):  # litellm says some things twice
            out["provider_specific_fields"] = {key: more[key] for key in more if key not in out}
        if self.deltas.content != self.content and len(self.deltas.content) <= LONGEST_THOUGHTS:
            out["content"] = self.deltas.content
        return out

    def to_json(self) -> dict[str, Any]:
        """The reply's part of `model.finished`."""
        return {
            "content": self.content,
            "reasoning": self.thoughts,
            "tool_calls": self.tool_calls(),
            "given": self.given(),
            "usage": self.usage.to_json(),
            "finish_reason": self.finish_reason,
        }

    def check(self) -> None:
        """Refuse a reply nobody can work with. Raises ModelReplyCut, ModelReplyInvalid."""
        if self.finish_reason == LENGTH:
            raise errors.ModelReplyCut(
                f"the reply was cut after {self.usage.output_tokens or len(self.deltas.content) // 4} tokens"
            )
        if self.finish_reason == FILTER:
            raise errors.ModelReplyInvalid("the provider's content filter stopped the reply")
        if not self.content.strip() and not self.deltas.calls and not self.thoughts.strip():
            raise errors.ModelReplyInvalid("the model's reply was empty")
        if self.deltas.calls and not any(call.name for call in self.deltas.calls):
            raise errors.ModelReplyInvalid("the model called a tool without naming it")


def _fits(value: Any) -> bool:
    return bool(value) and len(json.dumps(value, default=str)) <= LONGEST_GIVEN
