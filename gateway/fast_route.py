"""The routes that are asked for most often are answered without FastAPI.

FastAPI needs as long to find a route, to enter its layers and to resolve three parameters as the rest of a
short request takes (`bench/http.py`). `FastRoutes` stands before it. It answers a request that fits a route
of the class `FastRoute` exactly: the method, the path with an id in its one spelling, no query, a valid body.
It hands every other request to FastAPI, with its body put back, so refusals and the documentation are the
same as for any route. Errors that an endpoint raises pass through to the caller (`gateway.middleware`).
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

from gateway.idempotency import key_of
from gateway.requests import UUID_SPELLING
from gateway.routes import Route, read_json
from terminalpp.types.errors import TerminalError


class FastRoute(Route):
    """For endpoints `(request, <one id in the path>: UUID, body: <model>) -> Response`, or without a body."""


@dataclass(frozen=True)
class _Fast:
    method: str
    pattern: re.Pattern[str]
    endpoint: Callable[..., Awaitable[Response]]
    model: type[BaseModel] | None

    @classmethod
    def of(cls, route: FastRoute) -> _Fast:
        (method,) = route.methods
        before, after = re.split(r"\{[a-z_]+\}", route.path)
        pattern = re.compile(f"{re.escape(before)}({UUID_SPELLING.pattern}){re.escape(after)}")
        model = inspect.get_annotations(route.endpoint, eval_str=True).get("body")
        return cls(method, pattern, route.endpoint, model)


class FastRoutes:
    """An ASGI application: `app`, with the `FastRoute`s among `routes` answered without it."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._fast = [_Fast.of(route) for route in routes if isinstance(route, FastRoute)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["query_string"]:
            for route in self._fast:
                if route.method == scope["method"] and (found := route.pattern.fullmatch(scope["path"])):
                    return await self._answer(route, UUID(found[1]), scope, receive, send)
        await self._app(scope, receive, send)

    async def _answer(self, route: _Fast, id: UUID, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = b"" if route.model is None else await request.body()
        try:
            key_of(request)
            given = () if route.model is None else (route.model.model_validate(read_json(request, body)),)
        except (TerminalError, ValidationError):
            await self._app(scope, receive if route.model is None else _again(body, receive), send)
            return
        response = await route.endpoint(request, id, *given)
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
