"""What is referred to never goes: snapshots, contents and objects against a simple model, with cuts in
between."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.sandbox.versions import collecting, comparing, contents
from actors.sandbox.versions.contents import Writer
from actors.sandbox.versions.objects import Objects
from schema import Database, blobs, sandboxes, snapshots, users
from schema.snapshots import ABSENT, Entry
from terminalpp.types.errors import SandboxFailed
from terminalpp.types.ids import new_id

DATA = [b"", b"one", b"two" * 100, os.urandom(70_000), b"long " * 40_000]
TREES = st.dictionaries(st.sampled_from(["/home/user/a", "/home/user/b", "/home/user/c"]), st.integers(0, 4))
STEPS = st.one_of(
    TREES.map(lambda tree: ("take", tree)),
    st.integers(0, 9).map(lambda number: ("delete", number)),
    st.sampled_from(
        [("collect", 0), ("prune", 0), ("half a snapshot", 0), ("half a collection", 0), ("move on", 0)]
    ),
)


async def stored(database: Database, objects: Objects, tree: dict[str, int]) -> dict[str, tuple[str, int]]:
    writer = Writer(database, objects)
    hashes = await writer.store([DATA[number] for number in tree.values()])
    await writer.record()
    return {path: (hash, len(DATA[n])) for (path, n), hash in zip(tree.items(), hashes, strict=True)}


async def take(database: Database, objects: Objects, box: str, tree: dict[str, int], whole: bool) -> str:
    held = await stored(database, objects, tree)
    head = await snapshots.head(database, box)
    before = {} if head is None else {one.path: one for one in await snapshots.tree(database, head)}
    entries = [Entry(path, "file", "644", size, hash) for path, (hash, size) in held.items()]
    if head is not None and not whole:
        entries = [one for one in entries if before.get(one.path) != one]
        entries += [Entry(path, ABSENT) for path in before.keys() - held.keys()]
    async with database.transaction() as c:
        made = await snapshots.add(
            c, new_id(), box, "test", entries, whole=whole or head is None, type="auto"
        )
    return made.id


async def holds(database: Database, objects: Objects, id: str) -> dict[str, bytes]:
    found = await snapshots.tree(database, await snapshots.get(database, id))
    data: dict[str, bytes] = {}
    async for some in contents.read(database, objects, {one.content_hash or "" for one in found}, longest=99):
        data |= dict(some)
    for hash in {one.content_hash or "" for one in found} - data.keys():
        data[hash] = b"".join([piece async for piece in contents.stream(database, objects, hash)])
    return {one.path: data[one.content_hash or ""] for one in found}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=14), st.lists(st.booleans(), min_size=14, max_size=14))
async def test_what_a_snapshot_holds_stays(database: Database, steps: list, wholes: list[bool]) -> None:
    await database.execute("DELETE FROM sandboxes")
    await database.execute("DELETE FROM blobs")
    box = new_id()
    await sandboxes.create(database, box, await users.ensure_owner(database), "box")
    objects = Objects(tempfile.mkdtemp(prefix="tpp-objects-"))
    wanted: dict[str, dict[str, int]] = {}
    for (step, given_), whole in zip(steps, itertools.cycle(wholes), strict=False):
        match step:
            case "take":
                wanted[await take(database, objects, box, given_, whole)] = given_
            case "delete" if len(wanted) > 1:
                gone = list(wanted)[given_ % (len(wanted) - 1)]
                async with database.transaction() as c:
                    assert await snapshots.delete(c, gone)
                del wanted[gone]
            case "prune":
                await collecting.prune(database, keep=2)
                left = {one.id for one in await snapshots.list(database, box)}
                assert left == set(list(wanted)[-2:])
                wanted = {id: tree for id, tree in wanted.items() if id in left}
            case "collect":
                await age(database, objects)
                await collecting.collect(database, objects, unused_seconds=60)
            case "half a snapshot":  # the process died behind the contents
                await stored(database, objects, {"x": 1, "y": 2})
            case "half a collection":  # the process died behind the rows
                await age(database, objects)
                await blobs.collect(database, 60)
        for id, tree in wanted.items():
            held = await holds(database, objects, id)
            assert held == {path: DATA[number] for path, number in tree.items()}
    # Nothing that nobody needs stays.
    await age(database, objects)
    await collecting.collect(database, objects, unused_seconds=60)
    needed = {number for tree in wanted.values() for number in tree.values()}
    rows = await database.fetch("SELECT url, stored_bytes FROM blobs")
    assert len(rows) == len(needed)
    on_disk = [
        str(path.relative_to(objects._folder or ""))
        for path in Path(objects._folder or "").rglob("*")
        if path.is_file()
    ]
    assert set(on_disk) == {row["url"] for row in rows if row["stored_bytes"]}


async def age(database: Database, objects: Objects) -> None:
    """All that is there was written, and used, an hour ago."""
    await database.execute("UPDATE blobs SET last_seen_at = now() - interval '1 hour'")
    for path in Path(objects._folder or "").rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 3600,) * 2)


async def test_what_is_used_again_is_not_collected(database: Database, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    held = await stored(database, objects, {"x": 1})
    await age(database, objects)
    assert await stored(database, objects, {"y": 1}) == {"y": held["x"]}  # known, not yet referred to
    assert await collecting.collect(database, objects, unused_seconds=60) == (0, 0)
    assert len(await blobs.get(database, [held["x"][0]])) == 1


async def test_a_damaged_content_is_told(database: Database, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    for number in (1, 3, 4):
        held = await stored(database, objects, {"x": number})
        (blob,) = (await blobs.get(database, [held["x"][0]])).values()
        file = tmp_path / "objects" / blob.url
        raw = bytearray(file.read_bytes())
        raw[blob.position + blob.stored_bytes // 2] ^= 1
        file.write_bytes(raw)
        with pytest.raises(SandboxFailed, match="damaged"):
            [one async for one in contents.read(database, objects, [blob.content_hash])]
        with pytest.raises(SandboxFailed, match="damaged"):
            [one async for one in contents.stream(database, objects, blob.content_hash)]


async def test_what_differs_between_any_two(database: Database, tmp_path: Path) -> None:
    box = new_id()
    await sandboxes.create(database, box, await users.ensure_owner(database), "box")
    objects, made = Objects(tmp_path / "objects"), []
    trees = [
        {"/home/user/a": 1},
        {"/home/user/a": 2, "/home/user/b": 1},
        {"/home/user/b": 1},
        {"/home/user/a": 1},
    ]
    for number, tree in enumerate(trees):
        id = await take(database, objects, box, tree, whole=number == 2)
        made.append(await snapshots.get(database, id))
    for one, two in itertools.product(range(4), repeat=2):
        found = await comparing.between(database, made[one], made[two])
        names = {f"/home/user/{diff.path.decode()}" for diff in found}
        paths = trees[one].keys() | trees[two].keys()
        assert names == {path for path in paths if trees[one].get(path) != trees[two].get(path)}
