"""Decides which files of a work tree are the team's work, from a listing of it. Pure.

Every file and link is work and comes home, whatever `.gitignore` says of it, except by one of three rules:

- *dependencies* and *caches* by their names alone (`node_modules`, `__pycache__`, …);
- *build output* and things like it, where git ignores them **and** the name is a tool's, for most folders
  only beside that tool's own manifest (`target` beside `Cargo.toml`).

Against the rules stand: files that the repository tracks, files an agent wrote with `write` or `edit`, files
that were taken before, and what the person's include patterns name. What stays behind by a rule is told as
such. What stays behind because git cannot hold it (a socket, a file that may not be read) is told as *lost*:
a turn that leaves such things is not called passed. Names are bytes; nothing here assumes an encoding.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from terminalpp.types.patch import EMPTY_FOLDER

PLACEHOLDER = EMPTY_FOLDER.encode()  # stands for an empty folder in a recorded tree; never on disk
TOLD = 40  # entries of what is left behind that are told one by one
DEPENDENCIES, CACHE, OUTPUT = "dependencies", "cache", "build output"

# By name alone; a tree is not walked into these unless something asks for it.
_ALWAYS: Mapping[bytes, str] = {
    **dict.fromkeys((b"node_modules", b".venv"), DEPENDENCIES),
    **dict.fromkeys((b"__pycache__", b".pytest_cache", b".mypy_cache", b".ruff_cache", b".tpp"), CACHE),
}
_ALWAYS_FILES = (b"*.pyc", b".DS_Store")

# Only where git ignores them. A folder with manifests counts only beside one of those.
_IGNORED: Mapping[bytes, tuple[str, tuple[bytes, ...]]] = {
    b"bower_components": (DEPENDENCIES, ()),
    b"site-packages": (DEPENDENCIES, ()),
    b".bundle": (DEPENDENCIES, (b"Gemfile",)),
    b"Pods": (DEPENDENCIES, (b"Podfile",)),
    b"deps": (DEPENDENCIES, (b"mix.exs",)),
    b"vendor": (DEPENDENCIES, (b"composer.json", b"Gemfile", b"go.mod")),
    **{name: (CACHE, ()) for name in (
        b".cache", b".gradle", b".tox", b".nox", b".eggs", b".hypothesis", b".parcel-cache", b".turbo",
        b".nyc_output", b".terraform", b".dart_tool", b".pnpm-store", b".ipynb_checkpoints",
    )},
    **{name: (OUTPUT, ()) for name in (
        b".next", b".nuxt", b".output", b".svelte-kit", b".build", b"_build", b"htmlcov", b"DerivedData",
        b"CMakeFiles",
    )},
    b"target": (OUTPUT, (b"Cargo.toml", b"pom.xml", b"build.sbt", b"project.clj")),
    b"build": (OUTPUT, (
        b"build.gradle", b"build.gradle.kts", b"CMakeLists.txt", b"setup.py", b"setup.cfg", b"pyproject.toml",
        b"package.json", b"meson.build", b"pubspec.yaml",
    )),
    b"dist": (OUTPUT, (b"package.json", b"setup.py", b"setup.cfg", b"pyproject.toml")),
    b"out": (OUTPUT, (b"package.json", b"build.gradle", b"build.gradle.kts")),
    b"coverage": (OUTPUT, (b"package.json",)),
    b"bin": (OUTPUT, (b"*.csproj", b"*.fsproj", b"*.vbproj")),
    b"obj": (OUTPUT, (b"*.csproj", b"*.fsproj", b"*.vbproj")),
}  # fmt: skip
_IGNORED_FOLDERS = (b"*.egg-info", b"bazel-*", b"cmake-build-*")
_IGNORED_FILES = (
    b"*.o", b"*.obj", b"*.a", b"*.lo", b"*.so", b"*.so.*", b"*.dylib", b"*.dll", b"*.exe", b"*.class",
    b"*.beam", b"*.rlib", b"*.rmeta", b"*.gcda", b"*.gcno", b"*.whl", b"*.tsbuildinfo", b".eslintcache",
    b".coverage", b".coverage.*", b"coverage.xml", b"*.lcov", b"*.log", b"*.swp", b"*~",
)  # fmt: skip


def _any_of(patterns: Iterable[bytes]) -> re.Pattern[bytes]:
    """One pattern for many shell patterns (ASCII), on bytes that may be no text."""
    words = (fnmatch.translate(pattern.decode()).encode() for pattern in patterns)
    return re.compile(b"|".join(words), re.DOTALL)


_ALWAYS_FILE, _IGNORED_FILE = _any_of(_ALWAYS_FILES), _any_of(_IGNORED_FILES)
_IGNORED_FOLDER = _any_of(_IGNORED_FOLDERS)
PRUNED = tuple(name.decode() for name in _ALWAYS)


@dataclass(frozen=True, slots=True)
class Seen:
    """One entry of the listing: `kind` is f, l (link), d or another letter of find's; times in seconds."""

    path: bytes
    kind: str
    mode: int
    size: int
    changed: float


@dataclass(frozen=True, slots=True)
class Rule:
    """Why a path stays behind: its kind, the topmost path that matched, whether git must ignore it too."""

    why: str
    top: bytes
    if_ignored: bool


@dataclass(frozen=True, slots=True)
class Excluded:
    """Files that stay behind: `files` at or below `path`. `lost`: by no rule, so it is missing at home."""

    path: bytes
    files: int
    why: str
    lost: bool = False

    def to_json(self) -> dict[str, Any]:
        """The shape `terminalpp.types.events.LeftBehind`."""
        name = self.path.decode("utf-8", "replace")
        return {"path": name, "files": self.files, "why": self.why, "lost": self.lost}


@dataclass
class Listing:
    """A work tree as it was seen, with the names git knows of it."""

    entries: list[Seen]
    tracked: frozenset[bytes] = frozenset()  # by the repository's own index
    known: frozenset[bytes] = frozenset()  # in the last record of ours
    recorded_at: float = 0.0  # when that record was begun; 0: never
    began: float = 0.0  # when the conversation's first record was begun
    whole: bool = True  # False: PRUNED folders were not walked into
    placeholders: frozenset[bytes] = frozenset()  # of empty folders, in the last record
    history: bool = False  # whether the repository's own refs changed since the work began
    _names: frozenset[bytes] = field(init=False)
    _endings: set[tuple[bytes, bytes]] = field(init=False, default_factory=set)  # (ending, folder)

    def __post_init__(self) -> None:
        self._names = frozenset(entry.path for entry in self.entries)
        for name in self._names:
            stem, dot, ending = name.rpartition(b".")
            if dot and ending.endswith(b"proj"):
                self._endings.add((dot + ending, stem[: stem.rfind(b"/") + 1]))

    def rule(self, path: bytes) -> Rule | None:
        """The topmost rule that keeps `path` behind, or None."""
        parts = path.split(b"/")
        for index, part in enumerate(parts):
            top = b"/".join(parts[: index + 1])
            if part in _ALWAYS:
                return Rule(_ALWAYS[part], top, False)
            if index == len(parts) - 1:
                break
            if part in _IGNORED and self._beside(parts[:index], _IGNORED[part][1]):
                return Rule(_IGNORED[part][0], top, True)
            if part in (b"venv", b"env") and top + b"/pyvenv.cfg" in self._names:
                return Rule(DEPENDENCIES, top, True)
            if _IGNORED_FOLDER.fullmatch(part):
                return Rule(OUTPUT, top, True)
        if _ALWAYS_FILE.fullmatch(parts[-1]):
            return Rule(CACHE, path, False)
        return Rule(OUTPUT, path, True) if _IGNORED_FILE.fullmatch(parts[-1]) else None

    def _beside(self, folder: list[bytes], manifests: tuple[bytes, ...]) -> bool:
        """Whether a manifest stands in `folder`; `*.x` is any file with that ending."""
        prefix = b"/".join(folder) + b"/" if folder else b""
        for name in manifests:
            if name.startswith(b"*"):
                if (name[1:], prefix) in self._endings:
                    return True
            elif prefix + name in self._names:
                return True
        return not manifests

    @property
    def pruned(self) -> bool:
        """Whether something was not walked into."""
        return not self.whole and any(entry.path.rpartition(b"/")[2] in _ALWAYS for entry in self.entries)

    @property
    def too_short(self) -> bool:
        """Whether files that belong into the record lie where the listing was not walked into."""
        return self.pruned and any(
            not _ALWAYS.keys().isdisjoint(path.split(b"/")[:-1]) for path in self.tracked | self.known
        )

    def candidates(self) -> dict[bytes, Rule]:
        """Files and links that a rule may keep behind: neither tracked nor taken before."""
        found: dict[bytes, Rule] = {}
        for entry in self.entries:
            if entry.kind in "fl" and entry.path not in self.tracked and entry.path not in self.known:
                rule = self.rule(entry.path)
                if rule is not None:
                    found[entry.path] = rule
        return found


@dataclass(frozen=True)
class Sorted:
    """What a record takes (`files`, `folders`: the empty ones) and what stays behind."""

    files: list[bytes]
    gone: list[bytes]  # known, but no longer there
    again: list[bytes]  # of `files`: those whose content must be read whatever their stat data say
    folders: list[bytes]
    left: list[Excluded]


def sort(listing: Listing, ruled: Mapping[bytes, Rule], authored: Iterable[bytes] = ()) -> Sorted:
    """Sort a listing. `ruled`: the candidates whose rule holds (what git does not ignore, or a person's
    pattern includes, is not in it); `authored`: paths that agents wrote by their tools."""
    written = frozenset(authored)
    files: dict[bytes, None] = {}
    again, left, kinds, closed = [], _Leaving(listing.began), {}, set()
    for entry in listing.entries:
        kinds[entry.path] = entry.kind
        parts = entry.path.split(b"/")
        if parts[-1] == b".git":
            if len(parts) > 1:
                left.by_rule(entry, posixpath.dirname(entry.path) + b"/.git", "a repository's own history")
        elif any(part.lower() == b".git" for part in parts):
            left.lost(entry, "git cannot hold this name")
        elif entry.kind == "d":
            if entry.mode & 0o500 != 0o500:
                left.lost(entry, "a folder that may not be read")
                closed.add(entry.path)
        elif entry.kind not in "fl":
            left.lost(entry, "neither a file nor a link")
        elif entry.path in ruled and entry.path not in written:
            left.by_rule(entry, ruled[entry.path].top, ruled[entry.path].why)
        elif entry.kind == "f" and not entry.mode & 0o400:
            left.lost(entry, "a file that may not be read")
            closed.add(entry.path)
        else:
            files[entry.path] = None
            if listing.recorded_at and entry.changed >= listing.recorded_at - 1.1:  # the coarsest stat: 1 s
                again.append(entry.path)
    for path in written - kinds.keys() if listing.pruned else ():
        if _below_pruned(path, kinds):
            files[path] = None
            again.append(path)
    made = "commits, branches or stashes made in the copy"
    history = [Excluded(b".git", 1, made)] if listing.history else []
    # What cannot be looked at is not gone: the record keeps it as it was.
    gone = [path for path in listing.known - files.keys() if not closed.intersection(_upwards(path))]
    folders = []
    tops = {rule.top for rule in ruled.values()}
    for entry in _empty(listing, kinds):
        rule = listing.rule(entry.path + b"/x")
        if rule is None or (rule.if_ignored and rule.top not in tops):
            folders.append(entry.path)
        elif listing.whole:  # else it may only look empty
            left.by_rule(entry, rule.top, rule.why)
    return Sorted(list(files), gone, again, folders, left.told() + history)


def _upwards(path: bytes) -> Iterator[bytes]:
    """The path and every folder above it."""
    while path:
        yield path
        path = posixpath.dirname(path)


class _Leaving:
    """Gathers what stays behind; things that were there before the work began are not told."""

    def __init__(self, began: float) -> None:
        self.began = began
        self._ruled: dict[tuple[bytes, str], int] = {}
        self._lost: list[Excluded] = []

    def by_rule(self, entry: Seen, top: bytes, why: str) -> None:
        if entry.changed >= self.began:
            self._ruled[top, why] = self._ruled.get((top, why), 0) + 1

    def lost(self, entry: Seen, why: str) -> None:
        if entry.changed >= self.began:
            self._lost.append(Excluded(entry.path, 1, why, True))

    def told(self) -> list[Excluded]:
        ruled = [Excluded(top, files, why) for (top, why), files in sorted(self._ruled.items())]
        return self._lost + ruled


def _below_pruned(path: bytes, kinds: Mapping[bytes, str]) -> bool:
    """Whether `path` lies in a folder that stands in the listing but was not walked into."""
    parts = path.split(b"/")
    for index, part in enumerate(parts[:-1]):
        if kinds.get(b"/".join(parts[: index + 1])) != "d":
            return False  # gone, or a link now
        if part in _ALWAYS:
            return True
    return False


def _empty(listing: Listing, kinds: Mapping[bytes, str]) -> Iterator[Seen]:
    """Folders with nothing in them that was seen."""
    full = {posixpath.dirname(path) for path in kinds}
    for entry in listing.entries:
        open_folder = entry.kind == "d" and entry.mode & 0o500 == 0o500
        if open_folder and entry.path not in full and b".git" not in entry.path.lower().split(b"/"):
            yield entry


def parse(raw: bytes, separator: bytes) -> list[Seen]:
    """Entries `kind mode size changed path`, each ended by `separator`. Raises ValueError."""
    found = []
    for record in raw.split(separator):
        if record:
            kind, mode, size, changed, path = record.split(b" ", 4)
            found.append(Seen(path, kind.decode(), int(mode, 8), int(size), float(changed)))
    return found


def bounded(left: list[Excluded]) -> list[dict[str, Any]]:
    """At most TOLD entries as JSON, the lost ones first; the rest as one entry with their number."""
    ordered = sorted(left, key=lambda item: (not item.lost, item.path))
    told = [item.to_json() for item in ordered[:TOLD]]
    if rest := ordered[TOLD:]:
        lost = any(item.lost for item in rest)
        places = f"{len(rest)} more places"
        why, files = "not told one by one", sum(item.files for item in rest)
        told.append({"path": places, "files": files, "why": why, "lost": lost})
    return told


def incidental(path: str) -> bool:
    """Whether a file of this name says nothing about the work: a log, a cache, what a compiler leaves."""
    name = posixpath.basename(path).encode("utf-8", "replace")
    return bool(_IGNORED_FILE.fullmatch(name) or _ALWAYS_FILE.fullmatch(name))
