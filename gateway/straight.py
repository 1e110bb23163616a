"""The straight way: what is asked for most often is answered past FastAPI.

FastAPI takes as long to find a route, enter its layers and resolve three parameters as the rest of a short
request takes (`bench/http.py`). `Straight` stands before it. A request that fits a route of the class
`StraightRoute` to the letter (method, path with an id in its one spelling, no query, a valid body) goes from
its bytes into the model and to the endpoint. Whatever does not fit is FastAPI's, with its body put back:
refusals, and the documentation, are the same as everywhere.

What an endpoint raises is left to whoever stands before (`gateway.edge`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.models import UUID_SPELLING
from gateway.once import key_of
from gateway.routes import Route, read_json
from terminalpp.types.errors import TerminalError


class StraightRoute(Route):
    """For endpoints `(request, <one id in the path>: UUID, body: <model>) -> Response`, or without a body."""


@dataclass(frozen=True)
class _Way:
    method: str
    pattern: re.Pattern[str]
    endpoint: Callable[..., Awaitable[Response]]
    model: type[BaseModel] | None

    @classmethod
    def of(cls, route: StraightRoute) -> _Way:
        (method,) = route.methods
        before, after = re.split(r"\{[a-z_]+\}", route.path)
        pattern = re.compile(f"{re.escape(before)}({UUID_SPELLING.pattern}){re.escape(after)}")
        model = inspect.get_annotations(route.endpoint, eval_str=True).get("body")
        return cls(method, pattern, route.endpoint, model)


class Straight:
    """`app` with a straight way to those of `routes` that have one."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._ways = [_Way.of(route) for route in routes if isinstance(route, StraightRoute)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["query_string"]:
            for way in self._ways:
                if way.method == scope["method"] and (found := way.pattern.fullmatch(scope["path"])):
                    return await self._go(way, UUID(found[1]), scope, receive, send)
        await self._app(scope, receive, send)

    async def _go(self, way: _Way, id: UUID, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = b"" if way.model is None else await request.body()
        try:
            key_of(request)
            given = () if way.model is None else (way.model.model_validate(read_json(request, body)),)
        except (TerminalError, ValidationError):
            await self._app(scope, receive if way.model is None else _again(body, receive), send)
            return
        response = await way.endpoint(request, id, *given)
        await response(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` with a body that was taken from it before everything else."""
    told = False

    async def once_more() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once_more
