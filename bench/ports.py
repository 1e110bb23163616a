"""A port of a sandbox through the gateway, next to the same program on the host's loopback.

    python -m bench.ports [REQUESTS] [MIB]

The program is a web server of a few lines, which answers `/N` with N bytes and counts what it is sent. It
runs on the host, asked directly, and in a sandbox, asked through the reverse proxy and through the raw
tunnel of `tpp ports forward`. One client in this process; a connection for each request on the direct way
and through the tunnel, as the proxy makes one to the program for each request too. The ways take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import aiohttp

from bench.home import ROOT, booted, state
from bench.measure import in_turns, table
from terminalpp.client import Client

MIB = 1024**2
PORT = 8000
SERVER = """
import http.server, socketserver, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        left = int(self.path[1:] or 0)
        self.send_response(200)
        self.send_header("content-length", str(left))
        self.end_headers()
        block = bytes(1 << 18)
        while left > 0:
            left -= self.wfile.write(block[:left])
    def do_POST(self):
        left = int(self.headers["content-length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 18)))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *words):
        pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, request_queue_size = True, 128
Server(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.asynccontextmanager
async def ways(client: Client, home: str, box: str) -> AsyncIterator[dict[str, str]]:
    """The address of the program on each way."""
    await client.write_file(box, "/home/user/server.py", SERVER.encode())
    await client.run_command(box, f"python3 server.py {PORT}")
    own = free_port()
    direct = subprocess.Popen([sys.executable, "-c", SERVER, str(own)])
    found = await client.ports(box)
    while not any(one["port"] == PORT for one in found["items"]):
        found = await client.ports(box, change=found["change"], wait_ms=5000)
    try:
        async with client.forward_port(box, PORT) as forward:
            yield {
                "directly, on the host": f"http://127.0.0.1:{own}",
                "through the proxy, by path": f"{home}/v1/sandboxes/{box}/ports/{PORT}",
                "through `ports forward`": f"http://127.0.0.1:{forward.port}",
            }
    finally:
        direct.kill()
        direct.wait()


async def megabytes(session: aiohttp.ClientSession, address: str, mib: int) -> tuple[float, float]:
    """MiB a second from the program and to it."""
    start = time.perf_counter()
    async with session.get(f"{address}/{mib * MIB}") as answer:
        size = 0
        async for piece in answer.content.iter_chunked(1 << 18):
            size += len(piece)
    down, start = time.perf_counter() - start, time.perf_counter()
    assert size == mib * MIB
    async with session.post(address + "/", data=bytes(mib * MIB)) as answer:
        assert answer.status == 204
    return mib / down, mib / (time.perf_counter() - start)


async def main(requests: int, mib: int) -> None:
    with booted() as home:
        token = (home / "secrets" / "owner.token").read_text().strip()
        async with Client.at(home) as client, aiohttp.ClientSession(
            headers={"authorization": f"Bearer {token}"}
        ) as session:
            box = (await client.create_sandbox(wait=True))["id"]

            def asking(address: str):
                async def ask() -> None:
                    async with session.get(address + "/1") as answer:
                        assert await answer.read() == b"\0"

                return ask

            async with ways(client, state(home)["url"], box) as addresses:
                works = {name: asking(address) for name, address in addresses.items()}
                table("A request for one byte", await in_turns(works, requests))
                print()
                for name, address in addresses.items():
                    down, up = await megabytes(session, address, mib)
                    print(f"{mib} MiB {name}: {down:.0f} MiB/s from the program, {up:.0f} MiB/s to it")


if __name__ == "__main__":
    os.chdir(ROOT)
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(given + [500, 64][len(given):])))
