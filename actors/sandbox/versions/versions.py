"""The versions of one sandbox's files: taking a snapshot, and making the files as a snapshot has them.

The tree is everything in `/home/user`. A snapshot looks at all of it (a walk of names, sizes and times by
tppd), reads what seems changed, stores contents that are new, and commits one transaction under the
sandbox's fence: the snapshot with what differs from the one before, the entries as they are now, and a
version of each file that changed. So whoever changed a file, an agent, a person or a shell command, is all
the same.

What is restored is looked at first, so that nothing of it is lost: the snapshot before a restore is its
undo. Then steps are made from what is there to what is to be, and made anew until nothing differs. Each step
is done only where what it replaces is as it was looked at; what a program wrote meanwhile is looked at, and
kept by a snapshot of its own, before it goes. Dying in between leaves a tree between the two; the same call
goes on from there.

One thing at a time per sandbox. Memory holds the tree's names and stamps, and a few objects' worth of
contents.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actors.sandbox.tppd.bulk import ASIDE, MEANWHILE
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.versions import filling, rows
from actors.sandbox.versions.comparing import tree_of
from actors.sandbox.versions.contents import Writer
from actors.sandbox.versions.looking import Reader, walked
from actors.sandbox.versions.objects import Objects
from actors.sandbox.versions.plan import Plan, plan, within
from actors.sandbox.versions.tree import Difference, Entry, Left, Tree, differences, restamped, same
from runtime import Context
from schema import file_entries, snapshots
from schema.database import check_fence
from schema.snapshots import Snapshot
from terminalpp.types.errors import Conflict, NotFound
from terminalpp.types.ids import derived_id, new_id

ROUNDS = 8  # of a restore while something else changes files
CHAIN = 64  # snapshots after which the next one is whole
EVERYTHING: tuple[bytes, ...] = (b"",)


@dataclass(frozen=True, slots=True)
class About:
    """What a snapshot is recorded as; `metadata` is its maker's own."""

    id: str
    name: str
    type: str
    description: str | None
    created_by: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot, the tree it holds, what it found changed since the one before, and what it does not
    hold."""

    snapshot: Snapshot
    tree: Tree
    changed: list[Difference]
    left: list[Left]


@dataclass(frozen=True, slots=True)
class Observed:
    """The tree as it was looked at, what is not kept of it, and the first words of the files that were
    read."""

    tree: Tree
    left: list[Left]
    previews: dict[bytes, str | None]


@dataclass(frozen=True, slots=True)
class Restored:
    """`before`: the snapshot that undoes it. `after`: what it came to. `untouched`: what cannot become as it
    was, or stays though it was not there; `failed`: the same, with the errno of the last try. `meanwhile`:
    the snapshots that hold what was written while it went on."""

    before: Snapshot
    after: Snapshot
    changed: list[Difference]
    untouched: list[bytes] = field(default_factory=list)
    failed: list[tuple[bytes, int]] = field(default_factory=list)
    meanwhile: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Applied:
    """What the tree is behind the steps of a restore, the steps that would be left, those that failed, and
    the snapshots of what was written meanwhile."""

    observed: Observed
    steps: Plan
    failed: list[tuple[bytes, int]]
    meanwhile: list[str]


class Versions:
    """See the head of this file. `tppd` gives the client of the running sandbox; it is asked for at each
    use."""

    def __init__(
        self, context: Context, sandbox_id: str, tppd: Callable[[], Awaitable[Tppd]], objects: Objects
    ) -> None:
        self._context, self.sandbox_id, self._tppd, self.objects = context, sandbox_id, tppd, objects
        self._lock = asyncio.Lock()
        self._recorded: Tree | None = None  # as the newest snapshot has it
        self._chain: tuple[int, int] | None = None  # snapshots since the last whole one, and their entries
        self._seen: Tree | None = None  # contents that are known besides, by their stamps

    # ---- taking ---------------------------------------------------------------------------------

    async def take(
        self,
        id: str,
        *,
        name: str,
        type: str = "manual",
        description: str | None = None,
        created_by: str | None = None,
        metadata: dict[str, Any] | None = None,
        always: bool = True,
    ) -> Taken:
        """The snapshot `id`: once. Unless `always`, the newest one when nothing has changed since it.

        Raises what the sandbox raises, DiskFull, Unavailable.
        """
        await self._tppd()  # a fork that is not filled yet needs the lock for that
        async with self._lock:
            return await self._take(About(id, name, type, description, created_by, metadata or {}), always)

    async def _take(self, about: About, always: bool = True) -> Taken:
        recorded = await self._load()
        if (made := await self._made(about.id)) is not None:
            return Taken(made, await self._tree_from(made, recorded), [], [])
        observed = await self._observe(self._seen or recorded)
        return await self._commit(observed, about, always)

    async def _made(self, id: str) -> Snapshot | None:
        try:
            return await snapshots.get(self._context.database, id)
        except NotFound:
            return None

    async def _observe(self, known: Tree) -> Observed:
        """The tree as it is, its contents stored."""
        tppd, writer = await self._tppd(), Writer(self._context.database, self.objects)
        reader = Reader(tppd, writer, await walked(tppd, known))
        seen = await reader.read()
        await writer.record()
        return Observed(seen.tree, seen.left, reader.previews)

    async def _commit(self, observed: Observed, about: About, always: bool = True) -> Taken:
        database, recorded, tree, left = (
            self._context.database,
            await self._load(),
            observed.tree,
            observed.left,
        )
        changed, touched = differences(recorded, tree), restamped(recorded, tree)
        head = await snapshots.head(database, self.sandbox_id)
        if self._chain is None:
            self._chain = await snapshots.since_whole(database, self.sandbox_id)
        whole = head is None or self._due(tree)
        chain, self._chain = self._chain, None
        self._recorded = None  # should a commit's fate stay unknown, the database has to tell
        # The fence at the end: much is written the first time, and the sandbox's other writers wait for who
        # holds it.
        async with database.transaction() as c:
            await file_entries.restamp(c, self.sandbox_id, [rows.restamp(*one) for one in touched])
            if changed or always or head is None:
                await self._record(c, changed, observed.previews, about.created_by, about.name)
                kept = [*tree.items()] if whole else [(one.path, one.new) for one in changed]
                files, size = tree.counts()
                told = {"left": rows.told(left), "left_count": len(left)} if left else {}
                head = await snapshots.add(
                    c,
                    about.id,
                    self.sandbox_id,
                    about.name,
                    [rows.row(*one) for one in kept],
                    whole=whole,
                    type=about.type,
                    description=about.description,
                    file_count=files,
                    total_size_bytes=size,
                    created_by=about.created_by,
                    metadata={**about.metadata, **told, "changed": len(changed)},
                    tree_hash=tree.digest(),
                )
                chain = (1, len(kept)) if whole else (chain[0] + 1, chain[1] + len(kept))
            await check_fence(c, self._context.fence)
        self._recorded, self._seen, self._chain = tree, None, chain
        return Taken(head, tree, changed, left)

    async def _load(self) -> Tree:
        if self._recorded is None:
            found = await file_entries.live(self._context.database, self.sandbox_id)
            self._recorded = await asyncio.to_thread(lambda: Tree.of(rows.loaded(one) for one in found))
        return self._recorded

    def _due(self, tree: Tree) -> bool:
        """Whether so much has gathered since the last whole snapshot that the next one is to be whole."""
        count, entries = self._chain or (0, 0)
        return count >= CHAIN or entries > 1000 + 2 * sum(len(d.entries) for d in tree.directories.values())

    async def _record(
        self,
        c: Any,
        changed: Sequence[Difference],
        previews: dict[bytes, str | None],
        created_by: str | None,
        message: str,
    ) -> None:
        """The entries as they are now, and the versions of the files that changed."""
        moved = rows.moves(changed)
        await file_entries.move(c, self.sandbox_id, [(rows.text(old), rows.text(new)) for old, new in moved])
        put = [rows.stamped(one.path, one.new) for one in changed if one.new is not None]
        await file_entries.put(c, self.sandbox_id, put)
        gone = [rows.text(one.path) for one in changed if one.new is None]
        await file_entries.drop(c, self.sandbox_id, gone)
        made = rows.versions(changed, previews, {new: old for old, new in moved})
        await file_entries.add_versions(c, self.sandbox_id, made, created_by=created_by, message=message)

    async def _tree_from(self, snapshot: Snapshot, newest: Tree) -> Tree:
        """What a snapshot of this sandbox holds, told from the newest one's tree where that is less to
        read."""
        head = await snapshots.head(self._context.database, self.sandbox_id)
        assert head is not None
        found = await snapshots.touched(self._context.database, snapshot, head)
        if found is None:
            return await tree_of(self._context.database, snapshot)
        return newest.changed(rows.entry_or_none(one) for one in found)

    # ---- restoring ------------------------------------------------------------------------------

    async def restore(
        self,
        id: str,
        target: Snapshot,
        *,
        name: str,
        scope: Sequence[bytes] = EVERYTHING,
        created_by: str | None = None,
    ) -> Restored:
        """Make the files at or below `scope` as `target` has them; once per `id`, and safe to repeat.

        Raises what the sandbox raises, DiskFull, Unavailable, Conflict (something keeps changing the files).
        """
        await self._tppd()
        async with self._lock:
            mark = {"restore": id, "target": target.id}
            before = await self._take(
                About(derived_id(id, "before"), f"before: {name}", "auto", None, created_by, mark)
            )
            if (made := await self._made(derived_id(id, "after"))) is not None:
                return Restored(before.snapshot, made, [])
            then = await self._tree_from(target, await self._load())
            about = About(derived_id(id, "after"), name, "auto", None, created_by, mark)
            done = await self._apply(await self._now(before), then, scope, about)
            after = await self._commit(done.observed, about)
            changed = [one for one in differences(before.tree, after.tree) if within(one.path, scope)]
            return Restored(
                before.snapshot, after.snapshot, changed, done.steps.untouched, done.failed, done.meanwhile
            )

    async def _now(self, before: Taken) -> Observed:
        """What was looked at for the undo; anew when that was taken by a try that was cut short."""
        if self._recorded is before.tree:
            return Observed(before.tree, before.left, {})
        return await self._observe(await self._load())

    async def _apply(
        self, observed: Observed, then: Tree, scope: Sequence[bytes], about: About | None = None
    ) -> _Applied:
        """Steps until nothing differs, or the same ones fail again; what the tree is then. `about`: what a
        restore is recorded as; None: nothing else writes to these files."""
        failed: list[tuple[bytes, int]] = []
        restless: set[bytes] = set()
        meanwhile: list[str] = []
        for _ in range(ROUNDS):
            steps = plan(observed.tree, then, scope, restless, alone=about is None)
            if steps.empty:
                return _Applied(observed, steps, [], meanwhile)
            if about is not None and self._unrecorded(steps, await self._load()):
                name = f"written meanwhile: {about.name}"[:255]
                kept = await self._commit(observed, replace(about, id=new_id(), name=name))
                meanwhile.append(kept.snapshot.id)
            before, failed = failed, await filling.carry_out(
                steps, await self._tppd(), self._context, self.objects
            )
            restless |= {path for path, errno in failed if errno == MEANWHILE}
            observed = await self._observe(observed.tree)
            if failed and failed == before and not any(errno == MEANWHILE for _, errno in failed):
                break
        steps = plan(observed.tree, then, scope, restless)
        if steps.empty or (failed and not any(errno == MEANWHILE for _, errno in failed)):
            return _Applied(observed, steps, failed if not steps.empty else [], meanwhile)
        raise Conflict(
            "the files kept changing while they were restored", "End what writes to them, then do it again."
        )

    @staticmethod
    def _unrecorded(steps: Plan, recorded: Tree) -> bool:
        """Whether something would go that the newest snapshot does not hold; what was set aside is what it
        holds under another name, or was written since."""
        going = [(path, old) for path, old in steps.replaced if not _holds(recorded, path, old)]
        if not going:
            return False
        hashes = {entry.hash for _, entry in recorded.items()}
        return not all(
            path.rpartition(b"/")[2].startswith(ASIDE) and stat.S_ISREG(old.mode) and old.hash in hashes
            for path, old in going
        )

    async def populate(self, target: Snapshot) -> None:
        """Fill a sandbox in which nothing runs yet with what a snapshot, of any sandbox, holds. Raises as
        `restore` does."""
        async with self._lock:
            then, tppd = await tree_of(self._context.database, target), await self._tppd()
            now = await walked(tppd, Tree())
            if not now.tree.directories[b""].entries:
                await filling.carry_out(plan(Tree(), then, alone=True), tppd, self._context, self.objects)
                now = await walked(tppd, Tree())
                for path, found in now.unread:  # just written, and nobody else was there
                    kept = then.get(path)
                    if kept is not None and kept.hash is not None and kept.size == found.size:
                        now.settle(path, Entry(found.mode, found.size, found.stamp, kept.hash))
                self._seen = now.tree
            else:  # it was begun before
                await self._apply(await self._observe(await self._load()), then, EVERYTHING)


def _holds(tree: Tree, path: bytes, entry: Entry) -> bool:
    found = tree.get(path)
    return found is not None and same(found, entry)
