"""`POST /v1/ws-tickets`: a ticket that opens one WebSocket, for those who cannot send a header with it.

A browser's WebSocket carries no Authorization header, and a token in an address would stand in logs. A ticket
is good for `TICKET_S` and one use, and stands for the account that asked for it. Redis keeps its digest
alone. When Redis was flushed it is gone: ask for another.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.auth import Principal
from gateway.responses import Answer, Json, example
from gateway.routes import Route
from gateway.state import AppState, app_state, user_of
from terminalpp.types.errors import Unauthorized
from terminalpp.types.proof import digest

TICKET_S = 30.0
router = APIRouter(prefix="/v1/ws-tickets", tags=["account"], route_class=Route)


class Ticket(Answer):
    """A ticket for one WebSocket."""

    ticket: str = Field(description="Goes into the address: `?ticket=…`.")
    expires_in_seconds: int

    model_config = example(ticket="Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4", expires_in_seconds=30)


@router.post("", operation_id="createTicket", response_model=Ticket)
async def create(request: Request) -> Response:
    """A ticket that opens one WebSocket of this account, once, within 30 seconds."""
    ticket = secrets.token_urlsafe(32)
    value: dict[str, Any] = {"user_id": user_of(request)}
    await app_state(request).live.keep_ticket(digest(ticket), value, TICKET_S)
    return Json({"ticket": ticket, "expires_in_seconds": int(TICKET_S)})


async def principal_of_ticket(gateway: AppState, query: bytes) -> Principal | None:
    """The account of the ticket in a query, which is used up; None where there is none.

    Raises Unauthorized (unknown, used or too old), Unavailable (Redis is away)."""
    given = parse_qs(query.decode("latin-1")).get("ticket")
    if not given:
        return None
    held = await gateway.live.use_ticket(digest(given[0])) if len(given) == 1 else None
    if held is None:
        raise Unauthorized("the ticket is not known, was used, or is too old", "Ask for another one.")
    return Principal(str(held["user_id"]))
