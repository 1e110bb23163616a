"""The program that the raylet starts for a worker: it has one forked from a warm parent, and ends.

The raylet runs this file as a script, with a worker's arguments. `runtime.worker_parent` forks a process in
which Ray and the server's packages are imported already; that process gets these arguments, environment,
directory and standard streams, and registers with the raylet as the worker (by its startup token, under its
own pid).

Ray's library reads the job's id when it is loaded, so each job has a parent of its own; whoever needs it
first starts it. Without a parent that answers in time, this process becomes an ordinary worker: slower, and
otherwise the same. It imports nothing that takes time.
"""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time

# Set by runtime.ray_head: where parents listen, what they import, and Ray's own worker program.
FOLDER_VARIABLE, MODULES_VARIABLE = "TPP_WORKER_PARENTS", "TPP_WORKER_MODULES"
PROGRAM_VARIABLE = "TPP_WORKER_PROGRAM"
ANSWER_SECONDS = 2.0  # a parent forks in milliseconds; one that is frozen must not hold up the node
READY_SECONDS = 15.0  # it imports for half a second; on a machine that is just booting, for several


def address() -> str:
    """The socket of the parent for this worker's job and raylet."""
    job, raylet = os.environ.get("RAY_JOB_ID", "none"), os.environ.get("RAY_RAYLET_PID", "none")
    return os.path.join(os.environ[FOLDER_VARIABLE], f"worker_parent.{raylet}.{job}.sock")


def connected(path: str) -> "socket.socket | None":
    """A connection to the parent, or None when there is none."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(ANSWER_SECONDS)
    try:
        line.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    return line


def started(path: str) -> "socket.socket | None":
    """Start the parent, unless another launcher does; a connection to it, or None when it does not come."""
    deadline = time.monotonic() + READY_SECONDS
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (line := connected(path)) is not None:
            return line
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        parent = subprocess.Popen(
            [sys.executable, "-m", "runtime.worker_parent", path, *os.environ[MODULES_VARIABLE].split()],
            stdin=subprocess.DEVNULL, cwd=root, process_group=0)  # fmt: skip
        while parent.poll() is None and time.monotonic() < deadline:
            if (line := connected(path)) is not None:
                return line
            time.sleep(0.01)
    return None


def forked(arguments: "list[str]") -> bool:
    """Whether a parent has forked a process for these arguments."""
    if FOLDER_VARIABLE not in os.environ:
        return False
    path = address()
    try:
        line = connected(path) or started(path)
        if line is None:
            return False
        request = {"argv": arguments, "environment": dict(os.environ), "cwd": os.getcwd()}
        request["group"] = os.getpgrp()
        with line:
            socket.send_fds(line, [b"+"], [0, 1, 2])
            line.sendall(json.dumps(request).encode())
            line.shutdown(socket.SHUT_WR)
            return line.recv(32) != b""
    except OSError as error:
        with contextlib.suppress(OSError):
            if isinstance(error, TimeoutError):
                os.unlink(path)  # it is frozen: the next worker has another one started
            sys.stderr.write(f"no worker could be forked ({error}); this one starts by itself\n")
        return False


if __name__ == "__main__" and not forked(sys.argv[1:]):
    os.execv(sys.executable, [sys.executable, os.environ[PROGRAM_VARIABLE], *sys.argv[1:]])
