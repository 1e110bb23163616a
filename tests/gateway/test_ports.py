"""The proxy to ports in sandboxes, with a real program in a real sandbox."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import resource
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import port_proxy
from schema import Database, users
from terminalpp.client import Client
from terminalpp.types.ids import new_id
from terminalpp.types.proof import digest
from tests.eventually import eventually
from tests.gateway.conftest import Served

PROGRAM = Path(__file__).parent / "port_program.py"
PORT = 8000


@dataclass
class Program:
    """A program that listens, and the ways to it."""

    served: Served
    api: Client
    box: str
    command: str

    @property
    def path(self) -> str:
        """Where the API has the port."""
        return f"/v1/sandboxes/{self.box}/ports/{PORT}"

    @property
    def host(self) -> str:
        return f"{PORT}-{self.box}.localhost:{self.served.app.gateway.port}"

    async def share(self, port: int = PORT, **more: Any) -> dict[str, Any]:
        async with self.served.http() as http:
            body = {"port": port, **more}
            made = await http.post(f"/v1/sandboxes/{self.box}/port-shares", json=body)
        assert made.status_code == 201, made.text
        return made.json()

    async def said(self) -> str:
        return (await self.api.output(self.box, self.command)).data.decode()

    async def raw(self, data: bytes, *, eof: bool = False) -> bytes:
        """What the server answers to these bytes, to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.served.app.gateway.port)
        writer.write(data)
        if eof:
            writer.write_eof()
        async with asyncio.timeout(20):
            answered = await reader.read(-1)
        writer.close()
        return answered

    def head(self, target: str, *more: str, method: str = "GET") -> bytes:
        lines = [f"{method} {self.path}{target} HTTP/1.1", "Host: localhost", "Connection: close",
                 f"Authorization: Bearer {self.served.token}", *more]  # fmt: skip
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.fixture
async def program(stack: Served, api: Client, box: str) -> Program:
    await api.write_file(box, "/home/user/program.py", PROGRAM.read_bytes())
    made = await api.run_command(box, f"exec python3 program.py {PORT}")
    async with stack.http() as http:

        async def listens() -> bool:
            found = (await http.get(f"/v1/sandboxes/{box}/ports")).json()
            return PORT in [one["port"] for one in found["items"]]

        await eventually(listens, timeout_s=20)
    return Program(stack, api, box, made["id"])


def told(answer: httpx.Response) -> tuple[bytes, dict[bytes, bytes], dict[str, Any]]:
    """What the program was asked: the request line, the headers, the rest."""
    value = answer.json()
    lines = [base64.b64decode(line).partition(b": ") for line in value["headers"]]
    return base64.b64decode(value["request"]), {line[0].lower(): line[2] for line in lines}, value


# ---- by path --------------------------------------------------------------------------------------------


async def test_any_method_passes_and_what_is_ours_does_not(program: Program) -> None:
    async with program.served.http() as http:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            headers = {"x-mine": "1", "cookie": "a=b; tpp_share=x", "connection": "x-hop", "x-hop": "1",
                       "x-forwarded-for": "6.6.6.6", "te": "trailers"}  # fmt: skip
            answer = await http.request(method, f"{program.path}/a/b?c=d&e", headers=headers, content=b"abc")
            assert answer.status_code == 200, answer.text
            line, got, value = told(answer)
            assert line == f"{method} /a/b?c=d&e HTTP/1.1".encode()
            assert value["sha256"] == hashlib.sha256(b"abc").hexdigest()
            assert got[b"host"] == b"localhost:8000"
            assert got[b"x-mine"] == b"1"
            assert got[b"x-forwarded-for"] == b"127.0.0.1"
            assert got[b"x-forwarded-prefix"] == program.path.encode()
            assert got[b"connection"] == b"close"
            assert not {b"authorization", b"cookie", b"x-hop", b"te"} & got.keys()
        head = await http.head(f"{program.path}/")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == "application/json"
        bare = await http.get(program.path)
        assert told(bare)[0] == b"GET / HTTP/1.1"
        assert "default-src 'none'" in bare.headers["content-security-policy"]
        assert "sandbox" in bare.headers["content-security-policy"]


async def test_targets_pass_byte_for_byte(program: Program) -> None:
    for target in (b"/../../x", b"//a//b/./", b"/%2e%2E/%00%0d%0a", b"/a%2fb?x=%zz&&=;#f", b"/?", b"/\\..\\"):
        request = program.head("/").replace(b"/ports/8000/ ", b"/ports/8000" + target + b" ")
        answer = await program.raw(request)
        value = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert base64.b64decode(value["request"]) == b"GET " + target + b" HTTP/1.1"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=" "), max_size=60),
    names=st.lists(st.from_regex(r"x-[a-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True), max_size=4),
    value=st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")),
    content=st.binary(max_size=3000),
    chunked=st.booleans(),
)
async def test_whatever_is_sent_arrives_as_it_was(
    program: Program, path: str, names: list[str], value: str, content: bytes, chunked: bool
) -> None:
    names = [name for name in names if not name.startswith(("x-forwarded", "x-real", "x-request-id"))]
    own = [f"{name}: {value}" for name in names]
    if chunked:
        framed = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (content[:100], content[100:]) if c)
        framed, how = framed + b"0\r\n\r\n", "Transfer-Encoding: chunked"
    else:
        framed, how = content, f"Content-Length: {len(content)}"
    target = "/echo/" + path
    answer = await program.raw(program.head(target, *own, how, method="POST") + framed)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    got = json.loads(rest)
    assert base64.b64decode(got["request"]) == f"POST {target} HTTP/1.1".encode("latin-1")
    assert got["sha256"] == hashlib.sha256(content).hexdigest()
    lines = [base64.b64decode(line) for line in got["headers"]]
    for name in names:
        assert f"{name}: {value.strip(' ')}".encode("latin-1") in lines


async def test_answers_of_each_kind(program: Program) -> None:
    async with program.served.http() as http:
        assert (await http.get(f"{program.path}/chunked")).text == "hello, you"
        assert (await http.get(f"{program.path}/close")).text == "until the end"
        begun, came = time.monotonic(), []
        async with http.stream("GET", f"{program.path}/sse?5") as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            async for line in answer.aiter_lines():
                came += [time.monotonic() - begun] if line else []
        assert len(came) == 5
        assert came[-1] - came[0] > 0.3, "each as it came"


async def test_large_bodies_pass_and_memory_stays(program: Program) -> None:
    size = 100_000_000

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // 1_000_000):
            yield bytes(1_000_000)

    async with program.served.http() as http:
        await http.get(f"{program.path}/big?20000000")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = await http.post(f"{program.path}/", content=pieces())
        assert told(answer)[2]["length"] == size
        seen = 0
        async with http.stream("GET", f"{program.path}/big?{size}") as answer:
            async for piece in answer.aiter_raw():
                seen += len(piece)
        assert seen == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


async def test_a_slow_reader_holds_up_nobody_and_gathers_nothing(program: Program) -> None:
    slow = socket.create_connection(("127.0.0.1", program.served.app.gateway.port))
    slow.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(slow, program.head("/big?500000000"))
    await loop.sock_recv(slow, 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with program.served.http() as http:
        for _ in range(20):
            assert (await http.get(f"{program.path}/")).status_code == 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    slow.close()


async def test_a_hundred_at_once(program: Program) -> None:
    async with program.served.http(limits=httpx.Limits(max_connections=None)) as http:
        calls = [http.post(f"{program.path}/{n}", content=b"x" * n) for n in range(100)]
        answers = await asyncio.gather(*calls)
    assert [told(one)[2]["length"] for one in answers] == list(range(100))


async def test_who_leaves_is_gone_for_the_program_too(program: Program) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", program.served.app.gateway.port)
    writer.write(program.head("/wait"))

    async def told_of(word: str) -> bool:
        return word in await program.said()

    await eventually(lambda: told_of("waiting"), timeout_s=10)
    writer.close()
    await eventually(lambda: told_of("left"), timeout_s=10)


@pytest.mark.parametrize("where", ["/cut", "/cut-chunked"])
async def test_an_answer_that_breaks_off_is_seen_to(program: Program, where: str) -> None:
    async with program.served.http() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(program.path + where)
        assert (await http.get(f"{program.path}/")).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: LONG",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 102 P\r\n\r\n" * 9, b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_told(program: Program, said: bytes) -> None:
    async with program.served.http() as http:
        answer = await http.get(f"{program.path}/say?{base64.urlsafe_b64encode(said).decode()}")
    assert (answer.status_code, answer.json()["code"]) == (502, "port-failed"), answer.text


async def test_nobody_listens(program: Program) -> None:
    async with program.served.http() as http:
        answer = await http.get(program.path.replace("8000", "8001") + "/")
        assert (answer.status_code, answer.json()["code"]) == (502, "port-closed")
        assert "8001" in answer.json()["detail"]
        assert "./tpp ports" in answer.json()["hint"]
        for odd in ("0", "65536", "99999", "08000", "x", "-1"):
            answer = await http.get(f"/v1/sandboxes/{program.box}/ports/{odd}/")
            assert answer.status_code == 404, odd


async def test_expect_is_the_programs_to_answer(program: Program) -> None:
    head = program.head("/expect", "Expect: 100-continue", "Content-Length: 5", method="POST")
    reader, writer = await asyncio.open_connection("127.0.0.1", program.served.app.gateway.port)
    begun = time.monotonic()
    writer.write(head)
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert time.monotonic() - begun > 0.15, "not before the program said so"
    await reader.readline()
    writer.write(b"12345")
    assert (await reader.read(-1)).endswith(b"\r\n\r\n5")
    answer = await program.raw(head.replace(b"/expect", b"/refuse"))
    assert answer.startswith(b"HTTP/1.1 413"), "and the body was not asked for"


async def test_two_lengths_and_other_tricks_reach_no_program(program: Program) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    for lines in (
        ("Content-Length: 4", "Transfer-Encoding: chunked"), ("Content-Length: 4", "Content-Length: 5"),
        ("Transfer-Encoding: chunked, identity",), ("Transfer-Encoding : chunked",), ("Content-Length: +4",),
        ("x: a\nb: c",), ("Content-Length: 4", "Transfer-Encoding: xchunked"),
    ):  # fmt: skip
        data = program.head("/", *lines, method="POST") + b"0\r\n\r\n" + smuggled
        answer = await program.raw(data, eof=True)
        assert b"smuggled" not in answer
        assert answer.count(b"HTTP/1.1 ") <= 1, answer
    long = await program.raw(program.head("/", "x: " + "a" * 70_000))
    assert long.startswith(b"HTTP/1.1 431")


async def test_what_a_program_may_not_do_on_this_origin(program: Program) -> None:
    said = (b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nContent-Security-Policy: default-src *\r\n"
            b"X-Frame-Options: ALLOWALL\r\nStrict-Transport-Security: max-age=1\r\n"
            b"Service-Worker-Allowed: /\r\n"
            b"Location: http://localhost:8000/next?x=y\r\nX-Other: 1\r\nContent-Length: 0\r\n\r\n")
    target = f"/say?{base64.urlsafe_b64encode(said).decode()}"
    async with program.served.http() as http:
        answer = await http.get(program.path + target)
        removed = "set-cookie, strict-transport-security, service-worker-allowed"
        assert answer.headers["tpp-removed"] == removed
        assert answer.headers["location"] == f"{program.path}/next?x=y"
        (policy,) = answer.headers.get_list("content-security-policy")
        assert policy.startswith("sandbox; default-src 'none'")
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-other"] == "1"
        by_host = await http.get(target, headers={"host": program.host})
        assert by_host.headers["set-cookie"] == "a=b"
        assert by_host.headers["content-security-policy"] == "default-src *"
        assert by_host.headers["location"] == "/next?x=y"
        assert by_host.headers["tpp-removed"] == "strict-transport-security"
        assert "cross-origin-resource-policy" not in by_host.headers


# ---- upgrades -------------------------------------------------------------------------------------------


async def test_a_websocket_by_path_and_by_host(program: Program) -> None:
    share = await program.share()
    async with aiohttp.ClientSession() as session:
        for url, headers in (
            (program.path, {"authorization": f"Bearer {program.served.token}"}),
            ("", {"host": program.host, "cookie": f"tpp_share={share['token']}"}),
        ):
            async with session.ws_connect(
                f"{program.served.url}{url}/upgrade", headers=headers, compress=0, max_msg_size=0
            ) as line:
                for size in (0, 5, 200, 70_000, 2_000_000):
                    await line.send_bytes(b"x" * size)
                    assert await line.receive_bytes(timeout=10) == b"x" * size
                await line.ping()
                await line.close()
    await eventually(lambda: program.served.app.gateway.admission.long.running == 0, timeout_s=10)


async def test_an_upgrade_to_anything_is_raw_and_ends_by_halves(program: Program) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", program.served.app.gateway.port)
    head = program.head("/raw", "Upgrade: tcp").replace(b"Connection: close", b"Connection: Upgrade")
    writer.write(head + b"at once ")
    async with asyncio.timeout(10):
        assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"later")
        writer.write_eof()
        assert await reader.read(-1) == b"earlyAT ONCE LATERend"
    answer = await program.raw(head.replace(b"/raw", b"/plain"))
    assert answer.startswith(b"HTTP/1.1 200"), "refused by a program, it is an ordinary answer"


async def test_a_websocket_ends_when_either_end_goes(program: Program) -> None:
    headers = {"authorization": f"Bearer {program.served.token}"}
    async with aiohttp.ClientSession() as session:
        line = await session.ws_connect(f"{program.served.url}{program.path}/upgrade", headers=headers)
        await program.api.signal(program.box, program.command, "KILL")
        assert (await line.receive(timeout=10)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
    await eventually(lambda: program.served.app.gateway.admission.long.running == 0, timeout_s=10)


# ---- who may -------------------------------------------------------------------------------------------


async def test_a_link_opens_its_port_and_no_other(program: Program) -> None:
    share = await program.share(name="for Anna")
    assert share["url"] == f"http://{program.host}/?tpp_share={share['token']}"
    async with httpx.AsyncClient(base_url=program.served.url, trust_env=False) as http:
        host = {"host": program.host}
        assert (await http.get("/x", headers=host)).status_code == 401
        # A program is let in at once; the secret is not for the program inside.
        answer = await http.get(f"/x?a=b&tpp_share={share['token']}&c", headers=host)
        assert told(answer)[0] == b"GET /x?a=b&c HTTP/1.1"
        # A browser gets a cookie, and an address without the secret.
        browser = host | {"accept": "text/html,*/*"}
        page = await http.get(f"/x?a&tpp_share={share['token']}&b=c", headers=browser)
        assert (page.status_code, page.headers["location"]) == (303, "/x?a&b=c")
        lines = "\r\n".join(f"{name}: {value}" for name, value in browser.items())
        odd = f"GET //evil.example/?tpp_share={share['token']} HTTP/1.1\r\n{lines}\r\nConnection: close\r\n"
        odd += "\r\n"
        assert b"location: /evil.example/\r\n" in await program.raw(odd.encode()), "not another server's"
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "Domain" not in cookie
        name = cookie.partition(";")[0]
        answer = await http.get(
            "/y", headers=host | {"cookie": f"mine=1; {name}; other=2", "authorization": "Basic eHg6eXk="}
        )
        _, got, _ = told(answer)
        assert got[b"cookie"] == b"mine=1; other=2"
        assert got[b"authorization"] == b"Basic eHg6eXk=", "of the program inside"
        assert got[b"host"] == program.host.encode()
        # As a bearer token it opens this port, and nothing of the API.
        bearer = {"authorization": f"Bearer {share['token']}"}
        assert b"authorization" not in told(await http.get(f"{program.path}/", headers=bearer))[1]
        assert (await http.get(program.path.replace("8000", "8001"), headers=bearer)).status_code == 404
        assert (await http.get(f"/v1/sandboxes/{program.box}", headers=bearer)).status_code == 401
        assert (await http.get("/x", headers={"host": program.host.replace("8000", "8001"), "cookie": name})
                ).status_code == 404  # fmt: skip


async def test_our_own_token_never_reaches_the_program(program: Program) -> None:
    share = await program.share()
    async with program.served.http() as http:
        host = {"host": program.host}
        for more in ({}, {"cookie": f"tpp_share={share['token']}"}):
            assert b"authorization" not in told(await http.get("/", headers=host | more))[1]


async def test_links_expire_and_are_revoked(program: Program) -> None:
    short, other = await program.share(expires_in_seconds=1), await program.share()
    async with program.served.http() as http:
        listed = (await http.get(f"/v1/sandboxes/{program.box}/port-shares")).json()["items"]
        assert [one["id"] for one in listed] == [other["id"], short["id"]]
        assert "token" not in listed[0]
        host = {"host": program.host, "authorization": ""}

        async def expired() -> bool:
            answer = await http.get(f"/?tpp_share={short['token']}", headers=host)
            return (answer.status_code, answer.json().get("code")) == (410, "link-expired")

        await eventually(expired, timeout_s=5)
        # What is open by a link ends with it.
        async with http.stream("GET", f"/sse?600&tpp_share={other['token']}", headers=host) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "data: 0"
            gone = await http.delete(f"/v1/sandboxes/{program.box}/port-shares/{other['id']}")
            assert gone.status_code == 204
            with pytest.raises(httpx.RemoteProtocolError):
                await _last(lines)
        assert (await http.get(f"/?tpp_share={other['token']}", headers=host)).status_code == 404
        gone = await http.delete(f"/v1/sandboxes/{program.box}/port-shares/{other['id']}")
        assert gone.status_code == 404


async def _last(lines: AsyncIterator[str]) -> None:
    async with asyncio.timeout(5):
        async for _ in lines:
            pass


async def test_the_same_key_is_the_same_share(program: Program) -> None:
    async with program.served.http() as http:
        place, key = f"/v1/sandboxes/{program.box}/port-shares", {"idempotency-key": new_id()}
        first, second = [(await http.post(place, json={"port": PORT}, headers=key)).json() for _ in range(2)]
        assert first["id"] == second["id"]
        assert (await http.post(place, json={"port": 1}, headers=key)).status_code == 422
        bearer = [{"authorization": f"Bearer {one['token']}"} for one in (first, second)]
        assert [(await http.get(f"{program.path}/", headers=one)).status_code for one in bearer] == [404, 200]
        for wrong in ({"port": 0}, {"port": 65536}, {"port": True}, {"port": 1, "expires_in_seconds": 0}):
            assert (await http.post(place, json=wrong)).status_code == 422


async def test_another_users_ports_are_not_there(program: Program, database: Database) -> None:
    stranger, token = new_id(), "stranger-token-0123456789"
    await database.execute(
        "INSERT INTO users (id, email, username) VALUES ($1, 'x@example.org', 'x')", stranger
    )
    await users.ensure_token(database, stranger, digest(token), "x")
    async with httpx.AsyncClient(base_url=program.served.url, trust_env=False) as http:
        bearer = {"authorization": f"Bearer {token}"}
        assert (await http.get(f"{program.path}/", headers=bearer)).status_code == 404
        assert (await http.get("/", headers=bearer | {"host": program.host})).status_code == 404
        for what in ("ports", "port-shares"):
            assert (await http.get(f"/v1/sandboxes/{program.box}/{what}", headers=bearer)).status_code == 404
        unknown = {"authorization": f"Bearer {program.served.token}"}
        assert (await http.get(f"/v1/sandboxes/{new_id()}/ports/1/", headers=unknown)).status_code == 404
        assert (await http.get(f"{program.path}/")).status_code == 401


async def test_pages_of_others_may_not(program: Program) -> None:
    share = await program.share()
    async with httpx.AsyncClient(base_url=program.served.url, trust_env=False) as http:
        mine = {"host": program.host, "cookie": f"tpp_share={share['token']}"}
        for origin, status in ((f"http://{program.host}", 200), ("http://evil.example", 403), ("null", 403),
                               (program.served.url, 403)):  # fmt: skip
            answer = await http.post("/", headers=mine | {"origin": origin})
            assert answer.status_code == status, origin
        odd = mine | {"host": program.host.replace("localhost", "evil.example")}
        assert (await http.get("/", headers=odd)).json()["code"] == "host-not-allowed"


async def test_the_owner_wakes_a_sandbox_and_a_link_does_not(program: Program) -> None:
    share = await program.share()
    await program.api.stop_sandbox(program.box)

    async def stopped() -> bool:
        return (await program.api.sandbox(program.box))["status"] == "stopped"

    await eventually(stopped, timeout_s=20)
    async with program.served.http() as http:
        found = (await http.get(f"/v1/sandboxes/{program.box}/ports")).json()
        assert found == {"items": [], "running": False, "change": None}
        stranger = {"host": program.host, "authorization": ""}
        answer = await http.get(f"/?tpp_share={share['token']}", headers=stranger)
        assert (answer.status_code, answer.json()["code"]) == (409, "sandbox-not-running")
        answer = await http.get(f"{program.path}/")
        assert answer.json()["code"] == "port-closed", "it runs again, and its program does not"
    assert (await program.api.sandbox(program.box))["status"] == "running"


# ---- looking --------------------------------------------------------------------------------------------


async def test_ports_are_listed_and_a_new_one_is_told(program: Program, database: Database) -> None:
    await database.execute(
        "UPDATE sandboxes SET exposed_ports = $2 WHERE id = $1", program.box,
        [{"port": PORT, "name": "web"}, 9000, "odd", {"port": 99999}],
    )
    async with program.served.http() as http:
        place = f"/v1/sandboxes/{program.box}/ports"
        found = (await http.get(place)).json()
        web, other = found["items"]
        assert (web["port"], web["name"], web["listening"], web["reachable"]) == (PORT, "web", True, True)
        assert web["argv"][1:] == ["program.py", "8000"]
        assert web["url"] == f"http://{program.host}/"
        assert (other["port"], other["declared"], other["listening"]) == (9000, True, False)
        waiting = asyncio.create_task(http.get(place, params={"change": found["change"], "wait_ms": 15_000}))
        await program.api.run_command(program.box, "exec python3 program.py 8100")
        now = (await waiting).json()
        assert [one["port"] for one in now["items"]] == [PORT, 8100, 9000]
        assert now["change"] != found["change"]


async def test_silence_both_ways_ends(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_proxy, "IDLE_S", 0.3)
    async with program.served.http() as http:
        answer = await http.get(f"{program.path}/wait")
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline-exceeded")


async def test_a_paused_sandbox_says_so_at_once(program: Program) -> None:
    share = await program.share()
    await program.api.pause_sandbox(program.box)
    begun = time.monotonic()
    async with program.served.http() as http:
        stranger = {"host": program.host, "authorization": ""}
        for answer in (
            await http.get(f"{program.path}/"),
            await http.get(f"/?tpp_share={share['token']}", headers=stranger),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "sandbox-paused")
        assert time.monotonic() - begun < 5
        await program.api.resume_sandbox(program.box)
        assert (await http.get(f"{program.path}/")).status_code == 200
