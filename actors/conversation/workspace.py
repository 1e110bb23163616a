"""Records of a work tree in a git store of its own, beside the workspace and never in it.

The person's `.git` is not used, not locked and not changed: objects and index live in `/home/user/.tpp`. What
belongs into a record is decided by `worktree` from a listing, never by git's own walk: so ignored files are
work, the files of a repository inside the tree are files, and an empty folder is remembered. Attributes,
filters and settings of anybody are off: files are recorded and restored byte by byte.

Whether a file changed is not left to git's stat data alone, which cannot tell two edits of one second apart:
what changed since the second before the last record was begun is read again.

A record is a listing (done as often as wanted) and then one command under an id derived from the visit that
asks: repeated after a crash it returns its recorded result. Each works on a copy of the index, so a killed
one leaves no lock behind and two may run at once. A git that says anything on its error output has failed, so
nothing is left out in silence.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.conversation import store as git_store
from actors.conversation import worktree
from actors.conversation.store import Place, Store
from actors.conversation.worktree import PLACEHOLDER, Excluded, Listing, Rule
from terminalpp.types.errors import SandboxFailed, TooLarge
from terminalpp.types.ids import derived_id, new_id

TEXT_BYTES = 120_000  # of a diff for a reader
PATCH_BYTES = 64 << 20  # what the journal keeps of one output
_HEADER = re.compile(rb"^diff --git a/(.* /.*) b/\1$", re.MULTILINE)
ATTEMPTS = 3  # at a record whose tree changes while it is made
_EMPTY_BLOB = b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git's SHA-1 of no content


@dataclass(frozen=True)
class Record:
    """A recorded tree, and what of the work stays outside it."""

    tree: str
    left: list[Excluded]


@dataclass(frozen=True)
class Change:
    """What lies between two trees: its files, a patch for `git apply`, and what stays outside both.

    An empty folder made or removed is in the patch as an empty file of the name PLACEHOLDER.
    """

    files: list[dict[str, Any]]
    patch: bytes
    patch_bytes: int
    left: list[Excluded]


class GitWorkspace:
    """`graphs.ports.Workspace` on a sandbox.

    `include`: patterns (as in `.gitignore`) of files that belong to the work whatever the rules say. `kept`:
    keeps all files outside of the sandbox. `authored`: gives the absolute paths that agents wrote by their
    tools; asked only when a rule would keep a file behind.
    """

    def __init__(
        self,
        place: Place,
        workspace: str,
        conversation_id: str,
        *,
        include: Iterable[str] = (),
        authored: Callable[[], Awaitable[Iterable[str]]] | None = None,
        kept: Callable[[str], Awaitable[str | None]] | None = None,
        home: str = "/home/user",
    ) -> None:
        self.place, self.workspace = place, workspace
        self.store = Store(place, workspace, f"{home}/.tpp/trees/{conversation_id}.git")
        self.include, self._authored, self._kept = tuple(include), authored, kept

    async def snapshot(self, key: str) -> str:
        """Record the tree; its id. Raises SandboxFailed when git is missing or the folder is gone."""
        return (await self.record(derived_id(key, "snapshot"))).tree

    async def record(self, id: str, *, keep: bool = True, whole: bool = False) -> Record:
        """The tree as it is now. `keep`: what comes later is compared with this record. `whole`: folders of
        dependencies and caches are walked into, so that what stays behind in them is told with its number."""
        for number in range(ATTEMPTS - 1):
            with contextlib.suppress(SandboxFailed):  # the tree changed under the listing: list it again
                return await self._record(id, number, keep, whole)
        return await self._record(id, ATTEMPTS - 1, keep, whole)

    async def _record(self, id: str, number: int, keep: bool, whole: bool) -> Record:
        key = id[:13]
        listing = await self._list(key, whole=whole or bool(self.include))
        if listing.too_short:
            listing = await self._list(key, whole=True)
        rules = listing.candidates()
        ruled, written = await self._ruled(key, rules), await self._written(listing, rules)
        found = worktree.sort(listing, ruled, written)
        await self._hand_over(key, listing, found)
        script = git_store.RECORD.format(key=key, keep=git_store.KEEP if keep else "")
        _, seen = await self.store.git(id, script, number)
        return Record(str(seen["stdout"]).strip(), found.left)

    async def keep(self, label: str) -> str | None:
        """See graphs.ports.Workspace."""
        return None if self._kept is None else await self._kept(label)

    async def restore(self, key: str, snapshot: str) -> None:
        """Make the work tree equal to `snapshot`; what is no part of records stays."""
        id = derived_id(key, "restore", snapshot)
        await self.record(derived_id(id, "before"))
        tree, placeholder = shlex.quote(snapshot), PLACEHOLDER.decode()
        script = git_store.RESTORE.format(key=id[:13], tree=tree, placeholder=placeholder)
        await self.store.git(id, script + git_store.KEEP)

    async def diff(self, key: str, base: str, to: str) -> dict[str, Any]:
        """`{files, patch_bytes, text}` between two snapshots; `text` is cut at TEXT_BYTES."""
        made = await self._between(derived_id(key, "diff", base, to), base, to, TEXT_BYTES)
        text = made.patch.decode("utf-8", "replace")
        return {"files": made.files, "patch_bytes": made.patch_bytes, "text": text}

    async def now(self, base: str) -> tuple[Change, str]:
        """What lies between `base` and the tree at this moment, and its id.

        Files that do not fit into a patch of PATCH_BYTES are left out of it and told as lost.
        """
        key = new_id()
        record = await self.record(derived_id(key, "now"), keep=False, whole=True)
        made = await self._between(derived_id(key, "patch"), base, record.tree, PATCH_BYTES)
        heavy = await self.too_large(key, base, record.tree, made.patch_bytes)
        if heavy:
            paths = [left.path for left in heavy]
            made = await self._between(derived_id(key, "rest"), base, record.tree, PATCH_BYTES, paths)
        if made.patch_bytes > PATCH_BYTES:
            raise TooLarge(
                f"the changes are {made.patch_bytes} bytes as a patch; the limit is {PATCH_BYTES}",
                "Have the team delete what it generated, or fetch files one by one: "
                "GET /v1/sandboxes/{sandbox_id}/files?path=…",
            )
        patch = unambiguous(made.patch)
        return Change(made.files, patch, len(patch), [*record.left, *heavy]), record.tree

    async def too_large(self, key: str, base: str, to: str, patch_bytes: int) -> list[Excluded]:
        """The changed files that a patch leaves out, when the whole of it would have `patch_bytes`."""
        if patch_bytes <= PATCH_BYTES:
            return []
        why = "too large for a patch; fetch it with GET /v1/sandboxes/{sandbox_id}/files"
        heavy = await self._heavy(derived_id(key, "heavy"), base, to)
        return [Excluded(path, 1, why, True) for path in heavy]

    # ---- a record's two halves ----------------------------------------------------------------------

    async def _list(self, key: str, *, whole: bool) -> Listing:
        """List the tree. Raises SandboxFailed when something in it cannot be listed."""
        pruned = "" if whole else "".join(f" -o -name {shlex.quote(name)}" for name in worktree.PRUNED)
        await self.store.git(new_id(), git_store.LIST.format(key=key, format=git_store.FORMAT, pruned=pruned))
        raw = {name: await self.store.seen(key, name) for name in ("list", "form", "errors", "began", "known",
                                                              "recorded", "tracked", "history")}  # fmt: skip
        for line in filter(None, raw["errors"].split(b"\n")):
            if not line.endswith((b": Permission denied", b": No such file or directory")):
                raise SandboxFailed(f"the workspace cannot be listed: {line.decode('utf-8', 'replace')}")
        entries = git_store.entries(raw["list"], raw["form"] == b"nul")
        known = frozenset(filter(None, raw["known"].split(b"\0")))
        return Listing(
            entries,
            frozenset(filter(None, raw["tracked"].split(b"\0"))),
            frozenset(name for name in known if not _placeholder(name)),
            float(raw["recorded"] or 0),
            float(raw["began"] or 0),
            whole,
            frozenset(name for name in known if _placeholder(name)),
            bool(raw["history"]),
        )

    async def _ruled(self, key: str, rules: dict[bytes, Rule]) -> dict[bytes, Rule]:
        """The rules that hold: git ignores what it must ignore, and no pattern includes it."""
        asked = [path for path, rule in rules.items() if rule.if_ignored or self.include]
        if not asked:
            return rules
        patterns = [pattern.encode("utf-8", "surrogateescape") for pattern in self.include]
        await self.store.hand(key, "include", patterns, b"\n")
        await self.store.hand(key, "asked", asked)
        await self.store.git(new_id(), git_store.RULED.format(key=key))
        ignored = set((await self.store.seen(key, "ignored")).split(b"\0"))
        included = set((await self.store.seen(key, "included")).split(b"\0"))
        return {
            path: rule
            for path, rule in rules.items()
            if path not in included and (path in ignored or not rule.if_ignored)
        }

    async def _written(self, listing: Listing, rules: Mapping[bytes, Rule]) -> list[bytes]:
        if self._authored is None or not (rules or listing.pruned):
            return []
        prefix = self.workspace.rstrip("/") + "/"
        return [
            path.removeprefix(prefix).encode("utf-8", "surrogateescape")
            for path in await self._authored()
            if path.startswith(prefix)
        ]

    async def _hand_over(self, key: str, listing: Listing, found: worktree.Sorted) -> None:
        """Write down for git: what leaves the index, the empty folders, and all that belongs into it."""
        folders = {folder + b"/" + PLACEHOLDER for folder in found.folders}
        out = [*found.gone, *found.again]
        lines = [b"0 " + b"0" * 40 + b"\t" + name for name in listing.placeholders - folders]
        lines += [b"100644 " + _EMPTY_BLOB + b"\t" + name for name in folders]
        for name, records in (("out", out), ("folders", lines), ("in", found.files)):
            await self.store.hand(key, name, records)

    # ---- between two records ------------------------------------------------------------------------

    async def _between(
        self, id: str, base: str, to: str, limit: int, without: Iterable[bytes] = ()
    ) -> Change:
        between = f"{shlex.quote(base)} {shlex.quote(to)} -- ':(top)'"
        options = "--no-color --no-ext-diff --no-textconv --no-renames"
        left_out = "".join(" " + _quoted(b":(top,exclude,literal)" + path) for path in without)
        folders = f" ':(top,exclude,glob)**/{PLACEHOLDER.decode()}'"
        counted, _ = await self.store.git(
            derived_id(id, "files"), f"g diff {options} --numstat -z {between}{left_out}{folders}"
        )
        raw, _ = await self.place.bytes_of(counted, 0, PATCH_BYTES)
        made, seen = await self.store.git(
            derived_id(id, "patch"),
            f"g diff {options} --binary --src-prefix=a/ --dst-prefix=b/ {between}{left_out}",
        )
        patch, _ = await self.place.bytes_of(made, 0, limit)
        return Change(numstat(raw), patch, int(seen["stdout_bytes"] or 0), [])

    async def _heavy(self, id: str, base: str, to: str) -> list[bytes]:
        """The largest changed files, as many as must go so that the rest surely fits."""
        script = (
            f"g diff --raw -z --no-abbrev --no-renames {shlex.quote(base)} {shlex.quote(to)} > "
            f'"$GIT_DIR/raw.{id[:13]}" && g ls-tree -r -l -z {shlex.quote(base)} && '
            f"g ls-tree -r -l -z {shlex.quote(to)}"
        )
        ran, _ = await self.store.git(id, script)
        raw, _ = await self.place.bytes_of(ran, 0, PATCH_BYTES)
        changed = set((await self.place.read_file(f"{self.store.path}/raw.{id[:13]}")).split(b"\0")[1::2])
        sizes: dict[bytes, int] = {}
        for line in filter(None, raw.split(b"\0")):
            about, _, path = line.partition(b"\t")
            if path in changed:
                sizes[path] = sizes.get(path, 0) + int(about.split()[-1])
        heavy, total = [], sum(sizes.values())
        for path in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total * 5 // 4 < PATCH_BYTES * 3 // 4:  # base 85 adds a fourth; some room for headers
                break
            heavy.append(path)
            total -= sizes[path]
        return heavy


def _placeholder(name: bytes) -> bool:
    return name.endswith(b"/" + PLACEHOLDER)


def _quoted(word: bytes) -> str:
    """A shell word that stands for these bytes, also where they are no text."""
    return shlex.quote(word.decode("utf-8", "surrogateescape"))


def unambiguous(patch: bytes) -> bytes:
    """The patch with names quoted in `diff --git` lines where `git apply` could not read them else.

    For a file without content that line alone names it, and git cannot read its own line when a folder's
    name ends with a space. Git quotes by itself what else must be.
    """
    return _HEADER.sub(rb'diff --git "a/\1" "b/\1"', patch)


def numstat(raw: bytes) -> list[dict[str, Any]]:
    """`git diff --numstat -z` as `{path, added, removed}`; binary files count None."""
    files = []
    for entry in raw.split(b"\0"):
        added, _, rest = entry.partition(b"\t")
        removed, _, path = rest.partition(b"\t")
        if path:
            files.append(
                {
                    "path": path.decode("utf-8", "replace"),
                    "added": _number(added),
                    "removed": _number(removed),
                }
            )
    return files


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None
