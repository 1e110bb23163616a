"""The part of the conversation that begins as a copy of another one, with a sandbox of its own.

Its log is the other's present branch up to the point, numbered anew; messages and what was known come along;
files come with the sandbox, which is forked from the point's snapshot. The record of the team's work, from
which the patch for the person is made, is copied as an effect; until that is done messages are accepted, and
wait. Costs begin at nothing, and the two know nothing of each other from then on.
"""

from __future__ import annotations

import contextlib
import time

from actors.agent.sandbox_tools import SandboxCommands
from actors.conversation import closing, core
from actors.conversation.closing import TurnEnd
from actors.conversation.going_back import GoingBack
from actors.sandbox.access import SandboxAccess
from actors.sandbox.tppd import bulk
from actors.sandbox.tppd.bulk import Item
from actors.sandbox.versions.tree import joined
from runtime import Action, Turn, effect
from schema import Connection, entities, events, messages, rewind_points
from terminalpp.types.branches import ranges
from terminalpp.types.errors import NotFound
from terminalpp.types.ids import Ref
from terminalpp.types.states import TurnOutcome

TREES = "/home/user/.tpp/trees"


class Forking(GoingBack):
    """See the head of this file."""

    async def _begin_as(self, turn: Turn, source: str, point_id: str) -> None:
        """Take over what another conversation was at a point. Raises NotFound."""
        c = turn.connection
        point = await rewind_points.get(c, source, point_id)
        row = await entities.load(c, Ref("conversation", source))
        if row is None or not row.state.get("sandbox_id"):
            raise NotFound(f"there is no conversation {source}")
        rewinds = await events.rewinds(c, source)
        branch = ranges(rewinds, point.event_seq)
        other = core.Conversation.from_json(row.state)
        known = await self._known_at(c, source, point, rewinds, other)
        await events.copy(c, source, self.ref.id, branch)
        await messages.copy(c, source, self.ref.id, await self._messages_on(c, source, branch))
        told = {
            "conversation_id": source,
            "point_id": point.id,
            "label": point.label,
            "sandbox_id": turn.state["sandbox_id"],
        }
        entries = [*await self._loose_ends(c), ("conversation.forked", "system", told)]
        await events.append(c, self.ref.id, entries)
        # As for a rewind: nothing begins before it is done, which here is the copy of the record.
        held = {"rewind_id": self.ref.id, "point_id": point.id, "dropped": []}
        turn.state.update(
            set_up=known["set_up"], baseline=known["baseline"], history=known["history"], rewinding=held
        )
        turn.act("adopt", {"conversation_id": source, "sandbox_id": other.sandbox_id}, key="adopt")

    async def _loose_ends(self, c: Connection) -> list[closing.Entry]:
        """What closes the turn in whose middle the copied log ends."""
        told = await events.read_types(c, self.ref.id, ["turn.started", "turn.finished"])
        if not told or told[-1].type == "turn.finished":
            return []
        open_turn = told[-1]
        inside = await events.read_types(c, self.ref.id, closing.TYPES, open_turn.seq)
        about = {"turn_id": open_turn.payload["turn_id"], "started_at": open_turn.created_at.timestamp()}
        return closing.entries(
            inside, about, TurnEnd(TurnOutcome.CANCELLED, "the fork begins here"), time.time()
        )

    @effect
    async def adopt(self, action: Action) -> None:
        """Copy the record of the team's work, and let the conversation begin."""
        held = self.state.get("rewinding")
        if held is None or held["rewind_id"] != self.ref.id:
            return
        source, sandbox_id = action.payload["conversation_id"], action.payload["sandbox_id"]
        theirs = SandboxCommands(self.context, sandbox_id, source, None)
        ours = SandboxCommands(self.context, self.state["sandbox_id"], self.ref.id, None)
        try:
            if self.state.get("baseline") is not None:
                await _copied(
                    theirs.access, f"{TREES}/{source}.git", ours.access, f"{TREES}/{self.ref.id}.git"
                )
        finally:
            await theirs.close()
            await ours.close()
        async with self.context.turn() as turn:
            now = core.Conversation.from_json(turn.state)
            await self._step(turn, core.Rewound(self.ref.id, self.ref.id, core.known(now), time.time()))
            last = await events.last_seq(turn.connection, self.ref.id)
        await self.context.live.publish(self.ref.id, last)


async def _copied(source: SandboxAccess, path: str, target: SandboxAccess, to: str) -> None:
    """A directory from one sandbox in another; what is there is replaced. Raises NotFound."""
    await target.mkdir(to)
    directories: list[Item] = []
    found: list[tuple[bytes, bulk.Found]] = []
    await source.epoch()
    async for page, _clock in bulk.walk(source.tppd, path):
        for record in page:
            for name, entry in bulk.entries_of(record.raw).items():
                place = joined(record.path, name)
                if bulk.kind_of(entry.mode) == "directory":
                    directories.append(Item(place, entry.mode | 0o40700))
                elif bulk.kind_of(entry.mode) == "file":
                    found.append((place, entry))
    epoch = await target.epoch()
    await bulk.write_files(target.tppd, to, directories, epoch=epoch)
    short = [one for one in found if one[1].size <= bulk.FILE_BYTES]
    while short:
        read = await bulk.read_files(source.tppd, path, [place for place, _ in short[:256]])
        items = [
            Item(place, one.found.mode, one.data)
            for (place, _), one in zip(short, read, strict=False)
            if not one.errno
        ]
        await bulk.write_files(target.tppd, to, items, epoch=epoch)
        short = short[len(read) :]
    for place, entry in found:
        if entry.size > bulk.FILE_BYTES:
            name = place.decode("utf-8", "surrogateescape")
            with contextlib.suppress(NotFound):
                data = await source.read_file(f"{path}/{name}")
                await target.write_file(f"{to}/{name}", data, entry.mode & 0o7777)
