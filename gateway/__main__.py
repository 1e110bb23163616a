"""`python -m gateway`: the server process.

Binds 127.0.0.1, and a Unix socket in the home for clients of this machine. When it listens it writes
`run/gateway.json` (pid, port, url) at once and whole.
SIGTERM: no new connections, event streams and long waits end (their clients come again), everything is
over within `DRAIN_S` and a little. It exits with status 75 when Ray is lost for good: a driver cannot join
another cluster, so the supervisor starts a new process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from gateway.app import Application, create_app
from gateway.protocol import Idle, Protocol
from gateway.ray_monitor import ray_lost
from runtime.framing import short_name
from runtime.home import write_atomically
from runtime.settings import Settings, load
from terminalpp.types.errors import PortInUse, TerminalError
from terminalpp.types.proof import SOCKET

DRAIN_S = 3
DESCRIPTORS = 65_536
BACKLOG = 2048
EXIT_RAY_LOST = 75
WS_MESSAGE_BYTES = 128 * 1024
WS_PING_S = 20.0
log = logging.getLogger("gateway")


def without_addresses(record: logging.LogRecord) -> bool:
    """uvicorn logs each WebSocket with its whole address, in which a ticket may stand."""
    return record.levelno > logging.INFO or "WebSocket" not in str(record.msg)


class Server(uvicorn.Server):
    """uvicorn that says where it listens, and tells streams to end before it waits for them."""

    def __init__(self, app: Application, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            http=partial(Protocol, settings=settings, idle=Idle()),  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            ws="websockets-sansio",
            ws_max_size=WS_MESSAGE_BYTES,
            ws_ping_interval=WS_PING_S,
            ws_ping_timeout=WS_PING_S,
            ws_per_message_deflate=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=DRAIN_S,
        )
        super().__init__(config)
        self._app = app
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and write down where; Ray is joined meanwhile."""
        await super().startup(sockets)
        self._joining = asyncio.create_task(self._joined())
        port = (sockets or [])[0].getsockname()[1]
        self._app.gateway.port = port
        found = {"pid": os.getpid(), "port": port, "url": f"http://127.0.0.1:{port}"}
        run = self._settings.home / "run"
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(run / "gateway.json", json.dumps(found))
        log.info("listening at %s", found["url"])

    async def _joined(self) -> None:
        await self._app.joined.wait()
        self._take_signals_back()

    def _take_signals_back(self) -> None:
        """Ray has put native handlers before ours, which abort the process three seconds after SIGTERM.
        Only where uvicorn had taken the signals: elsewhere they are not ours."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) == self.handle_exit:
                signal.signal(number, self.handle_exit)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end: streams are told first, so that their connections close."""
        # In the loop, not in the handler: waking a task from a signal handler would wait for the next event.
        if self._app.opened.is_set():
            asyncio.get_running_loop().call_soon_threadsafe(self._app.gateway.draining.set)
        super().handle_exit(sig, frame)


def raise_descriptors() -> None:
    """As many open files as this account may have: each connection is one, and the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(port: int) -> socket.socket:
    """A bound socket on loopback. Raises PortInUse.

    The protocol is named because asyncio switches Nagle's delay off only for sockets that say TCP.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)  # who comes while the rest is opened waits in line, and is not refused
    except OSError as error:
        listener.close()
        raise PortInUse(f"127.0.0.1:{port} cannot be had: {error.strerror}") from error
    return listener


def listen_unix(home: Path) -> socket.socket:
    """A listening socket `run/gateway.sock` in the private home, for clients of this machine; takes the name
    over from an older process at once. Raises PortInUse."""
    run = home / "run"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    aside = f".{SOCKET}.{os.getpid()}"
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        (run / aside).unlink(missing_ok=True)
        with short_name(run) as short:
            listener.bind(f"{short}/{aside}")
        (run / aside).chmod(0o600)
        listener.listen(BACKLOG)
        (run / aside).rename(run / SOCKET)
    except OSError as error:
        listener.close()
        raise PortInUse(f"{run / SOCKET} cannot be had: {error.strerror}") from error
    return listener


async def serve(settings: Settings) -> int:
    """Runs until it is asked to stop or Ray is lost; the exit status. Raises PortInUse."""
    listeners = [listen(settings.port), listen_unix(settings.home)]
    app = create_app(settings)
    server = Server(app, settings)
    serving = asyncio.create_task(server.serve(sockets=listeners))
    watching = asyncio.create_task(ray_lost(app))
    try:
        await asyncio.wait((serving, watching), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
            return 0
        log.error("the connection to Ray is lost for good; this process ends and is started again")
        app.gateway.draining.set()
        server.should_exit = True
        await serving
        return EXIT_RAY_LOST
    finally:
        watching.cancel()


def main() -> int:
    """Serve until the process is asked to end. Returns the exit status."""
    try:
        settings = load(os.environ)
        raise_descriptors()
        logging.getLogger("uvicorn.error").addFilter(without_addresses)
        logging.basicConfig(
            level=settings.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        return asyncio.run(serve(settings))
    except TerminalError as error:
        sys.stderr.write(f"gateway: {error.detail}\n{error.next_step}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
