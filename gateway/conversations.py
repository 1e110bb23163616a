"""/v1/conversations and /v1/agents: talk to a team, follow what it does, cancel, take the diff."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from gateway import conversation_checks, responses
from gateway.idempotency import id_for, once
from gateway.paging import Cursor, Limit, Since, moment_of, page
from gateway.requests import ConversationChange, ConversationCreate, Id, MessageCreate, ModelChange
from gateway.responses import Json
from gateway.routes import Route
from gateway.sandboxes import owned as owned_sandbox
from gateway.sse import EventStream
from gateway.state import AppState, app_state, user_of
from schema import agents, conversations, messages
from schema.rows import Place
from terminalpp.types.errors import NotFound
from terminalpp.types.ids import Ref
from terminalpp.types.states import AgentState

DIFF_S = 110.0
# One event of the stream as a reader of server-sent events sees it; `data` holds JSON of the shape Event.
EVENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[1-9][0-9]*$"},
        "event": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Event"},
        },
    },
}
STREAM = {"itemSchema": EVENT, "schema": {"type": "array", "items": EVENT}}  # OpenAPI 3.2, and before it

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=Route)
agents_router = APIRouter(prefix="/v1/agents", tags=["agents"], route_class=Route)


def from_row(row: conversations.Conversation) -> dict[str, Any]:
    """The fields of `responses.Conversation`."""
    settings = dict(row.settings)
    return responses.from_row(
        responses.Conversation,
        row,
        model=row.model_used,
        mode=settings.pop("mode", "team"),
        workspace=settings.pop("workspace", ""),
        settings=settings,
        last_seq=row.event_seq,
    )


async def owned(request: Request, conversation_id: UUID) -> conversations.Conversation:
    """The caller's conversation. Raises NotFound, also for what belongs to somebody else."""
    row = await conversations.get(app_state(request).database, str(conversation_id))
    if row.user_id != user_of(request) or row.status == "deleted":
        raise NotFound(f"there is no conversation {conversation_id}")
    return row


async def shown(gateway: AppState, id: str, status: int = 200) -> Response:
    """Its record."""
    headers = {"location": f"{router.prefix}/{id}"} if status == 201 else None
    return Json(from_row(await conversations.get(gateway.database, id)), status, headers)


@router.post("", operation_id="createConversation", status_code=201, response_model=responses.Conversation)
async def create(request: Request, body: ConversationCreate) -> Response:
    """A conversation about a directory of a sandbox, which must be there. The team begins with the first
    message. A model that cannot be asked (no such provider, or no key for it) is refused."""
    gateway = app_state(request)
    sandbox = await owned_sandbox(request, body.sandbox_id)

    async def work() -> Response:
        await conversation_checks.look_for(gateway, sandbox, body.workspace)
        await conversation_checks.ask_about(gateway, body.model)
        id = id_for(request, "conversation")
        payload = body.model_dump(exclude_none=True)
        payload |= {"sandbox_id": sandbox, "user_id": user_of(request)}
        await gateway.runtime.send(Ref("conversation", id), "create", payload, message_id=f"{id}:create")
        return await shown(gateway, id, 201)

    return await once(request, work)


@router.get("", operation_id="listConversations", response_model=responses.ConversationPage)
async def list_all(
    request: Request,
    sandbox_id: Id | None = None,
    status: Annotated[
        Literal["active", "archived", "all"], Query(description="Archived ones are shown when asked for.")
    ] = "active",
    since: Since = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    gateway, user = app_state(request), user_of(request)
    where = {
        "sandbox_id": None if sandbox_id is None else str(sandbox_id),
        "status": None if status == "all" else status,
        "since": moment_of(since),
    }

    async def read(limit: int, after: Place | None) -> list[conversations.Conversation]:
        return await conversations.list(gateway.database, user, **where, after=after, limit=limit)

    return Json(await page(read, from_row, limit, cursor))


@router.get("/{conversation_id}", operation_id="getConversation", response_model=responses.Conversation)
async def get(request: Request, conversation_id: UUID) -> Response:
    """Its settings, totals and `last_seq`."""
    return Json(from_row(await owned(request, conversation_id)))


@router.patch("/{conversation_id}", operation_id="changeConversation", response_model=responses.Conversation)
async def change(request: Request, conversation_id: UUID, body: ConversationChange) -> Response:
    """Renames it, archives it, or takes it out of the archive. Its work goes on as it is."""
    gateway, row = app_state(request), await owned(request, conversation_id)
    status = None if body.archived is None else "archived" if body.archived else "active"
    await conversations.change(gateway.database, row.id, title=body.title, status=status)
    return await shown(gateway, row.id)


@router.delete("/{conversation_id}", operation_id="deleteConversation", status_code=204)
async def delete(request: Request, conversation_id: UUID) -> Response:
    """Deletes it with its messages, events, checkpoints, agents and memories; a running turn is cancelled
    first. The sandbox and its files stay. It cannot be undone."""
    gateway, row = app_state(request), await owned(request, conversation_id)
    ref = Ref("conversation", row.id)
    await gateway.runtime.send(ref, "destroy", {}, message_id=f"{row.id}:destroy")
    return Response(status_code=204)


@router.get(
    "/{conversation_id}/messages", operation_id="listMessages", response_model=responses.MessagePage
)
async def list_messages(
    request: Request,
    conversation_id: UUID,
    limit: Limit = 100,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """The messages of the person and the team, oldest first; all that happened is in the events."""
    row = await owned(request, conversation_id)
    found = await messages.list(
        app_state(request).database, row.id, after_seq=int(cursor or 0), limit=limit + 1
    )
    following = str(found[limit - 1].seq) if len(found) > limit else None
    items = [responses.from_row(responses.Message, message) for message in found[:limit]]
    return Json({"items": items, "next_cursor": following})


@router.post(
    "/{conversation_id}/messages",
    operation_id="postMessage",
    status_code=202,
    response_model=responses.Accepted,
)
async def post(request: Request, conversation_id: UUID, body: MessageCreate) -> Response:
    """Accepts the message durably: from here on the work is done whatever dies. A message posted while the
    team works is seen at its next step. With an Idempotency-Key the message's id is derived from it."""
    gateway, row = app_state(request), await owned(request, conversation_id)
    message_id = id_for(request, "message")
    payload = {"message_id": message_id, "text": body.checked()}
    await gateway.runtime.send(Ref("conversation", row.id), "post", payload, message_id=message_id)
    return Json({"message_id": message_id}, 202)


@router.get(
    "/{conversation_id}/events",
    operation_id="followEvents",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: `id` is the number, `event` the type, `data` all as JSON.",
            "content": {"text/event-stream": STREAM},
        }
    },
)
async def follow_events(
    request: Request,
    conversation_id: UUID,
    after: Annotated[int, Query(ge=0, le=10**18 - 1, description="Begin behind this number.")] = 0,
    follow: Annotated[bool, Query(description="Go on with new events; false: end at the head.")] = True,
    last_event_id: Annotated[
        str | None, Header(description="The same as `after`; it wins.", pattern="^[0-9]{1,18}$")
    ] = None,
) -> Response:
    """Every event since the first, for ever, then new ones as they happen. A comment every 15 s shows that
    the line is alive. Connect again with `Last-Event-ID` and nothing is missed or repeated."""
    if last_event_id is not None:
        after = int(last_event_id)
    row = await owned(request, conversation_id)
    return EventStream(app_state(request), row.id, row.event_seq, after, follow)


@router.post(
    "/{conversation_id}/cancel",
    operation_id="cancelTurn",
    status_code=202,
    response_model=responses.Cancelled,
)
async def cancel(request: Request, conversation_id: UUID) -> Response:
    """Asks the running turn to end; what was done is kept, and `turn.finished` says so. `cancelled` is false
    when no turn ran."""
    gateway, row = app_state(request), await owned(request, conversation_id)

    async def work() -> Response:
        message_id = id_for(request, "cancel")
        said = await gateway.runtime.send(Ref("conversation", row.id), "cancel", {}, message_id=message_id)
        return Json({"cancelled": bool(said["cancelled"])}, 202)

    return await once(request, work)


@router.post("/{conversation_id}/model", operation_id="setModel", response_model=responses.Conversation)
async def set_model(request: Request, conversation_id: UUID, body: ModelChange) -> Response:
    """Takes effect with the next model call."""
    gateway, row = app_state(request), await owned(request, conversation_id)

    async def work() -> Response:
        await conversation_checks.ask_about(gateway, body.model)
        ref, payload = Ref("conversation", row.id), {"model": body.model}
        await gateway.runtime.send(ref, "set_model", payload, message_id=id_for(request, "model"))
        return await shown(gateway, row.id)

    return await once(request, work)


@router.get(
    "/{conversation_id}/diff",
    operation_id="getDiff",
    response_model=responses.Patch,
    responses={200: {"content": {"text/x-diff": {"schema": {"type": "string"}}}}},
)
async def diff(request: Request, conversation_id: UUID) -> Response:
    """What the team changed: a patch for `git apply`, as text/x-diff, or in base64 with
    `Accept: application/json`, which also tells what stays in the sandbox. An empty folder that was made or
    removed stands in the patch as an empty file `.tpp-empty-folder` in it."""
    gateway, row = app_state(request), await owned(request, conversation_id)
    value = await gateway.runtime.call(Ref("conversation", row.id), "diff", {}, timeout_s=DIFF_S)
    if "application/json" in request.headers.get("accept", ""):
        return Json({name: value[name] for name in ("patch", "files", "left")})
    return Response(base64.b64decode(value["patch"]), media_type="text/x-diff")


@agents_router.get("", operation_id="listAgents", response_model=responses.AgentPage)
async def list_agents(
    request: Request,
    conversation_id: Id | None = None,
    status: AgentState | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The agents of one conversation, or of all, the newest first; a team in its order."""
    gateway, user = app_state(request), user_of(request)
    of = None if conversation_id is None else (await owned(request, conversation_id)).id

    async def read(limit: int, after: Place | None) -> list[agents.Agent]:
        return await agents.list(gateway.database, user, of, status=status, after=after, limit=limit)

    def shape(row: agents.Agent) -> dict[str, Any]:
        return responses.from_row(responses.Agent, row, role=row.type)

    return Json(await page(read, shape, limit, cursor, agents.place))
