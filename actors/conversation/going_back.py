"""The part of the conversation that goes back to an earlier point of it: files, chat, and what it knew.

A rewind is accepted in a turn of the entity and carried out as an effect, so it goes on whatever is killed.
A turn that runs is cancelled first; then the sandbox makes the files of the workspace as they were; then one
transaction writes the rest: the event from which the log goes on behind an earlier number, the state that
the next turn begins with, the marks of the messages, and the point by which all of it is undone. Nothing is
deleted: the events, the files (their snapshot from before) and the messages of the branch that was left
stay, and money that was spent stays spent. While it is under way messages are accepted, and wait.
"""

from __future__ import annotations

import time
from typing import Any

from actors.conversation import core
from runtime import Action, Entity, Turn, durable, effect, typed
from schema import Connection, events, messages, rewind_points
from schema.rewind_points import RewindPoint
from terminalpp.types import paths
from terminalpp.types.branches import holds, ranges
from terminalpp.types.errors import Conflict, TerminalError
from terminalpp.types.ids import Ref, derived_id

WAIT_MS = 20_000
TOLD = 20  # paths and commands that are told one by one


class GoingBack(Entity):
    """See the head of this file."""

    @durable
    async def rewind(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Go back to the point `point_id`; `conversation.rewound` tells when it is done.

        Payload: rewind_id, point_id. Raises NotFound; Conflict for a point whose files are not kept any more,
        and while another rewind is under way.
        """
        core.exists(turn.state, self.ref.id)
        typed(payload, ("rewind_id", "point_id"), rewind_id=str, point_id=str)
        id = payload["rewind_id"]
        point = await rewind_points.get(turn.connection, self.ref.id, payload["point_id"])
        if point.snapshot_id is None:
            raise Conflict("the files of this point are not kept any more", "Choose another point.")
        current = turn.state.get("rewinding")
        if current is not None and current["rewind_id"] != id:
            raise Conflict(
                "another rewind is under way", "Wait for it; `GET …/events` tells when it is done."
            )
        if await self._step(turn, core.Rewind(id, point.id)):
            if turn.state["turn"] is not None:
                self._end(turn)
            self._go_on_back(turn)
        return {"rewind_id": id, "point_id": point.id}

    def _go_on_back(self, turn: Turn) -> None:
        """Carry out the rewind that was asked for, once no turn runs."""
        wanted = turn.state.get("rewinding")
        if wanted is not None and turn.state["turn"] is None:
            turn.act("go_back", {"rewind_id": wanted["rewind_id"]}, key=wanted["rewind_id"])

    @effect
    async def go_back(self, action: Action) -> None:
        """Make the files as they were, then write the rest down."""
        wanted = self.state.get("rewinding")
        if wanted is None or wanted["rewind_id"] != action.payload["rewind_id"] or self.state["turn"]:
            return
        point = await rewind_points.get(self.context.database, self.ref.id, wanted["point_id"])
        try:
            done = await self._files(wanted["rewind_id"], point)
        except TerminalError as error:
            if error.retryable:
                raise
            done = {"status": "failed", "error": error.to_json()}
        async with self.context.turn() as turn:
            if (turn.state.get("rewinding") or {}).get("rewind_id") != wanted["rewind_id"]:
                return
            if done["status"] == "failed":
                last = await self._cannot_go_back(turn, done["error"])
            else:
                last = await self._went_back(turn, wanted, point, done)
        await self.context.live.publish(self.ref.id, last)

    async def _files(self, rewind_id: str, point: RewindPoint) -> dict[str, Any]:
        """The restore of the workspace, done or failed."""
        sandbox, restore_id = Ref("sandbox", self.state["sandbox_id"]), derived_id(rewind_id, "files")
        folder = self.state["workspace"].encode("utf-8", "surrogateescape")
        asked = {
            "restore_id": restore_id,
            "snapshot_id": point.snapshot_id,
            "paths": [paths.to_text(folder)],
            "name": f"rewound to {point.label}"[:255],
        }
        await self.context.runtime.send(sandbox, "restore", asked, message_id=restore_id)
        look = {"restore_id": restore_id, "timeout_ms": WAIT_MS}
        while True:
            found = await self.context.runtime.call(sandbox, "restored", look, timeout_s=WAIT_MS / 1000 + 30)
            if found["status"] != "running":
                return found

    async def _went_back(
        self, turn: Turn, wanted: dict[str, Any], point: RewindPoint, done: dict[str, Any]
    ) -> int:
        c, before = turn.connection, core.Conversation.from_json(turn.state)
        last, rewinds = await events.last_seq(c, self.ref.id), await events.rewinds(c, self.ref.id)
        known = await self._known_at(c, self.ref.id, point, rewinds, before)
        undo = await rewind_points.add(
            c,
            self.ref.id,
            last,
            f"rewind:{wanted['rewind_id']}",
            snapshot_id=done["before"],
            label=f"before going back to {point.label}",
            state=core.known(before),
        )
        untouched = [*done["untouched"], *(one["path"] for one in done["failed"])]
        told = {
            "rewind_id": wanted["rewind_id"],
            "point_id": point.id,
            "label": point.label,
            "to_seq": point.event_seq,
            "undo_point_id": undo.id,
            "changed": done["changed_count"],
            "untouched": untouched[:TOLD],
            "running": done["running"][:TOLD],
            "dropped": wanted.get("dropped") or [],
        }
        seq = await events.append(c, self.ref.id, [("conversation.rewound", "system", told)])
        branch = ranges([*rewinds, (seq, point.event_seq)], seq)
        await messages.mark(c, self.ref.id, await self._messages_on(c, self.ref.id, branch))
        await self._step(turn, core.Rewound(self.ref.id, wanted["rewind_id"], known, time.time()))
        return await events.last_seq(c, self.ref.id)

    async def _cannot_go_back(self, turn: Turn, error: dict[str, Any]) -> int:
        """The files cannot be made as they were: say so, and stay where we are."""
        told = {name: error.get(name) for name in ("code", "detail", "hint", "retryable")}
        seq = await events.append(turn.connection, self.ref.id, [("error.raised", "system", told)])
        wanted = turn.state.get("rewinding") or {}
        await self._step(turn, core.Rewound(self.ref.id, wanted.get("rewind_id", ""), None, time.time()))
        return seq

    async def _known_at(
        self,
        c: Connection,
        id: str,
        point: RewindPoint,
        rewinds: list[tuple[int, int]],
        now: core.Conversation,
    ) -> dict[str, Any]:
        """What the conversation knew at a point: within a turn, what it knew before, and that it was cut
        off."""
        if point.state is not None:
            return point.state
        branch = ranges(rewinds, point.event_seq)
        boundary = await rewind_points.boundary(c, id, point.event_seq, branch)
        known = dict(boundary.state or {}) if boundary is not None else core.known(now) | {"history": []}
        begun = await events.read_types(c, id, ["turn.started"])
        tasks = [e.payload["task"] for e in begun if e.seq <= point.event_seq and holds(branch, e.seq)]
        cut = {
            "task": (tasks[-1] if tasks else "")[: core.HISTORY_CHARACTERS],
            "outcome": "cancelled",
            "summary": f"The person went back to where this had come so far: {point.label}",
        }
        history = [*known.get("history", []), cut][-core.HISTORY_TURNS :]
        return known | {
            "history": history,
            "baseline": known.get("baseline") or now.baseline,
            "set_up": now.set_up,
        }

    async def _messages_on(self, c: Connection, id: str, branch: list[tuple[int, int]]) -> set[str]:
        """The ids of the messages whose events are on a branch."""
        found = await events.read_types(c, id, ["message.accepted", "turn.finished"])
        present = [event for event in found if holds(branch, event.seq)]
        said = {event.payload["message_id"] for event in present if event.type == "message.accepted"}
        return said | {
            derived_id(e.payload["turn_id"], "summary") for e in present if e.type == "turn.finished"
        }
