"""The door to Ray: `init_ray` holds the one `ray.init`, `RayCells` makes and asks cells.

Calls to a cell of this machine take the short way of `runtime.local_transport` where it is open.

Measured with Ray 2.60 and relied upon: workers import the server's packages because `init_ray` changes
to the project root first (Ray puts the driver's working directory on the workers' path, also for actors
restarted after that driver ended; no runtime_env, no PYTHONPATH). `get_actor` and actor creation block
for up to a minute when the GCS is away, so they run in threads and handles are kept. An actor that
restarts answers ActorUnavailableError; the call may or may not have been started.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runtime import local_transport, wire
from runtime.client import CellLost
from terminalpp.types import errors

log = logging.getLogger("terminalpp.runtime")
ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "terminalpp"
CONTROL_GROUP = "control"
INIT_SECONDS = 60.0
BLOCKING_MAX = 8  # questions to Ray's head under way at once
_OF_ENTITIES = frozenset({"call", "deliver", "nudge"})
BACK_SECONDS, BACK_POLL_SECONDS = 2.0, 0.02  # a cell is forked and serves again after some 0.2 s
CALLS_PER_CELL = 10_000  # coroutines of one cell; entities have their own, lower bounds


def init_ray(address: str) -> None:
    """In a thread: on the main thread Ray would replace the SIGTERM handler of the gateway."""
    import ray
    from ray._private import ray_constants

    if ray.is_initialized():
        return
    os.chdir(ROOT)
    if address.rpartition(":")[0] in ("127.0.0.1", "localhost"):
        # Else Ray replaces a loopback address by the machine's outward one, where our head does not listen.
        ray_constants.ENABLE_RAY_CLUSTER = False
    deadline = time.monotonic() + INIT_SECONDS
    while True:
        try:
            ray.init(
                address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False,
                logging_level=logging.WARNING,
            )
            return
        except (ConnectionError, RuntimeError) as error:
            # Ray's own patience is a few seconds, too little for a busy machine or a restarting head.
            if time.monotonic() > deadline:
                raise errors.Unavailable(f"Ray does not answer at {address}: {error}") from error
            log.warning("Ray does not answer at %s yet: %s", address, error)
            ray.shutdown()


class RayCells:
    """Implements `runtime.client.Cells` with detached named actors."""

    def __init__(
        self, cell: type | None, home: Path, *, join: Callable[[], type] | None = None, leave: bool = False
    ) -> None:
        """`cell`: the class whose actors they are, or None and `join`, which makes this process a driver and
        returns it. `leave`: `close` takes this process off the cluster."""
        self._cell, self._join = cell, join
        self._joining: asyncio.Task[type] | None = None
        self._lines = local_transport.Lines(home)
        self._handles: dict[str, Any] = {}
        self._naming: asyncio.Task[list[str]] | None = None
        # Threads of its own: a GCS that does not answer holds whoever asks it; files are read in the others.
        self._threads = ThreadPoolExecutor(BLOCKING_MAX, "ray")
        self._leave = leave

    async def joined(self, timeout_s: float = INIT_SECONDS) -> type:
        """The class, once this process is a driver. Raises Unavailable.

        Whoever needs Ray first begins the joining, in a thread: it takes seconds, and a cell whose socket is
        there is asked meanwhile.
        """
        if self._cell is None:
            if self._joining is None:
                assert self._join is not None
                self._joining = asyncio.create_task(asyncio.to_thread(self._join), name="join Ray")
            try:
                async with asyncio.timeout(timeout_s):
                    self._cell = await asyncio.shield(self._joining)
            except TimeoutError:
                raise errors.Unavailable("Ray has not been joined yet") from None
        return self._cell

    async def ask(self, name: str, method: str, *args: Any, timeout_s: float) -> Any:
        """See Cells.ask. Over the cell's socket where there is one, else over Ray."""
        if method in local_transport.METHODS:
            try:
                async with asyncio.timeout(timeout_s):
                    reply = await self._lines.ask(name, method, *args)
            except TimeoutError:
                raise _late(name, method, timeout_s) from None
            except local_transport.LineBroke as error:
                raise CellLost(name, str(error)) from error
            except local_transport.NoLine as error:
                if error.dead and method in _OF_ENTITIES:
                    # Ray would hold the call until it has started the cell again, which hosts nothing then.
                    raise CellLost(name, "its process ended", gone=True) from None
                begun = time.monotonic()
                back = error.dead and await self._is_back(name, min(timeout_s, BACK_SECONDS))
                ask, left_s = self.ask if back else self._ask_by_ray, timeout_s - (time.monotonic() - begun)
                return await ask(name, method, *args, timeout_s=left_s)
            if wire.refused(reply):
                self._lines.renew(name)  # it may be an older incarnation that was replaced
            return reply
        return await self._ask_by_ray(name, method, *args, timeout_s=timeout_s)

    async def _is_back(self, name: str, within_s: float) -> bool:
        """Whether a cell whose process has ended listens again in time: it does long before Ray says so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        await self._lines.ask(name, "whoami", b"")
                        return True
                    except (local_transport.NoLine, local_transport.LineBroke):
                        await asyncio.sleep(BACK_POLL_SECONDS)
        return False

    async def incarnation(self, name: str, timeout_s: float) -> str | None:
        """The owner that the cell writes under now; None when only Ray knows the way to it.

        Raises CellLost when its process has ended, DeadlineExceeded when it does not answer.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return (await self._lines.ask(name, "whoami", b"")).decode()
        except TimeoutError:
            raise _late(name, "whoami", timeout_s) from None
        except local_transport.LineBroke:
            # The line of an incarnation that ended; another may listen already.
            self._lines.renew(name)
            return await self.incarnation(name, timeout_s)
        except local_transport.NoLine as error:
            if error.dead:
                raise CellLost(name, "its process ended") from None
            return None

    async def _ask_by_ray(self, name: str, method: str, *args: Any, timeout_s: float) -> Any:
        await self.joined(timeout_s)
        from ray import exceptions

        handle = self._handles.get(name) or await self._find(name)
        try:
            async with asyncio.timeout(timeout_s):
                return await getattr(handle, method).remote(*args)
        except TimeoutError:
            raise _late(name, method, timeout_s) from None
        except exceptions.ActorUnavailableError as error:
            raise CellLost(name, str(error)) from error
        except exceptions.ActorDiedError as error:
            self._handles.pop(name, None)
            raise CellLost(name, str(error)) from error
        except exceptions.RayTaskError as error:
            raise errors.TerminalError(f"{name}.{method}: {error}") from error
        except exceptions.RayError as error:
            self._handles.pop(name, None)
            raise CellLost(name, str(error)) from error

    async def names(self) -> list[str]:
        """All askers at once share one question."""
        if self._naming is None or self._naming.done():
            self._naming = asyncio.create_task(self._names(), name="names of cells")
        return await asyncio.shield(self._naming)

    async def _names(self) -> list[str]:
        await self.joined()
        import ray

        found = await self._blocking(ray.util.list_named_actors)
        return sorted(name for name in found if name.startswith("cell/"))

    async def start(self, name: str, group: str) -> None:
        """See Cells.start."""
        if name in self._handles:
            return
        self._handles[name] = await self._blocking(_create, await self.joined(), name, group)

    async def kill(self, name: str, *, restart: bool) -> None:
        """End the cell's process; without `restart` for good, and its name is free again.

        Ray's own kill asks the process to end itself, which a frozen one does not hear. What only shall be
        started again is ended by the kernel; Ray sees that it died.
        """
        if restart:
            with contextlib.suppress(local_transport.NoLine):
                return await self._lines.kill(name)
        await self.joined()
        import ray

        handle = self._handles.get(name) or await self._find(name)
        await self._blocking(ray.kill, handle, no_restart=not restart)
        if not restart:
            self._handles.pop(name, None)

    async def close(self) -> None:
        """See Cells.close. Idempotent."""
        self._handles.clear()
        self._lines.close()
        if self._joining is not None:
            self._joining.cancel()
        if self._naming is not None:
            self._naming.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._leave and self._cell is not None:
            import ray

            await asyncio.to_thread(ray.shutdown)

    async def _find(self, name: str) -> Any:
        import ray

        try:
            handle = await self._blocking(ray.get_actor, name, NAMESPACE)
        except ValueError as error:
            raise CellLost(name, "there is no such cell", gone=True) from error
        self._handles[name] = handle
        return handle

    async def _blocking(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        from ray.exceptions import RayError

        work = functools.partial(function, *args, **kwargs)
        try:
            async with asyncio.timeout(60):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise errors.Unavailable("Ray's head does not answer") from None
        except RayError as error:
            raise errors.Unavailable(f"Ray: {error}") from error


def _late(name: str, method: str, timeout_s: float) -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded(f"{name} did not answer {method} in {timeout_s:.1f} s")


def _create(cell: type, name: str, group: str) -> Any:
    import ray

    return (
        ray.remote(concurrency_groups={CONTROL_GROUP: 16})(cell)
        .options(
            name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0,
            max_restarts=-1, max_task_retries=0, max_concurrency=CALLS_PER_CELL,
            enable_task_events=False,  # Ray's record of each call, which nobody here reads
        )
        .remote(name, group)
    )
