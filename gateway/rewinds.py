"""/v1/conversations/{id}/points: where a conversation can be gone back to; rewind and preview.

A rewind never destroys: the log only grows, the files from before are a snapshot, and rewinding to the point
`undo_point_id` of `conversation.rewound` undoes it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from actors.sandbox.versions import comparing
from actors.sandbox.versions.entity import relative
from gateway import conversations, field_errors, responses
from gateway.idempotency import id_for, once
from gateway.requests import Body, Id, MessageCreate, _example
from gateway.responses import _ID, _TIME, Answer, Count, Json, Time, example
from gateway.responses import Id as AnswerId
from gateway.routes import Route
from gateway.snapshot_answers import Preview, previewed
from gateway.snapshots import as_text, looked_at, sandbox_fork
from gateway.state import AppState, app_state, user_of
from schema import events, rewind_points, snapshots
from schema.rewind_points import RewindPoint
from terminalpp.types.branches import REWOUND, holds, ranges
from terminalpp.types.errors import Conflict
from terminalpp.types.ids import Ref, derived_id
from terminalpp.types.times import moment

WAIT_S, POLL_S = 60.0, 0.05
router = APIRouter(prefix="/v1/conversations/{conversation_id}", tags=["conversations"], route_class=Route)


class RewindCreate(Body):
    """Where to go back to."""

    model_config = _example(point_id=_ID)

    point_id: Id


class ForkCreate(Body):
    """Another conversation to begin with what this one was."""

    model_config = _example(point_id=_ID, message="Try it with a lookup table instead.")

    point_id: Id | None = Field(None, description="Null: the newest point of the present branch.")
    title: Annotated[str, Field(min_length=1, max_length=255, pattern=field_errors.NOT_BLANK)] | None = None
    message: str | None = Field(None, min_length=1, description="The first thing to say in it.")


class Point(Answer):
    """A place of a conversation that can be gone back to."""

    id: AnswerId
    seq: Count = Field(description="The number of the event behind which it goes on.")
    label: str
    between_turns: bool = Field(description="No turn was at work there.")
    present: bool = Field(description="On the present branch; false: a rewind has left it.")
    followed: bool = Field(description="What was begun there is on the present branch.")
    kept: bool = Field(description="Its files are kept, so that it can be gone back to.")
    created_at: Time

    model_config = example(
        id=_ID,
        seq=41,
        label="before: fix the parser",
        between_turns=True,
        present=True,
        followed=True,
        kept=True,
        created_at=_TIME,
    )


class PointList(Answer):
    """All points, the first one first."""

    items: list[Point]


class Rewind(Answer):
    """A rewind. `running`: it goes on; `conversation.rewound` or `error.raised` tells its end."""

    rewind_id: AnswerId
    point_id: AnswerId
    status: Literal["running", "done"]
    seq: Count | None = Field(description="The number of its event.")
    undo_point_id: AnswerId | None = Field(description="Going back to that undoes it.")
    changed: Count
    untouched: list[str]
    running: list[str] = Field(description="Commands that went on while the files changed under them.")

    model_config = example(
        rewind_id=_ID,
        point_id=_ID,
        status="done",
        seq=88,
        undo_point_id=_ID,
        changed=3,
        untouched=[],
        running=[],
    )


async def _branch(gateway: AppState, id: str) -> list[tuple[int, int]]:
    last = await events.last_seq(gateway.database, id)
    return ranges(await events.rewinds(gateway.database, id), last)


@router.get("/points", operation_id="listPoints", response_model=PointList)
async def points(
    request: Request,
    conversation_id: UUID,
    all: Annotated[bool, Query(description="Those of branches that were left, too.")] = False,
) -> Response:
    """Where it can be gone back to: before each turn, after it, and before each thing that an agent did in
    it, where the files had changed."""
    gateway, row = app_state(request), await conversations.owned(request, conversation_id)
    branch = await _branch(gateway, row.id)
    found = await rewind_points.list(gateway.database, row.id)
    items = [_point(one, branch) for one in found]
    return Json({"items": [one for one in items if one["kept"] and (all or one["present"])]})


def _point(one: RewindPoint, branch: list[tuple[int, int]]) -> dict[str, Any]:
    present = one.event_seq == 0 or holds(branch, one.event_seq)
    return {
        "id": one.id,
        "seq": one.event_seq,
        "label": one.label,
        "between_turns": one.state is not None,
        "present": present,
        "followed": present and holds(branch, one.event_seq + 1),
        "kept": one.snapshot_id is not None,
        "created_at": moment(one.created_at),
    }


@router.post("/rewind/preview", operation_id="previewRewind", response_model=Preview)
async def preview(request: Request, conversation_id: UUID, body: RewindCreate) -> Response:
    """What files a rewind would change, were it done now: looks at them, and changes nothing. Files outside
    of the conversation's workspace stay in any case."""
    gateway, row = app_state(request), await conversations.owned(request, conversation_id)
    point = await rewind_points.get(gateway.database, row.id, str(body.point_id))
    if point.snapshot_id is None or row.sandbox_id is None:
        raise Conflict("the files of this point are not kept any more", "Choose another point.")
    now = await looked_at(gateway, row.sandbox_id)
    then = await snapshots.get(gateway.database, point.snapshot_id)
    below = relative(as_text(str(row.settings["workspace"])))
    changes = await comparing.between(gateway.database, now, then, below)
    return Json(previewed(changes))


@router.post("/rewind", operation_id="rewindConversation", response_model=Rewind)
async def rewind(request: Request, conversation_id: UUID, body: RewindCreate) -> Response:
    """Goes back to a point: the files of its workspace, the chat, and what the team knew then. A running
    turn is cancelled first. Nothing is lost: what is left stays in the log as a branch, and can be gone back
    to. Waits at most 60 s; whatever dies meanwhile, it goes on until it is done."""
    gateway, row = app_state(request), await conversations.owned(request, conversation_id)

    async def work() -> Response:
        rewind_id, point_id = id_for(request, "rewind"), str(body.point_id)
        payload = {"rewind_id": rewind_id, "point_id": point_id}
        before = await events.last_seq(gateway.database, row.id)
        await gateway.runtime.send(Ref("conversation", row.id), "rewind", payload, message_id=rewind_id)
        told = await _told(gateway, row.id, rewind_id, before)
        found = told.payload if told is not None else {}
        return Json(
            {
                "rewind_id": rewind_id,
                "point_id": point_id,
                "status": "done" if told else "running",
                "seq": told.seq if told else None,
                "undo_point_id": found.get("undo_point_id"),
                "changed": found.get("changed", 0),
                "untouched": found.get("untouched", []),
                "running": found.get("running", []),
            }
        )

    return await once(request, work)


async def _told(gateway: AppState, id: str, rewind_id: str, after: int) -> events.Event | None:
    """The event of a rewind, or None while it goes on. Raises what it failed with."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not gateway.draining.is_set():
        found = await events.read_types(gateway.database, id, [REWOUND])
        if told := [one for one in found if one.payload["rewind_id"] == rewind_id]:
            return told[0]
        state = await gateway.runtime.call(Ref("conversation", id), "describe", {}, timeout_s=30)
        if (state.get("rewinding") or {}).get("rewind_id") != rewind_id:
            found = await events.read_types(gateway.database, id, [REWOUND, "error.raised"], after)
            if told := [one for one in found if one.payload.get("rewind_id") == rewind_id]:
                return told[0]
            failed = [one.payload for one in found if one.type == "error.raised"]
            why = failed[-1]["detail"] if failed else "it was not carried out"
            raise Conflict(f"the conversation could not be rewound: {why}", "Do it again.")
        await asyncio.sleep(POLL_S)
    return None


@router.post("/fork", operation_id="forkConversation", status_code=201, response_model=responses.Conversation)
async def fork(request: Request, conversation_id: UUID, body: ForkCreate) -> Response:
    """Another conversation, in a sandbox of its own, that begins with the files, the chat and the knowledge
    of this one at a point. This one goes on as it was."""
    gateway, row = app_state(request), await conversations.owned(request, conversation_id)
    if body.message is not None:
        MessageCreate(text=body.message).checked()
    point = await _point_of(gateway, row.id, body.point_id)
    settings = {name: value for name, value in row.settings.items() if value is not None}

    async def work() -> Response:
        made, user = id_for(request, "fork"), user_of(request)
        box = await sandbox_fork(
            gateway, str(row.sandbox_id), str(point.snapshot_id), derived_id(made, "box"), user
        )
        payload = {
            **settings,
            "sandbox_id": box,
            "user_id": user,
            "model": row.model_used,
            "title": body.title or f"fork of {row.title or row.id[:8]}"[:255],
            "fork_of": {"conversation_id": row.id, "point_id": point.id},
        }
        ref = Ref("conversation", made)
        await gateway.runtime.send(ref, "create", payload, message_id=f"{made}:create")
        if body.message is not None:
            message_id = derived_id(made, "message")
            said = {"message_id": message_id, "text": body.message}
            await gateway.runtime.send(ref, "post", said, message_id=message_id)
        return await conversations.shown(gateway, made, 201)

    return await once(request, work)


async def _point_of(gateway: AppState, id: str, wanted: UUID | None) -> RewindPoint:
    """Raises NotFound, Conflict (its files are not kept, or there is none yet)."""
    if wanted is not None:
        point = await rewind_points.get(gateway.database, id, str(wanted))
    else:
        branch = await _branch(gateway, id)
        found = await rewind_points.list(gateway.database, id)
        kept = [
            one for one in found if one.snapshot_id and (one.event_seq == 0 or holds(branch, one.event_seq))
        ]
        if not kept:
            raise Conflict("there is nothing to fork yet: no turn has begun", "Send a message first.")
        point = kept[-1]
    if point.snapshot_id is None:
        raise Conflict("the files of this point are not kept any more", "Choose another point.")
    return point
