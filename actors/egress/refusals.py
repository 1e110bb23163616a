"""What one sandbox is refused, to its record: at once while it is little, in sums when it is much."""

from __future__ import annotations

import time

from actors.egress.refusal import Refused
from schema import Database, network
from terminalpp.types.errors import TerminalError

AT_ONCE_PER_SECOND = 20  # targets that are written before the program has its answer
WAITING_MAX = 200  # targets that wait for the next sum; the others are counted together
OTHERS = "(others)"


class Refusals:
    """Belongs to one sandbox. `flush` it from time to time."""

    def __init__(self, database: Database, sandbox_id: str) -> None:
        self._database, self._sandbox_id = database, sandbox_id
        self._waiting: dict[tuple[str, int, str], tuple[str, int]] = {}
        self._second, self._written = 0, 0

    async def add(self, refusal: Refused) -> None:
        """Record it. While the database does not answer it waits: a refusal stands without its record."""
        key = (refusal.host, refusal.port, str(refusal.reason))
        if key not in self._waiting and len(self._waiting) >= WAITING_MAX:
            key = (OTHERS, 0, str(refusal.reason))
        self._waiting[key] = (str(refusal), self._waiting.get(key, ("", 0))[1] + 1)
        if (second := int(time.monotonic())) != self._second:
            self._second, self._written = second, 0
        if self._written < AT_ONCE_PER_SECOND:
            self._written += 1
            await self.flush()

    async def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, {}
        while waiting:
            key, (detail, count) = waiting.popitem()
            try:
                await network.refused(self._database, self._sandbox_id, *key, detail, count)
            except TerminalError:
                for kept, (words, times) in {**waiting, key: (detail, count)}.items():
                    self._waiting[kept] = (words, times + self._waiting.get(kept, ("", 0))[1])
                return
