"""Ends a process whose event loop stands still: Ray starts it again, and its entities come back elsewhere.

Time is counted in ticks of the watching thread, not on a clock, so a process that was stopped as a whole
(SIGSTOP, a suspended laptop) is not mistaken for one with a blocked loop: its lease deals with that.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
import time

log = logging.getLogger("terminalpp.runtime")
TICK_SECONDS = 0.25
WARN_TICKS = 2
KILL_TICKS = 20  # 5 s


class Watchdog:
    """`lag_ms` is the loop's latest delay, readable from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beats = 0
        self._stop = threading.Event()
        self.lag_ms = 0.0

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        threading.Thread(target=self._watch, name="loop watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        seen, silent = -1, 0
        while not self._stop.wait(TICK_SECONDS):
            if self._beats != seen:
                seen, silent = self._beats, 0
                sent = time.monotonic()
                try:
                    self._loop.call_soon_threadsafe(self._beat, sent)
                except RuntimeError:
                    return  # the loop is closed: the process is ending
                continue
            silent += 1
            self.lag_ms = silent * TICK_SECONDS * 1000
            if silent == WARN_TICKS:
                log.warning("the event loop has been blocked for %.0f ms", self.lag_ms)
            if silent >= KILL_TICKS:
                log.error("the event loop has been blocked for %.0f ms: ending this cell", self.lag_ms)
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                os.kill(os.getpid(), signal.SIGKILL)

    def _beat(self, sent: float) -> None:
        self._beats += 1
        self.lag_ms = (time.monotonic() - sent) * 1000
