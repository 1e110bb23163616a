"""Between the entries of a tree and the rows that keep them: paths as text, modes in octal, previews,
renames."""

from __future__ import annotations

import mimetypes
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actors.sandbox.versions.tree import Difference, Entry, Left
from schema import snapshots
from schema.file_entries import Change, Stamped
from terminalpp.types import paths

ROOT = "/home/user"
TOLD = 100  # of what is left out, one by one
PREVIEW = 1000  # characters of a version that its row shows
# Files below these have no versions of their own; snapshots hold them like all others.
UNVERSIONED = frozenset(
    (
        b"node_modules",
        b".venv",
        b"venv",
        b"site-packages",
        b"__pycache__",
        b".pytest_cache",
        b".mypy_cache",
        b".ruff_cache",
        b".cache",
        b".git",
        b"target",
        b".tox",
        b".gradle",
    )
)
# Names of files whose first words may be a secret.
_SECRET = re.compile(
    rb"(^|/)(\.env[^/]*|[^/]*\.(pem|key|p12|pfx)|id_[a-z0-9]+|\.netrc|\.npmrc|\.pypirc|[^/]*(secret|credential)[^/]*)$",
    re.IGNORECASE,
)
_TYPES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


def text(path: bytes) -> str:
    """A path below the root as rows have it: absolute."""
    return f"{ROOT}/{paths.to_text(path)}" if path else ROOT


def holds(path: str) -> bool:
    """Whether what is at an absolute path is kept."""
    return f"{path}/".startswith(f"{ROOT}/")


def path_of(text: str) -> bytes:
    """The path below the root that `text` made this of."""
    return paths.to_bytes(text)[len(ROOT) + 1 :]


def row(path: bytes, entry: Entry | None) -> snapshots.Entry:
    """An entry of a snapshot; None: it is absent."""
    if entry is None:
        return snapshots.Entry(text(path), snapshots.ABSENT)
    target = paths.to_text(entry.target) if stat.S_ISLNK(entry.mode) else None
    size = entry.size if stat.S_ISREG(entry.mode) else 0
    return snapshots.Entry(text(path), entry.kind, f"{entry.mode & 0o7777:o}", size, entry.hash, target)


def entry(found: snapshots.Entry, stamp: bytes | None = None) -> tuple[bytes, Entry]:
    """The path and the entry that `row` made this of."""
    mode = _TYPES[found.type] | int(found.permissions or "644", 8)
    target = paths.to_bytes(found.symlink_target or "")
    return path_of(found.path), Entry(mode, found.size_bytes, stamp, found.content_hash, target)


def entry_or_none(found: snapshots.Entry) -> tuple[bytes, Entry | None]:
    """The same, for one that may say that there is nothing."""
    return (path_of(found.path), None) if found.type == snapshots.ABSENT else entry(found)


def loaded(found: Stamped) -> tuple[bytes, Entry]:
    """The path and the entry of a row of `fs_entries`."""
    return entry(found.entry, found.stamp)


def stamped(path: bytes, found: Entry) -> Stamped:
    """The row of `fs_entries`."""
    kind = mimetypes.guess_type(text(path), strict=False)[0] if stat.S_ISREG(found.mode) else None
    return Stamped(row(path, found), found.stamp, kind)


def restamp(path: bytes, found: Entry) -> tuple[str, bytes | None]:
    """The new stamp of an entry that is as it was."""
    return text(path), found.stamp


def told(left: Sequence[Left]) -> list[dict[str, Any]]:
    """What is left out, bounded, as JSON."""
    return [{"path": text(one.path), "why": one.why} for one in left[:TOLD]]


def difference_json(one: Difference) -> dict[str, Any]:
    """What differs at a path: change, type, and bytes before and after."""
    path, old, new = one
    there = new or old
    assert there is not None
    return {
        "path": text(path),
        "change": "created" if old is None else "deleted" if new is None else "modified",
        "type": there.kind,
        "bytes_before": None if old is None else old.size,
        "bytes_after": None if new is None else new.size,
    }


def preview(path: bytes, data: bytes) -> str | None:
    """The first characters of a text; None for what is none, or may be a secret."""
    head = data[: 4 * PREVIEW]
    if b"\0" in head or _SECRET.search(path):
        return None
    try:
        words = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(data) <= len(head):  # not a character that was cut
            return None
        words = head[: error.start].decode()
    return words[:PREVIEW]


def moves(changed: Iterable[Difference]) -> list[tuple[bytes, bytes]]:
    """Files that are gone and have come under another name with the same content: (old, new), once each."""
    gone: dict[str, list[bytes]] = {}
    found = []
    come = []
    for path, old, new in changed:
        if new is None and old is not None and old.hash and old.size and _own(path):
            gone.setdefault(old.hash, []).append(path)
        elif old is None and new is not None and new.hash and new.size and _own(path):
            come.append((path, new.hash))
    for path, hash in come:
        if waiting := gone.get(hash):
            found.append((waiting.pop(0), path))
    return found


def versions(
    changed: Iterable[Difference], previews: Mapping[bytes, str | None], moved: Mapping[bytes, bytes]
) -> list[Change]:
    """The versions to add. `moved`: the old name by the new one."""
    out, left = [], set(moved.values())
    for path, old, new in changed:
        if not _own(path):
            continue
        if new is None:
            if old is not None and stat.S_ISREG(old.mode) and path not in left:
                out.append(Change(text(path), "deleted", old.size, None))
        elif stat.S_ISREG(new.mode):
            was = old is not None and stat.S_ISREG(old.mode)
            if was and old is not None and old.hash == new.hash:
                continue  # only its mode
            kind = "renamed" if path in moved else "modified" if was else "created"
            out.append(Change(text(path), kind, new.size, new.hash, previews.get(path)))
    return out


def _own(path: bytes) -> bool:
    return UNVERSIONED.isdisjoint(path.split(b"/")[:-1])
