"""/v1/models and /v1/me: what can be asked for, and who is asking.

Models are told by the keys that the server has, never the keys; no provider is asked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from actors.model import scripted
from gateway.requests import SANDBOX_EXAMPLE as EXAMPLE
from gateway.responses import Answer, Id, Json, Time, example, from_row
from gateway.routes import Route
from gateway.state import app_state, user_of
from runtime import model_keys
from runtime.settings import Settings
from schema import users
from terminalpp.types.errors import NotFound
from terminalpp.types.limits import MESSAGE_BYTES
from terminalpp.types.providers import DEFAULTS, SCRIPTED, provided


class Model(Answer):
    """A model that can be asked, and what is known of it."""

    model_config = example(
        id="openai/gpt-5.5", object="model", created=0, owned_by="openai", default=True, scripted=False
    )

    id: str
    object: Literal["model"]
    created: int = Field(description="Not known: 0.")
    owned_by: str
    default: bool = Field(description="What a conversation has that names none.")
    scripted: bool


class ModelList(Answer):
    """In OpenAI's form."""

    object: Literal["list"]
    data: list[Model]


class Me(Answer):
    """The account whose token it is."""

    model_config = example(
        id=EXAMPLE, name="owner", full_name="Owner", role="admin", created_at="2026-11-22T10:00:00.000000Z",
        limits={"body_bytes": 2097152, "file_bytes": 4294967296, "archive_bytes": 4294967296,
                "message_bytes": 262144},
    )  # fmt: skip

    id: Id
    name: str
    full_name: str | None
    role: str
    created_at: Time | None
    limits: dict[str, int] = Field(description="Of one request.")


router = APIRouter(prefix="/v1", tags=["account"], route_class=Route)


def usable(settings: Settings, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """The default first, then one model of each provider that there is a key for, then the scripted ones."""
    stored = model_keys.of(settings.home).all()
    found = provided(environ, stored)
    default = settings.model or (found[0] if found else SCRIPTED)
    keyed = [model for name, model in DEFAULTS.items()
             if environ.get(name) or model.partition("/")[0] in stored]
    return [
        {
            "id": model,
            "object": "model",
            "created": 0,
            "owned_by": "terminalpp" if scripted.is_scripted(model) else model.partition("/")[0],
            "default": model == default,
            "scripted": scripted.is_scripted(model),
        }
        for model in dict.fromkeys([default, *keyed, *scripted.names()])
    ]


@router.get("/models", operation_id="listModels", response_model=ModelList)
async def models(request: Request) -> Response:
    """Models that can be asked, in OpenAI's form. A provider has more of them than the one that stands here:
    any litellm model string of one that has a key is taken."""
    data = await asyncio.to_thread(usable, app_state(request).settings, os.environ)
    return Json({"object": "list", "data": data})


@router.get("/me", operation_id="getMe", response_model=Me)
async def me(request: Request) -> Response:
    """The account that holds the token, and the limits of one request."""
    gateway = app_state(request)
    user = await users.get(gateway.database, user_of(request))
    if user is None:
        raise NotFound("the account of this token is gone")
    settings = gateway.settings
    limits = {
        "body_bytes": settings.body_limit_bytes,
        "file_bytes": settings.file_limit_bytes,
        "archive_bytes": settings.archive_limit_bytes,
        "message_bytes": MESSAGE_BYTES,
    }
    return Json(from_row(Me, user, name=user.username, limits=limits))
