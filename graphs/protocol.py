"""Tool calls as text, for models that have no native ones.

The model writes

    <call tool="edit">
    <path>src/a.py</path>
    <old>x = 1</old>
    <new>x = 2</new>
    </call>

Each argument is an element; its text is taken as it stands (no escapes), less one line break after
the opening and before the closing tag. A JSON object as the body is understood too. Several calls in
one reply run in order. A reply without a call is the agent's final answer. Results come back as
`<result tool="edit">…</result>` in a user message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphs import arguments

_CALL = re.compile(r"<call\s+tool=[\"']?([A-Za-z_][\w.:-]*)[\"']?\s*>(.*?)</call>", re.DOTALL)
_OPEN = re.compile(r"^[ \t]*<call\s+tool=", re.MULTILINE)
_ARGUMENT = re.compile(r"<([a-z_]+)>")


@dataclass(frozen=True, slots=True)
class Parsed:
    """`calls` as `{name, arguments}`; `problem` says what is wrong with the reply's form, if anything."""

    calls: list[dict[str, Any]]
    problem: str | None = None


def parse(content: str, schemas: Mapping[str, Mapping[str, Any]]) -> Parsed:
    """The calls in a reply. `schemas` maps a tool's name to its JSON schema: numbers are read by it."""
    calls = []
    for match in _CALL.finditer(content):
        name, body = match.group(1), match.group(2)
        tool = arguments.tool(name, tuple(schemas))
        calls.append({"name": name, "arguments": _arguments(body, schemas.get(tool, {}))})
    if not calls and _OPEN.search(content):
        return Parsed([], 'a call was opened but not closed: write <call tool="name"> … </call>')
    return Parsed(calls)


def _arguments(body: str, schema: Mapping[str, Any]) -> Any:
    text = body.strip()
    if text.startswith("{"):
        return arguments.read(text)
    properties = schema.get("properties", {})
    out: dict[str, Any] = {}
    at = 0
    while match := _ARGUMENT.search(body, at):
        name = match.group(1)
        # The last closing tag counts: the text of a file may well contain `</content>`.
        end = body.rfind(f"</{name}>")
        if end < match.end():
            return f"<{name}> is not closed"
        value = body[match.end() : end].removeprefix("\n").removesuffix("\n")
        whole = properties.get(name, {}).get("type") == "integer" and re.fullmatch(r"-?\d+", value.strip())
        out[name] = int(value) if whole else value
        at = end + len(name) + 3
    return out


def result(tool: str, output: str) -> str:
    """How a tool's output is shown to a model that speaks this protocol."""
    return f'<result tool="{tool}">\n{output}\n</result>'


def instructions(tools: Sequence[Mapping[str, Any]]) -> str:
    """The section of the system prompt that teaches the protocol. `tools` are OpenAI tool definitions."""
    lines = [
        "You have tools. To use one, write a call exactly in this form, and nothing after it:",
        "",
        '<call tool="NAME">',
        "<argument>value</argument>",
        "</call>",
        "",
        "Values are taken literally: no quotes, no escapes. You get the result in the next message.",
        "When you are done, answer without any call.",
        "",
        "Tools:",
    ]
    for tool in tools:
        function = tool["function"]
        lines.append(f"- {function['name']}: {function['description']}")
        required = function["parameters"].get("required", [])
        for name, about in function["parameters"]["properties"].items():
            kind = "required" if name in required else "optional"
            lines.append(f"    <{name}> ({about['type']}, {kind}): {about['description']}")
    return "\n".join(lines)
