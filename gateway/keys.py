"""/v1/models/keys: keys of model providers, added while the server runs. For administrators only.

A key goes in and never out: no answer, error or log holds one. `runtime.model_keys` says where they are kept.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway import field_errors
from gateway.operator import operator
from gateway.requests import Body, _example
from gateway.responses import _TIME, Answer, Json, Time, example
from gateway.routes import Route
from gateway.state import AppState
from runtime import model_keys
from terminalpp.types.providers import KEYED

router = APIRouter(prefix="/v1/models/keys", tags=["account"], route_class=Route)
Provider = Literal[KEYED]  # type: ignore[valid-type]


class ModelKey(Answer):
    """A key that is stored; the key itself is never shown."""

    model_config = example(provider="openai", added_at=_TIME, usable=True)

    provider: str
    added_at: Time | None
    usable: bool = Field(description="False: it cannot be decrypted any more and counts as not there.")


class ModelKeyList(Answer):
    """The keys that are stored."""

    items: list[ModelKey]


class KeyPut(Body):
    """A provider's key."""

    model_config = _example(key="sk-the-key-of-the-provider")

    key: str = Field(
        min_length=1, max_length=4096, pattern=field_errors.WORD, description="Never shown again."
    )


def _listed(gateway: AppState) -> list[dict[str, Any]]:
    return model_keys.of(gateway.settings.home).listed()


@router.get("", operation_id="listModelKeys", response_model=ModelKeyList)
async def list_keys(request: Request) -> Response:
    """The providers with a stored key, without the keys."""
    return Json({"items": await asyncio.to_thread(_listed, await operator(request))})


@router.put("/{provider}", operation_id="putModelKey", response_model=ModelKey)
async def put_key(request: Request, provider: Provider, body: KeyPut) -> Response:
    """Stores a key, in the place of an older one. It is used from the next call of a model on, and
    outranks one that the server's environment holds."""
    gateway = await operator(request)
    await asyncio.to_thread(model_keys.of(gateway.settings.home).add, provider, body.key)
    rows = await asyncio.to_thread(_listed, gateway)
    return Json(next(row for row in rows if row["provider"] == provider))


@router.delete("/{provider}", operation_id="deleteModelKey", status_code=204)
async def delete_key(request: Request, provider: Provider) -> Response:
    """Forgets it; the environment's, if there is one, is used again. 404 when none is stored."""
    gateway = await operator(request)
    await asyncio.to_thread(model_keys.of(gateway.settings.home).remove, provider)
    return Response(status_code=204)
