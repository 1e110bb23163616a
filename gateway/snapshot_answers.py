"""The answers about snapshots: their shapes, and rows and differences as those.

Inside, a path is text that stands for its bytes (`terminalpp.types.paths`); an answer shows it twice, as
people read it and percent-encoded."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from actors.sandbox.versions import rows
from actors.sandbox.versions.tree import Difference
from gateway.paths import quoted, text_of
from gateway.responses import _ID, _TIME, Answer, Count, Id, Time, example
from schema.snapshots import Snapshot
from terminalpp.types import paths
from terminalpp.types.times import moment

Kind = Literal["manual", "auto", "scheduled"]
PREVIEWED = 1000


class LeftOut(Answer):
    """What a snapshot does not hold."""

    path: str
    why: str


class SnapshotListed(Answer):
    """A snapshot."""

    id: Id
    sandbox_id: Id
    name: str
    description: str | None
    type: Kind
    files: Count
    bytes: Count
    tree: str | None = Field(description="A hash of all that it holds: equal trees have equal ones.")
    left: list[LeftOut] = Field(
        description="What it does not hold, at most 100; `left_count` tells them all."
    )
    left_count: Count
    changed: Count = Field(description="Entries that differ from the snapshot before it.")
    created_at: Time

    model_config = example(
        id=_ID,
        sandbox_id=_ID,
        name="before the upgrade",
        description=None,
        type="manual",
        files=212,
        bytes=1_904_112,
        tree="9b" * 32,
        left=[],
        left_count=0,
        changed=3,
        created_at=_TIME,
    )


class SnapshotPage(Answer):
    """A page of snapshots, the newest first."""

    items: list[SnapshotListed]
    next_cursor: str | None


class Changed(Answer):
    """An entry that is not the same on both sides."""

    path: str
    path_raw: str
    change: Literal["created", "modified", "deleted"]
    type: Literal["file", "directory", "symlink"]
    bytes_before: Count | None
    bytes_after: Count | None


class ChangePage(Answer):
    """A page of what differs, by path."""

    items: list[Changed]
    total: Count
    next_cursor: str | None


class Preview(Answer):
    """What a restore would change: at most 1000 entries, and how many there are."""

    items: list[Changed]
    total: Count


class EntryListed(Answer):
    """An entry of a snapshot. `kept` false: it was there, and its content is not kept."""

    path: str
    path_raw: str
    type: Literal["file", "directory", "symlink"]
    mode: str
    size: Count
    sha256: str | None
    target: str | None
    kept: bool


class EntryPage(Answer):
    """A page of a snapshot's entries, by path."""

    items: list[EntryListed]
    next_cursor: str | None


class Untouched(Answer):
    """What could not be made as it was."""

    path: str
    why: str


class Restore(Answer):
    """A restore. `undo`: the snapshot from before it; restoring that undoes it."""

    id: Id
    snapshot_id: Id
    paths: list[str]
    status: Literal["running", "done", "failed"]
    undo: Id | None
    after: Id | None = Field(description="The snapshot that it came to.")
    changed: list[Changed] = Field(description="At most 200; `changed_count` tells how many.")
    changed_count: Count
    untouched: list[Untouched]
    meanwhile: list[Id] = Field(
        description="Snapshots that hold what programs wrote while it went on, and what it then replaced."
    )
    running: list[str] = Field(description="Commands that went on while the files changed under them.")
    error: dict[str, Any] | None

    model_config = example(
        id=_ID,
        snapshot_id=_ID,
        paths=[],
        status="done",
        undo=_ID,
        after=_ID,
        changed=[],
        changed_count=0,
        untouched=[],
        meanwhile=[],
        running=[],
        error=None,
    )


def listed(found: Snapshot) -> dict[str, Any]:
    """A snapshot as it is answered."""
    told = found.metadata
    return {
        "id": found.id,
        "sandbox_id": found.sandbox_id,
        "name": found.name,
        "description": found.description,
        "type": found.snapshot_type,
        "files": found.file_count,
        "bytes": found.total_size_bytes,
        "tree": found.tree_hash,
        "left": [left(one) for one in told.get("left") or []],
        "left_count": told.get("left_count", 0),
        "changed": told.get("changed", 0),
        "created_at": moment(found.created_at),
    }


def left(one: dict[str, str]) -> dict[str, str]:
    """What a snapshot does not hold."""
    return {"path": text_of(paths.to_bytes(one["path"])), "why": one["why"]}


def changed(path: str, **rest: Any) -> dict[str, Any]:
    """A path in both its forms, with what is told of it."""
    raw = paths.to_bytes(path)
    return {"path": text_of(raw), "path_raw": quoted(raw), **rest}


def difference(one: Difference) -> dict[str, Any]:
    """What differs at a path."""
    told = rows.difference_json(one)
    return changed(told.pop("path"), **told)


def previewed(changes: list[Difference]) -> dict[str, Any]:
    """What a restore or rewind would change, as a `Preview`."""
    return {"items": [difference(one) for one in changes[:PREVIEWED]], "total": len(changes)}


def restored(found: dict[str, Any]) -> dict[str, Any]:
    """A restore as it is answered."""
    untouched = [
        {"path": path, "why": "it is not kept, or would be lost"} for path in found.get("untouched") or []
    ]
    return {
        "id": found["id"],
        "snapshot_id": found["snapshot_id"],
        "status": found["status"],
        "paths": [text_of(paths.to_bytes(path)) for path in found["paths"]],
        "undo": found.get("before"),
        "after": found.get("after"),
        "changed": [changed(**one) for one in found.get("changed") or []],
        "changed_count": found.get("changed_count", 0),
        "untouched": [left(one) for one in [*untouched, *(found.get("failed") or [])]],
        "meanwhile": found.get("meanwhile") or [],
        "running": found.get("running") or [],
        "error": found.get("error"),
    }
