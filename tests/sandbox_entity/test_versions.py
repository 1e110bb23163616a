"""Files that can be taken back: snapshots, restores and forks, whoever changed the files."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import pytest

from schema import Database, file_entries, sandboxes, snapshots
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from tests.sandbox_entity.conftest import Cell

HOME = "/home/user"


async def snap(cell: Cell, id: str, **options: Any) -> dict[str, Any]:
    return await cell.call(id, "snapshot", **{"snapshot_id": new_id(), "name": "test", **options})


async def sh(cell: Cell, id: str, script: str) -> str:
    ran = await cell.sh(id, f"cd {HOME} || exit\n{script}")
    assert ran["exit_code"] == 0, ran
    return ran["stdout"]


async def restore(cell: Cell, id: str, snapshot_id: str, **options: Any) -> dict[str, Any]:
    restore_id = options.pop("restore_id", None) or new_id()
    await cell.send(id, "restore", restore_id=restore_id, snapshot_id=snapshot_id, **options)
    return await cell.call(id, "restored", restore_id=restore_id, timeout_ms=60_000)


# Everything about a tree that a snapshot promises to keep.
LISTING = r"""
find . -mindepth 1 \( -type f -o -type d -o -type l \) -printf '%y %m %p %l\n' |
    sed 's/^l 777/l/' | LC_ALL=C sort
find . -type f -readable -exec sha256sum {} + | LC_ALL=C sort -k2
"""


async def listing(cell: Cell, id: str) -> str:
    return await sh(cell, id, LISTING)


async def test_what_a_shell_did_is_taken_back(cell: Cell, sandbox: str, database: Database) -> None:
    await sh(
        cell,
        sandbox,
        r"""
        mkdir -p src/deep empty .git/objects; echo one > src/a; printf 'x\r\n' > src/deep/b; chmod 755 src/a
        ln -s src/a link; ln -s /nowhere dangling; ln src/a hard; echo 'ref' > .git/HEAD
        printf z > "$(printf 'odd \377\\ name\n')"; : > nothing; chmod 700 empty; umask 077; echo s > secret
        truncate -s 3M sparse; echo end >> sparse""",
    )
    first = await snap(cell, sandbox)
    before = await listing(cell, sandbox)
    assert first["left"] == []
    await sh(
        cell,
        sandbox,
        r"""
        rm -r src .git link; mkdir link; echo two > link/x; echo changed >> hard; rmdir empty; mv secret moved
        rm nothing; mkdir nothing; chmod 644 hard; ln -sf elsewhere dangling; rm sparse; echo new > new""",
    )
    second = await snap(cell, sandbox)
    after = await listing(cell, sandbox)
    assert before != after
    assert second["tree"] != first["tree"]
    done = await restore(cell, sandbox, first["snapshot"]["id"])
    assert (done["status"], done["failed"], done["untouched"]) == ("done", [], [])
    assert await listing(cell, sandbox) == before
    again = await snap(cell, sandbox)
    assert again["tree"] == first["tree"]
    # A restore can be undone.
    undone = await restore(cell, sandbox, done["before"])
    assert undone["status"] == "done"
    assert await listing(cell, sandbox) == after
    assert (await snap(cell, sandbox))["tree"] == second["tree"]
    assert int(await sh(cell, sandbox, "ls -s sparse 2>/dev/null | cut -d' ' -f1 || true") or 0) == 0


async def test_a_sparse_file_stays_sparse(cell: Cell, sandbox: str) -> None:
    await sh(cell, sandbox, "truncate -s 3M sparse; echo end >> sparse")
    first = await snap(cell, sandbox)
    await sh(cell, sandbox, "rm sparse")
    await restore(cell, sandbox, first["snapshot"]["id"])
    assert int(await sh(cell, sandbox, "stat -c %b sparse")) < 200
    assert (await sh(cell, sandbox, "tail -c 4 sparse; stat -c %s sparse")).split() == [
        "end",
        str(3 * 2**20 + 4),
    ]


async def test_what_is_not_kept_is_said_and_never_touched(cell: Cell, sandbox: str) -> None:
    await sh(
        cell,
        sandbox,
        """
        mkdir d; mkfifo d/pipe; echo x > closed; chmod 000 closed
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("d/socket")' 2> /dev/null || :""",
    )
    first = await snap(cell, sandbox)
    why = {one["path"]: one["why"] for one in first["left"]}
    assert why[f"{HOME}/d/pipe"] == "a pipe"
    assert why[f"{HOME}/closed"].startswith("it may not be read")
    assert first["snapshot"]["metadata"]["left_count"] == len(why)
    await sh(cell, sandbox, "echo later > later")
    done = await restore(cell, sandbox, first["snapshot"]["id"])
    assert done["status"] == "done"
    assert await sh(cell, sandbox, "test -p d/pipe && stat -c %a closed; ls") == "0\nclosed\nd\n"
    # A directory that holds what is not kept is not taken away with it.
    await sh(cell, sandbox, "mkdir e; mkfifo e/pipe; echo x > e/file")
    done = await restore(cell, sandbox, first["snapshot"]["id"])
    assert [one["path"] for one in done["failed"]] == [f"{HOME}/e"]
    assert await sh(cell, sandbox, "ls e") == "pipe\n"


async def test_only_some_paths(cell: Cell, sandbox: str) -> None:
    await sh(cell, sandbox, "mkdir -p a b/c; echo 1 > a/f; echo 1 > b/c/f; echo 1 > b/g")
    first = await snap(cell, sandbox, below=f"{HOME}/a")
    await sh(cell, sandbox, "echo 2 > a/f; rm -r b; echo 2 > a/new; echo 2 > other")
    done = await restore(cell, sandbox, first["snapshot"]["id"], paths=[f"{HOME}/a"])
    assert await sh(cell, sandbox, "cat a/f; ls; ls a") == "1\na\nother\nf\n"
    assert {one["path"] for one in done["changed"]} == {f"{HOME}/a/f", f"{HOME}/a/new"}
    await restore(cell, sandbox, first["snapshot"]["id"], paths=[f"{HOME}/b/c/f"])
    assert await sh(cell, sandbox, "find b -type f; cat b/c/f") == "b/c/f\n1\n"
    with pytest.raises(errors.InvalidInput):
        await restore(cell, sandbox, first["snapshot"]["id"], paths=["/etc"])
    with pytest.raises(errors.NotFound):
        await restore(cell, sandbox, new_id())
    assert (await snap(cell, sandbox, below=f"{HOME}/a"))["tree"] == first["tree"]


async def test_entries_and_versions_follow(cell: Cell, sandbox: str, database: Database, owner: str) -> None:
    await sh(
        cell, sandbox, "mkdir -p p/node_modules; echo one > p/f; echo dep > p/node_modules/m; echo k=v > .env"
    )
    await snap(cell, sandbox, created_by=owner, name="first")
    live = {one.entry.path: one.entry for one in await file_entries.live(database, sandbox)}
    assert live[f"{HOME}/p/node_modules/m"].type == "file"
    assert live[f"{HOME}/p/f"].content_hash == hashlib.sha256(b"one\n").hexdigest()
    await sh(cell, sandbox, "echo two > p/f; chmod 600 p/node_modules/m")
    await snap(cell, sandbox)
    await sh(cell, sandbox, "mv p/f p/g; rm p/node_modules/m")
    await snap(cell, sandbox)
    await sh(cell, sandbox, "rm p/g")
    last = await snap(cell, sandbox)
    told = await file_entries.versions(database, sandbox, f"{HOME}/p/g")
    assert [(v.version_number, v.change_type, v.path, v.content_preview) for v in told] == [
        (4, "deleted", f"{HOME}/p/g", None),
        (3, "renamed", f"{HOME}/p/g", "two\n"),
        (2, "modified", f"{HOME}/p/f", "two\n"),
        (1, "created", f"{HOME}/p/f", "one\n"),
    ]
    assert (told[-1].created_by, told[-1].commit_message) == (owner, "first")
    assert await file_entries.versions(database, sandbox, f"{HOME}/p/node_modules/m") == []
    assert [v.content_preview for v in await file_entries.versions(database, sandbox, f"{HOME}/.env")] == [
        None
    ]
    live = {one.entry.path for one in await file_entries.live(database, sandbox)}
    assert f"{HOME}/p/g" not in live
    assert {f"{HOME}/p", f"{HOME}/p/node_modules", f"{HOME}/.env"} <= live
    used = await database.fetchval(
        "SELECT total_storage_bytes FROM user_storage_usage WHERE user_id = $1", owner
    )
    assert used == last["snapshot"]["bytes"]


async def test_the_same_id_is_the_same_snapshot(cell: Cell, sandbox: str, database: Database) -> None:
    await sh(cell, sandbox, "echo 1 > f")
    id = new_id()
    one, two = await asyncio.gather(snap(cell, sandbox, snapshot_id=id), snap(cell, sandbox, snapshot_id=id))
    assert one["snapshot"] == two["snapshot"]
    assert one["tree"] == two["tree"]
    same = await snap(cell, sandbox, always=False, type="auto")
    assert same["snapshot"]["id"] == id
    assert len(await snapshots.list(database, sandbox)) == 1


async def test_a_fork_is_another_sandbox_with_these_files(
    cell: Cell, sandbox: str, database: Database, owner: str
) -> None:
    await sh(cell, sandbox, "mkdir d; for i in $(seq 300); do echo $i > d/$i; done; ln -s d/1 l; chmod 700 d")
    taken = await snap(cell, sandbox)
    before = await listing(cell, sandbox)
    fork = new_id()
    await cell.send(fork, "create", user_id=owner, from_snapshot=taken["snapshot"]["id"])
    assert await listing(cell, fork) == before
    forked = await snap(cell, fork)
    assert forked["tree"] == taken["tree"]
    await sh(cell, fork, "rm -r d")
    assert await listing(cell, sandbox) == before
    await cell.send(sandbox, "destroy")
    back = await restore(cell, fork, forked["snapshot"]["id"])
    assert back["status"] == "done"
    assert await listing(cell, fork) == before
    with pytest.raises(errors.NotFound):
        await cell.send(new_id(), "create", user_id=owner, from_snapshot=new_id())


async def test_a_snapshot_can_go_without_harm_to_the_others(
    cell: Cell, sandbox: str, database: Database
) -> None:
    taken = []
    for number in range(5):
        await sh(cell, sandbox, f"echo {number} > f; echo {number} > n{number}; rm -f n{number - 2}")
        taken.append(await snap(cell, sandbox))
    for gone in (2, 0):
        async with database.transaction() as c:
            assert await snapshots.delete(c, taken[gone]["snapshot"]["id"])
    for kept in (1, 3, 4, 1):
        done = await restore(cell, sandbox, taken[kept]["snapshot"]["id"])
        assert done["status"] == "done"
        assert (await snap(cell, sandbox))["tree"] == taken[kept]["tree"]
    newest = await snapshots.head(database, sandbox)
    assert newest is not None
    async with database.transaction() as c:
        with pytest.raises(errors.Conflict):
            await snapshots.delete(c, newest.id)


async def test_killed_while_it_restores_it_goes_on(cell: Cell, sandbox: str, cells: Any) -> None:
    await sh(cell, sandbox, "mkdir d; for i in $(seq 400); do head -c 20000 /dev/urandom > d/$i; done")
    first = await snap(cell, sandbox)
    await sh(cell, sandbox, "rm -r d; mkdir d; for i in $(seq 300); do echo $i > d/$i; done; echo x > y")
    await snap(cell, sandbox)
    restore_id = new_id()
    await cell.send(sandbox, "restore", restore_id=restore_id, snapshot_id=first["snapshot"]["id"])
    for delay in (0.02, 0.05, 0.1):
        await asyncio.sleep(delay * random.Random(delay).random())
        await cell.kill()
        cell = await cells()
        await cell.activate(sandbox)
    done = await cell.call(sandbox, "restored", restore_id=restore_id, timeout_ms=60_000)
    assert done["status"] == "done", done
    assert (await snap(cell, sandbox))["tree"] == first["tree"]


async def test_a_sandbox_that_sleeps_is_woken(cell: Cell, sandbox: str, database: Database) -> None:
    await sh(cell, sandbox, "echo 1 > f")
    first = await snap(cell, sandbox)
    await cell.send(sandbox, "stop")
    await cell.call(sandbox, "settled")
    same = await snap(cell, sandbox, always=False)
    assert same["snapshot"]["id"] == first["snapshot"]["id"]
    assert (await sandboxes.get(database, sandbox)).status == "running"
