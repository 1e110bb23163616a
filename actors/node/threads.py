"""Threads of the node's own for what blocks: Docker's SDK, pulls of minutes, large folders.

The process's common threads start cells and answer others. They are as many as the machine has processors
and four, so a handful of pulls would take them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


class Threads:
    """At most `count` calls at a time; further ones wait in order, each for its own caller."""

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, f"tpp-{name}")

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """The result of `work(*arguments)`. Cancelling the caller does not end a call that has begun."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
