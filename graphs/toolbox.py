"""The tools that an agent has: what each is called, what it takes, and what carries it out.

A call runs in two parts. `prepare` works out its effect, reading but changing nothing; the loop writes
`tool.called` with that effect; `perform` acts. After a crash `perform` runs again with the recorded effect
and must be able to tell what was already done. The loop knows tools by this alone: whoever brings others (a
plugin, an MCP server) gives it a `Toolbox` with them beside the built-in ones (`graphs.tools.BUILT_IN`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graphs.ports import Sandbox
from graphs.textfile import NotText
from terminalpp.types.errors import FileProblem, NotFound
from terminalpp.types.text import REPLACEMENT

_REPLACED = (
    "[your call holds U+FFFD: that is what ran or was written. Where you did not write it, it stands for a "
    "character that is no text: NUL, or half of a surrogate pair]"
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An accepted call: its effect (JSON, recorded before it acts) and the exec id if it runs a command."""

    effect: dict[str, Any]
    exec_id: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The result that the model sees. `malformed` marks a call that could not be understood at all."""

    ok: bool
    output: str
    exit_code: int | None = None
    malformed: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose arguments fit the tool's schema. `exec_id`: of the one command that it may run.

    `timeout_s`: how long it may take. `limit`: characters of its output that the model is shown.
    """

    arguments: Mapping[str, Any]
    exec_id: str
    sandbox: Sandbox
    timeout_s: float = 0.0
    limit: int = 0


Prepare = Callable[[Call], Awaitable[Prepared | Result]]
Perform = Callable[[Call, Prepared], Awaitable[Result]]


async def at_once(call: Call) -> Prepared:
    """The `prepare` of a tool that has nothing to work out and runs no command."""
    return Prepared({})


async def as_command(call: Call) -> Prepared:
    """The `prepare` of a tool that has nothing to work out and runs one command."""
    return Prepared({}, call.exec_id)


@dataclass(frozen=True, slots=True)
class Tool:
    """`parameters` is a JSON schema of an object. `perform` may raise NotFound, FileProblem and NotText: the
    model is told in words."""

    name: str
    about: str
    parameters: dict[str, Any]
    perform: Perform
    prepare: Prepare = at_once

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as a model is told of it, in OpenAI's shape."""
        about = {"name": self.name, "description": self.about, "parameters": self.parameters}
        return {"type": "function", "function": about}


class Toolbox(Mapping[str, Tool]):
    """Tools by name. Raises ValueError when two have the same."""

    def __init__(self, *tools: Tool) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise ValueError(f"there are two tools called {tool.name}")
            self._tools[tool.name] = tool
        self.schemas = {name: tool.parameters for name, tool in self._tools.items()}

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def definitions(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """These tools as a model is told of them."""
        return [self._tools[name].definition for name in names]

    async def prepare(self, name: str, call: Call) -> Prepared | Result:
        """The call's effect, or a Result when it cannot be done."""
        return await self._tools[name].prepare(call)

    async def perform(self, name: str, call: Call, prepared: Prepared) -> Result:
        """Carry a prepared call out, or finish one that a crash interrupted."""
        try:
            done = await self._tools[name].perform(call, prepared)
        except (NotFound, FileProblem, NotText) as refusal:
            done = Result(False, in_words(refusal, str(call.arguments.get("path") or "")))
        if any(isinstance(value, str) and REPLACEMENT in value for value in call.arguments.values()):
            return replace(done, output=f"{done.output}\n{_REPLACED}")
        return done


def in_words(refusal: Exception, path: str) -> str:
    """Why a file could not be had, as the model is told."""
    if isinstance(refusal, NotText):
        return f"{path} is {refusal}"
    if isinstance(refusal, NotFound) and path:
        return f"there is no file {path}"
    return str(refusal)
