"""The part of the sandbox entity that keeps its files' versions: snapshots, restoring, and a fork's first
files.

A restore is accepted in a turn and carried out as an effect: whatever dies, it goes on until the files are
as they were, or it is told why they cannot be. Its id names the snapshot that undoes it (`derived_id(id,
"before")`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

from actors.sandbox.tppd.client import Tppd
from actors.sandbox.versions import rows
from actors.sandbox.versions.tree import Difference, Left
from actors.sandbox.versions.versions import EVERYTHING, Restored, Versions
from runtime import Action, Entity, Turn, durable, effect, readonly, typed, volatile
from schema import snapshots
from schema.snapshots import Snapshot
from terminalpp.types import errors, paths

KEPT = 20  # restores whose result is remembered
TOLD = 200  # changed paths that are told one by one


class VersionedFiles(Entity):
    """See the head of this file. The sandbox brings `run_dir` and `_usable`."""

    run_dir: str
    _usable: Callable[[], Awaitable[None]]
    _filling = False  # a fork gets its files, and is not usable yet

    @cached_property
    def _inside(self) -> Tppd:
        return Tppd(self.run_dir)

    @cached_property
    def versions(self) -> Versions:
        """The versions of its files."""
        from actors.sandbox.versions.objects import Objects  # the store's library comes with the first use

        objects, tppd = Objects.of(self.context.settings), self._inside

        async def inside() -> Tppd:
            if not self._filling:
                await self._usable()
            return tppd

        return Versions(self.context, self.ref.id, inside, objects)

    # ---- snapshots ------------------------------------------------------------------------------

    @volatile
    async def snapshot(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Take the snapshot `snapshot_id`, once; starts a sandbox that sleeps.

        Payload: snapshot_id, and optionally name, description, type (manual, auto, scheduled), created_by,
        metadata, `always` (false: the newest one when nothing has changed since), `below` (a path: whose
        `tree` is told). Returns `snapshot`, `tree` (a hash of what is kept at or below that path), `changed`
        and `left`. Raises InvalidInput, SandboxNotRunning, DiskFull, and what starting a sandbox raises.
        """
        typed(
            payload,
            ("snapshot_id",),
            snapshot_id=str,
            name=str,
            description=str,
            type=str,
            metadata=dict,
            always=bool,
            below=str,
        )
        taken = await self.versions.take(
            payload["snapshot_id"],
            name=payload.get("name") or "snapshot",
            type=payload.get("type") or "manual",
            description=payload.get("description"),
            created_by=payload.get("created_by"),
            metadata=payload.get("metadata"),
            always=payload.get("always", True),
        )
        below = relative(payload.get("below") or rows.ROOT)
        return {
            "snapshot": snapshot_json(taken.snapshot),
            "tree": await asyncio.to_thread(taken.tree.digest, below),
            "changed": changes_json(taken.changed),
            "changed_count": len(taken.changed),
            "left": left_json(taken.left),
        }

    # ---- restoring ------------------------------------------------------------------------------

    @durable
    async def restore(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Make the files as a snapshot has them; once per `restore_id`. Returns at once; `restored` waits.

        Payload: restore_id, snapshot_id (of this sandbox), and optionally `paths` (absolute; all), name,
        created_by. Raises NotFound, InvalidInput.
        """
        typed(payload, ("restore_id", "snapshot_id"), restore_id=str, snapshot_id=str, paths=list, name=str)
        id = payload["restore_id"]
        known = turn.state.setdefault("restores", {})
        if id not in known:
            target = await snapshots.get(turn.connection, payload["snapshot_id"])
            if target.sandbox_id != self.ref.id:
                raise errors.NotFound(f"sandbox {self.ref.id} has no snapshot {target.id}")
            scope = [str(path) for path in payload.get("paths") or []]
            for path in scope:
                relative(path)
            known[id] = {
                "id": id,
                "snapshot_id": target.id,
                "paths": scope,
                "status": "running",
                "name": payload.get("name") or f"restored: {target.name}",
                "created_by": payload.get("created_by"),
                "at": time.time(),
            }
            for old in sorted(known, key=lambda one: known[one]["at"])[:-KEPT]:
                if known[old]["status"] != "running":
                    del known[old]
            turn.act("bring_back", {"restore_id": id}, key=id)
        return known[id]

    @readonly
    async def restored(self, payload: dict[str, Any]) -> dict[str, Any]:
        """A restore once it is done, or after `timeout_ms`: `status` running, done or failed, and what it
        did. Raises NotFound."""
        deadline = time.monotonic() + float(payload.get("timeout_ms", 30_000)) / 1000
        while True:
            found = (self.state.get("restores") or {}).get(payload.get("restore_id"))
            if found is None:
                raise errors.NotFound(f"there is no restore {payload.get('restore_id')}")
            if found["status"] != "running" or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.02)

    @effect
    async def bring_back(self, action: Action) -> None:
        """Carry a restore out. What can never succeed is told as its failure."""
        wanted = (self.state.get("restores") or {}).get(action.payload["restore_id"])
        if wanted is None or wanted["status"] != "running":
            return
        try:
            target = await snapshots.get(self.context.database, wanted["snapshot_id"])
            done = await self.versions.restore(
                wanted["id"],
                target,
                name=wanted["name"],
                scope=tuple(relative(path) for path in wanted["paths"]) or EVERYTHING,
                created_by=wanted["created_by"],
            )
            result = {"status": "done", **restored_json(done), "running": await self._running()}
        except errors.TerminalError as error:
            if error.retryable:
                raise
            result = {"status": "failed", "error": error.to_json()}
        async with self.context.turn() as turn:
            known = turn.state.get("restores") or {}
            if wanted["id"] in known:
                known[wanted["id"]] = {**known[wanted["id"]], **result}

    async def _running(self) -> list[str]:
        """Commands of which something runs; none when the sandbox has gone meanwhile."""
        try:
            return await self._inside.list()
        except (errors.SandboxNotRunning, errors.Unavailable, errors.DeadlineExceeded):
            return []

    async def _let_go(self) -> None:
        """Close the connections."""
        if "_inside" in self.__dict__:
            await self._inside.close()

    async def _restore_failed(self, turn: Turn, action: dict[str, Any], error: dict[str, Any]) -> None:
        """The effect was given up."""
        known = turn.state.get("restores") or {}
        if (id := (action.get("payload") or {}).get("restore_id")) in known:
            known[id] = {**known[id], "status": "failed", "error": error}

    # ---- a fork's first files -------------------------------------------------------------------

    async def _populate(self, snapshot_id: str) -> None:
        """Fill the workspace of a fork before anything runs in it."""
        versions = self.versions
        self._filling = True
        try:
            await versions.populate(await snapshots.get(self.context.database, snapshot_id))
        finally:
            self._filling = False


def relative(path: str) -> bytes:
    """An absolute path in the sandbox, as text (`terminalpp.types.paths`), as one below the workspace's root.
    Raises InvalidInput."""
    raw = os.path.normpath(paths.to_bytes(path))
    root = rows.ROOT.encode()
    if raw != root and not raw.startswith(root + b"/"):
        raise errors.InvalidInput(f"{path!r} is not below {rows.ROOT}", "Only the workspace has versions.")
    return raw[len(root) + 1 :]


def snapshot_json(found: Snapshot) -> dict[str, Any]:
    """A snapshot as callers see it."""
    return {
        "id": found.id,
        "sandbox_id": found.sandbox_id,
        "name": found.name,
        "description": found.description,
        "type": found.snapshot_type,
        "files": found.file_count,
        "bytes": found.total_size_bytes,
        "metadata": found.metadata,
        "created_by": found.created_by,
        "created_at": found.created_at.isoformat(),
        "tree": found.tree_hash,
    }


def changes_json(changed: list[Difference]) -> list[dict[str, Any]]:
    """What differs, bounded."""
    return [rows.difference_json(one) for one in changed[:TOLD]]


def left_json(left: list[Left]) -> list[dict[str, Any]]:
    """What a snapshot does not hold, bounded."""
    more = [{"path": "", "why": f"and {len(left) - rows.TOLD} more"}] if len(left) > rows.TOLD else []
    return rows.told(left) + more


def restored_json(done: Restored) -> dict[str, Any]:
    """What a restore has done."""
    return {
        "before": done.before.id,
        "after": done.after.id,
        "changed": changes_json(done.changed),
        "changed_count": len(done.changed),
        "meanwhile": done.meanwhile,
        "untouched": [rows.text(path) for path in done.untouched[:TOLD]],
        "failed": [
            {"path": rows.text(path), "why": os.strerror(errno)} for path, errno in done.failed[:TOLD]
        ],
    }
