"""What a request is held to before a route sees it; the short way through a route says the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from gateway import field_errors, problems, requests
from gateway.fast_route import FastRoute, FastRoutes
from gateway.requests import CommandCreate
from gateway.routes import Route, _spelling, check_query
from terminalpp.types.errors import InvalidInput

ID = "0b0f2a63-5c1e-4d8a-9a55-7e2b60a0c0de"
TYPES = [
    None, "application/json", "application/json; charset=utf-8", "application/problem+json", "text/plain",
    "Application/JSON", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
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


def application(route: type[Route]) -> ASGIApp:
    async def endpoint(request: Request, sandbox_id: UUID, body: CommandCreate) -> Response:
        return JSONResponse({"id": str(sandbox_id), "body": body.model_dump(exclude_none=True)}, 201)

    router = APIRouter(prefix="/v1/{sandbox_id}")
    router.add_api_route("", endpoint, methods=["POST"], route_class_override=route)
    app = FastAPI()
    problems.install(app)
    app.router.routes.extend(router.routes)
    return FastRoutes(app, app.routes)


APPS = [application(route) for route in (Route, FastRoute)]


async def ask(app: ASGIApp, id: str, content: bytes, kind: str | None) -> tuple[int, Any]:
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
    ordinary, fast = answers(ID, json.dumps(value).encode(), kind)
    assert fast == ordinary


IDS = [ID, ID.upper(), ID.replace("-", ""), "{" + ID + "}", "urn:uuid:" + ID, "1", ID + "0"]


@pytest.mark.parametrize("id", IDS)
def test_ids_are_read_alike(id: str) -> None:
    ordinary, fast = answers(id, b'{"command": "true"}', "application/json")
    assert fast == ordinary


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
    ordinary, fast = answers(ID, content, "application/json")
    assert fast == ordinary


def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above would compare FastAPI with itself."""

    class Solved(Exception):
        """FastAPI's own way was taken."""

    async def refuse(**_: Any) -> None:
        raise Solved

    monkeypatch.setattr("fastapi.routing.solve_dependencies", refuse)
    (_, fast) = answers_of_one(APPS[1])
    assert fast["body"]["command"] == "true"
    with pytest.raises(Solved):
        answers_of_one(APPS[0])


def answers_of_one(app: ASGIApp) -> tuple[int, Any]:
    with asyncio.Runner() as runner:
        return runner.run(ask(app, ID, b'{"command": "true"}', "application/json"))


def sent(content: bytes | str, kind: str | None = "application/json", query: str = "") -> tuple[int, Any]:
    """What the ordinary way says; the other one says the same."""
    raw = content if isinstance(content, bytes) else content.encode()
    ordinary, fast = answers(ID + query, raw, kind)
    assert fast == ordinary
    return ordinary


A = '{"command": "a", '
DEEP = "[" * 10_000 + "]" * 10_000


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        ("{", 400, "the body is not JSON (line 1, column 2)"),
        ('{"command": "a"} x', 400, "the body is not JSON (line 1, column 18)"),
        (b'{"command": "a\xff"}', 400, "the body is not UTF-8 text (byte 14)"),
        (DEEP, 400, "the body is nested too deeply"),
        (A + '"env": ' + DEEP + "}", 400, "the body is nested too deeply"),
        (b"", 422, "body: is missing"),
        ("[]", 422, "body: must be an object"),
        ("null", 422, "body: must be an object"),
        (A + '"wait_ms": NaN}', 422, "body.wait_ms: NaN is no number in JSON"),
        (A + '"wait_ms": -Infinity}', 422, "body.wait_ms: -Infinity is no number in JSON"),
        (A + '"wait_ms": 1e400}', 422, "body.wait_ms: the number is too large"),
        (A + '"wait_ms": ' + "9" * 31 + "}", 422, "body.wait_ms: the number is too large"),
        (A + '"wait_ms": ' + "9" * 100_000 + "}", 422, "body.wait_ms: the number is too large"),
        (A + '"wait_ms": 9999999999999}', 422, "body.wait_ms: must be at most 60000"),
        (A + '"wait_ms": "100"}', 422, "body.wait_ms: must be a whole number"),
        (A + '"wait_ms": true}', 422, "body.wait_ms: must be a whole number"),
        (A + '"wait_ms": 1.5}', 422, "body.wait_ms: must be a whole number"),
        (A + '"stdin": "yes"}', 422, "body.stdin: must be true or false"),
        (A + '"stdin": 1}', 422, "body.stdin: must be true or false"),
        (A + '"argv": ["b"]}', 422, "body: send exactly one of `command` and `argv`"),
        (A + '"more": 1}', 422, "body.more: there is no such field"),
        (A + '"command": "b"}', 422, "body: the field 'command' stands in it twice"),
        (A + '"env": {"A": "1", "A": "2"}}', 422, "body.env: the field 'A' stands in it twice"),
        (A + '"env": {"A=B": "1"}}', 422,
         "body.env.A=B: the name of a variable has 1 to 255 characters and no `=`"),
        (A + '"env": {"A": 1}}', 422, "body.env.A: must be text"),
        (A + '"cwd": "a"}', 422, "body.cwd: must be an absolute path without `..`"),
        (A + '"cwd": "/a/../b"}', 422, "body.cwd: must be an absolute path without `..`"),
        ('{"argv": ["a", 1]}', 422, "body.argv.1: must be text"),
        ('{"argv": []}', 422, "body.argv: must have at least 1 entries"),
        ('{"command": ""}', 422, "body.command: must not be empty"),
        ('{"argv": ["a", "\\ud800"]}', 422,
         "body.argv.1: must not contain half of a surrogate pair (U+D800)"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, str | bytes) else None,
)  # fmt: skip
def test_a_refusal_names_the_place_in_our_words(content: bytes | str, status: int, detail: str) -> None:
    found, body = sent(content)
    assert (found, body["detail"]) == (status, detail), body
    assert body["title"] in ("The request is not valid", "The request could not be read")


@pytest.mark.parametrize("number", ["7", "7.0", "0.7e1"])
def test_a_whole_number_is_one_however_it_is_written(number: str) -> None:
    assert sent(A + f'"wait_ms": {number}}}')[1]["body"]["wait_ms"] == 7


@pytest.mark.parametrize("path", ["/a..b", "/..a", "/a/b..", "/...", "/"])
def test_dots_in_a_name_are_no_way_up(path: str) -> None:
    assert sent(A + f'"cwd": "{path}"}}')[0] == 201


@pytest.mark.parametrize("path", ["/..", "/../a", "/a/..", "/a/../", "", "a", "../a"])
def test_a_way_up_is_refused(path: str) -> None:
    assert sent(A + f'"cwd": "{path}"}}')[0] == 422


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("application/x-www-form-urlencoded", '{"command": "a"}', 201),
        ("application/x-www-form-urlencoded", "command=a", 415),
        ("text/plain", '{"command": "a"}', 415),
        ("multipart/form-data; boundary=x", '{"command": "a"}', 415),
        ("application/vnd.x+json", '{"command": "a"}', 201),
        ("application/json; charset=utf-8", '{"command": "a"}', 201),
        (None, '{"command": "a"}', 201),
    ],
)
def test_the_type_of_a_body(kind: str | None, content: str, status: int) -> None:
    assert sent(content, kind)[0] == status


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("wait=maybe", "query.wait: must be true or false"),
        ("wait=1", "query.wait: must be true or false"),
        ("offset=1.0", "query.offset: must be a whole number, such as 7"),
        ("offset=%201", "query.offset: must be a whole number, such as 7"),
        ("offset=1_0", "query.offset: must be a whole number, such as 7"),
        ("ofset=1", "query.ofset: there is no such parameter"),
        ("%ff=1", "query.\ufffd: there is no such parameter"),
        ("offset=1&offset=2", "query.offset: is given twice"),
        ("stream=a%00", "query.stream: must not contain the NUL character"),
        ("stream=a%ff", "query.stream: must be UTF-8 text"),
        ("stream=%ed%a0%80", "query.stream: must be UTF-8 text"),
        ("path=/a%00", "query.path: must not contain the NUL character"),
        ("&".join(["offset=1"] * 100), "query: has more than 64 parameters"),
        ("path=/a%ff&wait=true&offset=0&stream=%E2%82%AC", None),
    ],
)  # fmt: skip
def test_a_query_is_held_to_what_the_route_knows(query: str, detail: str | None) -> None:
    known = {"wait": _spelling(bool), "offset": _spelling(int | None), "stream": _spelling(str), "path": None}
    if detail is None:
        check_query(query.encode(), known)
    else:
        with pytest.raises(InvalidInput) as caught:
            check_query(query.encode(), known)
        assert caught.value.detail == detail
        json.dumps(caught.value.to_json(), ensure_ascii=False).encode()


def test_an_unknown_parameter_is_refused_on_both_ways() -> None:
    assert sent('{"command": "a"}', query="?dry_run=true")[0] == 422


MODELS = [
    kind for kind in vars(requests).values() if isinstance(kind, type) and issubclass(kind, requests.Body)
]


@given(model=st.sampled_from(MODELS), value=ANYTHING, seed=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=300)
def test_no_sentence_of_pydantics_leaves(model: type[requests.Body], value: Any, seed: Any) -> None:
    """Every kind of error that our models can give has words of ours."""
    body = {name: seed.choice([value, 10**15, -1, "", " ", "x" * 300, [], {}, None, True, 0.5])
            for name in model.model_fields}  # fmt: skip
    for given_ in (value, body):
        try:
            model.model_validate(given_)
        except ValidationError as error:
            found = error.errors()
            said = field_errors.listed([{**item, "loc": ("body", *item["loc"])} for item in found], given_)
            assert {item["type"] for item in found} <= field_errors.WORDS.keys()
            for item in said:
                assert "Input" not in item["message"]
                assert "should" not in item["message"]
                assert "{" not in item["message"]
