"""Snapshots and versions over REST, with real entities and sandboxes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from terminalpp.client import Client
from terminalpp.types.errors import Conflict, FileProblem, InvalidInput, NotFound
from terminalpp.types.ids import new_id
from tests.gateway.conftest import Served

HOME = "/home/user"


async def sh(api: Client, box: str, script: str) -> str:
    row = await api.run_command(box, f"cd {HOME} && {script}", wait_ms=30_000)
    assert row["exit_code"] == 0, row
    return row["stdout"]


def seen(changes: list[Any]) -> dict[str, str]:
    return {one["path"].removeprefix(f"{HOME}/"): one["change"] for one in changes}


async def test_taken_compared_and_brought_back(api: Client, box: str) -> None:
    await sh(api, box, "mkdir s1; cd s1; echo one > a; echo keep > b; ln -s a l")
    first = await api.take_snapshot(box, "first", description="words")
    assert (first["name"], first["description"], first["type"], first["left"]) == (
        "first",
        "words",
        "manual",
        [],
    )
    await sh(api, box, "cd s1; echo two > a; rm l; mkdir d; echo new > d/c")
    second = await api.take_snapshot(box)
    assert second["changed"] == 4
    assert (await api.snapshot(box, first["id"])) == first
    assert [one["id"] for one in await api.snapshots(box, type="manual")][:2] == [second["id"], first["id"]]
    changes = await api.diff_snapshots(box, first["id"], path=f"{HOME}/s1")
    assert seen(changes) == {"s1/a": "modified", "s1/d": "created", "s1/d/c": "created", "s1/l": "deleted"}
    assert changes == await api.diff_snapshots(box, first["id"], second["id"])
    assert seen(await api.diff_snapshots(box, second["id"], first["id"], path=f"{HOME}/s1/d")) == {
        "s1/d": "deleted",
        "s1/d/c": "deleted",
    }
    assert await api.snapshot_file(box, first["id"], f"{HOME}/s1/a") == b"one\n"
    entries = await api.snapshot_entries(box, first["id"], f"{HOME}/s1")
    assert [(one["path"], one["type"], one["mode"], one["target"]) for one in entries] == [
        (f"{HOME}/s1", "directory", "755", None),
        (f"{HOME}/s1/a", "file", "644", None),
        (f"{HOME}/s1/b", "file", "644", None),
        (f"{HOME}/s1/l", "symlink", "777", "a"),
    ]
    shown = await api.preview_restore(box, first["id"], [f"{HOME}/s1"])
    assert seen(shown) == {"s1/a": "modified", "s1/d": "deleted", "s1/d/c": "deleted", "s1/l": "created"}
    assert await sh(api, box, "cat s1/a") == "two\n"
    done = await api.restore_snapshot(box, first["id"], [f"{HOME}/s1"])
    assert (done["status"], done["changed_count"], done["untouched"], done["running"]) == ("done", 4, [], [])
    assert seen(done["changed"]) == seen(shown)
    assert await sh(api, box, "cat s1/a s1/l; ls s1") == "one\none\na\nb\nl\n"
    undone = await api.restore_snapshot(box, done["undo"] or "")
    assert undone["status"] == "done"
    assert await sh(api, box, "cat s1/a; ls s1") == "two\na\nb\nd\n"


async def test_a_fork_is_its_own(api: Client, box: str) -> None:
    await sh(api, box, "mkdir -p s2; echo one > s2/f")
    taken = await api.take_snapshot(box)
    row = await api.fork_snapshot(box, taken["id"], "mine")
    row = await api.wait_for_sandbox(row["id"])
    assert row["name"] == "mine"
    assert await sh(api, row["id"], "cat s2/f; echo two > s2/f") == "one\n"
    assert await sh(api, box, "cat s2/f") == "one\n"
    with pytest.raises(NotFound):  # it is of the other sandbox
        await api.restore_snapshot(row["id"], taken["id"])
    await api.delete_sandbox(row["id"])


async def test_versions_of_a_file(api: Client, box: str) -> None:
    for number in range(3):
        await sh(api, box, f"echo {number} > versions")
        await api.take_snapshot(box, f"number {number}")
    await sh(api, box, "rm versions")
    await api.take_snapshot(box, "gone")
    found = await api.file_versions(box, f"{HOME}/versions")
    assert [(one["version"], one["change"], one["message"], one["preview"]) for one in found] == [
        (4, "deleted", "gone", None),
        (3, "modified", "number 2", "2\n"),
        (2, "modified", "number 1", "1\n"),
        (1, "created", "number 0", "0\n"),
    ]
    assert await api.file_versions(box, f"{HOME}/versions", limit=1) == found[:1]
    assert await api.file_version(box, f"{HOME}/versions", 2) == b"1\n"
    for number in (4, 5):
        with pytest.raises(NotFound):
            await api.file_version(box, f"{HOME}/versions", number)


async def test_names_of_any_bytes(api: Client, box: str) -> None:
    name = os.fsdecode(b"/home/user/odd \xff\\ \n%41")
    await api.write_file(box, name, b"content")
    taken = await api.take_snapshot(box)
    assert await api.snapshot_file(box, taken["id"], name) == b"content"
    (entry,) = await api.snapshot_entries(box, taken["id"], name)
    assert entry["path_raw"] == "/home/user/odd%20%FF%5C%20%0A%2541"
    await api.delete_file(box, name)
    done = await api.restore_snapshot(box, taken["id"])
    assert [one["path_raw"] for one in done["changed"]] == [entry["path_raw"]]
    assert await api.read_file(box, name) == b"content"


async def test_what_cannot_be(api: Client, box: str, served: Served) -> None:
    await sh(api, box, "mkdir -p s3/d; echo x > s3/f")
    taken = await api.take_snapshot(box)
    with pytest.raises(Conflict):
        await api.delete_snapshot(box, taken["id"])
    await api.take_snapshot(box)
    await api.delete_snapshot(box, taken["id"])
    with pytest.raises(NotFound):
        await api.snapshot(box, taken["id"])
    newest = await api.take_snapshot(box)
    with pytest.raises(FileProblem):
        await api.snapshot_file(box, newest["id"], f"{HOME}/s3/d")
    with pytest.raises(NotFound):
        await api.snapshot_file(box, newest["id"], f"{HOME}/s3/none")
    for path in ("/etc/passwd", "/home", "/home/user2"):
        with pytest.raises(NotFound):
            await api.snapshot_file(box, newest["id"], path)
        with pytest.raises(InvalidInput):
            await api.restore_snapshot(box, newest["id"], [path])
    for call in (api.snapshot, api.restore_snapshot, api.fork_snapshot, api.preview_restore):
        with pytest.raises(NotFound):
            await call(box, new_id())


async def test_the_same_key_takes_one(api: Client, box: str) -> None:
    key, other = new_id(), new_id()
    one, two = await api.take_snapshot(box, key=key), await api.take_snapshot(box, key=key)
    assert one == two
    first, again = (
        await api.restore_snapshot(box, one["id"], key=other),
        await api.restore_snapshot(box, one["id"], key=other),
    )
    assert first["id"] == again["id"]
