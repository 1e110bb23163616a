"""Entities for the tests of the actor system. Crashes and pauses are asked for in payloads."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

from runtime import Action, Entity, Turn, durable, effect, readonly, volatile
from terminalpp.types.errors import Conflict
from terminalpp.types.ids import Ref
from tests.eventually import eventually

ENTITIES = {
    "counter": "tests.runtime.entities:Counter",
    "sleepy": "tests.runtime.entities:Sleepy",
    "stubborn": "tests.runtime.entities:Stubborn",
    "talker": "tests.runtime.conversation_entities:Talker",
    "missing": "tests.runtime.no_such_module:Nothing",
}
PRELOAD = {"general": ["tests.runtime.entities"], "conversation": ["tests.runtime.conversation_entities"]}


class Counter(Entity):
    """Counts what was applied, and remembers the order."""

    kind = "counter"

    async def activated(self) -> None:
        self.objects_made = True

    @durable
    async def add(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        turn.state["total"] = turn.state.get("total", 0) + payload.get("n", 1)
        turn.state.setdefault("seen", []).append(payload.get("tag"))
        return {"total": turn.state["total"]}

    @durable
    async def add_and_die_once(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Dies in the middle of its turn unless the marker file is there already."""
        turn.state["total"] = turn.state.get("total", 0) + 1
        marker = Path(payload["marker"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"total": turn.state["total"]}

    @durable
    async def die(self, turn: Turn, payload: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @durable
    async def freeze_once(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Stops its whole process in the middle of its turn, the entity's row locked."""
        turn.state["total"] = turn.state.get("total", 0) + 1
        marker = Path(payload["marker"])
        if not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return {"total": turn.state["total"]}

    @durable
    async def refuse(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.state["total"] = -1
        raise Conflict("no, thank you", "Ask nicely.", {"asked": payload})

    @durable
    async def poison(self, turn: Turn, payload: dict[str, Any]) -> None:
        self.state["total"] = -1
        turn.state["total"] = -1
        raise ZeroDivisionError("a defect")

    @durable
    async def act(self, turn: Turn, payload: dict[str, Any]) -> str:
        return turn.act(payload.pop("name", "write_line"), payload, key=payload.get("key"))

    @durable
    async def forward(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.state["forwarded"] = turn.state.get("forwarded", 0) + 1
        turn.send(Ref.parse(payload["to"]), "add", {"tag": payload["tag"]})

    @durable
    async def remind_me(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.remind("tick", after_seconds=payload["after"], every_seconds=payload.get("every"))

    @durable
    async def stop_reminding(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.cancel_reminder("tick")

    async def on_reminder(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.state["ticks"] = turn.state.get("ticks", 0) + 1

    async def on_effect_failed(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.state["failed_effect"] = payload

    @effect
    async def write_line(self, action: Action) -> None:
        with open(action.payload["file"], "a") as file:
            file.write(f"{action.id} {action.attempt}\n")

    @effect
    async def write_line_and_die_once(self, action: Action) -> None:
        await self.write_line(action)
        marker = Path(action.payload["marker"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    @effect
    async def fail_twice(self, action: Action) -> None:
        await self.write_line(action)
        if action.attempt <= 2:
            raise OSError("not yet")

    @effect
    async def never_works(self, action: Action) -> None:
        raise Conflict("for good")

    @readonly
    async def get(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "epoch": self.context.fence.epoch, "group": self.group, **self.state}

    @volatile
    async def echo(self, payload: dict[str, Any]) -> dict[str, Any]:
        return payload

    @volatile
    async def hang(self, payload: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    @volatile
    async def block(self, payload: dict[str, Any]) -> None:
        threading.Event().wait(payload["seconds"])

    @volatile
    async def add_beside_turns(self, payload: dict[str, Any]) -> dict[str, Any]:
        async with self.context.turn() as turn:
            turn.state["total"] = turn.state.get("total", 0) + payload["n"]
        return {"total": self.state["total"]}

    @volatile
    async def write_when_told(self, payload: dict[str, Any]) -> str:
        """Waits for a file to appear, then writes under its fence."""
        Path(payload["waiting"]).touch()
        await eventually(Path(payload["go"]).exists, timeout_s=60)
        async with self.context.fenced() as connection:
            await connection.execute("SELECT 1")
        return "written"

    @volatile
    async def wrong(self, payload: dict[str, Any]) -> object:
        return object()


class Sleepy(Entity):
    """Falls asleep quickly; the state says how often it woke."""

    kind = "sleepy"
    idle_seconds = 0.3

    @durable
    async def note(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.state["notes"] = turn.state.get("notes", 0) + 1

    @readonly
    async def get(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"epoch": self.context.fence.epoch, **self.state}


class Stubborn(Entity):
    """Cannot be activated while the file of its id exists."""

    kind = "stubborn"

    async def activated(self) -> None:
        if Path(self.ref.id).exists():
            raise RuntimeError("not today")

    @readonly
    async def get(self, payload: dict[str, Any]) -> str:
        return "here"
