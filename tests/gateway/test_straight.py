"""The short way through a route gives the same answer as FastAPI's own, for whatever is sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response

from gateway import problems
from gateway.models import CommandCreate
from gateway.straight import StraightRoute

ID = "0b0f2a63-5c1e-4d8a-9a55-7e2b60a0c0de"
TYPES = [
    None, "application/json", "application/json; charset=utf-8", "application/problem+json", "text/plain",
    "Application/JSON", "",
]  # fmt: skip
FIELDS = {
    "command": st.text(max_size=8) | st.none(),
    "argv": st.lists(st.text(max_size=4), max_size=3) | st.none(),
    "cwd": st.sampled_from(["/home", "relative", "/a/../b"]),
    "env": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    "stdin": st.booleans() | st.sampled_from([0, 1, "yes", "maybe", 2]),
    "wait_ms": st.integers(-1, 70_000) | st.floats() | st.sampled_from(["5", "5.0", "soon", True]),
    "more": st.none(),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.fixed_dictionaries({}, optional=FIELDS) | ANYTHING


def application(route: type[APIRoute]) -> FastAPI:
    async def endpoint(request: Request, sandbox_id: UUID, body: CommandCreate) -> Response:
        return JSONResponse({"id": str(sandbox_id), "body": body.model_dump(exclude_none=True)}, 201)

    router = APIRouter(prefix="/v1/{sandbox_id}")
    router.add_api_route("", endpoint, methods=["POST"], route_class_override=route)
    app = FastAPI(strict_content_type=False)
    problems.install(app)
    app.include_router(router)
    return app


APPS = [application(route) for route in (APIRoute, StraightRoute)]


async def ask(app: FastAPI, id: str, content: bytes, kind: str | None) -> tuple[int, Any]:
    headers = {} if kind is None else {"content-type": kind}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.post(f"/v1/{id}", content=content, headers=headers)
    return answer.status_code, answer.json()


def answers(id: str, content: bytes, kind: str | None) -> list[tuple[int, Any]]:
    """FastAPI's and ours."""

    async def both() -> list[tuple[int, Any]]:
        return [await ask(app, id, content, kind) for app in APPS]

    with asyncio.Runner() as runner:
        return runner.run(both())


@given(value=BODIES, kind=st.sampled_from(TYPES))
@example(value={"command": "\ud800"}, kind=None)
@example(value={"command": "true"}, kind="application/json")
@example(value={"command": "true", "wait_ms": float("nan")}, kind=None)
@settings(deadline=None, max_examples=150)
def test_any_json_is_answered_alike(value: Any, kind: str | None) -> None:
    ordinary, straight = answers(ID, json.dumps(value).encode(), kind)
    assert straight == ordinary


IDS = [ID, ID.upper(), ID.replace("-", ""), "{" + ID + "}", "urn:uuid:" + ID, "1", ID + "0"]


@pytest.mark.parametrize("id", IDS)
def test_ids_are_read_alike(id: str) -> None:
    ordinary, straight = answers(id, b'{"command": "true"}', "application/json")
    assert straight == ordinary


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", b'{"command": "a\xff"}', b'{"command": "a"} x',
        b'{"command": "a", "command": "b"}',
        b'\xef\xbb\xbf{"command": "a"}', b'{"command": "\\u0000"}', b'{"command": "a", "wait_ms": 1e999}',
        b'{"command": "a", "wait_ms": 123456789012345678901234567890}', b"[" * 100_000, b"null", b'"a"',
        '{"command": "a"}'.encode("utf-16"),
    ],
    ids=lambda content: repr(content[:24]),
)  # fmt: skip
def test_odd_bytes_are_answered_alike(content: bytes) -> None:
    ordinary, straight = answers(ID, content, "application/json")
    assert straight == ordinary


def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above would compare FastAPI with itself."""

    class Solved(Exception):
        """FastAPI's own way was taken."""

    async def refuse(**_: Any) -> None:
        raise Solved

    monkeypatch.setattr("fastapi.routing.solve_dependencies", refuse)
    (_, straight) = answers_of_one(APPS[1])
    assert straight["body"]["command"] == "true"
    with pytest.raises(Solved):
        answers_of_one(APPS[0])


def answers_of_one(app: FastAPI) -> tuple[int, Any]:
    with asyncio.Runner() as runner:
        return runner.run(ask(app, ID, b'{"command": "true"}', "application/json"))
