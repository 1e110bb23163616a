"""Tokens, limits and refusals: what stands before every route."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from pathlib import Path

import pytest

from gateway.auth import digest
from schema import Database, Live, users
from terminalpp.types.limits import MESSAGE_BYTES
from tests.eventually import eventually
from tests.gateway.conftest import Served, Talk, serving

ZERO = "00000000-0000-4000-8000-000000000000"


def requests_of(document: dict) -> list[tuple[str, str]]:
    return [
        (method.upper(), path.replace("{sandbox_id}", ZERO).replace("{command_id}", ZERO)
         .replace("{conversation_id}", ZERO))
        for path, operations in document["paths"].items()
        for method in operations
    ]  # fmt: skip


async def test_every_v1_route_needs_the_token(served: Served) -> None:
    routes = [(m, p) for m, p in requests_of(served.app.openapi()) if p.startswith("/v1/")]
    assert len(routes) >= 20
    async with served.http() as http:
        del http.headers["authorization"]
        for method, path in [*routes, ("GET", "/v1"), ("GET", "/v1/nothing"), ("PATCH", "/v1/sandboxes")]:
            for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {served.token}"}):
                answer = await http.request(method, path, headers=header, json={"bad": "body"})
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.json()["code"] == "unauthorized"
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_routes_of_the_framework_hold_to_the_same_rule(served: Served) -> None:
    """What is mounted but not in the document is public on purpose or does not exist."""
    public = {"/livez", "/readyz", "/version", "/metrics", "/openapi.json", "/docs"}
    paths = set(served.app.openapi()["paths"])
    assert {path for path in paths if not path.startswith("/v1/")} | {"/openapi.json", "/docs"} == public


async def test_two_authorization_headers_are_refused(served: Served) -> None:
    async with served.http() as http:
        headers = [("authorization", f"Bearer {served.token}"), ("authorization", "Bearer other")]
        request = http.build_request("GET", "/v1/sandboxes")
        request.headers = type(request.headers)([*headers, ("host", "localhost")])
        assert (await http.send(request)).status_code == 401


async def test_token_is_stored_hashed_and_revoking_works(served: Served, database: Database) -> None:
    rows = await database.fetch("SELECT * FROM api_keys")
    assert [row["token_sha256"] for row in rows] == [digest(served.token)]
    assert served.token not in str([dict(row) for row in rows])
    assert (served.home / "secrets" / "owner.token").stat().st_mode & 0o777 == 0o600
    async with served.http() as http:
        assert (await http.get("/v1/sandboxes")).status_code == 200
        await users.revoke_token(database, digest(served.token))
        served.app.gateway.tokens._known.clear()  # what 30 s do
        assert (await http.get("/v1/sandboxes")).status_code == 401


async def test_known_token_costs_no_query(served: Served, database: Database) -> None:
    tokens = served.app.gateway.tokens
    async with served.http() as http:
        await http.get("/v1/sandboxes")
    await database.close()
    assert await tokens.principal(served.token)


@pytest.mark.parametrize("type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
@pytest.mark.parametrize("path", ["/v1/sandboxes", f"/v1/sandboxes/{ZERO}/commands"])
async def test_a_form_is_refused_and_told_what_to_type(served: Served, path: str, type: str) -> None:
    async with served.http() as http:
        answer = await http.post(path, content=b"command=ls", headers={"content-type": type})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (415, "unsupported-media-type")
    assert type in problem["detail"]
    assert "Content-Type: application/json" in problem["hint"]
    assert "curl --json" in problem["hint"]


async def test_what_curl_d_sends_is_taken_when_it_is_a_json_object(served: Served) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    async with served.http() as http:
        taken = await http.post("/v1/sandboxes", content=b' {"nmae": "x"}', headers=kind)
        other = await http.post("/v1/sandboxes", content=b"[1]", headers=kind)
    assert taken.json()["detail"] == "body.nmae: there is no such field"
    assert other.status_code == 415


async def test_json_that_is_no_object_is_named(served: Served) -> None:
    async with served.http() as http:
        answer = await http.post("/v1/sandboxes", json=["a"])
    assert (answer.json()["detail"], answer.json()["hint"]) == (
        "body: must be an object", "Send a JSON object."
    )  # fmt: skip


async def test_body_limits(served: Served) -> None:
    limit = served.app.gateway.settings.body_limit_bytes

    async def chunks():
        for _ in range(limit // 65536 + 8):
            yield b"x" * 65536

    async with served.http() as http:
        declared = await http.post("/v1/sandboxes", content=b"x" * (limit + 1))
        chunked = await http.post("/v1/sandboxes", content=chunks())
        for answer in (declared, chunked):
            assert answer.status_code == 413, answer.text
            assert answer.json()["code"] == "too-large"
            assert str(limit) in answer.json()["detail"]
            assert "TPP_BODY_LIMIT_BYTES" in answer.json()["detail"]


async def test_an_endless_body_is_answered_and_cut_off(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    head = f"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())

    async def send_for_ever() -> None:
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()

    sending = asyncio.create_task(send_for_ever())
    assert (await reader.readline()).split()[1] == b"413"
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionError):
            await sending
    writer.close()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b'{"name": "a", "colour": "red"}', 422, "body.colour"),
        (b'{"name": "a\\u0000b"}', 422, "body.name"),
        (b'{"name": "\\ud800"}', 422, "body.name"),
        (b'{"name": ""}', 422, "body.name"),
        (b'{"network": "bridge"}', 422, "body.network"),
        (b'{"auto_sleep_after_minutes": 1e30}', 422, "body.auto_sleep_after_minutes"),
        (b"[" * 200_000, 400, None),
        (b"\xff\xfe", 400, None),
        (b"[]", 422, "body"),
    ],
)
async def test_bad_bodies_get_a_clear_problem(
    served: Served, body: bytes, status: int, field: str | None
) -> None:
    async with served.http() as http:
        answer = await http.post("/v1/sandboxes", content=body, headers={"content-type": "application/json"})
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"]) == (status, status), answer.text
    assert problem["hint"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    if field:
        assert problem["errors"][0]["field"].startswith(field)


async def test_unknown_paths_methods_and_ids(served: Served) -> None:
    async with served.http() as http:
        for method, path, status, code in [
            ("GET", "/nothing", 404, "not-found"),
            ("GET", "/v1/nothing", 404, "not-found"),
            ("PATCH", "/v1/sandboxes", 405, "method-not-allowed"),
            ("GET", "/v1/sandboxes/not-an-id", 422, "invalid-input"),
            ("GET", f"/v1/sandboxes/{ZERO}", 404, "not-found"),
            ("GET", f"/v1/conversations/{ZERO}/events", 404, "not-found"),
            ("GET", "/v1/sandboxes?limit=0", 422, "invalid-input"),
            ("GET", "/v1/sandboxes?cursor=zzz", 422, "invalid-input"),
        ]:
            answer = await http.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path


async def test_errors_tell_nothing_of_the_inside(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret: /etc/passwd line 3")

    monkeypatch.setattr(served.app.gateway.runtime, "send", broken, raising=False)
    with caplog.at_level(logging.ERROR):
        async with served.http() as http:
            answer = await http.post("/v1/sandboxes", json={}, headers={"x-request-id": "abc.1"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] == "abc.1"
    assert any("abc.1" in record.getMessage() for record in caplog.records)


async def test_request_ids_are_made_and_checked(served: Served) -> None:
    async with served.http() as http:
        given = await http.get("/version", headers={"x-request-id": "job-7"})
        strange = await http.get("/version", headers={"x-request-id": "a b\tc" * 40})
    assert given.headers["x-request-id"] == "job-7"
    assert len(strange.headers["x-request-id"]) == 36


async def test_ray_down_is_a_503_that_says_when_to_come_back(served: Served) -> None:
    async with served.http() as http:
        answer = await http.post("/v1/sandboxes", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["retryable"] is True


async def test_many_wrong_tokens_at_once_leave_no_memory(served: Served) -> None:
    async with served.http() as http:
        answers = await asyncio.gather(
            *(http.get("/v1/agents", headers={"authorization": f"Bearer {n}"}) for n in range(200))
        )
    assert {answer.status_code for answer in answers} == {401}
    assert len(served.app.gateway.tokens._known) <= 1


async def test_task_text_limits(served: Served, talk) -> None:
    path = f"/v1/conversations/{talk.id}/messages"
    async with served.http() as http:
        for text in ("", "  \n"):
            assert (await http.post(path, json={"text": text})).status_code == 422
        answer = await http.post(path, json={"text": "é" * (MESSAGE_BYTES // 2) + "x"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
        assert str(MESSAGE_BYTES) in answer.json()["detail"]
        # What the limit allows reaches the (absent) runtime, however JSON spells it.
        answer = await http.post(path, json={"text": "é" * (MESSAGE_BYTES // 2)})
        assert answer.status_code == 503


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"name": "a\\u0000"}', "body.name"),
        ('{"name": "\\ud83d"}', "body.name"),
        ('{"resource_limits": {"memory": "1\\udfff"}}', "body.resource_limits.memory"),
        ('{"a\\ud800": 1}', "body.a�"),
    ],
)
async def test_what_is_no_text_is_refused_by_name(served: Served, body: str, field: str) -> None:
    async with served.http() as http:
        headers = {"content-type": "application/json"}
        answer = await http.post("/v1/sandboxes", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith(field + ": ")
    assert answer.json()["errors"][0]["field"] == field


async def test_a_command_that_is_no_text_is_refused(served: Served, talk: Talk) -> None:
    path = f"/v1/sandboxes/{talk.sandbox_id}/commands"
    bodies = {
        "body.argv.1": '{"argv": ["echo", "\\ud800"]}',
        "body.env.A": '{"argv": ["true"], "env": {"A": "\\udfff"}}',
        "body.command": '{"command": "a\\u0000"}',
    }
    async with served.http() as http:
        for field, body in bodies.items():
            answer = await http.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 422, answer.text
            assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/sandboxes", "GET, HEAD, OPTIONS, POST"),
        ("/livez", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        (f"/v1/sandboxes/{ZERO}/commands/{ZERO}/signal", "OPTIONS, POST"),
    ],
)
async def test_options_and_a_refused_method_say_what_is_allowed(
    served: Served, path: str, allowed: str
) -> None:
    async with served.http() as http:
        options = await http.options(path)
        refused = await http.request("TRACE", path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    assert refused.json()["code"] == "method-not-allowed"


async def test_every_get_has_a_head_with_the_same_headers(served: Served, talk: Talk) -> None:
    paths = ["/livez", "/docs", "/openapi.json", "/v1/sandboxes", f"/v1/sandboxes/{talk.sandbox_id}",
             f"/v1/conversations/{talk.id}", f"/v1/conversations/{ZERO}"]  # fmt: skip
    async with served.http() as http:
        for path in paths:
            got, head = await http.get(path), await http.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert head.headers["content-type"] == got.headers["content-type"]
        # A stream that never ends by itself has headers all the same.
        head = await http.head(f"/v1/conversations/{talk.id}/events")
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    await eventually(lambda: served.app.gateway.streams == 0)


HOSTS = [
    ("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1:80", 200), ("127.8.9.1", 200), ("[::1]:9", 200),
    ("localhost.", 200), ("box.example.com:8", 200), ("a.lan", 200), ("evil.com", 403),
    ("localhost.evil.com", 403),
    ("lan", 403), ("127.0.0.1.evil.com", 403), ("10.0.0.1", 403), ("example.com", 403), ("a@localhost", 403),
]  # fmt: skip


async def test_a_name_that_is_not_ours_is_refused(tmp_path: Path, database: Database, live: Live) -> None:
    """A page that lets its own name point here (DNS rebinding) gets nothing, not even what needs no token."""
    hosts = "box.example.com,.lan"
    async with serving(tmp_path, database, live, allowed_hosts=hosts) as served, served.http() as http:
        for host, status in HOSTS:
            for path in ("/livez", "/docs", "/v1/sandboxes"):
                answer = await http.get(path, headers={"host": host})
                assert answer.status_code == status, (host, path, answer.text)
        refused = await http.get("/metrics", headers={"host": "evil.com"})
        assert refused.json()["code"] == "host-not-allowed"


async def test_a_page_of_another_origin_changes_nothing(served: Served) -> None:
    here = served.url
    port = here.rpartition(":")[2]
    async with served.http() as http:
        for origin, refused in [
            (None, False), (here, False), ("http://localhost:3000", True), ("https://evil.com", True),
            ("null", True), (f"http://evil.com:{port}", True), (f"http://127.0.0.1:{int(port) ^ 1}", True),
            ("file://", True), ("", True),
        ]:  # fmt: skip
            headers = {} if origin is None else {"origin": origin}
            for method, path in (("POST", "/v1/sandboxes"), ("DELETE", f"/v1/sandboxes/{ZERO}")):
                answer = await http.request(method, path, headers=headers, json={"nmae": 1})
                assert (answer.status_code == 403) is refused, (origin, answer.text)
                assert not refused or answer.json()["code"] == "origin-not-allowed"
            assert (await http.get("/v1/sandboxes", headers=headers)).status_code == 200


async def test_every_answer_tells_browsers_what_they_may_not(served: Served) -> None:
    async with served.http() as http:
        api = [await http.get(path) for path in ("/v1/sandboxes", "/v1/nothing", f"/v1/sandboxes/{ZERO}")]
        page = await http.get("/docs")
    for answer in [*api, page]:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert [answer.headers["cache-control"] for answer in api] == ["no-store"] * 3
    style = re.search("<style>(.*?)</style>", page.text, re.S)
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "style=" not in page.text
