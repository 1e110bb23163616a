"""The OpenAPI document: what FastAPI derives, plus what holds for every route (token, problems, headers).

`docs/openapi.json` is the committed copy; a test compares the two, so that a change of the interface shows
in its own line of a review. tests/gateway/test_contract.py holds every answer to it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from gateway import responses
from gateway.problems import MEDIA_TYPE, RETRIED
from terminalpp import __version__

_ABOUT = """Sandboxes, commands in them, and teams of agents that work in them.

Every `/v1` route needs `Authorization: Bearer <token>`. Errors are `application/problem+json` with a stable
`code`. Every POST takes an `Idempotency-Key`. Times are RFC 3339 in UTC, sizes bytes, durations milliseconds.
An `Accept` that cannot be met is ignored. HEAD works wherever GET does.
"""
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1 to 255 printable ASCII characters. One key: one effect and one answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}
_WHY = {
    400: "The body cannot be read.",
    401: "The token is missing or not known.",
    403: "The host name or the origin is not one of this server's.",
    404: "There is no such thing, or it is somebody else's.",
    409: "It contradicts what is there now: see `code`.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "A field is wrong: `errors` names each.",
    429: "Too much at once: come again after `Retry-After`.",
    431: "The headers are too large.",
    500: "The server failed; the log has the reason under `request_id`.",
    502: "The model's provider failed.",
    503: "A part of the server does not answer just now.",
    504: "The call took too long; asking again is safe.",
    507: "There is no space left.",
}
_EVERYWHERE = (403, 422, 429, 431, 500, 503)  # an unknown parameter is 422
_TOKEN = (401,)
_ENTITY = (404, 409, 504, 507)  # what asks an actor or a sandbox
_BODY = (400, 413, 415)
_HEADERS = {
    "X-Request-Id": {"description": "Names this request in the log.", "schema": {"type": "string"}},
}
_RETRY_AFTER = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}, "required": True}
_LOCATION = {"description": "Where it is.", "schema": {"type": "string"}, "required": True}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document; made once, then kept on the application."""
    if app.openapi_schema is None:
        made = get_openapi(title="Terminal++", version=__version__, description=_ABOUT, routes=app.routes)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for shape in (responses.Problem, responses.Event, responses.OutputEvent):
            _add(schemas, shape)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["components"]["responses"] = {f"Problem{status}": _problem(status) for status in _WHY}
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                _complete(path, method, operation)
        app.openapi_schema = made
    return app.openapi_schema


def _add(schemas: dict[str, Any], shape: type[BaseModel]) -> None:
    schema = shape.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schemas |= schema.pop("$defs", {})
    schemas[shape.__name__] = schema


def _problem(status: int) -> dict[str, Any]:
    headers = _HEADERS | ({"Retry-After": _RETRY_AFTER} if status in RETRIED else {})
    if status == 401:
        headers |= {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _WHY[status], "headers": headers, "content": {MEDIA_TYPE: {"schema": schema}}}


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    for status, response in responses.items():
        response["headers"] = _HEADERS | response.get("headers", {})
        if int(status) >= 400:
            response["content"][MEDIA_TYPE] = {"schema": {"$ref": "#/components/schemas/Problem"}}
        if status == "201":
            response["headers"]["Location"] = _LOCATION
    statuses = {*_EVERYWHERE}
    if path.startswith("/v1/"):
        operation["security"] = [{"token": []}]
        statuses |= {*_TOKEN, *_ENTITY}
    if "requestBody" in operation:
        statuses |= {*_BODY}
    for status in sorted(statuses):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _never_null(parameter["schema"])
    if method == "post":
        operation.setdefault("parameters", []).append(_KEY)


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or left out; only a body can hold null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | kinds[0]
