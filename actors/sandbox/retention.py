"""Which journals of finished commands go, and when: by age, by the sandbox's budget, by the home's.

What a command printed stays on disk after its end (`journal.py`), so without this the disk would fill with
the past. The node looks around every half minute. What goes is whole commands, the oldest first, never one
that may still print and never the newest of its sandbox; their rows keep the extract and the sizes, so that a
reader is told the gap. Running commands are bounded by `tppd` itself, sandbox by sandbox; only when all that
is finished is gone and the home is still over its budget, they lose segments from their middle as well.

Safe at any moment: a command is forgotten only when its row says how it ended, because the record in the
run directory is what keeps an open one from being started twice.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from actors.sandbox.tppd import journal
from schema import Database, executions, terminals


@dataclass(frozen=True, slots=True)
class Entry:
    """One command's journals: bytes on disk, and when its record was last written (seconds since 1970)."""

    sandbox_id: str
    exec_id: str
    size_bytes: int
    modified_at: float


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes for one sandbox and for all, and the age (seconds) at which a journal goes in any case."""

    sandbox_bytes: int
    home_bytes: int
    age_seconds: float


def run_dir(home: Path, sandbox_id: str) -> Path:
    """The folder with a sandbox's socket, records and journals."""
    return home / "sandboxes" / sandbox_id / "run"


def survey(home: Path) -> list[Entry]:
    """Every command that has something on disk. Blocks; what vanishes meanwhile is left out."""
    found = []
    for sandbox_id in _names(home / "sandboxes"):
        place = run_dir(home, sandbox_id)
        sizes = {name: _folder_bytes(place / "output" / name) for name in _names(place / "output")}
        for exec_id in {*_names(place / "records"), *sizes}:
            if exec_id.startswith("."):
                continue  # tppd's next record
            seen = _stat(place / "records" / exec_id) or _stat(place / "output" / exec_id)
            if seen is not None:
                size = sizes.get(exec_id, 0) + seen.st_blocks * 512
                found.append(Entry(sandbox_id, exec_id, size, seen.st_mtime))
    return found


def victims(entries: Iterable[Entry], kept: Collection[str], budget: Budget, now: float) -> list[Entry]:
    """The commands to forget. `kept`: ids that must stay (open ones, and the newest of each sandbox)."""
    entries = sorted(entries, key=lambda entry: entry.modified_at)
    total: dict[str, int] = {}
    for entry in entries:
        total[entry.sandbox_id] = total.get(entry.sandbox_id, 0) + entry.size_bytes
    home = sum(total.values())
    chosen = []
    for entry in entries:
        old = now - entry.modified_at > budget.age_seconds
        over = total[entry.sandbox_id] > budget.sandbox_bytes or home > budget.home_bytes
        if (old or over) and entry.exec_id not in kept:
            chosen.append(entry)
            total[entry.sandbox_id] -= entry.size_bytes
            home -= entry.size_bytes
    return chosen


def newest(entries: Iterable[Entry]) -> set[str]:
    """The command of each sandbox that was begun or ended last."""
    last: dict[str, Entry] = {}
    for entry in entries:
        if entry.sandbox_id not in last or entry.modified_at >= last[entry.sandbox_id].modified_at:
            last[entry.sandbox_id] = entry
    return {entry.exec_id for entry in last.values()}


async def trim(home: Path, database: Database, budget: Budget) -> int:
    """One look around; how many bytes were freed. Raises Unavailable, DiskFull."""
    entries = await asyncio.to_thread(survey, home)
    if not victims(entries, (), budget, time.time()):
        return 0  # the usual case asks nobody
    # Asked after the survey: what was seen there and is not open now has ended, and its row says how.
    opened = set(await executions.list_open_ids(database)) | set(await terminals.list_open_ids(database))
    return await asyncio.to_thread(_trim, home, entries, opened, budget)


def _trim(home: Path, entries: list[Entry], opened: set[str], budget: Budget) -> int:
    kept = opened | newest(entries)
    freed = 0
    for entry in victims(entries, kept, budget, time.time()):
        place = run_dir(home, entry.sandbox_id)
        if journal.closed(place, entry.exec_id):
            journal.forget(place, entry.exec_id)
            freed += entry.size_bytes
    over = sum(entry.size_bytes for entry in entries) - freed - budget.home_bytes
    for entry in sorted(entries, key=lambda entry: -entry.size_bytes):
        if over <= 0:
            break
        if entry.exec_id in kept:
            gone = journal.thin(run_dir(home, entry.sandbox_id), entry.exec_id)
            freed, over = freed + gone, over - gone
    return freed


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _folder_bytes(folder: Path) -> int:
    seen = [found for name in _names(folder) if (found := _stat(folder / name))]
    own = _stat(folder)
    return sum(found.st_blocks * 512 for found in seen) + (own.st_blocks * 512 if own else 0)
