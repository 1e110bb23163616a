"""The local Ray head as one foreground process: `python -m runtime.ray_head --port P --temp-dir D`.

`ray start` binds every interface and wants the `ray[client]` and dashboard parts; this starts the same
two processes (gcs_server and raylet) through Ray's own Node class, on the loopback only, in 2–3 s.

What it promises its supervisor:
- the line `ready <address>` on stdout once the cluster takes drivers;
- it ends (status 1) as soon as the raylet is lost; Ray's processes never outlive it (the kernel kills
  them with their parent), so its end is the end of the cluster;
- a gcs_server that dies alone is started again with the same command and environment on the same
  port. Its tables are in RocksDB, so actors, drivers and handles live through it;
- a gcs_server or raylet that is frozen (it takes connections, as the kernel does for it, and says nothing) is
  killed, and then counts as one that died;
- the file `alive` in its directory is touched each second, so that its own freezing shows;
- each start of this program is a fresh cluster: tables of an earlier one are removed first. The truth
  about entities is in Postgres, and cells are made anew in seconds.

Ray reads its configuration (RAY_* variables) from the environment when it is first imported, hence the
imports inside functions. Ray workers inherit the environment and working directory of this process:
cells read TPP_* from there, and import the server's packages from there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from runtime import worker_launcher

CHECK_SECONDS = 0.2
GCS_RESPAWNS_MAX = 20  # in a row without a calm minute; a gcs_server that cannot live ends the cluster
CALM_SECONDS = 60.0
GREET_SECONDS = 1.0
GREETING_WITHIN_SECONDS = 2.0
GREETINGS_MISSED_MAX = 5
ALIVE = "alive"
# HTTP/2's preface and an empty SETTINGS frame: a gRPC server answers with its own before it asks for a token.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

# Measured in reference/actors.md: a killed raylet is noticed in 3 s instead of 15, a frozen one in 9 s
# instead of 63. One thread for number crunching libraries: cells do none, and each costs memory. Ray gives
# its workers niceness 15, as if they were batch jobs; ours answer people. A log of it has 512 MB by default.
# Above 95 % of a disk Ray takes no objects; ours are small, and runtime/disk.py watches the room. It keeps a
# history of 100,000 calls and as many dead actors for its own tools: 330 MB an hour under load (bench.soak).
ENVIRONMENT = {
    "RAY_gcs_storage": "rocksdb",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_log_rotation_max_bytes": "16777216",
    "RAY_log_rotation_backup_count": "1",
    "RAY_local_fs_capacity_threshold": "1",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_task_events_max_num_task_in_gcs": "1000",
    "RAY_maximum_gcs_destroyed_actor_cached_count": "1000",
    "OMP_NUM_THREADS": "1",
}


def environment(temp_dir: Path, token_file: Path | None, modules: list[str]) -> dict[str, str]:
    """The RAY_* variables that this head, its drivers and its workers share.

    Existing variables win, so that an operator can tune Ray. With `token_file`, every connection to
    any Ray port needs that token.
    """
    wanted = dict(ENVIRONMENT, RAY_gcs_storage_path=str(temp_dir / "gcs"))
    wanted[worker_launcher.FOLDER_VARIABLE] = str(temp_dir)
    wanted[worker_launcher.MODULES_VARIABLE] = " ".join(modules)
    if token_file is not None:
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def start_node(port: int, temp_dir: Path, cpus: int | None, object_store_bytes: int):
    """Start gcs_server and raylet on 127.0.0.1 and return Ray's Node."""
    from ray._private.node import Node
    from ray._private.parameter import RayParams
    from ray._private.workers import default_worker

    os.environ[worker_launcher.PROGRAM_VARIABLE] = default_worker.__file__

    params = RayParams(
        node_ip_address="127.0.0.1",
        gcs_server_port=port,
        include_dashboard=False,
        include_log_monitor=False,
        no_monitor=True,
        num_cpus=cpus,
        object_store_memory=object_store_bytes,
        temp_dir=str(temp_dir),
        worker_path=worker_launcher.__file__,
        min_worker_port=0,
        max_worker_port=0,
    )
    # spawn_reaper asks for fate sharing: on Linux PR_SET_PDEATHSIG instead of a reaper process.
    return Node(params, head=True, shutdown_at_exit=False, spawn_reaper=True)


def greets(port: int) -> bool:
    """Whether a gRPC server on the loopback answers in time."""
    try:
        with socket.create_connection(("127.0.0.1", port), GREETING_WITHIN_SECONDS) as connection:
            connection.sendall(PREFACE)
            return bool(connection.recv(1))
    except OSError:
        return False


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Head:
    """The two processes of a running head, and what to do when one of them ends."""

    def __init__(self, node, alive: Path) -> None:
        self._raylet = node.all_processes["raylet"][0].process
        self._gcs = node.all_processes["gcs_server"][0].process
        self._logs = Path(node.get_logs_dir_path())
        self.address = node.gcs_address
        self._alive = alive
        gcs_port = self.address.rpartition(":")[2]
        self._ports = {"gcs_server": int(gcs_port), "raylet": int(node.node_manager_port)}
        self._missed = dict.fromkeys(self._ports, 0)
        self.gcs_respawns = 0

    def watch(self, stop: threading.Event) -> int:
        """Until the raylet ends (1) or `stop` is set (0)."""
        calm, greeted = 0.0, 0.0
        while not stop.wait(CHECK_SECONDS):
            if time.monotonic() - greeted >= GREET_SECONDS:
                self._greet()
                greeted = time.monotonic()
            if self._raylet.poll() is not None:
                _log(f"raylet ended with {self._raylet.returncode}")
                return 1
            calm += CHECK_SECONDS
            if calm >= CALM_SECONDS:
                self.gcs_respawns = 0
            if self._gcs.poll() is not None:
                calm = 0.0
                if self.gcs_respawns >= GCS_RESPAWNS_MAX:
                    _log("gcs_server keeps ending")
                    return 1
                self._respawn_gcs()
        return 0

    def _greet(self) -> None:
        """Show that this process gets on, and kill what does not."""
        for name, process in (("gcs_server", self._gcs), ("raylet", self._raylet)):
            self._alive.touch()
            missed = 0 if greets(self._ports[name]) else self._missed[name] + 1
            if missed >= GREETINGS_MISSED_MAX:
                _log(f"{name} is frozen: killing it")
                process.kill()
                process.wait()
                missed = 0
            self._missed[name] = missed

    def _respawn_gcs(self) -> None:
        from ray._private.utils import set_kill_on_parent_death_linux

        _log(f"gcs_server ended with {self._gcs.returncode}; starting it again")
        self.gcs_respawns += 1
        with open(self._logs / "gcs_server.respawned.log", "ab") as log:
            self._gcs = subprocess.Popen(
                self._gcs.args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=set_kill_on_parent_death_linux,
            )

    def stop(self) -> None:
        """Raylet first (it ends its workers), then the rest. Returns when they are gone."""
        for process in (self._raylet, self._gcs):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def main(argv: list[str] | None = None) -> int:
    """Run the head until it is stopped (status 0) or loses its raylet (status 1)."""
    parser = argparse.ArgumentParser(prog="python -m runtime.ray_head", description="Local Ray head.")
    parser.add_argument("--port", type=int, required=True, help="port of the GCS on 127.0.0.1")
    parser.add_argument("--temp-dir", type=Path, required=True, help="short private directory for Ray")
    parser.add_argument("--token-file", type=Path, help="file with the token that every client must show")
    parser.add_argument("--num-cpus", type=int, help="CPUs offered; default all")
    parser.add_argument("--preload", nargs="*", default=[], help="modules that workers begin with")
    parser.add_argument("--object-store-bytes", type=int, default=80_000_000)
    options = parser.parse_args(argv)

    variables = environment(options.temp_dir, options.token_file, options.preload)
    os.environ.update(variables)
    storage = Path(variables["RAY_gcs_storage_path"])
    shutil.rmtree(storage, ignore_errors=True)
    storage.mkdir(parents=True, mode=0o700)
    for old in options.temp_dir.glob("session_*"):
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    node = start_node(options.port, options.temp_dir, options.num_cpus, options.object_store_bytes)
    head = Head(node, options.temp_dir / ALIVE)
    sys.stdout.write(f"ready {head.address}\n")
    sys.stdout.flush()
    status = head.watch(stop)
    head.stop()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
