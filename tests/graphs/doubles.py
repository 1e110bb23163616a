"""Stand-ins for what lies outside the graphs: a sandbox of files in memory and a scripted model.

They are honest about ids: an id that is used again with other content is an AssertionError, whoever
asks. `Crash` stands for kill -9: it derives from BaseException, so nothing may handle it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

from graphs.ports import Event, Glimpse, Observation
from terminalpp.types.errors import NotFound
from terminalpp.types.ids import derived_id


class Crash(BaseException):
    """The process is gone."""


class Once:
    """Remembers what each id stood for."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.started: list[str] = []

    def use(self, id: str, content: Any) -> bool:
        """True the first time. Raises AssertionError when the id stood for something else."""
        text = json.dumps(content, sort_keys=True, default=str)
        assert self.seen.setdefault(id, text) == text, f"{id} was used for different work"
        first = id not in self.started
        if first:
            self.started.append(id)
        return first


class Points:
    """Counts the places where a process could die and dies at the chosen one, once."""

    def __init__(self, die_at: int | None = None) -> None:
        self.die_at, self.count, self.names = die_at, 0, []

    def pass_(self, name: str) -> None:
        self.count += 1
        self.names.append(name)
        if self.die_at == self.count:
            self.die_at = None
            raise Crash(name)


class World:
    """What survives every crash: the log, the sandbox, and the providers' replies."""

    def __init__(self, replies: dict[str, list[Any]], points: Points | None = None) -> None:
        self.events: list[Event] = []
        self.files: dict[str, bytes] = {}
        self.commands: dict[str, Observation] = {}
        self.outputs: dict[str, bytes] = {}
        self.once = Once()
        self.points = points or Points()
        self.replies = replies
        self.paid: dict[str, dict[str, Any]] = {}
        self.inbox: list[dict[str, Any]] = []
        self.clock = 1000.0
        self.runner: Callable[[World, str], tuple[int | None, str]] = lambda world, command: (
            0,
            f"ran {command}",
        )

    def append(self, type: str, actor: str, payload: dict[str, Any]) -> Event:
        event = Event(len(self.events) + 1, type, actor, json.loads(json.dumps(payload)), self.clock)
        self.events.append(event)
        return event

    def of(self, *types: str) -> list[dict[str, Any]]:
        return [event.payload for event in self.events if event.type in types]


class MemorySandbox:
    """`SandboxTools` on the world's files. Commands are answered by `world.runner`, once per exec id."""

    def __init__(self, world: World, workspace: str = "/home/user/repo") -> None:
        self.world, self.workspace = world, workspace

    async def run(self, exec_id: str, command: str, timeout_s: float, *, quiet: bool = False) -> Observation:
        await asyncio.sleep(0)
        self.world.points.pass_("before start")
        if self.world.once.use(exec_id, command):
            code, output = self.world.runner(self.world, command)
            status = "running" if code is None else "completed"
            self.world.outputs[exec_id] = output.encode()
            self.world.commands[exec_id] = Observation(status, code, output, len(output.encode()))
        self.world.points.pass_("after start")
        return self.world.commands[exec_id]

    async def kill(self, exec_id: str) -> None:
        seen = self.world.commands[exec_id]
        if seen.running:
            self.world.commands[exec_id] = Observation(
                "killed", 137, seen.output, seen.output_bytes, reason="killed"
            )

    async def output(self, exec_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        data = self.world.outputs.get(exec_id)
        if data is None:
            raise NotFound(f"no such execution: {exec_id}")
        part = data[offset : offset + limit]
        return part, offset + len(part)

    async def read_file(self, path: str) -> bytes:
        if path not in self.world.files:
            raise NotFound(path)
        return self.world.files[path]

    async def write_file(self, path: str, data: bytes) -> None:
        self.world.points.pass_("before write")
        self.world.files[path] = data
        self.world.points.pass_("after write")

    async def find_terminal(self, name: str) -> tuple[str, bool]:
        raise NotImplementedError  # tests/sandbox_entity has real ones

    async def use_terminal(self, id: str, call_id: str, name: str, **use: Any) -> Glimpse:
        raise NotImplementedError


class MemoryPort:
    """`LoopPort` of one task: the world's log, and the scripted replies of one role in their order."""

    def __init__(self, world: World, task_id: str, role: str) -> None:
        self.world, self.task_id, self.role = world, task_id, role

    async def history(self) -> list[Event]:
        return [event for event in self.world.events if event.payload.get("task_id") == self.task_id]

    async def emit(self, type: str, payload: dict[str, Any]) -> Event:
        self.world.points.pass_(f"before {type}")
        event = self.world.append(type, self.role, payload)
        self.world.points.pass_(f"after {type}")
        return event

    async def messages(self) -> list[dict[str, Any]]:
        came, self.world.inbox = self.world.inbox, []
        return [
            self.world.append("message.delivered", "system", {"task_id": self.task_id, **message}).payload
            for message in came
        ]

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        self.world.points.pass_("before model")
        self.world.once.use(request["call_id"], [request["task_id"], request["messages"]])
        if request["call_id"] not in self.world.paid:
            reply = self.world.replies[self.role].pop(0)
            if isinstance(reply, Exception):
                raise reply
            payload = model_reply(request, reply)
            self.world.paid[request["call_id"]] = payload
            self.world.append("model.finished", self.role, payload)
        self.world.points.pass_("after model")
        return self.world.paid[request["call_id"]]

    def now(self) -> float:
        return self.world.clock


def model_reply(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    """A `model.finished` payload. `reply` is text, or (text, [(tool, arguments), …])."""
    text, calls = reply if isinstance(reply, tuple) else (reply, [])
    return {
        "call_id": request["call_id"],
        "task_id": request["task_id"],
        "agent": request["agent"],
        "content": text,
        "tool_calls": [
            {"id": f"call_{n}", "name": name, "arguments": arguments}
            for n, (name, arguments) in enumerate(calls)
        ],
        "usage": {"input_tokens": 100, "output_tokens": 10, "cached_tokens": 0},
        "cost_usd": 0.001,
        "finish_reason": "stop",
        "duration_ms": 1,
        "model": request["model"],
    }


class MemoryWorkspace:
    """`Workspace` whose snapshots are copies of the world's files, named by their content.

    Under a key that was used before it gives what it gave, as the real one does.
    """

    def __init__(self, world: World) -> None:
        self.world, self.trees, self.taken = world, {}, {}

    async def snapshot(self, key: str) -> str:
        if key not in self.taken:
            tree = dict(self.world.files)
            name = hashlib.sha256(repr(sorted(tree.items())).encode()).hexdigest()[:12]
            self.trees[name], self.taken[key] = tree, name
        self.world.points.pass_("snapshot")
        return self.taken[key]

    async def diff(self, key: str, base: str, to: str) -> dict[str, Any]:
        old, new = self.trees[base], self.trees[to]
        changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        text = "\n".join(f"{path}: {old.get(path)!r} -> {new.get(path)!r}" for path in changed)
        return {
            "files": [{"path": path, "added": 1, "removed": 1} for path in changed],
            "patch_bytes": len(text),
            "text": text,
        }

    async def keep(self, label: str) -> str | None:
        return None

    async def restore(self, key: str, snapshot: str) -> None:
        self.world.files = dict(self.trees[snapshot])
        self.world.points.pass_("restore")


def key(*parts: object) -> str:
    return derived_id(*parts)
