"""Terminals over REST and over real WebSockets, with real entities and sandboxes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest

from gateway import terminal_socket
from schema import Database, Live, users
from terminalpp.client import Client
from terminalpp.client.terminal import Ended, Notice, Output, Shown, Size, State, TerminalConnection
from terminalpp.types.errors import InvalidInput, NotFound, NotInControl, Unauthorized
from terminalpp.types.ids import new_id
from terminalpp.types.proof import digest
from terminalpp.types.terminals import PROTOCOL, Channel, json_message, keys, message, parse
from tests.eventually import eventually
from tests.gateway.conftest import Served


async def until(line: TerminalConnection, pattern: bytes) -> bytes:
    """All that was printed and shown until the pattern is in it."""
    seen = b""
    async with asyncio.timeout(20):
        async for one in line:
            if isinstance(one, Output | Shown):
                seen += one.data
            if re.search(pattern, seen):
                return seen
    raise AssertionError(f"{pattern!r} is not in {seen!r}")


async def within(line: aiohttp.ClientWebSocketResponse, seconds: float) -> tuple[Channel, int, Any] | None:
    """The next message, or None when none came."""
    try:
        async with asyncio.timeout(seconds):
            return parse((await line.receive()).data)
    except TimeoutError:
        return None


async def opened(api: Client, box: str, command: str | None = None, **options: Any) -> str:
    made = await api.create_terminal(box, command=command, **options)
    assert made["status"] == "running", made
    return made["id"]


# ---- REST -----------------------------------------------------------------------------------------------


async def test_programs_open_read_type_and_end_one(api: Client, box: str) -> None:
    made = await api.create_terminal(box, name="work", cols=100, rows=30)
    id = made["id"]
    assert (made["status"], made["cols"], made["rows"], made["viewers"]) == ("running", 100, 30, [])
    await api.type_terminal(box, id, "echo $((6*7)) && stty size", keys=["Enter"])

    async def told() -> bool:
        return {"42", "30 100"} <= set((await api.terminal_screen(box, id))["lines"])

    await eventually(told)
    hits = await api.search_terminal(box, id, "SIZE", ignore_case=True)
    assert len(hits) == 1
    assert [row["id"] for row in await api.terminals(box, open=True)] == [id]
    assert id in [row["id"] for row in await api.terminals()]
    ended = await api.end_terminal(box, id)
    assert ended["status"] == "ended"
    assert "its owner" in (ended["reason"] or "")
    assert await api.terminals(box, open=True) == []
    assert (await api.terminal_screen(box, id, history=50))["history"]


async def test_refusals(api: Client, box: str) -> None:
    for wrong in ({"cols": 0}, {"rows": 5000}, {"policy": "best"}, {"cwd": "relative"}, {"command": ""}):
        with pytest.raises(InvalidInput):
            await api.create_terminal(box, **wrong)  # type: ignore[arg-type]
    id = await opened(api, box, "cat")
    for wrong in ({"keys": ["Hyper-x"]}, {"data": b"x" * 70_000}):
        with pytest.raises(Exception, match=r"no key|more than"):
            await api.type_terminal(box, id, **wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await api.terminal(box, new_id())
    other = await api.create_sandbox(name="other", wait=True)
    with pytest.raises(NotFound):
        await api.terminal(other["id"], id)


async def test_typed_again_with_its_key_it_is_typed_once(api: Client, box: str) -> None:
    id = await opened(api, box, "cat")
    key = new_id()
    for _ in range(3):
        await api.type_terminal(box, id, "once\r", key=key)
    await api.type_terminal(box, id, "twice\r")
    async with api.connect_terminal(box, id) as line:
        seen = await until(line, rb"twice[^w]+twice")
    assert seen.count(b"once") == 2


async def test_a_recording_is_asciicast(api: Client, box: str) -> None:
    id = await opened(api, box, "printf 'one '; sleep 0.3; printf 'grün\\377\\n'; exit 3", cols=90, rows=20)

    async def over() -> bool:
        return (await api.terminal(box, id))["status"] == "ended"

    await eventually(over)
    raw = b"".join([piece async for piece in api.terminal_recording(box, id)])
    head, *events = [json.loads(line) for line in raw.splitlines()]
    assert (head["version"], head["term"]["cols"], head["term"]["rows"]) == (3, 90, 20)
    assert "".join(data for _, kind, data in events if kind == "o") == "one grün\ufffd\r\n"
    assert sum(event[0] for event in events if event[1] == "o") >= 0.25
    assert events[-1][1:] == ["x", "3"]


def test_keys() -> None:
    assert [keys(name) for name in ("Enter", "C-c", "C-[", "C-?", "M-x", "M-Up", "F5")] == [
        b"\r", b"\x03", b"\x1b", b"\x7f", b"\x1bx", b"\x1b\x1b[A", b"\x1b[15~",
    ]  # fmt: skip
    for wrong in ("", "enter", "C-", "C-é", "C-cc", "M-", "X"):
        with pytest.raises(InvalidInput):
            keys(wrong)


# ---- the WebSocket --------------------------------------------------------------------------------------


async def test_a_person_types_and_sees_and_comes_back_to_the_painted_screen(api: Client, box: str) -> None:
    id = await opened(api, box)
    async with api.connect_terminal(box, id, cols=120, rows=40, since=0) as line:
        await line.type(b"printf '\\033[?1049h\\033[2;3Hwhole screen'; stty size; cat\r")
        await until(line, b"40 120")
    async with api.connect_terminal(box, id, cols=120, rows=40) as line:
        async for one in line:
            if isinstance(one, Shown):
                assert b"whole screen" in one.data
                assert b"\x1b[?1049h" in one.data
                break
        await line.type(b"\x03")
        await until(line, rb"\$ ")
        await line.type(b"exit 7\r")
        async for one in line:
            if isinstance(one, Ended):
                assert (one.status, one.exit_code) == ("ended", 7)


async def test_one_types_and_all_look(api: Client, box: str) -> None:
    id = await opened(api, box, "cat")
    async with (
        api.connect_terminal(box, id, name="anna") as anna,
        api.connect_terminal(box, id, name="ben") as ben,
        api.connect_terminal(box, id, name="eve", role="viewer") as eve,
    ):
        await anna.type(b"from anna\r")
        for line in (anna, ben, eve):
            await until(line, rb"from anna\r\nfrom anna")
        await ben.type(b"from ben\r")
        async for one in ben:
            if isinstance(one, Notice):
                assert (one.kind, one.code) == ("refused", "not-in-control")
                break
        await ben.take()
        async for one in ben:
            if isinstance(one, State) and one.value["controller"] == ben.viewer:
                break
        await ben.type(b"now ben\r")
        assert b"from ben" not in await until(anna, rb"now ben\r\nnow ben")
        with pytest.raises(NotInControl):
            await api.type_terminal(box, id, "x")
        await api.type_terminal(box, id, "by program\r", take=True)
        await until(eve, rb"by program\r\nby program")


async def test_the_size_is_told_to_all(api: Client, box: str) -> None:
    id = await opened(api, box, "cat")
    async with api.connect_terminal(box, id, cols=90, rows=20) as one:
        async with api.connect_terminal(box, id, cols=100, rows=30):
            async for told in one:
                if told == Size(100, 30):
                    break
        async for told in one:
            if told == Size(90, 20):
                break


async def test_a_cut_connection_comes_back_and_nothing_is_lost_or_doubled(
    api: Client, box: str, stack: Served
) -> None:
    id = await opened(api, box, "stty -echo; while read -r l; do echo \"<$l>\"; done")
    seen = b""
    async with api.connect_terminal(box, id, since=0) as line:
        async def cut() -> None:
            for number in range(20):
                await line.type(f"{number}\r".encode())
                if number % 4 == 1:
                    for connection in list(stack.server.server_state.connections):
                        connection.transport.abort()  # as a network does
                await asyncio.sleep(0.03)
            await line.type(b"\x04")

        cutting = asyncio.create_task(cut())
        offline, at = 0, 0
        async with asyncio.timeout(30):
            async for one in line:
                if isinstance(one, Output):
                    assert one.offset == at
                    seen, at = seen + one.data, one.offset + len(one.data)
                assert not isinstance(one, Shown), "it was near enough to go on"
                offline += isinstance(one, Notice) and one.kind == "offline"
        await cutting
    assert offline >= 3
    assert re.findall(rb"<(\d+)>", seen) == [str(n).encode() for n in range(20)]


async def test_a_wedged_viewer_is_not_waited_for_and_gets_the_screen_of_now(
    api: Client, box: str, stack: Served
) -> None:
    id = await opened(
        api, box, "stty raw -echo; read -r go; head -c 40000000 /dev/zero | tr '\\0' x; printf END; cat"
    )
    url = f"{stack.url}/v1/sandboxes/{box}/terminals/{id}/connect"
    headers = {"authorization": f"Bearer {stack.token}"}
    async with aiohttp.ClientSession() as session, session.ws_connect(
        url, protocols=(PROTOCOL,), headers=headers, max_msg_size=0
    ) as wedged:
        async with api.connect_terminal(box, id, since=0) as line:
            await line.type(b"go\n")
            digests, at, end = hashlib.sha256(), 0, b""
            async with asyncio.timeout(60):
                async for one in line:
                    if isinstance(one, Output):
                        assert one.offset == at
                        digests.update(one.data)
                        at, end = at + len(one.data), (end + one.data)[-3:]
                        if end == b"END":
                            break
                    elif isinstance(one, Shown):
                        at, end = one.offset, one.data[-3:]
                        break
        received = last = 0
        while (one := await within(wedged, 2.0)) is not None:  # what was under way
            channel, offset, data = one
            if channel is Channel.OUTPUT:
                received, last = received + len(data), offset + len(data)
        assert received <= terminal_socket.WINDOW_BYTES + terminal_socket.PIECE_BYTES
        await wedged.send_bytes(message(Channel.ACK, last))
        async with asyncio.timeout(10):
            while True:
                channel, offset, data = parse((await wedged.receive()).data)
                if channel is Channel.SCREEN:
                    assert offset == 40_000_003
                    assert b"END" in data
                    break


async def test_bad_messages_end_the_connection_and_nothing_else(api: Client, box: str, stack: Served) -> None:
    id = await opened(api, box, "cat")
    url = f"{stack.url}/v1/sandboxes/{box}/terminals/{id}/connect"
    headers = {"authorization": f"Bearer {stack.token}"}
    bad = [
        b"", b"\x63", b"\x00abc", b"\x05\x00", b"\x06not json", b"\x06[]", json_message(Channel.CONTROL,
        {"type": "x"}),
        message(Channel.OUTPUT, 0, b"x"), message(Channel.ACK, 2**60), message(Channel.INPUT, 0,
        b"x" * 70_000),
    ]  # fmt: skip
    async with aiohttp.ClientSession() as session:
        for raw in [*bad, "text"]:
            async with session.ws_connect(url, protocols=(PROTOCOL,), headers=headers) as line:
                await (line.send_str(raw) if isinstance(raw, str) else line.send_bytes(raw))
                async with asyncio.timeout(10):
                    while (await line.receive()).type is aiohttp.WSMsgType.BINARY:
                        pass
                assert line.close_code == 1008, raw
    assert (await api.terminal(box, id))["status"] == "running"


async def test_refused_things_are_told_and_the_connection_stays(api: Client, box: str) -> None:
    id = await opened(api, box, "cat")
    async with api.connect_terminal(box, id) as line:
        await line.resize(0, 0)
        async for one in line:
            if isinstance(one, Notice):
                assert one.code == "invalid-input"
                break
        await line.type(b"still here\r")
        await until(line, rb"still here\r\nstill here")


async def test_who_may_open_one(api: Client, box: str, stack: Served, database: Database, live: Live) -> None:
    id = await opened(api, box, "cat")
    path = f"/v1/sandboxes/{box}/terminals/{id}/connect"
    websocket = {
        "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-protocol": PROTOCOL,
    }  # fmt: skip
    me = {"authorization": f"Bearer {stack.token}"}

    async def asked(query: str = "", **headers: str) -> tuple[int, str]:
        async with httpx.AsyncClient(base_url=stack.url, trust_env=False) as http, http.stream(
            "GET", path + query, headers={**websocket, **headers}
        ) as response:
            if response.status_code == 101:
                return 101, ""
            return response.status_code, json.loads(await response.aread())["code"]

    assert await asked() == (401, "unauthorized")
    assert await asked(**me) == (101, "")
    assert await asked(**me, origin="http://evil.example") == (403, "origin-not-allowed")
    assert await asked(**{**me, "sec-websocket-protocol": "other"}) == (400, "bad-request")
    for query in ("?since=-1", "?cols=0", "?viewer=me", "?role=king", "?more=1", "?rows=1e3"):
        assert await asked(query, **me) == (422, "invalid-input"), query
    ticket = (await api._transport.json("POST", "/v1/ws-tickets"))["ticket"]
    assert await asked(f"?ticket={ticket}") == (101, "")
    assert await asked(f"?ticket={ticket}") == (401, "unauthorized"), "once"
    assert await asked("?ticket=made-up") == (401, "unauthorized")
    async with database.transaction() as connection:
        stranger = await connection.fetchval(
            "INSERT INTO users (email, username) VALUES ('s@x', 'stranger') RETURNING id")
        await users.ensure_token(connection, str(stranger), digest("strange-token"))
    assert await asked(authorization="Bearer strange-token") == (404, "not-found")
    with pytest.raises(Unauthorized):
        async with Client(stack.url, "not-a-token", prove=False) as other, other.connect_terminal(box, id):
            pass


@pytest.fixture(autouse=True)
async def _quiet() -> AsyncIterator[None]:
    """Connections that a test left are gone before the next."""
    yield
    await asyncio.sleep(0)
