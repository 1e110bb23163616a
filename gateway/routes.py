"""The one kind of route: what every request is held to before an endpoint sees it.

- A body is read by `bodies`: 415 for another kind, 400 for what cannot be read, 422 with the field.
- The query: a name that the route does not have, one given twice, a value that is no text, or is not spelled
  as its type is (`true`, `7`) are refused by name. Values of `BYTES` are file names and may hold any byte but
  NUL; their endpoints read them from the raw query.
- Ids are UUIDs in their one usual spelling; an `Idempotency-Key` is one wherever it is sent.

`gateway.fast_route` adds nothing to that but speed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, get_args
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from gateway import bodies
from gateway.idempotency import key_of
from gateway.requests import SANDBOX_EXAMPLE, UUID_SPELLING
from terminalpp.types import text
from terminalpp.types.errors import InvalidInput

Handler = Callable[[Request], Awaitable[Response]]
BYTES = frozenset({"path", "from", "to"})
QUERY_FIELDS_MAX = 64
_SPELLINGS = {
    int: (re.compile(r"-?(0|[1-9][0-9]{0,18})"), "must be a whole number, such as 7"),
    bool: (re.compile(r"true|false"), "must be true or false"),
}


class JsonRequest(Request):
    """A request whose body has been read as JSON; FastAPI is told so, whatever its type was called."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        named = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
        headers = [*named, (b"content-type", b"application/json")]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._body, self._json = body, value


class Route(APIRoute):
    """A route whose body and query are read strictly."""

    def get_route_handler(self) -> Handler:
        """See FastAPI. Refuses parameters that the route does not know."""
        ordinary = super().get_route_handler()
        takes_json = self.body_field is not None
        query = {field.alias: _spelling(field.field_info.annotation) for field in self.dependant.query_params}

        async def handle(request: Request) -> Response:
            _check_ids(request.path_params)
            check_query(request.scope["query_string"], query)
            key_of(request)
            if not takes_json:
                return await ordinary(request)
            body = await request.body()
            if not body:
                return await ordinary(request)
            return await ordinary(JsonRequest(request, body, read_json(request, body)))

        return handle


def read_json(request: Request, body: bytes) -> Any:
    """Raises UnsupportedType, BadRequest, InvalidInput."""
    kind = request.headers.get("content-type", "")
    if not bodies.of_type(kind, body):
        raise bodies.refuse_type(kind)
    return bodies.read(body)


def _check_ids(params: dict[str, Any]) -> None:
    for name, value in params.items():
        if name.endswith("_id") and not UUID_SPELLING.fullmatch(value):
            raise refused(f"path.{name}", f"must be a UUID, such as {SANDBOX_EXAMPLE}")


def check_query(raw: bytes, known: dict[str, Any]) -> None:
    """Raises InvalidInput unless the query holds `known` names alone, each once, spelled as its type is."""
    if not raw:
        return
    try:
        found = parse_qsl(
            raw.decode("latin-1"), True, errors="surrogateescape", max_num_fields=QUERY_FIELDS_MAX
        )
    except ValueError:
        raise refused("query", f"has more than {QUERY_FIELDS_MAX} parameters") from None
    seen = set()
    for name, value in found:
        place = text.below("query", name)
        if name not in known:
            names = ", ".join(f"`{name}`" for name in known)
            raise refused(place, "there is no such parameter", f"Known: {names}." if known else "")
        if name in seen:
            raise refused(place, "is given twice")
        seen.add(name)
        if name in BYTES:
            if "\0" in value:
                raise refused(place, "must not contain the NUL character")
            continue
        if (wrong := text.fault(value, place)) is not None:
            odd = "must be UTF-8 text" if "\0" not in value else wrong[1]
            raise refused(place, odd)
        pattern, words = known[name] or (None, "")
        if pattern is not None and not pattern.fullmatch(value):
            raise refused(place, words)


def refused(place: str, wrong: str, hint: str = "") -> InvalidInput:
    """The refusal of one field."""
    listed = [{"field": place, "message": wrong, "kind": "invalid"}]
    return InvalidInput(f"{place}: {wrong}", hint, {"errors": listed})


def _spelling(annotation: Any) -> tuple[re.Pattern[str], str] | None:
    kinds = get_args(annotation) or (annotation,)
    return next((_SPELLINGS[kind] for kind in kinds if kind in _SPELLINGS), None)
