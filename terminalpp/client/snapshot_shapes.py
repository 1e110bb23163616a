"""What the gateway answers about snapshots, versions of files and points of conversations, as types.

As in `terminalpp.client.shapes`."""

from __future__ import annotations

from typing import Any, TypedDict


class Snapshot(TypedDict):
    """All files of a sandbox at one moment."""

    id: str
    sandbox_id: str
    name: str
    description: str | None
    type: str                        # manual | auto | scheduled
    files: int
    bytes: int
    tree: str | None                 # a hash of all that it holds
    left: list[dict[str, str]]       # what it does not hold: path, why
    left_count: int
    changed: int                     # entries that differ from the snapshot before it
    created_at: str


class SnapshotEntry(TypedDict):
    """An entry of a snapshot."""

    path: str
    path_raw: str
    type: str
    mode: str
    size: int
    sha256: str | None
    target: str | None
    kept: bool                       # its content can be brought back


class Changed(TypedDict):
    """An entry that is not the same on both sides."""

    path: str
    path_raw: str
    change: str                      # created | modified | deleted
    type: str
    bytes_before: int | None
    bytes_after: int | None


class Restore(TypedDict):
    """What a restore has done."""

    id: str
    snapshot_id: str
    paths: list[str]
    status: str                      # running | done | failed
    undo: str | None                 # the snapshot from before it
    after: str | None
    changed: list[Changed]
    changed_count: int
    untouched: list[dict[str, str]]  # what could not be made as it was: path, why
    meanwhile: list[str]             # snapshots of what was written, and replaced, while it went on
    running: list[str]               # commands that went on meanwhile
    error: dict[str, Any] | None


class FileVersion(TypedDict):
    """A version of a file."""

    version: int
    path: str
    change: str                      # created | modified | deleted | renamed
    size: int
    sha256: str | None
    preview: str | None
    message: str | None
    created_at: str


class Point(TypedDict):
    """A place of a conversation that can be gone back to."""

    id: str
    seq: int                         # the event behind which it goes on
    label: str
    between_turns: bool
    present: bool                    # on the present branch
    followed: bool                   # what was begun there is, too
    kept: bool
    created_at: str


class Rewind(TypedDict):
    """What a rewind has done."""

    rewind_id: str
    point_id: str
    status: str                      # running | done
    seq: int | None
    undo_point_id: str | None
    changed: int
    untouched: list[str]
    running: list[str]
