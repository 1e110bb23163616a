"""What the driver lets bwrap do, read off the command line it would run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.node import bubblewrap_command as command
from actors.node.accounts import root_accounts
from actors.node.cgroups import Group
from actors.node.driver import SandboxSpec
from terminalpp.types.states import Network

MAKES = {"--dir": 1, "--tmpfs": 1, "--proc": 1, "--dev": 1, "--symlink": 2, "--bind": 2, "--ro-bind": 2}


def test_bwrap_makes_nothing_below_what_the_sandboxed_can_write(tmp_path: Path) -> None:
    """CVE-2026-87766 (bwrap before 0.12.0) needs a mount point below such a directory."""
    spec = SandboxSpec("s", None, Network.OPEN, 1.0, 2**28, 2**30, 64, 256, 1, {})
    found = asyncio.run(command.find(None))
    fds = command.Fds(3, 4, 5, 6)
    accounts = root_accounts("s")
    argv = command.Launch(tmp_path, found, tmp_path / "tppd", accounts, Group([], {}), spec, fds).argv()
    made = [argv[at + MAKES[word]] for at, word in enumerate(argv) if word in MAKES]
    assert "/home/user" in made
    assert [path for path in made if path.startswith("/home/user/")] == []
