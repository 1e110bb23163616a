"""Up, down and status of one home, from the outside.

`up` starts a detached supervisor and passes its progress on until the node is ready; the supervisor
holds the home's lock for life, so a second `up` finds it and says so. `down` asks it to stop, waits,
and then looks for whatever may be left, so it also cleans up after a supervisor that was killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from runtime import disk
from runtime.home import Home, read_json, write_atomically
from runtime.services import ROOT, Progress, Service, base_environment, helper, processes
from runtime.services.egress import Egress
from runtime.services.gateway import Gateway
from runtime.services.postgres import Postgres
from runtime.services.processes import Identity
from runtime.services.ray import Ray
from runtime.services.redis import Redis
from runtime.settings import Settings, run_dir
from runtime.supervisor import Report, Supervisor
from terminalpp.types.errors import ServiceFailed, TerminalError, from_json

Line = dict[str, Any]
Emit = Callable[[Line], None]
DOWN_WITHIN_SECONDS = 120.0
KILL_SECONDS = 10.0
POLL_SECONDS = 0.05

log = logging.getLogger("boot")


def services(home: Home, settings: Settings) -> list[Service]:
    """The services of this node: those that the settings do not say are elsewhere."""
    wanted: list[Service] = []
    if settings.database_url is None:
        wanted.append(Postgres(home))
    if settings.redis_url is None:
        wanted.append(Redis(home))
    if settings.ray_address is None:
        wanted.append(Ray(home))
    return [*wanted, Egress(home), Gateway(home, local_ray=settings.ray_address is None)]


def supervisor(home: Home, settings: Settings, report: Report, *, only: set[str] | None = None) -> Supervisor:
    """The supervisor of a whole node; `only` limits it to some services (tests, benches)."""
    chosen = [s for s in services(home, settings) if only is None or s.name in only]
    first = {"tppd": partial(_build_helper, home)} if only is None or "tppd" in only else {}
    names = [service.name for service in chosen]
    after, start = {}, {}
    if only is None or "migrate" in only:
        if "postgres" in names:
            after["postgres"] = ("migrate", _migrate)
        else:
            start["migrate"] = _migrate
    return Supervisor(
        home,
        settings,
        chosen,
        report,
        first={**first, **start},
        after=after,
        last=partial(stop_sandboxes, home, settings),
    )


async def _build_helper(home: Home, settings: Settings, progress: Progress) -> str:
    return (await helper.build(home.path, progress)).name


async def _migrate(settings: Settings, progress: Progress) -> str:
    from schema import migrations

    applied = await migrations.migrate(settings.database_url or "")
    return f"{len(applied)} applied"


async def stop_sandboxes(home: Home, settings: Settings) -> None:
    """End the sandboxes that this node started. A process of its own: only actors/node knows the drivers."""
    if not any((home / "sandboxes").iterdir()):
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "actors.node.stop_all",
        cwd=ROOT,
        env=base_environment(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        log.error("sandboxes: not all stopped within 60 s")
        return
    if process.returncode:
        log.error("sandboxes: %s", output.decode("utf-8", "replace").strip()[-2000:])


# ---- the supervisor's process


async def supervise(settings: Settings, emit: Emit, only: str | None = None) -> int:
    """Run a node until SIGTERM or SIGINT. Emits progress lines, the last one `up` done or failed."""
    home = Home(settings.home)

    def report(step: str, state: str, detail: str) -> None:
        emit({"step": step, "state": state, "detail": detail})

    try:
        report("home", "start", "")
        home.prepare()
        lock = home.try_lock() or await _take_over(home)
    except TerminalError as error:
        emit(failed("up", error))
        return 1
    if lock is None:
        emit({"step": "up", "state": "done", "detail": "already running", "already": True})
        return 0
    write_atomically(home.run / "supervisor.pid", json.dumps(Identity.of(os.getpid()).to_json()))
    report("home", "done", str(home.path))
    node = supervisor(home, settings, report, only=set(only.split(",")) if only else None)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        return await _run(node, stop, emit)
    finally:
        (home.run / "supervisor.pid").unlink(missing_ok=True)
        os.close(lock)


def _stopped_supervisor(home: Home) -> Identity | None:
    found = Identity.from_json(read_json(home.run / "supervisor.pid"))
    return found if found and found.stopped else None


async def _take_over(home: Home) -> int | None:
    """The lock of a supervisor that was stopped (SIGSTOP), which is ended: it watches nobody, and its
    services go on without it. None when the supervisor is well."""
    found = _stopped_supervisor(home)
    if found is None:
        return None
    log.warning("the supervisor (process %d) is stopped: taking its place", found.pid)
    await _kill(home, found)
    return home.try_lock()


async def _kill(home: Home, supervisor_process: Identity) -> None:
    """End a supervisor that does not listen, and wait for its lock: the last of its threads lets go of it,
    a moment after the process counts as dead."""
    await processes.end_all([supervisor_process], signal.SIGKILL, KILL_SECONDS)
    for _ in range(int(KILL_SECONDS / POLL_SECONDS)):
        if not home.locked():
            return
        await asyncio.sleep(POLL_SECONDS)


async def _run(node: Supervisor, stop: asyncio.Event, emit: Emit) -> int:
    starting = asyncio.create_task(node.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        emit(failed("up", ServiceFailed("stopped before it was ready")))
        return 1
    if error := starting.exception():
        log.error("not started", exc_info=error)
        known = isinstance(error, TerminalError)
        emit(failed("up", error if known else ServiceFailed(f"{type(error).__name__}: {error}")))
        return 1
    emit({"step": "up", "state": "done", "already": False, "detail": node.url or "running"})
    await stopping
    await node.stop()
    await asyncio.to_thread(forget_run_dir, node.settings)
    return 0


def forget_run_dir(settings: Settings) -> None:
    """Remove Ray's directory where it is outside the home: nothing of ours stays in /tmp."""
    place = run_dir(settings.home)
    if place != settings.home and settings.ray_dir.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)


def failed(step: str, error: TerminalError) -> Line:
    """The progress line of a step that failed, with what to do next."""
    return {
        "step": step,
        "state": "failed",
        "detail": error.detail,
        "hint": error.next_step,
        "error": error.to_json(),
    }


# ---- the verbs


async def up(settings: Settings, emit: Emit, only: str | None = None) -> int:
    """Start a detached supervisor and follow it until the node is ready. 0: it runs (also if it ran)."""
    home = Home(settings.home)
    try:
        home.prepare()
    except TerminalError as error:
        emit(failed("up", error))
        return 1
    if home.locked() and not _stopped_supervisor(home):
        return await _already(home, emit)
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "runtime", "supervise", "--progress-fd", str(writing)]
    try:
        child = processes.spawn_detached(
            [*command, *(["--only", only] if only else [])],
            base_environment(settings),
            ROOT,
            home.logs / "supervisor.log",
            pass_fds=(writing,),
        )
    finally:
        os.close(writing)
    last = await _follow(reading, child, emit)
    if last.get("already"):
        return await _already(home, emit)
    if last.get("step") != "up":
        tail = processes.log_tail(home.logs / "supervisor.log")
        emit(failed("up", ServiceFailed(f"the supervisor ended early:\n{tail}")))
        return 1
    return 0 if last["state"] == "done" else 1


async def _follow(descriptor: int, child: subprocess.Popen[bytes], emit: Emit) -> Line:
    """Pass progress lines on until the last one; Ctrl-C stops the boot that it watches."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "rb")
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    line: Line = {}
    try:
        while data := await reader.readline():
            line = json.loads(data)
            if not line.get("already"):
                emit(line)
            if line["step"] == "up":
                break
    except asyncio.CancelledError:
        child.terminate()
        raise
    finally:
        transport.close()
    return line


async def _already(home: Home, emit: Emit) -> int:
    """Another supervisor runs: wait until it is ready and say where."""
    while home.locked():
        state = read_json(home.state_file)
        if state.get("state") == "ready":
            where = f"already running at {state['url']}"
            emit({"step": "up", "state": "done", "already": True, "detail": where})
            return 0
        await asyncio.sleep(POLL_SECONDS)
    error = read_json(home.state_file).get("error")
    emit(failed("up", from_json(error) if error else ServiceFailed("the other `up` did not succeed")))
    return 1


async def down(settings: Settings, emit: Emit) -> int:
    """Stop everything. 0 also when nothing ran."""
    home = Home(settings.home)
    found = Identity.from_json(read_json(home.run / "supervisor.pid"))
    if not home.run.exists():
        emit({"step": "down", "state": "done", "detail": "was not running", "already": True})
        return 0
    ran = home.locked()
    if ran and (stopped := _stopped_supervisor(home)):
        await _kill(home, stopped)  # `clean` does what it cannot do any more
    elif ran and found:
        emit({"step": "down", "state": "start", "detail": ""})
        found.signal(signal.SIGTERM)
        await _follow_stop(home, found, emit)
    ran = await clean(home, settings) or ran
    detail = "stopped" if ran else "was not running"
    emit({"step": "down", "state": "done", "detail": detail, "already": not ran})
    return 0


async def _follow_stop(home: Home, supervisor_process: Identity, emit: Emit) -> None:
    reported: set[str] = set()
    try:
        async with asyncio.timeout(DOWN_WITHIN_SECONDS):
            while home.locked():
                state = read_json(home.state_file)
                units = state["services"] if state.get("state") == "stopping" else {}
                for name, unit in reversed(units.items()):
                    if unit["state"] == "stopped" and name not in reported:
                        reported.add(name)
                        emit({"step": name, "state": "done", "detail": "stopped"})
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        await _kill(home, supervisor_process)


async def clean(home: Home, settings: Settings) -> bool:
    """End what a killed supervisor left behind. True if there was anything."""
    lock = home.try_lock()
    if lock is None:
        return False
    try:
        node = Supervisor(
            home,
            settings,
            services(home, settings),
            lambda *_: None,
            last=partial(stop_sandboxes, home, settings),
        )
        found = node.find_leftovers()
        await node.stop()
        await asyncio.to_thread(forget_run_dir, settings)
        return bool(found)
    finally:
        os.close(lock)


def status(settings: Settings, *, memory: bool = False, room: bool = False) -> Line:
    """What runs: the state file, checked against the processes that are really there; with `room` also
    `disk`, for which the home is walked."""
    home = Home(settings.home)
    state = read_json(home.state_file)
    running = home.locked()
    extra = {"disk": disk_report(settings)} if room and home.path.exists() else {}
    if not running:
        return {
            "running": False,
            **extra,
            "state": "stopped",
            "home": str(home.path),
            "url": None,
            "services": {},
            "error": state.get("error") if state.get("state") == "failed" else None,
        }
    owns = {service.name: service.owns for service in services(home, settings)}
    for name, unit in (state.get("services") or {}).items():
        process = Identity.from_json(unit)
        unit["alive"] = bool(process and process.alive)
        if memory and process:
            unit["memory_bytes"] = processes.memory_bytes(process, owns.get(name, lambda _: False))
    return {"running": True, "home": str(home.path), **extra, **state}


def disk_report(settings: Settings) -> Line:
    """How much room there is, in numbers and words, and what of the home takes how much (bytes)."""
    room = disk.Disk(settings.home, settings.disk_reserve_bytes)
    used = disk.usage(settings.home, settings.ray_dir)
    return {
        "free_bytes": room.free_bytes,
        "reserve_bytes": room.reserve_bytes,
        "low": room.low,
        "warning": room.low or room.nearly_low,
        "detail": room.words(),
        "parts": used.parts,
        "whole": used.whole,
    }


def database_url(settings: Settings) -> str:
    """The URL for `db` verbs. Raises ServiceFailed when the embedded server is not running."""
    from runtime.services import postgres

    if settings.database_url:
        return settings.database_url
    home = Home(settings.home)
    port = home.remembered_port("postgres")
    if not port or not home.locked():
        raise ServiceFailed("the embedded database is not running", "Start it: `./tpp up`.")
    return postgres.url(port, home.secret("postgres.password", create=False))
