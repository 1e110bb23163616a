"""/v1/quarantine and /v1/dead-letters: what was put aside, why, and the way back. For administrators only.

An entity in quarantine can still be stopped, deleted and read; what else was asked of it waits here for its
release. A dead letter is one message or action that failed for good. What is shown of payloads is cut, and
without what may be a secret.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from gateway.idempotency import once
from gateway.paging import Limit
from gateway.redaction import extract
from gateway.requests import SANDBOX_EXAMPLE
from gateway.responses import _TIME, Answer, Count, Id, Json, Time, example, from_row
from gateway.routes import Route
from gateway.state import AppState, app_state, user_of
from schema import dead_letters, entities, quarantines, users
from terminalpp.types.errors import Forbidden
from terminalpp.types.ids import Ref

router = APIRouter(prefix="/v1", tags=["operator"], route_class=Route)
_WORDS = "`next_cursor` of the page before."
AfterEntity = Annotated[
    str | None, Query(pattern=r"^[a-z][a-z0-9_-]{0,19}/[A-Za-z0-9._:@-]{1,200}$", description=_WORDS)
]
AfterLetter = Annotated[
    str | None,
    Query(pattern=r"^[0-9]{1,17}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description=_WORDS),
]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Kind = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,19}$", description="Such as `sandbox`.")]
EntityId = Annotated[str, Path(min_length=1, max_length=200)]


class Quarantine(Answer):
    """An entity that was put aside."""

    kind: str
    id: str
    code: str
    reason: str
    since: Time
    failures: Count
    messages: Count = Field(description="Messages that wait for the release.")
    actions: Count = Field(description="Effects that wait for the release.")

    model_config = example(
        kind="sandbox", id=SANDBOX_EXAMPLE, code="internal", reason="KeyError: 'exec_id'", since=_TIME,
        failures=10, messages=1, actions=0,
    )  # fmt: skip


class QuarantinePage(Answer):
    """A page of entities that were put aside."""

    items: list[Quarantine]
    next_cursor: str | None


class DeadLetter(Answer):
    """A message or an action that was given up."""

    id: Id
    source: Literal["mailbox", "outbox"] = Field(description="A message, or an action.")
    source_id: str
    kind: str
    entity_id: str
    method: str
    payload: Any = Field(description="Cut, and without what may be a secret.")
    code: str
    reason: str
    attempts: Count
    created_at: Time
    replayed_at: Time | None

    model_config = example(
        id=SANDBOX_EXAMPLE, source="mailbox", source_id=f"{SANDBOX_EXAMPLE}:create", kind="sandbox",
        entity_id=SANDBOX_EXAMPLE, method="create", payload={"name": "parser"}, code="internal",
        reason="KeyError: 'user_id'", attempts=2, created_at=_TIME, replayed_at=None,
    )  # fmt: skip


class DeadLetterPage(Answer):
    """A page of dead letters."""

    items: list[DeadLetter]
    next_cursor: str | None


async def operator(request: Request) -> AppState:
    """Raises Forbidden unless the caller is an administrator; the owner of an installation is one."""
    gateway = app_state(request)
    user = await users.get(gateway.database, user_of(request))
    if user is None or user.role != "admin":
        raise Forbidden("only an administrator may look after entities")
    return gateway


# ---- quarantine -----------------------------------------------------------------------------------------


def _aside(row: quarantines.Quarantine) -> dict[str, Any]:
    error = row.error or {}
    return from_row(
        Quarantine, row, code=error.get("code", "internal"), reason=error.get("detail", "")
    )


@router.get("/quarantine", operation_id="listQuarantine", response_model=QuarantinePage)
async def list_quarantine(request: Request, limit: Limit = 100, cursor: AfterEntity = None) -> Response:
    """Entities that were put aside, with the reason and how much waits for their release."""
    gateway = await operator(request)
    kind, _, id = (cursor or "").partition("/")
    rows = await quarantines.list(gateway.database, (kind, id), limit + 1)
    following = f"{rows[limit - 1].kind}/{rows[limit - 1].id}" if len(rows) > limit else None
    return Json({"items": [_aside(row) for row in rows[:limit]], "next_cursor": following})


@router.get("/quarantine/{kind}/{id}", operation_id="getQuarantine", response_model=Quarantine)
async def get_quarantine(request: Request, kind: Kind, id: EntityId) -> Response:
    """404 when it is not in quarantine."""
    gateway = await operator(request)
    return Json(_aside(await quarantines.get(gateway.database, Ref(kind, id))))


@router.post("/quarantine/{kind}/{id}/release", operation_id="releaseQuarantine", status_code=204)
async def release_quarantine(request: Request, kind: Kind, id: EntityId) -> Response:
    """Takes it back with a clean count of failures; what waits is done within seconds, in order."""
    gateway = await operator(request)

    async def work() -> Response:
        ref = Ref(kind, id)
        await quarantines.get(gateway.database, ref)
        await entities.release_quarantine(gateway.database, ref)
        return Response(status_code=204)

    return await once(request, work)


# ---- dead letters ---------------------------------------------------------------------------------------


def _letter(row: dead_letters.DeadLetter) -> dict[str, Any]:
    return from_row(
        DeadLetter, row, id=str(row.id), method=row.name, payload=extract(row.payload),
        code=row.error.get("code", "internal"), reason=str(row.error.get("detail", ""))[:2000],
    )  # fmt: skip


@router.get("/dead-letters", operation_id="listDeadLetters", response_model=DeadLetterPage)
async def list_letters(
    request: Request,
    kind: Annotated[str | None, Query(max_length=20, description="Of entities of this kind alone.")] = None,
    replayed: Annotated[bool, Query(description="Those that were replayed too.")] = False,
    limit: Limit = 100,
    cursor: AfterLetter = None,
) -> Response:
    """The newest first."""
    gateway = await operator(request)
    before = None
    if cursor is not None:
        at, _, id = cursor.partition("/")
        before = (_EPOCH + timedelta(microseconds=int(at)), id)
    rows = await dead_letters.list(
        gateway.database, kind=kind, replayed=replayed, before=before, limit=limit + 1
    )
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = f"{(last.created_at - _EPOCH) // timedelta(microseconds=1)}/{last.id}"
    return Json({"items": [_letter(row) for row in rows[:limit]], "next_cursor": following})


@router.get("/dead-letters/{letter_id}", operation_id="getDeadLetter", response_model=DeadLetter)
async def get_letter(request: Request, letter_id: UUID) -> Response:
    """One dead letter."""
    gateway = await operator(request)
    return Json(_letter(await dead_letters.get(gateway.database, str(letter_id))))


@router.post(
    "/dead-letters/{letter_id}/replay", operation_id="replayDeadLetter", response_model=DeadLetter
)
async def replay_letter(request: Request, letter_id: UUID) -> Response:
    """Gives it another life, once: it goes to the end of its entity's mailbox under its old id, so what it
    asks for is done at most once. 409 when it was replayed before."""
    gateway = await operator(request)

    async def work() -> Response:
        async with gateway.database.transaction() as connection:
            ref = await dead_letters.replay(connection, str(letter_id))
            row = await dead_letters.get(connection, str(letter_id))
        gateway.runtime.nudge(ref)
        return Json(_letter(row))

    return await once(request, work)


@router.delete("/dead-letters/{letter_id}", operation_id="dropDeadLetter", status_code=204)
async def drop_letter(request: Request, letter_id: UUID) -> Response:
    """Forgets it. Its id stays known for a week, so a late repetition of it is not done either."""
    gateway = await operator(request)
    await dead_letters.drop(gateway.database, str(letter_id))
    return Response(status_code=204)
