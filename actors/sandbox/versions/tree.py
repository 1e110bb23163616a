"""A tree of files as it was seen: what is in it, how two of them differ, and one hash for all of it. Pure.

A tree is a dict of directories by their relative path; each holds its entries and, while it stands
unchanged, the very bytes that a walk gave for it, so that the next walk is compared directory by directory.
Trees are never changed once they are complete: `look` makes the next one and shares with the last what did
not change.

Names are bytes. Files, directories and symlinks are kept. What is not kept is told: sockets, pipes and
devices; what may not be read; a file above the limit (it is known to be there, and never touched); a path
longer than the database takes. Such things never count in the hash.
"""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from actors.sandbox.tppd import bulk
from actors.sandbox.tppd.bulk import Found
from terminalpp.types import paths

PATH_BYTES = 2400  # of a path as text; the database takes 2560 (ck_fs_path_length), with the root before it
_ASIDE = b".tppd-"  # what tppd writes beside a file for a moment


class Entry(NamedTuple):
    """`mode` with the kind. `stamp`: by which it is recognised as unchanged; None: to be read again. `hash`:
    the SHA-256 of a file's content; None: it is not kept."""

    mode: int
    size: int
    stamp: bytes | None
    hash: str | None = None
    target: bytes = b""

    @property
    def kind(self) -> str:
        """file, directory or symlink."""
        return bulk.kind_of(self.mode)

    @property
    def kept(self) -> bool:
        """Whether it can be brought back."""
        return self.hash is not None or not stat.S_ISREG(self.mode)


def joined(folder: bytes, name: bytes) -> bytes:
    """The path of `name` in a folder; the root's is empty."""
    return folder + b"/" + name if folder else name


class Left(NamedTuple):
    """What is not kept, and why."""

    path: bytes
    why: str


class Difference(NamedTuple):
    """A path that is not the same in two trees; None: it is not there."""

    path: bytes
    old: Entry | None
    new: Entry | None


@dataclass
class Directory:
    """`raw`: the walk's record, if an equal one says that nothing changed. Once it is complete it is told in
    short by `digest` and what stands beside it, worked out once."""

    entries: dict[bytes, Entry] = field(default_factory=dict)
    raw: bytes | None = None

    @cached_property
    def digest(self) -> bytes:
        """Of all but what is in its directories."""
        lines = [_line(name, entry) for name, entry in sorted(self.entries.items()) if entry.kept]
        return hashlib.sha256(b"".join(lines)).digest()

    @cached_property
    def inner(self) -> list[bytes]:
        """The names of its directories."""
        return sorted(name for name, entry in self.entries.items() if stat.S_ISDIR(entry.mode))

    @cached_property
    def counts(self) -> tuple[int, int]:
        """How many files there are, and their bytes."""
        sizes = [entry.size for entry in self.entries.values() if stat.S_ISREG(entry.mode)]
        return len(sizes), sum(sizes)


@dataclass(frozen=True, slots=True)
class Tree:
    """See the head of this file."""

    directories: dict[bytes, Directory] = field(default_factory=lambda: {b"": Directory()})

    @classmethod
    def of(cls, entries: Iterable[tuple[bytes, Entry]]) -> Tree:
        """A tree of entries by path, in any order."""
        made = cls()
        for path, entry in entries:
            folder, _, name = path.rpartition(b"/")
            made.directories.setdefault(folder, Directory()).entries[name] = entry
            if stat.S_ISDIR(entry.mode):
                made.directories.setdefault(path, Directory())
        return made

    def changed(self, entries: Iterable[tuple[bytes, Entry | None]]) -> Tree:
        """This tree with other entries at some paths; None: nothing there, nor below."""
        made, copied = dict(self.directories), set()

        def inside(path: bytes) -> Directory:
            if path not in copied:
                found = made.get(path)
                made[path] = Directory(dict(found.entries) if found else {})
                copied.add(path)
            return made[path]

        for path, entry in sorted(entries, key=lambda one: one[0]):
            folder, _, name = path.rpartition(b"/")
            if entry is not None:
                inside(folder).entries[name] = entry
            elif folder in made:
                inside(folder).entries.pop(name, None)
            if entry is not None and stat.S_ISDIR(entry.mode):
                made.setdefault(path, Directory())
            else:
                made.pop(path, None)
        return Tree(made)

    def get(self, path: bytes) -> Entry | None:
        """What is at a path."""
        folder, _, name = path.rpartition(b"/")
        found = self.directories.get(folder)
        return None if found is None else found.entries.get(name)

    def items(self, below: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
        """Every entry at or below a path, a directory before what is in it."""
        if below and (own := self.get(below)) is not None:
            yield below, own
        waiting = [below]
        while waiting:
            path = waiting.pop()
            found = self.directories.get(path)
            for name, entry in sorted(found.entries.items()) if found else ():
                whole = joined(path, name)
                yield whole, entry
                if stat.S_ISDIR(entry.mode):
                    waiting.append(whole)

    def counts(self) -> tuple[int, int]:
        """How many files there are, and their bytes."""
        each = [directory.counts for directory in self.directories.values()]
        return sum(files for files, _ in each), sum(size for _, size in each)

    def digest(self, below: bytes = b"") -> str:
        """SHA-256 of all that is kept in a directory: names, kinds, modes, contents, targets. No times."""
        return self._digest(below).hex()

    def _digest(self, path: bytes) -> bytes:
        found = self.directories.get(path)
        if found is None:
            return hashlib.sha256(b"absent").digest()
        if not found.inner:
            return found.digest
        whole = hashlib.sha256(found.digest)
        for name in found.inner:
            whole.update(self._digest(joined(path, name)))
        return whole.digest()


def _line(name: bytes, entry: Entry) -> bytes:
    what = (entry.hash or "").encode() if stat.S_ISREG(entry.mode) else entry.target
    mode = stat.S_IFMT(entry.mode) if stat.S_ISLNK(entry.mode) else entry.mode
    return b"%o %d %d " % (mode, len(name), len(what)) + name + what


def same(old: Entry, new: Entry) -> bool:
    """Whether two entries mean the same; a symlink's mode means nothing, nor does a directory's size."""
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return False
    if stat.S_ISLNK(new.mode):
        return old.target == new.target
    if stat.S_ISREG(new.mode) and (old.hash != new.hash or old.size != new.size):
        return False
    return old.mode == new.mode


def differences(old: Tree, new: Tree) -> list[Difference]:
    """In the order of paths; directories that both share are not looked into."""
    found = []
    for path in old.directories.keys() | new.directories.keys():
        before, after = old.directories.get(path), new.directories.get(path)
        if before is after:
            continue
        was, now = (before.entries if before else {}), (after.entries if after else {})
        for name in was.keys() | now.keys():
            one, other = was.get(name), now.get(name)
            if one is None or other is None or not same(one, other):
                found.append(Difference(joined(path, name), one, other))
    return sorted(found)


def restamped(old: Tree, new: Tree) -> list[tuple[bytes, Entry]]:
    """Entries that mean the same and have another stamp."""
    found = []
    for path, after in new.directories.items():
        before = old.directories.get(path)
        if before is None or before is after:
            continue
        for name, entry in after.entries.items():
            was = before.entries.get(name)
            if was is not None and was.stamp != entry.stamp and same(was, entry):
                found.append((joined(path, name), entry))
    return found


# ---- looking ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Look:
    """The next tree as far as it is known without reading: `unread` names the files whose content must be."""

    tree: Tree = field(default_factory=lambda: Tree({}))
    unread: list[tuple[bytes, Found]] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def settle(self, path: bytes, entry: Entry | None) -> None:
        """What reading has found at one of the `unread`; None: it is gone."""
        folder, _, name = path.rpartition(b"/")
        inside = self.tree.directories[folder]
        if entry is None:
            inside.entries.pop(name, None)
        else:
            inside.entries[name] = entry
        if entry is None or entry.stamp is None:
            inside.raw = None


def look(
    before: Tree, seen: Iterable[tuple[bulk.Directory, int]], skip: Mapping[bytes, str] | None = None
) -> Look:
    """Compare a walk's directories, each with the files' clock before it was listed, with the tree before.

    `skip`: names of directories that are not looked into, and why.
    """
    made, skipped = Look(), []
    for record, clock in seen:
        path = record.path
        if skipped and any(path.startswith(top + b"/") or path == top for top in skipped):
            continue
        known = before.directories.get(path)
        if record.errno:
            _closed(made, before, record)
        elif known is not None and known.raw == record.raw:
            made.tree.directories[path] = known
        else:
            made.tree.directories[path] = _opened(made, record, clock, known, skip or {}, skipped)
    return made


def _opened(
    made: Look,
    record: bulk.Directory,
    clock: int,
    known: Directory | None,
    skip: Mapping[bytes, str],
    skipped: list[bytes],
) -> Directory:
    old = known.entries if known is not None else {}
    inside = Directory(raw=record.raw)
    for name, found in bulk.entries_of(record.raw).items():
        path = joined(record.path, name)
        why = _why_not(name, path, found, skip)
        if why is not None:
            inside.raw = None  # so that it is left out, and told, the next time too
            if why:
                made.left.append(Left(path, why))
            if stat.S_ISDIR(found.mode):
                skipped.append(path)
            continue
        was = old.get(name)
        if not stat.S_ISREG(found.mode):
            inside.entries[name] = Entry(found.mode, 0, found.stamp, None, found.target)
        elif was is not None and was.stamp == found.stamp and was.size == found.size and was.hash is not None:
            inside.entries[name] = was if was.mode == found.mode else was._replace(mode=found.mode)
        else:
            made.unread.append((path, found))
            inside.entries[name] = Entry(found.mode, found.size, None)
        if changed_at(found.stamp) >= clock:
            inside.raw = None
    return inside


def _why_not(name: bytes, path: bytes, found: Found, skip: Mapping[bytes, str]) -> str | None:
    """Why an entry is left out; empty: without a word. None: it is not."""
    if name.startswith(_ASIDE):
        return ""
    kind = bulk.kind_of(found.mode)
    if kind not in ("file", "directory", "symlink"):
        return f"a {kind}"
    if len(paths.to_text(path).encode()) > PATH_BYTES:
        return "its path is too long"
    return skip.get(name) if kind == "directory" else None


def _closed(made: Look, before: Tree, record: bulk.Directory) -> None:
    """What cannot be looked at is not gone: it stays as it was."""
    many = record.errno == errno.E2BIG
    why = "a directory with too many entries" if many else "a directory that may not be read"
    made.left.append(Left(record.path, why))
    under = record.path + b"/"
    for path, known in before.directories.items():
        if path == record.path or path.startswith(under):
            made.tree.directories[path] = Directory(known.entries)
    made.tree.directories.setdefault(record.path, Directory())


def changed_at(stamp: bytes) -> int:
    """The time of change within a stamp, in ns."""
    return bulk.STAMP.unpack(stamp)[1]
