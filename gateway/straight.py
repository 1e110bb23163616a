"""A route that reads a well-formed request without FastAPI's machinery, for the path that must be fast."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

JSON = ("application/json", "")  # a body without a type is JSON


class StraightRoute(APIRoute):
    """For endpoints `(request, <one id in the path>: UUID, body: <model>) -> Response`.

    FastAPI takes as long to resolve three parameters as the rest of the request takes; here the body goes
    from its bytes into the model. Whatever is not well-formed is handed to FastAPI, so that refusals, and the
    documentation, are the same as everywhere.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
        ordinary = super().get_route_handler()
        (id_name, *_), endpoint = self.param_convertors, self.endpoint
        model: type[BaseModel] = inspect.get_annotations(endpoint, eval_str=True)["body"]

        async def handle(request: Request) -> Response:
            if request.headers.get("content-type", "") not in JSON:
                return await ordinary(request)
            try:
                id = UUID(request.path_params[id_name])
                body = model.model_validate_json(await request.body())
            except ValueError:  # pydantic's ValidationError is one
                return await ordinary(request)
            return await endpoint(request, id, body)

        return handle
