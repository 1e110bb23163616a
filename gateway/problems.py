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
from starlette.responses import JSONResponse, Response

from terminalpp.types import errors

log = logging.getLogger("gateway")

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://terminalpp.dev/errors/"
RETRY_AFTER_S = {"overloaded": 1, "unavailable": 1, "idempotency-in-flight": 1}
SHOWN_ERRORS = 20
# Not taken as JSON all the same: a form and plain text are what any web page can make a browser send here.
NOT_JSON = (
    "Send it with `Content-Type: application/json`. `curl -d '{…}'` alone calls it a form: write "
    "`curl --json '{…}'`, or add -H 'Content-Type: application/json'."
)


def problem(error: errors.TerminalError, request_id: str, instance: str) -> dict[str, Any]:
    """The body of the answer. `instance` is the path that was asked for."""
    kind = type(error)
    body: dict[str, Any] = {
        "type": TYPE_BASE + error.code,
        "title": (kind.__doc__ or kind.__name__).strip().partition("\n")[0].rstrip("."),
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
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="terminalpp"'
    if error.status in (429, 503) or error.code in RETRY_AFTER_S:
        headers["retry-after"] = str(RETRY_AFTER_S.get(error.code, 5))
    body = problem(error, request_id, instance)
    return JSONResponse(body, status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def from_http(error: HTTPException) -> errors.TerminalError:
    """Starlette's own refusals (no such path, wrong method, unreadable body) in our words."""
    if isinstance(error.__cause__, errors.TerminalError):
        return error.__cause__  # raised while the body was read, and wrapped by the framework
    if error.status_code == 404:
        return errors.NotFound("there is no such path", "GET /openapi.json lists every path.")
    if error.status_code == 405:
        return errors.MethodNotAllowed()
    if error.status_code == 413:
        return errors.TooLarge(str(error.detail))
    if error.status_code < 500:
        return errors.BadRequest(str(error.detail))
    return errors.TerminalError("the request could not be answered")


def from_validation(error: RequestValidationError) -> errors.InvalidInput:
    """All wrong fields, by place; the values themselves are not echoed (they may be secret or huge)."""
    listed = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"], "kind": item["type"]}
        for item in error.errors()[:SHOWN_ERRORS]
    ]
    first = listed[0] if listed else {"field": "body", "message": "invalid"}
    detail, hint = f"{first['field']}: {first['message']}", ""
    if first.get("kind") == "model_attributes_type":
        hint = "Send a JSON object, with `Content-Type: application/json`."
        if isinstance(error.body, bytes):
            detail, hint = "body: its Content-Type is not JSON, so it was not read as JSON", NOT_JSON
    return errors.InvalidInput(detail, hint, {"errors": listed})


def error_of(error: BaseException) -> errors.TerminalError:
    """Any exception as an error for the caller; what it does not know stays inside."""
    match error:
        case errors.TerminalError():
            return error
        case RequestValidationError():
            return from_validation(error)
        case HTTPException():
            return from_http(error)
        case ConnectionError():
            return errors.Unavailable("a part of the server is not reachable just now")
        case _:
            return errors.TerminalError("the request could not be answered; the log has the reason")


def install(app: FastAPI) -> None:
    """Hand every exception of `app` to this module."""

    async def handle(request: Request, error: Exception) -> Response:
        found = error_of(error)
        return answer(found, request.scope.get("request_id", ""), request.url.path)

    for kind in (errors.TerminalError, RequestValidationError, HTTPException, ConnectionError, Exception):
        app.add_exception_handler(kind, handle)
