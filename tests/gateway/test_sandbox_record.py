"""The record of a sandbox tells what is really there, and an image is checked before a daemon sees it."""

from __future__ import annotations

import pytest

from terminalpp.client import Client
from terminalpp.types import errors


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
