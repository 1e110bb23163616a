"""`scripted:<name>` models: whole sessions, reproducible and offline.

A script is a JSON file that says, per agent role, which replies to give in which order. The next
reply is chosen from the conversation alone (how many assistant messages it already holds), so a
session that is killed and resumed gets the same replies again. A scripted model is labelled as
scripted wherever it shows; it never pretends to be a model.

    {"description": "...", "tools": "native" | "text", "delay_ms": 5,
     "roles": {"coder": [{"when": "regex over the user's messages, optional",
                          "then": "last" | "error",
                          "replies": [{"content": "...",
                                       "tool_calls": [{"name": "...", "arguments": {}}]}]}]}}
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from terminalpp.types import errors

PREFIX = "scripted:"
_FOLDER = Path(__file__).parent / "scripts"
_PIECE_CHARACTERS = 24  # how much text one streamed piece carries


def is_scripted(model: str) -> bool:
    """Whether the model's name is that of a script."""
    return model.startswith(PREFIX)


def names() -> list[str]:
    """The models that come with the server."""
    return [PREFIX + path.stem for path in sorted(_FOLDER.glob("*.json"))]


@functools.lru_cache(maxsize=32)
def load(name: str) -> dict[str, Any]:
    """The script called `name`, or the file it names when it is a path. Raises ModelUnknown."""
    path = Path(name) if name.endswith(".json") else _FOLDER / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(PREFIX + file.stem for file in _FOLDER.glob("*.json")))
        raise errors.ModelUnknown(f"there is no scripted model {PREFIX}{name}", f"Known: {known}.") from None
    except json.JSONDecodeError as problem:
        raise errors.ModelUnknown(f"{PREFIX}{name} is not valid JSON: {problem}") from None


def next_reply(script: dict[str, Any], role: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The reply that follows `messages`. Raises ModelReplyInvalid when the script has none."""
    asked = "\n".join(str(message.get("content") or "") for message in messages if message["role"] == "user")
    answered = sum(1 for message in messages if message["role"] == "assistant")
    for scene in script["roles"].get(role, []):
        if not re.search(scene.get("when", ""), asked):
            continue
        replies = scene["replies"]
        if answered < len(replies):
            return replies[answered]
        if scene.get("then") == "last":
            return replies[-1]
        break
    raise errors.ModelReplyInvalid(f"the script has no reply number {answered + 1} for the {role}")


def provider() -> Any:
    """The litellm custom provider. Its model string is `scripted/<name>#<role>`."""
    from litellm import CustomLLM

    class Scripted(CustomLLM):
        async def astreaming(  # type: ignore[override]
            self, model: str, messages: list, *args: Any, **kwargs: Any
        ) -> AsyncIterator[dict[str, Any]]:
            name, _, role = model.partition("#")
            script = load(name)
            reply = next_reply(script, role, messages)
            delay = (reply.get("delay_ms") or script.get("delay_ms", 0)) / 1000
            content = reply.get("content", "")
            for start in range(0, len(content), _PIECE_CHARACTERS):
                await asyncio.sleep(delay)
                yield _chunk(text=content[start : start + _PIECE_CHARACTERS])
            calls = reply.get("tool_calls", [])
            for index, call in enumerate(calls):
                yield _chunk(tool=(index, call))
            count = sum(len(str(message.get("content") or "")) for message in messages) // 4
            yield _chunk(
                finish="tool_calls" if calls else reply.get("finish_reason", "stop"),
                usage=(count, len(json.dumps(reply)) // 4),
            )

    return Scripted()


def _chunk(
    text: str = "",
    tool: tuple[int, dict] | None = None,
    finish: str = "",
    usage: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """One piece of a stream in litellm's generic shape. Token counts are characters / 4."""
    tool_use = None
    if tool is not None:
        index, call = tool
        arguments = call["arguments"]
        tool_use = {
            "id": call.get("id") or f"call_{index}",
            "type": "function",
            "index": index,
            "function": {
                "name": call["name"],
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            },
        }
    counted = None
    if usage is not None:
        counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return {
        "text": text,
        "tool_use": tool_use,
        "is_finished": bool(finish),
        "finish_reason": finish,
        "usage": counted,
        "index": 0,
    }
