"""What must be made and taken away so that one tree becomes another. Pure.

In stages, because order matters: directories that may not be written to are opened, then things go (what is
in a directory before it), then directories come, then files and symlinks, and at last directories get their
own modes. Each step may be done again, so a plan that was cut short is made anew from what is there then.

What is not kept in either tree is never touched: neither a file too large to be kept, nor the directory it
is in.

Each step says what it expects in its place, so that nothing goes which was not looked at: the file by its
stamp, or nothing. What changed in the clock's last tick before it was looked at has no stamp, and what does
not stop changing (`restless`) would be missed for ever: such a file is set aside instead, under a name that
the next look finds like any other, and goes once it was looked at there.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from actors.sandbox.tppd.bulk import ANYTHING, ASIDE, NOTHING, SET_ASIDE, Item
from actors.sandbox.versions.tree import Difference, Entry, Tree, differences

OPEN = stat.S_IFDIR | 0o700


@dataclass(slots=True)
class Plan:
    """`stages` before the contents, `files` (with the hashes of their contents and what is expected in their
    places), `modes` after them. `replaced`: what goes for it. `untouched`: paths that cannot become as they
    were, or stay though they were not there."""

    stages: list[list[Item]] = field(default_factory=list)
    files: list[tuple[bytes, Entry, bytes | None]] = field(default_factory=list)
    modes: list[Item] = field(default_factory=list)
    replaced: list[tuple[bytes, Entry]] = field(default_factory=list)
    untouched: list[bytes] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done."""
        return not self.files and not self.modes and not any(self.stages)


def within(path: bytes, scope: Iterable[bytes]) -> bool:
    """Whether a path is one of `scope` or below one; the empty path is the whole tree."""
    return any(not top or path == top or path.startswith(top + b"/") for top in scope)


def wanted(now: Tree, then: Tree, scope: Iterable[bytes]) -> list[Difference]:
    """What differs within `scope`, and the directories above it that are not there."""
    tops = tuple(scope)
    above = {top[:at] for top in tops for at, byte in enumerate(top) if byte == 0x2F}
    found = []
    for one in differences(now, then):
        inside = within(one.path, tops)
        missing_above = one.path in above and one.old is None and _kind(one.new) == stat.S_IFDIR
        if inside or missing_above:
            found.append(one)
    return found


def plan(
    now: Tree, then: Tree, scope: Iterable[bytes] = (b"",), restless: Collection[bytes] = (), *,
    alone: bool = False,
) -> Plan:  # fmt: skip
    """The steps from `now` to `then` within these paths. `alone`: nothing else writes there, so that nothing
    need be expected."""
    made, gone, dirs, links, opened = Plan(), [], [], [], {}
    for path, old, new in wanted(now, then, scope):
        if (old is not None and not old.kept) or (new is not None and not new.kept):
            made.untouched.append(path)
            continue
        expects = ANYTHING if alone else _expected(path, old, restless)
        if old is not None and not stat.S_ISDIR(old.mode):
            made.replaced.append((path, old))
        if old is not None and _kind(old) != _kind(new):
            gone.append(Item(path, 0, expects=expects))
            expects = NOTHING
        if new is None:
            pass
        elif stat.S_ISDIR(new.mode):
            if _kind(old) != stat.S_IFDIR:
                dirs.append(Item(path, OPEN, expects=expects))
            made.modes.append(Item(path, new.mode))
        elif stat.S_ISLNK(new.mode):
            links.append(Item(path, stat.S_IFLNK, new.target, expects))
        else:
            made.files.append((path, new, expects))
        folder = path.rpartition(b"/")[0]
        inside = now.get(folder) if folder else None
        if inside is not None and stat.S_ISDIR(inside.mode) and inside.mode & 0o300 != 0o300:
            opened[folder] = inside.mode
    settled = {item.path for item in made.modes} | {item.path for item in gone}
    made.modes += [Item(folder, mode) for folder, mode in opened.items() if folder not in settled]
    gone.sort(key=lambda item: item.path, reverse=True)
    made.stages = [[Item(folder, OPEN) for folder in sorted(opened)], gone, dirs, links]
    made.modes.sort(key=lambda item: item.path, reverse=True)
    return made


def _expected(path: bytes, old: Entry | None, restless: Collection[bytes]) -> bytes | None:
    if old is None:
        return NOTHING
    if stat.S_ISDIR(old.mode) or path.rpartition(b"/")[2].startswith(ASIDE):
        return ANYTHING
    return SET_ASIDE if old.stamp is None or path in restless else old.stamp


def _kind(entry: Entry | None) -> int:
    return 0 if entry is None else stat.S_IFMT(entry.mode)
