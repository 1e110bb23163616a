"""Entities for the tests of the actor system. Crashes and pauses are asked for in payloads."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime import Action, Entity, Turn, durable, effect, readonly, volatile
from terminalpp.types.errors import Conflict, DiskFull, InvalidInput, TerminalError, Unavailable
from terminalpp.types.ids import Ref
from tests.eventually import eventually

ENTITIES = {
    "counter": "tests.runtime.entities:Counter",
    "sleepy": "tests.runtime.entities:Sleepy",
    "stubborn": "tests.runtime.entities:Stubborn",
    "talker": "tests.runtime.conversation_entities:Talker",
    "trouble": "tests.runtime.entities:Trouble",
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

    @readonly
    async def meddle(self, payload: dict[str, Any]) -> None:
        """What a read-only method may not do."""
        match payload["how"]:
            case "turn":
                async with self.context.turn() as turn:
                    turn.state["meddled"] = True
            case "fenced":
                async with self.context.fenced() as connection:
                    await connection.execute("SELECT 1")
            case "spawn":
                self.context.spawn(asyncio.sleep(0), "left behind")
            case "in a task of its own":
                await asyncio.create_task(self.meddle({"how": "turn"}))

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


OBSTACLES: dict[str, Exception] = {}
TROUBLES: dict[str, Callable[[], Any]] = {
    "refusal": lambda: _raise(Conflict("no")),
    "bad input": lambda: _raise(InvalidInput("what is that?")),
    "surrogate": lambda: "\ud800".encode(),
    "unavailable": lambda: _raise(Unavailable("the database is away")),
    "time-out": lambda: _raise(TimeoutError()),
    "reset": lambda: _raise(ConnectionResetError(errno.ECONNRESET, "reset")),
    "disk full": lambda: _raise(DiskFull("no space")),
    "no space": lambda: _raise(OSError(errno.ENOSPC, "no space")),
    "no descriptors": lambda: _raise(OSError(errno.EMFILE, "too many open files")),
    "no processes": lambda: _raise(BlockingIOError(errno.EAGAIN, "try again")),
    "defect": lambda: 1 / 0,
    "internal": lambda: _raise(TerminalError("a defect somewhere else")),
}


def _raise(error: Exception) -> None:
    raise error


class Trouble(Entity):
    """Meets trouble of a named kind, wherever it is asked to, `times` times."""

    kind = "trouble"
    in_quarantine = frozenset({"end", "peek", "tidy"})

    async def activated(self) -> None:
        MADE[self.ref.id] = MADE.get(self.ref.id, 0) + 1
        await asyncio.sleep(0)  # a call that came now would find a half-made object
        self.whole = True

    def _meet(self, payload: dict[str, Any]) -> None:
        key = (self.ref.id, payload["trouble"])
        MET[key] = MET.get(key, 0) + 1
        if MET[key] <= payload.get("times", 1):
            TROUBLES[payload["trouble"]]()

    @durable
    async def turn(self, turn: Turn, payload: dict[str, Any]) -> str:
        turn.state["turns"] = turn.state.get("turns", 0) + 1
        self._meet(payload)
        return "done"

    @durable
    async def act(self, turn: Turn, payload: dict[str, Any]) -> str:
        return turn.act(payload.get("name", "perform"), payload)

    @durable
    async def end(self, turn: Turn, payload: dict[str, Any]) -> str:
        turn.state["ended"] = True
        turn.act("tidy", payload)
        return "ended"

    @effect
    async def perform(self, action: Action) -> None:
        self._meet(action.payload)

    @effect
    async def tidy(self, action: Action) -> None:
        async with self.context.turn() as turn:
            turn.state["tidied"] = True

    @volatile
    async def call(self, payload: dict[str, Any]) -> str:
        self._meet(payload)
        return "done"

    @volatile
    async def spawn(self, payload: dict[str, Any]) -> None:
        async def work() -> None:
            self._meet(payload)

        self.context.spawn(work(), "work")

    @readonly
    async def peek(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"quarantined": self.context.quarantined, **self.state}

    @readonly
    async def whole_object(self, payload: dict[str, Any]) -> bool:
        return self.whole

    async def on_effect_failed(self, turn: Turn, payload: dict[str, Any]) -> None:
        turn.state["failed_effect"] = payload["error"]["code"]


MADE: dict[str, int] = {}  # how often `activated` was called, by id
MET: dict[tuple[str, str], int] = {}


class Stubborn(Entity):
    """Cannot be activated while there is an obstacle under its id."""

    kind = "stubborn"

    async def activated(self) -> None:
        if OBSTACLES.get(self.ref.id):
            MET[self.ref.id, "obstacle"] = MET.get((self.ref.id, "obstacle"), 0) + 1
            raise OBSTACLES[self.ref.id]

    @readonly
    async def get(self, payload: dict[str, Any]) -> str:
        return "here"
