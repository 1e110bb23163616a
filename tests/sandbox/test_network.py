"""`open` is a network of the sandbox's own: outwards it works, and nothing local to the host is in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from actors.node.bubblewrap import Bubblewrap
from actors.node.driver import Driver, SandboxSpec
from actors.sandbox.tppd.client import Tppd
from terminalpp.types.errors import IsolationUnavailable
from terminalpp.types.ids import new_id
from terminalpp.types.states import Network
from tests.eventually import eventually
from tests.sandbox.conftest import Sandbox

DEVICE, ELSEWHERE = "tpp-test0", "198.18.77.1"
CONNECT = """
import socket, sys
for address in sys.argv[2:]:
    try:
        socket.create_connection((address, int(sys.argv[1])), 2).close()
        print(address)
    except OSError:
        pass
"""
# A name server's question and the address in its answer; the test's own server answers every name.
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
name = b"".join(bytes([len(p)]) + p for p in b"some.name".split(b".")) + b"\\0"
s.sendto(b"\\1\\2\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\1\\0\\1", (sys.argv[1], int(sys.argv[2])))
print(socket.inet_ntoa(s.recv(512)[-4:]))
"""


@contextlib.asynccontextmanager
async def opened(driver: Driver) -> AsyncIterator[Sandbox]:
    """A sandbox of its own with an open network."""
    spec = SandboxSpec(new_id(), network=Network.OPEN)
    started = await driver.start(spec)
    one = Sandbox(driver, spec, started, Tppd(started.run_dir))
    try:
        yield one
    finally:
        await one.tppd.close()
        await driver.remove(spec.sandbox_id)


@pytest.fixture(scope="module")
async def outside(driver: Driver) -> AsyncIterator[Sandbox]:
    """A sandbox with an open network. Where pasta is missing such tests are left out; CI has it."""
    if driver.name == "bubblewrap" and shutil.which("pasta") is None:
        pytest.skip("pasta is not here (package passt)")
    async with opened(driver) as one:
        await one.tppd.write_file("connect.py", CONNECT.encode(), epoch=1)
        await one.tppd.write_file("ask.py", ASK.encode(), epoch=1)
        yield one


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """Another machine, as far as a sandbox can tell: the port of its name server and its web server."""
    subprocess.run(["ip", "link", "add", DEVICE, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{ELSEWHERE}/32", "dev", DEVICE], check=True)
        subprocess.run(["ip", "link", "set", DEVICE, "up"], check=True)
        with contextlib.ExitStack() as stack:
            web = stack.enter_context(socket.create_server((ELSEWHERE, 0)))
            port = web.getsockname()[1]
            names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            names.bind((ELSEWHERE, port))
            names.settimeout(0.2)
            done = threading.Event()

            def answer() -> None:
                while not done.is_set():
                    with contextlib.suppress(TimeoutError):
                        asked, who = names.recvfrom(512)
                        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([10, 9, 8, 7])
                        names.sendto(asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked[12:] + record, who)

            server = threading.Thread(target=answer)
            server.start()
            yield port
            done.set()
            server.join()
    finally:
        subprocess.run(["ip", "link", "delete", DEVICE], check=True)


async def reaches(sandbox: Sandbox, port: int, *addresses: str) -> list[str]:
    return (await sandbox.sh(f"python3 connect.py {port} {' '.join(addresses)}")).text.split()


@pytest.mark.skipif(os.getuid() != 0, reason="makes a network device")
async def test_what_is_elsewhere_is_reached(outside: Sandbox, elsewhere: int) -> None:
    assert await reaches(outside, elsewhere, ELSEWHERE) == [ELSEWHERE]
    assert (await outside.sh(f"python3 ask.py {ELSEWHERE} {elsewhere}")).text == "10.9.8.7"
    servers = (await outside.sh("grep nameserver /etc/resolv.conf")).text
    assert " 127." not in servers or outside.driver.name == "docker"  # which has one of its own there
    assert outside.started.limits["network"].startswith("open")


async def test_nothing_of_the_host_is_in_it(outside: Sandbox) -> None:
    host = socket.create_server(("127.0.0.1", 0))
    port = host.getsockname()[1]
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    abstract.bind(f"\0tpp-test-{os.getpid()}")
    abstract.listen()
    route = "awk '$2 == \"00000000\" {print $3}' /proc/net/route | head -1"
    raw = (await outside.sh(route)).text
    gateway = socket.inet_ntoa(bytes.fromhex(raw)[::-1])
    assert await reaches(outside, port, "127.0.0.1", "::1", "localhost", gateway) == []
    assert (await outside.sh(f"grep -c tpp-test-{os.getpid()} /proc/net/unix")).text == "0"
    say = f"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + 'tpp-test-{os.getpid()}')"
    assert (await outside.sh(f'python3 -c "{say}"')).code == 1
    # A port of the host is the sandbox's own inside, and nothing of it shows on the host.
    server = f"import socket; s = socket.create_server(('0.0.0.0', {port})); print(1, flush=True); s.accept()"
    mine = await outside.begin(f'python3 -c "{server}"')
    await eventually(lambda: outside.output(mine) == b"1\n")
    host.close()
    abstract.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2)
    assert (await outside.tppd.status(mine)).state == "running"
    await outside.tppd.kill_tree(mine, epoch=1)


async def test_sandboxes_do_not_reach_each_other(outside: Sandbox, driver: Driver) -> None:
    async with opened(driver) as other:
        listen = "import socket; s = socket.create_server(('', 7413)); print(1, flush=True); s.accept()"
        mine = await other.begin(f'python3 -c "{listen}"')
        await eventually(lambda: other.output(mine) == b"1\n")
        address = "import socket; s = socket.socket(2, 2); s.connect(('192.0.2.9', 9)); "
        address += "print(s.getsockname()[0])"
        found = (await other.sh(f'python3 -c "{address}"')).text
        assert await reaches(outside, 7413, found) == []
        assert (await other.tppd.status(mine)).state == "running"


def carriers(handle: str) -> list[int]:
    """The pasta processes of a sandbox, their guards left out."""
    return [pid for pid, words in network_processes(handle) if b"guard" not in words]


def network_processes(handle: str) -> list[tuple[int, list[bytes]]]:
    found = []
    for name in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = name.read_bytes().split(b"\0")
            if f"/proc/{handle}/ns/net".encode() in words or (b"guard" in words and handle.encode() in words):
                found.append((int(name.parent.name), words))
    return found


@pytest.mark.skipif(shutil.which("pasta") is None, reason="pasta is not here (package passt)")
async def test_what_carries_it_is_started_again_and_ends_with_it(driver: Driver) -> None:
    if driver.name != "bubblewrap":
        return
    async with opened(driver) as one:
        started = one.started
        first = carriers(started.handle)
        assert first
        for pid in first:
            os.kill(pid, signal.SIGKILL)

        async def again() -> bool:
            routes = await one.sh("grep -c 00000000 /proc/net/route")
            return not set(first) & set(carriers(started.handle)) and int(routes.text) > 0

        await eventually(again)
    await eventually(lambda: carriers(started.handle) == [])


@pytest.mark.skipif(shutil.which("pasta") is None, reason="pasta is not here (package passt)")
async def test_a_network_whose_guard_was_killed_too_is_connected_at_the_next_look(driver: Driver) -> None:
    if driver.name != "bubblewrap":
        return
    async with opened(driver) as one:
        started = one.started
        for guards in (True, False):  # the guard first, or it starts another
            for pid, words in network_processes(started.handle):
                if (b"guard" in words) is guards:
                    os.kill(pid, signal.SIGKILL)

        async def connected() -> bool:
            looks = [driver.inspect(one.spec.sandbox_id) for _ in range(3)]
            assert await asyncio.gather(*looks) == [started] * 3
            return int((await one.sh("grep -c 00000000 /proc/net/route")).text) > 0

        await eventually(connected)
        assert len(carriers(started.handle)) == 1


async def test_without_what_carries_it_it_is_refused(tmp_path: Path, tppd_binary: Path) -> None:
    without = Bubblewrap(tmp_path, tppd_binary, pasta=str(tmp_path / "none"))
    with pytest.raises(IsolationUnavailable, match="pasta") as raised:
        await without.start(SandboxSpec("s", network=Network.OPEN))
    assert "passt" in raised.value.next_step
    assert await without.inspect("s") is None
