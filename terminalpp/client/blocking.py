"""The asynchronous face called from ordinary code: one event loop in a thread of its own, for the process.

`blocking` and `iterating` make a method of a synchronous class out of the asynchronous one's, with its
signature (type checkers see it), so that nothing is written twice. The caller's thread waits; Ctrl-C there
cancels the work, which then undoes what it has to (at most CLEANUP_S), and goes on as KeyboardInterrupt.
Iterators and callbacks run in the caller's thread, never on the loop. Many threads may call at once.

The thread begins with the first call and ends with the interpreter, which closes all connections. After a
fork the child begins anew; objects that were made before belong to the parent, and refuse.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent import futures
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from terminalpp.client.client import Client
from terminalpp.client.command import CLEANUP_S
from terminalpp.client.connection import Connection
from terminalpp.types.errors import InvalidInput

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
_END: Any = object()


class Background:
    """An event loop in a daemon thread, and the clients that live on it: one for each connection."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="terminalpp", daemon=True)
        self._thread.start()
        self._clients: dict[Connection, Client] = {}
        self._stopped = False
        atexit.register(self._stop)

    def client(self, connection: Connection) -> Client:
        """Shared by all who talk to this server."""
        return self._clients.setdefault(connection, connection.client())

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Its result, or what it raises. Raises InvalidInput where nobody can wait for it."""
        if problem := self._problem():
            work.close()
            raise InvalidInput(problem, "Make the object again here, or use the asynchronous one.")
        outcome: futures.Future[R] = futures.Future()
        tasks: list[asyncio.Task[R]] = []

        def tell(task: asyncio.Task[R]) -> None:
            if task.cancelled():
                outcome.set_exception(futures.CancelledError())
            elif (error := task.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(tell)

        def stop() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # interrupted before it was handed over
                work.close()
                outcome.set_exception(futures.CancelledError())

        try:
            self._loop.call_soon_threadsafe(begin)
            return outcome.result()
        except BaseException:
            if not outcome.done():  # the wait was interrupted, not the work
                self._loop.call_soon_threadsafe(stop)
                futures.wait([outcome], CLEANUP_S)
            raise

    def iterate(self, stream: AsyncGenerator[R, None]) -> Iterator[R]:
        """Its items, one call each; closed when the iterator is."""

        async def following() -> R:
            return await anext(stream, _END)

        try:
            while (item := self.call(following())) is not _END:
                yield item
        finally:
            self._close(stream)

    def _close(self, stream: AsyncGenerator[Any, None]) -> None:
        """Now, or soon where nobody can wait: an iterator that was dropped is collected in any thread."""

        async def closing() -> None:
            await stream.aclose()

        if self._problem() is None:
            self.call(closing())
        elif os.getpid() == self._pid and not self._stopped:
            self._closing = self._loop.create_task(closing())

    def _problem(self) -> str | None:
        if os.getpid() != self._pid:
            return "this was made before the process forked: its connection is the parent's"
        if threading.current_thread() is self._thread:
            return "this would wait for itself: it is called from the thread that does the work"
        if self._stopped:
            return "the interpreter is ending"
        return None

    def _stop(self) -> None:
        if self._problem() is not None:
            return

        async def closing() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for client in self._clients.values():
                await client.close()

        self.call(closing())
        self._stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLEANUP_S)
        self._loop.close()


_lock = threading.Lock()
_present: Background | None = None


def background() -> Background:
    """This process's."""
    global _present
    with _lock:
        if _present is None or _present._pid != os.getpid():
            _present = Background()
        return _present


class Blocking(Generic[A]):
    """A synchronous face of `inner`."""

    def __init__(self, inner: A, background: Background) -> None:
        self._inner = inner
        self._background = background

    def __repr__(self) -> str:
        return repr(self._inner).removeprefix("Async")


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Any, P], R]:
    """The method of a Blocking that waits for `method` of its inner object."""

    @functools.wraps(method)
    def call(self: Blocking[Any], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._background.call(method(self._inner, *args, **kwargs))

    return call


def iterating(
    method: Callable[Concatenate[Any, P], AsyncGenerator[R, None]],
) -> Callable[Concatenate[Any, P], Iterator[R]]:
    """The method of a Blocking that iterates over what `method` of its inner object yields."""

    @functools.wraps(method)
    def iterate(self: Blocking[Any], *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return self._background.iterate(method(self._inner, *args, **kwargs))

    return iterate
