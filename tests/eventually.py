"""Waiting for something to become true, without a fixed sleep."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    probe: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, interval_s: float = 0.02
) -> T:
    """The first truthy result of `probe`. Raises AssertionError with the last result after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = probe()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout_s} s; last result: {result!r}")
        await asyncio.sleep(interval_s)
