"""Every error as `application/problem+json` (RFC 9457), mapped here and nowhere else.

`code` is stable and documented (docs/errors.md); `hint` says what to do next; `retryable` whether the
same request can succeed later, then with `Retry-After`. What is not a `TerminalError` becomes
`internal`: its words stay in the log, under the `request_id` that the answer carries.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway import field_errors
from gateway.responses import Json
from runtime.disk import full
from terminalpp.types import errors

log = logging.getLogger("gateway")

MEDIA_TYPE = "application/problem+json"
CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
TYPE_BASE = "https://terminalpp.dev/errors/"
RETRIED = (429, 503, 507)  # these always carry Retry-After
RETRY_AFTER_S = {"overloaded": 1, "unavailable": 1, "idempotency-in-flight": 1, "disk-full": 5}


def problem(error: errors.TerminalError, request_id: str, instance: str) -> dict[str, Any]:
    """The body of the answer. `instance` is the path that was asked for."""
    kind = type(error)
    body: dict[str, Any] = {
        "type": TYPE_BASE + error.code,
        "title": kind.title,
        "status": error.status,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "hint": error.next_step,
        "retryable": error.retryable,
        "request_id": request_id,
    }
    extra = dict(error.extra)
    if listed := extra.pop("errors", None):
        body["errors"] = listed
    if extra:
        body["extra"] = extra
    return body


def answer(error: errors.TerminalError, request_id: str, instance: str) -> Response:
    """The answer with the problem and the headers that belong to it."""
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="terminalpp"'
    if error.status in RETRIED or error.code in RETRY_AFTER_S:
        headers["retry-after"] = str(RETRY_AFTER_S.get(error.code, 5))
    body = problem(error, request_id, instance)
    return Json(body, status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def from_http(error: HTTPException) -> errors.TerminalError:
    """Starlette's own refusals (no such path, wrong method, unreadable body) in our words."""
    if isinstance(error.__cause__, errors.TerminalError):
        return error.__cause__  # raised while the body was read, and wrapped by the framework
    if error.status_code == 404:
        return errors.NotFound("there is no such path", "GET /openapi.json lists every path.")
    if error.status_code == 405:
        return errors.MethodNotAllowed()
    if error.status_code == 413:
        return errors.TooLarge()
    if error.status_code < 500:
        return errors.BadRequest()
    return errors.TerminalError("the request could not be answered")


def from_validation(error: RequestValidationError) -> errors.InvalidInput:
    """All wrong fields, by place and in our words."""
    listed = field_errors.listed(error.errors(), error.body)
    first = listed[0] if listed else {"field": "body", "message": "is not valid"}
    hint = "Send a JSON object." if first["field"] == "body" and first.get("kind") in (None, "type") else ""
    return errors.InvalidInput(f"{first['field']}: {first['message']}", hint, {"errors": listed})


def error_of(error: BaseException) -> errors.TerminalError:
    """Any exception as an error for the caller; what it does not know stays inside."""
    match error:
        case errors.TerminalError():
            return error
        case RequestValidationError():
            return from_validation(error)
        case HTTPException():
            return from_http(error)
        case OSError() if (found := full(error)) is not None:
            return found
        case ConnectionError():
            return errors.Unavailable("a part of the server is not reachable just now")
        case _:
            return errors.TerminalError("the request could not be answered; the log has the reason")


def install(app: FastAPI) -> None:
    """Hand every exception of `app` to this module."""

    async def handle(request: Request, error: Exception) -> Response:
        found, path = error_of(error), request.url.path
        if (gateway := getattr(request.app, "gateway", None)) is not None:
            gateway.metrics.refusals.labels(found.code).inc()
        given = answer(found, request.scope.get("request_id", ""), path)
        if found.status == 405:
            allowed = request.app.methods.allowed(path)
            if request.method == "OPTIONS":
                given = Response(status_code=204)
            given.headers["allow"] = allowed
        return given

    for kind in (errors.TerminalError, RequestValidationError, HTTPException, ConnectionError, Exception):
        app.add_exception_handler(kind, handle)
