"""Timing and printing for the benches: p50, p95, p99 and n, each beside its raw baseline."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any


def row(name: str, seconds: list[float]) -> dict[str, Any]:
    """Percentiles of `seconds` in milliseconds."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    return {
        "what": name,
        "n": len(ordered),
        "p50_ms": at(0.50),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "mean_ms": statistics.fmean(ordered) * 1000,
    }


Work = Callable[[], Awaitable[Any] | Any]


async def in_turns(
    works: dict[str, Work], n: int, every: dict[str, int] | None = None, block: int = 1
) -> list[dict[str, Any]]:
    """A row for each of `works`, `n` runs of each, `block` runs in a row before the next one's turn.

    With blocks of one, each work finds the caches as the others left them, as in a system that does more
    than one thing; in long blocks each has the machine to itself. `every`: some only every so many turns.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        await timed(work, 1, warm=5)
    for turn in range(n // block):
        for name, work in works.items():
            if turn % (every or {}).get(name, 1) == 0:
                taken[name] += await timed(work, block, warm=0)
    return [row(name, seconds) for name, seconds in taken.items()]


async def timed(work: Work, n: int, warm: int = 5) -> list[float]:
    """Seconds of each of `n` runs of `work`, after `warm` runs that do not count."""
    taken = []
    for index in range(warm + n):
        start = time.perf_counter()
        result = work()
        if inspect.isawaitable(result):
            await result
        if index >= warm:
            taken.append(time.perf_counter() - start)
    return taken


def table(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    print(f"| {'what':<58} | {'n':>5} | {'p50 ms':>9} | {'p95 ms':>9} | {'p99 ms':>9} |")
    print(f"| {'-' * 58} | {'-' * 5} | {'-' * 9} | {'-' * 9} | {'-' * 9} |")
    for one in rows:
        numbers = " | ".join(f"{one[key]:>9.2f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        print(f"| {one['what']:<58} | {one['n']:>5} | {numbers} |")
