"""The warm parent of Ray's workers: `python -m runtime.worker_parent SOCKET MODULE…`.

It imports Ray and what every cell needs, once, and forks a process for each worker that the raylet asks
`runtime.worker_launcher` for. So a cell starts in a fraction of the time that Python and Ray take, and the
pages that it leaves untouched are shared with all others.

What makes that safe: it has one thread, opens nothing but its listening socket, and never initialises Ray
itself. What a worker's environment decides is decided in the child, which gets the launcher's whole
environment before Ray's program begins; only the job's id and the raylet's pid are read when Ray's library
is loaded, and this process was started with those of its job. It ends with the raylet, or when it has had
no child for a while. Its workers need it no more once they run.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from runtime.worker_launcher import PROGRAM_VARIABLE

REQUEST_MAX_BYTES = 4 * 1024**2
READ_SECONDS = 2.0
IDLE_SECONDS = 60.0
_CHECK_SECONDS = 5.0


# Ray's worker program, and what it imports when it connects: five MB in each cell, were they not shared.
RAY = (
    "ray._private.workers.default_worker", "ray._common.usage.usage_lib", "ray._common.pydantic_compat",
    "ray._private.arrow_serialization", "pydantic.v1", "starlette.datastructures", "starlette.concurrency",
)  # fmt: skip


def preload(modules: list[str]) -> None:
    """Import what Ray's worker needs, and `modules`; what fails is left to the cell that needs it."""
    for name in (*RAY, *modules):
        try:
            importlib.import_module(name)
        except Exception as error:
            _log(f"{name} cannot be imported: {error!r}")
    if len(os.listdir("/proc/self/task")) > 1:
        _log("an import has started a thread, which no child will have")
    gc.collect()
    gc.freeze()  # the collector writes into what it looks at: these pages are to stay shared


def listen(path: Path) -> socket.socket:
    """Listen in a folder that is our own account's alone; the name appears when connections are taken."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    aside = path.with_suffix(f".{os.getpid()}")
    server.bind(str(aside))
    aside.chmod(0o600)
    server.listen(64)
    aside.replace(path)
    return server


def read(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A launcher's request and its standard streams. Raises OSError, ValueError."""
    line.settimeout(READ_SECONDS)
    first, streams, _, _ = socket.recv_fds(line, 1, 3)
    data = bytearray()
    while (piece := line.recv(65536)) and len(data) <= REQUEST_MAX_BYTES:
        data += piece
    if first != b"+" or len(streams) != 3:
        raise ValueError("this is not a launcher's request")
    return json.loads(data), streams


def serve(server: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each request. Returns the request in the process that is to carry it out, and
    None in this one when it is needed no more."""
    raylet = os.pidfd_open(int(os.environ["RAY_RAYLET_PID"]))
    idle = 0.0
    while True:
        ready, _, _ = select.select([server, raylet], [], [], _CHECK_SECONDS)
        idle = 0.0 if _children() or server in ready else idle + _CHECK_SECONDS
        if raylet in ready or idle >= IDLE_SECONDS:
            return None
        if server in ready and (request := _fork(server)) is not None:
            os.close(raylet)
            return request


def _children() -> bool:
    """Whether a child lives; those that have ended are let go."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            del ended
        return True
    return False


def _fork(server: socket.socket) -> dict[str, Any] | None:
    line, _ = server.accept()
    with line:
        try:
            request, streams = read(line)
        except (OSError, ValueError) as error:
            _log(repr(error))
            return None
        child = os.fork()
        # The raylet ends a worker with its process group, which is the launcher's.
        with contextlib.suppress(OSError):
            os.setpgid(child, request["group"])
        if child == 0:
            server.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        if child == 0:
            return request
        with contextlib.suppress(OSError):
            line.sendall(str(child).encode())
    return None


def become(request: dict[str, Any]) -> None:
    """Be the worker of this request, to its end."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    program = os.environ[PROGRAM_VARIABLE]
    sys.argv = [program, *request["argv"]]
    runpy.run_path(program, run_name="__main__")


def _log(line: str) -> None:
    with contextlib.suppress(OSError):  # the stream is that of the first launcher, and may be closed
        sys.stderr.write(f"worker_parent: {line}\n")
        sys.stderr.flush()


def main() -> None:
    """Serve until the raylet ends, or until one is a worker: then be that to its end."""
    path, *modules = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    preload(modules)
    request = serve(listen(Path(path)))
    if request is not None:
        become(request)


if __name__ == "__main__":
    main()
