"""The routes of snapshots: take, list, compare, restore, fork; and the versions of one file.

Paths are absolute, below /home/user; bytes that are no UTF-8 stand in them as Python's surrogates."""

from __future__ import annotations

import asyncio

from terminalpp.client.routes import Routes
from terminalpp.client.shapes import Sandbox
from terminalpp.client.snapshot_shapes import Changed, FileVersion, Restore, Snapshot, SnapshotEntry
from terminalpp.client.transport import field, segment

TAKE_S = 630.0  # a first snapshot of much takes long
RESTORE_S = 120.0
POLL_S = 0.5


def _of(sandbox_id: str, snapshot_id: str | None = None, what: str = "") -> str:
    path = f"/v1/sandboxes/{segment(sandbox_id)}/snapshots"
    return path + (f"/{segment(snapshot_id)}" if snapshot_id else "") + (f"/{what}" if what else "")


class Snapshots(Routes):
    """See `Client`."""

    async def take_snapshot(
        self,
        sandbox_id: str,
        name: str | None = None,
        *,
        description: str | None = None,
        key: str | None = None,
    ) -> Snapshot:
        """Keep all files below /home/user as they are now. Starts a sandbox that does not run."""
        body = {"name": name, "description": description}
        return await self._post(_of(sandbox_id), body, key=key, timeout_s=TAKE_S)

    async def snapshots(
        self, sandbox_id: str, *, type: str | None = None, limit: int = 1000
    ) -> list[Snapshot]:
        """Newest first. `type`: manual, auto or scheduled."""
        return await self._pages(_of(sandbox_id), limit, **({"type": type} if type else {}))

    async def snapshot(self, sandbox_id: str, snapshot_id: str) -> Snapshot:
        """Its record."""
        return await self._get(_of(sandbox_id, snapshot_id))

    async def delete_snapshot(self, sandbox_id: str, snapshot_id: str) -> None:
        """Delete it; what others hold stays. Raises Conflict for a sandbox's newest."""
        await self._transport.request("DELETE", _of(sandbox_id, snapshot_id))

    async def snapshot_entries(
        self, sandbox_id: str, snapshot_id: str, path: str = "/home/user", *, limit: int = 100_000
    ) -> list[SnapshotEntry]:
        """What it holds at or below a path."""
        return await self._pages(_of(sandbox_id, snapshot_id, f"entries?path={segment(path)}"), limit)

    async def snapshot_file(self, sandbox_id: str, snapshot_id: str, path: str) -> bytes:
        """A file as it was. Raises NotFound; FileProblem where its content is not kept."""
        url = _of(sandbox_id, snapshot_id, f"file?path={segment(path)}")
        return (await self._transport.request("GET", url, timeout_s=TAKE_S)).content

    async def diff_snapshots(
        self, sandbox_id: str, snapshot_id: str, until: str | None = None, *, path: str = "/home/user",
        limit: int = 10_000,
    ) -> list[Changed]:  # fmt: skip
        """What has changed since this snapshot, until another one (None: the newest)."""
        query = {"until": until} if until else {}
        return await self._pages(_of(sandbox_id, snapshot_id, f"diff?path={segment(path)}"), limit, **query)

    async def preview_restore(
        self, sandbox_id: str, snapshot_id: str, paths: list[str] | None = None
    ) -> list[Changed]:
        """What a restore would change, were it done now; nothing is changed."""
        found = await self._post(_of(sandbox_id, snapshot_id, "preview"), {"paths": paths}, timeout_s=TAKE_S)
        return field(found, "items")

    async def restore_snapshot(
        self, sandbox_id: str, snapshot_id: str, paths: list[str] | None = None, *, key: str | None = None
    ) -> Restore:
        """Make the files as the snapshot has them, all or those at and below `paths`; returns when that is
        done.

        `undo` of the answer is the snapshot from before."""
        url = _of(sandbox_id, snapshot_id, "restore")
        found = await self._post(url, {"paths": paths}, key=key, timeout_s=RESTORE_S)
        while field(found, "status") == "running":
            await asyncio.sleep(POLL_S)
            found = await self._get(f"/v1/sandboxes/{segment(sandbox_id)}/restores/{segment(found['id'])}")
        return found

    async def fork_snapshot(
        self, sandbox_id: str, snapshot_id: str, name: str | None = None, *, key: str | None = None
    ) -> Sandbox:
        """A new sandbox that begins with these files; it starts in the background."""
        return await self._post(_of(sandbox_id, snapshot_id, "fork"), {"name": name}, key=key)

    async def file_versions(self, sandbox_id: str, path: str, *, limit: int = 50) -> list[FileVersion]:
        """The versions of one file, newest first."""
        return await self._pages(
            f"/v1/sandboxes/{segment(sandbox_id)}/files/versions?path={segment(path)}", limit
        )

    async def file_version(self, sandbox_id: str, path: str, number: int) -> bytes:
        """A file as it was in one of its versions. Raises NotFound."""
        url = f"/v1/sandboxes/{segment(sandbox_id)}/files/version?path={segment(path)}&number={number}"
        return (await self._transport.request("GET", url, timeout_s=TAKE_S)).content
