"""The way out of a sandbox with an allowlist, from inside real ones: what is let out, and what is not."""

from __future__ import annotations

import asyncio
import shlex
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from actors.egress.credentials import NoCredentials
from actors.egress.dialing import Dialer
from actors.egress.dialogue import Means
from actors.egress.policy import Policy
from actors.egress.refusal import Refused
from actors.egress.way import Handed, Way, take_listener
from actors.sandbox.tppd.protocol import Op
from terminalpp.types.errors import Conflict, InvalidInput
from terminalpp.types.network import PROXY_PORT
from terminalpp.types.states import Network
from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox

POST = "POST http://app.test/ HTTP/1.1\r\nHost: a\r\n"
END = "HTTP/1.1\r\nHost: a\r\n\r\n"
# Sends its argument (hexadecimal) to the proxy, and prints the answer to its end. Perl: every image has it.
ASK = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0], Timeout => 20) or exit 7;
my $what = pack("H*", $ARGV[1]);
binmode $s; binmode STDOUT; $s->autoflush(1); print $s $what;
shutdown($s, 1) if @ARGV > 2;
my $data; print $data while sysread($s, $data, 65536);
"""


def asking(request: str, *, half_close: bool = False) -> str:
    words = [
        "perl",
        "-e",
        ASK,
        str(PROXY_PORT),
        request.encode("latin-1").hex(),
        *(["half"] if half_close else []),
    ]
    return " ".join(map(shlex.quote, words))


async def connects(sandbox: Sandbox, host: str, port: int) -> bool:
    """Whether a TCP connection is had from inside."""
    program = f'IO::Socket::INET->new(PeerAddr => "{host}", PeerPort => {port}, Timeout => 3) or exit 7'
    code = (await sandbox.sh(f"perl -MIO::Socket::INET -e {shlex.quote(program)}")).code
    assert code in (0, 7)
    return code == 0


@dataclass
class Outside:
    """A server on the host's loopback, its names, and the way out of one sandbox to it."""

    sandbox: Sandbox
    port: int
    policy: Policy = field(default_factory=Policy)
    names: dict[str, list[list[str]]] = field(default_factory=dict)  # each answer in turn, the last for ever
    refused: list[Refused] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    way: Way | None = None

    async def resolve(self, host: str, port: int) -> list[str]:
        answers = self.names.get(host, [[host]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def open(self) -> None:
        async def policy() -> Policy:
            return self.policy

        async def refused(refusal: Refused) -> None:
            self.refused.append(refusal)

        dialer = Dialer(self.resolve, frozenset((self.port,)))
        means = Means(self.sandbox.spec.sandbox_id, policy, refused, dialer, NoCredentials())
        self.way = Way(await take_listener(self.sandbox.run_dir), means)

    async def ask(self, request: str, *, half_close: bool = False) -> bytes:
        """What the proxy answers to these bytes."""
        return (await self.sandbox.sh(asking(request, half_close=half_close))).out

    async def connects(self, host: str, port: int) -> bool:
        return await connects(self.sandbox, host, port)

    def reasons(self) -> list[str]:
        return [str(refusal.reason) for refusal in self.refused]


@pytest.fixture
async def outside(make: Make) -> AsyncIterator[Outside]:
    sandbox = await make(network=Network.ALLOWLIST)
    made = Outside(sandbox, 0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            made.requests.append(head)
            body = b"hello from outside\n"
            if b"echo" in head.split(b"\r\n")[0]:
                body = await reader.read()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    made.names = {"app.test": [["127.0.0.1"]]}
    made.policy = Policy.of([], [f"app.test:{made.port}"])
    await made.open()
    yield made
    assert made.way is not None
    await made.way.close()
    server.close()


def url_of(outside: Outside, path: str = "/") -> str:
    return f"http://app.test:{outside.port}{path}"


async def test_an_allowed_host_is_reached_by_name(outside: Outside) -> None:
    said = await outside.ask(f"GET {url_of(outside, '/a?b=c')} HTTP/1.1\r\nHost: app.test\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"\r\n\r\nhello from outside\n")
    head = outside.requests[0].decode()
    assert head.startswith("GET /a?b=c HTTP/1.1\r\n")
    assert f"host: app.test:{outside.port}\r\n" in head.lower()
    assert outside.refused == []


async def test_a_tunnel_carries_both_ways_and_half_closes(outside: Outside) -> None:
    said = await outside.ask(
        f"CONNECT app.test:{outside.port} HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.0\r\n\r\nabc",
        half_close=True,
    )
    head, _, rest = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert rest.endswith(b"\r\n\r\nabc")


async def test_what_is_not_allowed_is_refused_in_words_and_recorded(outside: Outside) -> None:
    for request in (
        "GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test\r\n\r\n",
    ):
        said = (await outside.ask(request)).decode()
        assert said.startswith("HTTP/1.1 403 Refused by the network policy")
        assert "other.test" in said
        assert f"./tpp sandbox network {outside.sandbox.spec.sandbox_id[:8]} --allow other.test" in said
    assert outside.reasons() == ["not-allowed"] * 2


async def test_nothing_is_reached_but_through_the_proxy(outside: Outside) -> None:
    for host, port in (
        ("127.0.0.1", outside.port),
        ("1.1.1.1", 443),
        ("8.8.8.8", 53),
        ("app.test", outside.port),
    ):
        assert not await outside.connects(host, port), host
    assert outside.requests == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [("169.254.169.254", "forbidden-address"), ("::ffff:169.254.169.254", "forbidden-address"),
     ("0.0.0.0", "forbidden-address"), ("10.255.255.1", "private-address"), ("127.0.0.1", "host-address"),
     ("::1", "host-address"), ("64:ff9b::7f00:1", "host-address")],
)  # fmt: skip
async def test_an_allowed_name_leads_to_no_private_address(
    outside: Outside, address: str, reason: str
) -> None:
    outside.names["public.test"] = [[address]]
    outside.policy = Policy.of([f"public.test:{outside.port}"])
    said = await outside.ask(f"CONNECT public.test:{outside.port} {END}")
    assert said.startswith(b"HTTP/1.1 403")
    assert outside.reasons() == [reason]


async def test_a_private_host_reaches_no_metadata_and_no_other_port_of_the_machine(outside: Outside) -> None:
    outside.names["meta.test"] = [["169.254.169.254"]]
    outside.policy = Policy.of([], ["meta.test:80", "app.test:1"])
    for target in ("meta.test:80", "app.test:1"):
        await outside.ask(f"CONNECT {target} {END}")
    assert outside.reasons() == ["forbidden-address", "host-address"]


async def test_a_name_that_changes_its_address_is_judged_each_time(outside: Outside) -> None:
    """DNS rebinding: first a public address (which nobody answers at), then this machine."""
    outside.names["rebind.test"] = [["192.0.2.1"], ["127.0.0.1"]]
    outside.policy = Policy.of([f"rebind.test:{outside.port}"])
    for _ in range(2):
        await outside.ask(f"CONNECT rebind.test:{outside.port} {END}")
    assert outside.reasons()[-1] == "host-address"
    assert outside.requests == []


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "user@app.test"]
)
async def test_odd_spellings_of_an_address_reach_nothing(outside: Outside, host: str) -> None:
    outside.policy = Policy.of(["*", f"*:{outside.port}"])
    said = await outside.ask(f"CONNECT {host}:{outside.port} {END}")
    assert said.split()[1] in (b"400", b"403"), said
    assert outside.requests == []


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", b"400"),
        (f"GET http://user:secret@app.test/ {END}", b"400"),
        (POST + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (POST + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", b"400"),
        ("GET http://app.test/ HTTP/1.1\r\nHost: a\r\nX: " + "y" * 40_000 + "\r\n\r\n", b"431"),
        (f"CONNECT app.test {END}", b"400"),
        ("CONNECT app.test:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"400"),
        ("\x16\x03\x01\x00\x05hello\r\n\r\n", b"400"),
        ("\x00\xff\r\n\r\n", b"400"),
    ],
)  # fmt: skip
async def test_what_is_ambiguous_is_no_request(outside: Outside, request_text: str, status: bytes) -> None:
    said = await outside.ask(request_text)
    assert said.split()[1] == status, said
    assert outside.requests == []


async def test_the_url_decides_not_the_host_field(outside: Outside) -> None:
    request = (
        f"GET {url_of(outside)} HTTP/1.1\r\nHost: evil.test\r\nConnection: X-Secret\r\nX-Secret: 1\r\n\r\n"
    )
    assert (await outside.ask(request)).startswith(b"HTTP/1.1 200")
    head = outside.requests[0].lower()
    assert b"evil.test" not in head
    assert b"x-secret" not in head


async def test_old_programs_and_chunks_and_waiting_for_100(outside: Outside) -> None:
    assert b"hello from outside" in await outside.ask(f"GET {url_of(outside)} HTTP/1.0\r\n\r\n")
    chunked = (
        f"POST {url_of(outside)} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        "Expect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    said = await outside.ask(chunked)
    assert said.startswith(b"HTTP/1.1 100")
    assert b"hello from outside" in said


async def tls_first_bytes(name: str | None) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    asking = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    return out.read().decode("latin-1")


@pytest.mark.parametrize(("name", "cut"), [("app.test", False), ("other.test", True), (None, True)])
async def test_a_tunnel_greets_the_server_it_was_asked_for(
    outside: Outside, name: str | None, cut: bool
) -> None:
    connect = f"CONNECT app.test:{outside.port} {END}"
    await outside.ask(connect + await tls_first_bytes(name), half_close=True)
    assert outside.reasons() == (["other-name"] if cut else [])


async def test_a_changed_policy_holds_at_once_and_cuts_what_is_open(outside: Outside) -> None:
    held = await outside.sandbox.begin(asking(f"CONNECT app.test:{outside.port} {END}"))
    assert outside.way is not None
    way = outside.way
    await eventually(lambda: any(d is not None and d.target for d in way._open.values()))
    outside.policy = Policy()
    await way.enforce(outside.policy)
    ended = await outside.sandbox.tppd.wait(held, timeout_s=10)
    assert ended.state == "ended"
    assert (await outside.ask(f"GET {url_of(outside)} {END}")).startswith(b"HTTP/1.1 403")
    assert outside.reasons() == ["policy-changed", "not-allowed"]


async def test_while_no_proxy_runs_nothing_gets_out_and_then_it_does(outside: Outside) -> None:
    assert outside.way is not None
    await outside.way.close()
    waiting = await outside.sandbox.begin(asking(f"GET {url_of(outside)} {END}"))
    assert (await outside.sandbox.tppd.wait(waiting, timeout_s=0.5)).state == "running"
    assert outside.requests == []
    await outside.open()
    assert (await outside.sandbox.tppd.wait(waiting, timeout_s=20)).state == "ended"
    assert b"hello from outside" in outside.sandbox.output(waiting)


async def test_the_socket_ends_with_the_sandbox(outside: Outside) -> None:
    assert outside.way is not None
    way = outside.way
    await outside.sandbox.driver.stop(outside.sandbox.spec.sandbox_id)
    await eventually(lambda: way.closed)


async def test_a_sandbox_without_the_network_does_not_listen(make: Make) -> None:
    sandbox = await make()
    assert not await connects(sandbox, "127.0.0.1", PROXY_PORT)
    handed = await take_listener(sandbox.run_dir)
    again = await take_listener(sandbox.run_dir)
    assert await connects(sandbox, "127.0.0.1", PROXY_PORT)
    await sandbox.tppd.ask(Op.EGRESS_CLOSE, [])
    assert not await connects(sandbox, "127.0.0.1", PROXY_PORT)  # though both copies are still held here
    for one in (handed, again):
        one.close()


async def test_a_program_that_took_the_port_is_named(make: Make) -> None:
    sandbox = await make()
    program = f'$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => {PROXY_PORT}, Listen => 1);'
    program += " sleep 60"
    await sandbox.begin(f"perl -MIO::Socket::INET -e {shlex.quote(program)}")

    async def taken() -> bool:
        try:
            handed: Handed = await take_listener(sandbox.run_dir)
        except Conflict as error:
            return str(PROXY_PORT) in error.detail
        handed.close()
        await sandbox.tppd.ask(Op.EGRESS_CLOSE, [])
        return False

    await eventually(taken)
    with pytest.raises(InvalidInput):
        await take_listener(sandbox.run_dir, 80)


async def test_looking_after_it_connects_no_network(outside: Outside) -> None:
    """A look at a sandbox mends an open network that was cut; this one must stay without a device."""
    found = await outside.sandbox.driver.inspect(outside.sandbox.spec.sandbox_id)
    assert found is not None
    assert not found.limits["network"].startswith("open")
    devices = (await outside.sandbox.sh("tail -n +3 /proc/net/dev | cut -d: -f1")).text.split()
    assert set(devices) <= {"lo"}
    assert (await outside.sandbox.sh("tail -n +2 /proc/net/route")).text == ""


async def test_more_connections_than_there_is_room_for_wait_in_line(outside: Outside) -> None:
    assert outside.way is not None
    means = outside.way._means
    await outside.way.close()
    outside.way = Way(await take_listener(outside.sandbox.run_dir), means, 2)
    way = outside.way
    idle = "perl -MIO::Socket::INET -e "
    idle += shlex.quote(f'my $s = IO::Socket::INET->new("127.0.0.1:{PROXY_PORT}") or die; sleep 60')
    holding = [await outside.sandbox.begin(idle) for _ in range(2)]
    await eventually(lambda: len(way) == 2)
    third = await outside.sandbox.begin(asking(f"GET {url_of(outside)} {END}"))
    assert (await outside.sandbox.tppd.wait(third, timeout_s=0.5)).state == "running"
    await outside.sandbox.tppd.kill_tree(holding[0], epoch=outside.sandbox.epoch)
    assert (await outside.sandbox.tppd.wait(third, timeout_s=20)).state == "ended"
    assert b"hello from outside" in outside.sandbox.output(third)


async def test_much_is_carried_and_a_slow_reader_is_waited_for(outside: Outside) -> None:
    """64 MiB to one who reads nothing at first: it all arrives, and little of it waits here meanwhile."""
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(64):
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outside.policy = Policy.of([], [f"127.0.0.1:{port}"])
    assert outside.way is not None
    outside.way._means.dialer._host_ports |= {port}
    request = f"CONNECT 127.0.0.1:{port} {END}".encode().hex()
    program = (
        f'my $s = IO::Socket::INET->new("127.0.0.1:{PROXY_PORT}") or die; print $s pack("H*", "{request}");'
        " sysread($s, $d, 4096); sleep 1; my $n = 0; $n += $r while $r = sysread($s, $d, 1 << 20); print $n;"
    )
    exec_id = await outside.sandbox.begin(f"perl -MIO::Socket::INET -e {shlex.quote(program)}")
    assert (await outside.sandbox.tppd.wait(exec_id, timeout_s=0.8)).state == "running"
    assert sent < 32
    assert (await outside.sandbox.tppd.wait(exec_id, timeout_s=60)).state == "ended"
    total = int(outside.sandbox.output(exec_id))
    assert (64 << 20) - 4096 <= total <= 64 << 20
    server.close()
