"""The OpenAPI document: what FastAPI derives, plus what holds for every route (token, problems, key).

`docs/openapi.json` is the committed copy; a test compares the two, so that a change of the interface shows
in its own line of a review.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway import answers
from gateway.problems import MEDIA_TYPE
from terminalpp import __version__

_ABOUT = """Sandboxes, commands in them, and teams of agents that work in them.

Every `/v1` route needs `Authorization: Bearer <token>`. Errors are `application/problem+json` with a stable
`code`. Every POST takes an `Idempotency-Key`. Times are RFC 3339 in UTC, sizes bytes, durations milliseconds.
"""
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1 to 255 printable ASCII characters. One key: one effect and one answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_PROBLEM = {
    "description": "What went wrong, its `code`, and what to do next.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document; made once, then kept on the application."""
    if app.openapi_schema is None:
        made = get_openapi(
            title="Terminal++", version=__version__, description=_ABOUT, routes=app.routes
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for shape in (answers.Problem, answers.Event):
            schemas[shape.__name__] = shape.model_json_schema(ref_template="#/components/schemas/{model}")
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                _complete(path, method, operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _PROBLEM
    if path.startswith("/v1/"):
        operation["security"] = [{"token": []}]
    if method == "post":
        operation.setdefault("parameters", []).append(_KEY)
