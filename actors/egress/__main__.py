"""`python -m actors.egress`: the egress proxy of this machine, until it is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from actors.egress.dialing import Dialer
from actors.egress.nudge import NAME
from actors.egress.service import Egress
from runtime.framing import short_name
from runtime.settings import Settings, load
from schema import Database
from terminalpp.types.errors import TerminalError

DESCRIPTORS = 65_536  # two for each connection
CONNECTIONS = 8  # to Postgres
LOOKUPS = 64  # of names, at once


async def serve(settings: Settings) -> None:
    """Let the sandboxes of this home out. Raises Unavailable when Postgres does not answer."""
    database = await Database.connect(
        settings.database_url or "", max_size=CONNECTIONS, application_name="terminalpp-egress")
    sandboxes = settings.home / "sandboxes"
    egress = Egress(database, settings.node_id, lambda id: sandboxes / id / "run",
                    Dialer(host_ports=settings.host_ports))
    run = settings.home / "run"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = f".{NAME}.{os.getpid()}"
    (run / aside).unlink(missing_ok=True)
    with short_name(run) as folder:
        nudges = await asyncio.start_unix_server(egress.nudged, f"{folder}/{aside}")
    (run / aside).chmod(0o600)
    (run / aside).rename(run / NAME)
    # Each name that is looked up holds a thread; asyncio's own few would let one slow name server stop all.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(LOOKUPS, "names"))
    work = asyncio.create_task(egress.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        nudges.close()
        await egress.close()
        await database.close()


def main() -> int:
    """Serve until the process is asked to end. Returns the exit status."""
    try:
        settings = load(os.environ)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        logging.basicConfig(
            level=settings.log_level.upper(), stream=sys.stderr,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        asyncio.run(serve(settings))
    except TerminalError as error:
        sys.stderr.write(f"egress: {error.detail}\n{error.next_step}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
