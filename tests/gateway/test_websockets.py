"""What stands before every route stands before a WebSocket too.

These talk ASGI to the application; `test_terminals.py` opens real ones.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from tests.eventually import eventually
from tests.gateway.conftest import Served

DENIAL = {"websocket.http.response": {}}


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    said = await websocket.receive_text()
    if said == "fail":
        raise RuntimeError("a secret of ours")
    await websocket.send_text(f"{websocket.scope['principal'].user_id} {said}")
    await websocket.close()


async def talk(
    served: Served, said: str = "hello", *, extensions: dict[str, Any] | None = DENIAL, wait: Any = None,
    **headers: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """What the application sends to a client that says `said` once it is accepted."""
    sent: list[dict[str, Any]] = []
    accepted = asyncio.Event()
    came = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": said}]

    async def receive() -> dict[str, Any]:
        if len(came) == 1:
            await accepted.wait()
            if wait is not None:
                await wait.wait()
        return came.pop(0) if came else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        accepted.set()

    headers = {"host": "localhost", **headers}
    scope = {
        "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws",
        "path": "/v1/echo", "raw_path": b"/v1/echo", "root_path": "", "query_string": b"", "subprotocols": [],
        "extensions": extensions,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "state": {},
        "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2),
    }  # fmt: skip
    await served.app(scope, receive, send)
    return sent


def code(sent: list[dict[str, Any]]) -> tuple[int, str]:
    start, *body = sent
    assert start["type"] == "websocket.http.response.start", sent
    return start["status"], json.loads(b"".join(part.get("body", b"") for part in body))["code"]


@pytest.fixture
def echoing(served: Served) -> Served:
    served.app.router.routes.append(WebSocketRoute("/v1/echo", echo))
    return served


async def test_a_websocket_needs_token_host_and_origin(echoing: Served) -> None:
    token = {"authorization": f"Bearer {echoing.token}"}
    assert code(await talk(echoing)) == (401, "unauthorized")
    assert code(await talk(echoing, authorization="Bearer wrong")) == (401, "unauthorized")
    assert code(await talk(echoing, **token, host="evil.example")) == (403, "host-not-allowed")
    assert code(await talk(echoing, **token, origin="https://evil.example")) == (403, "origin-not-allowed")
    bare = await talk(echoing, extensions=None)
    assert [one["type"] for one in bare] == ["websocket.close"]
    for origin in ({}, {"origin": "http://localhost"}):
        accepted, answer, closed = await talk(echoing, **token, **origin)
        assert accepted["type"] == "websocket.accept"
        assert answer["text"].endswith(" hello")
        assert closed["type"] == "websocket.close"


async def test_an_open_websocket_holds_a_place_and_gives_it_back(echoing: Served) -> None:
    token, pool = {"authorization": f"Bearer {echoing.token}"}, echoing.app.gateway.admission.long
    go = asyncio.Event()
    one = asyncio.create_task(talk(echoing, wait=go, **token))
    await eventually(lambda: pool.running == 1)
    pool.share, share = 1, pool.share
    assert code(await talk(echoing, **token)) == (429, "overloaded")
    pool.share = share
    go.set()
    assert (await one)[-1]["type"] == "websocket.close"
    assert pool.running == 0


async def test_a_websocket_that_fails_says_no_more_than_that(echoing: Served) -> None:
    sent = await talk(echoing, "fail", authorization=f"Bearer {echoing.token}")
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 1011)
    assert "secret" not in sent[-1]["reason"]
    assert echoing.app.gateway.admission.long.running == 0
