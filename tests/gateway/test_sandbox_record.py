"""The record of a sandbox tells what is really there, and an image is checked before a daemon sees it."""

from __future__ import annotations

import pytest

from terminalpp.client import Client
from terminalpp.types import errors
from terminalpp.types.ids import new_id


async def test_limits_that_are_not_enforced_are_said(api: Client) -> None:
    row = await api.create_sandbox(name="small", resource_limits={"disk": "64MB"}, wait=True)
    assert row["status"] == "running", row
    assert row["resource_limits"]["disk"] == "64MB"
    assert row["limits"]["disk"].startswith("not enforced: ")
    assert set(row["limits"]) >= {"cpu", "memory", "pids", "nofile", "disk", "network"}
    assert row["helper"] == "another uid"
    built_in = [row[name] for name in ("image", "image_id", "image_base")]
    assert built_in == [None] * 3 if row["driver"] == "bubblewrap" else all(built_in)
    assert row in (await api.sandboxes())


@pytest.mark.parametrize("image", ["../containers/0123456789ab", " ", "Debian", "debian@sha256:1", "a b"])
async def test_an_image_that_is_none_is_refused(api: Client, image: str) -> None:
    with pytest.raises(errors.InvalidInput, match="image"):
        await api.create_sandbox(name="odd", image=image)
    assert "odd" not in [row["name"] for row in await api.sandboxes()]


async def test_pause_resume_and_restart(api: Client) -> None:
    box = (await api.create_sandbox(wait=True))["id"]
    key, other = new_id(), new_id()
    paused = await api.pause_sandbox(box, key=key)
    assert (paused["status"], paused["paused"], paused["status_detail"]) == ("running", True, "paused")
    assert await api.pause_sandbox(box, key=key) == paused
    write = api.write_file(box, "/home/user/a", b"x")
    for ask in (api.run_command(box, "true"), write, api.start_sandbox(box)):
        with pytest.raises(errors.SandboxPaused):
            await ask
    assert (await api.resume_sandbox(box))["paused"] is False
    await api.write_file(box, "/home/user/a", b"x")
    again = await api.restart_sandbox(box, key=other)
    assert (again["status"], again["generation"]) == ("running", paused["generation"] + 1)
    assert (await api.restart_sandbox(box, key=other))["generation"] == again["generation"]
    await api.stop_sandbox(box)
    with pytest.raises(errors.Conflict):
        await api.pause_sandbox(box)
    await api.delete_sandbox(box)
