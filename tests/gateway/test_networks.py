"""The network of a sandbox over REST and the command line's lists, with real entities and sandboxes."""

from __future__ import annotations

import pytest

from schema import Database, network
from terminalpp.cli.network import _changed
from terminalpp.client import Client
from terminalpp.types.errors import Conflict, InvalidInput, NotFound
from terminalpp.types.ids import new_id


async def test_it_is_made_shown_changed_and_what_was_refused_is_told(api: Client, database: Database) -> None:
    row = await api.create_sandbox(allow=["api.Example.org:8443"], wait=True)
    assert (row["status"], row["network"]) == ("running", "allowlist")
    shown = await api.network(row["id"])
    assert (shown["allow"], shown["allow_private"], shown["refusals"]) == (["api.example.org:8443"], [], [])

    changed = await api.set_network(row["id"], allow=["pypi"])
    assert changed["rules"] == ["pypi.org", "files.pythonhosted.org"]
    assert changed["note"] == "the egress proxy does not answer: nothing gets out until it does"
    await network.refused(database, row["id"], "evil.test", 443, "not-allowed", "evil.test:443: words")
    (refusal,) = (await api.network(row["id"]))["refusals"]
    assert (refusal["host"], refusal["port"], refusal["count"]) == ("evil.test", 443, 1)

    assert (await api.set_network(row["id"], "none"))["network"] == "none"
    again = await api.set_network(row["id"], "allowlist")
    assert (again["network"], again["allow"]) == ("allowlist", ["pypi"])


async def test_what_cannot_be_is_refused(api: Client, box: str) -> None:
    with pytest.raises(InvalidInput, match="there is no preset 'pipy'"):
        await api.set_network(box, allow=["pipy"])
    with pytest.raises(InvalidInput, match="has no list"):
        await api.set_network(box, "none", allow=["pypi"])
    with pytest.raises(InvalidInput):
        await api.set_network(box)
    with pytest.raises(Conflict, match="while the sandbox is running"):
        await api.set_network(box, "open")
    with pytest.raises(NotFound):
        await api.network(new_id())
    await api.stop_sandbox(box)
    assert (await api.set_network(box, allow=["pypi"]))["network"] == "allowlist"


async def test_a_fork_has_the_network_of_its_origin(api: Client, box: str) -> None:
    await api.set_network(box, allow=["npm"], allow_private=["db:5432"])
    taken = await api.take_snapshot(box)
    fork = await api.fork_snapshot(box, taken["id"])
    shown = await api.network(fork["id"])
    assert (shown["network"], shown["allow"], shown["allow_private"]) == ("allowlist", ["npm"], ["db:5432"])


def test_the_command_line_adds_and_takes_away() -> None:
    now = {"allow": ["pypi", "a.test"], "allow_private": ["db:5432"]}
    assert _changed(now, [], [], []) == {}
    assert _changed(now, ["b.test"], [], ["pypi"]) == {"allow": ["a.test", "b.test"]}
    assert _changed(now, [], [], ["db:5432"]) == {"allow_private": []}
    with pytest.raises(InvalidInput, match="it is not in the list"):
        _changed(now, [], [], ["npm"])
