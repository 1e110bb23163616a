"""The helper cannot be hurt from inside: after each attack output and kill are complete and it answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox
from tests.sandbox.test_trees import processes

ASSAULT = (Path(__file__).parent / "assault.py").read_bytes()
LINES = 60_000
COMPLETE = hashlib.sha256(b"".join(b"%d\n" % n for n in range(1, LINES + 1))).hexdigest()
OTHER = "another uid"


async def victim(sandbox: Sandbox) -> str:
    """A command that is there during the attack and prints when it is told to."""
    return await sandbox.begin(f"echo ready >&2; until [ -e go ]; do sleep 0.05; done; seq {LINES}; exit 7")


async def unhurt(sandbox: Sandbox, victim_id: str | None) -> None:
    """Output complete, kill complete, files and commands answer."""
    await sandbox.tppd.write_file("go", b"", epoch=sandbox.epoch)
    if victim_id:
        status = await sandbox.tppd.wait(victim_id, timeout_s=30, until="exit")
        assert status.record is not None
        assert status.record.exit_code == 7
        assert hashlib.sha256(sandbox.output(victim_id)).hexdigest() == COMPLETE
    after = await sandbox.sh(f"seq {LINES}; sleep 0.01; exit 3")
    assert (after.code, hashlib.sha256(after.out).hexdigest()) == (3, COMPLETE)
    tree = await sandbox.begin("sleep 7771 & setsid sleep 7771 & sleep 7771")
    await eventually(lambda: processes(sandbox, "sleep 7771"))
    await sandbox.tppd.kill_tree(tree, epoch=sandbox.epoch)
    assert await processes(sandbox, "sleep 7771") == 0
    big = bytes(range(256)) * 4096
    await sandbox.tppd.write_file("big", big, epoch=sandbox.epoch)
    assert await sandbox.tppd.read_file("big") == big
    await sandbox.tppd.remove("go", epoch=sandbox.epoch)


@pytest.mark.parametrize("attack", ["limits", "priorities", "tracing", "files", "groups", "signals"])
async def test_nothing_reaches_the_helper(sandbox: Sandbox, attack: str) -> None:
    assert sandbox.started.details["helper"] == OTHER
    await sandbox.tppd.write_file("assault.py", ASSAULT, epoch=sandbox.epoch)
    victim_id = await victim(sandbox)
    await eventually(lambda: sandbox.output(victim_id, "stderr"))
    done = await sandbox.sh(f"python3 assault.py {attack}")
    assert json.loads(done.text) == {}
    await unhurt(sandbox, victim_id)


@pytest.mark.parametrize("signo", ["STOP", "KILL"])
async def test_a_signal_to_everybody_reaches_commands_alone(sandbox: Sandbox, signo: str) -> None:
    await sandbox.tppd.write_file("x", b"", epoch=sandbox.epoch)  # a file process is there
    other = await sandbox.begin("sleep 7772")
    exec_id = await sandbox.begin(f"kill -{signo} -1; echo told; kill -{signo} $PPID; sleep 7772")
    await eventually(lambda: sandbox.output(exec_id) == b"told\n")
    for one in (exec_id, other):
        await sandbox.tppd.kill_tree(one, epoch=sandbox.epoch)
        assert (await sandbox.tppd.status(one)).record.signal == 9
    assert await processes(sandbox, "sleep 7772") == 0
    await unhurt(sandbox, None)


async def test_all_processes_and_descriptors_taken(make: Make) -> None:
    sandbox = await make(pids=100)
    fill = (
        "import os,time\nheld = []\n"
        "while True:\n"
        "    try: held += os.pipe()\n"
        "    except OSError: break\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(600)\n"
        "    except OSError: break\n"
        "print('full', flush=True); time.sleep(600)\n"
    )
    await sandbox.tppd.write_file("fill.py", fill.encode(), epoch=1)
    exec_id = await sandbox.begin("python3 fill.py")
    await eventually(lambda: sandbox.output(exec_id) == b"full\n", timeout_s=30)
    await sandbox.tppd.write_file("f", b"1", epoch=1)
    await sandbox.tppd.kill_tree(exec_id, epoch=1)
    await unhurt(sandbox, None)


def host_capability(number: int) -> bool:
    fields = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(fields["CapEff"], 16) >> number & 1)


async def test_memory_taken_ends_the_command_that_took_it(make: Make) -> None:
    """A command of the sandbox's own lowest score, larger than the helper, is still the one that is ended."""
    sandbox = await make(memory_bytes=256 << 20)
    eat = (
        "import os\n"
        "def say(n):\n"
        "    try:\n"
        "        with open('/proc/self/oom_score_adj', 'w') as f: f.write(str(n))\n"
        "    except OSError: return 'refused'\n"
        "    return 'ok'\n"
        "print(open('/proc/self/oom_score_adj').read().strip(), say(-1), say(499), flush=True)\n"
        "say(500)\nheld = []\n"
        "while True: held.append(b'x' * (1 << 20))\n"
    )
    await sandbox.tppd.write_file("eat.py", eat.encode(), epoch=1)
    done = await sandbox.sh("python3 eat.py; echo $?")
    # Without CAP_SYS_RESOURCE on the host there is no kernel's floor, which Docker's /proc needs.
    floor = "ok" if sandbox.driver.name == "docker" and not host_capability(24) else "refused"
    assert done.text.splitlines() == [f"800 refused {floor}", "137"]
    await unhurt(sandbox, None)


async def test_full_temporary_places_leave_room(make: Make) -> None:
    """They count as memory: filled to the brim, a command can still be run that empties them."""
    sandbox = await make(memory_bytes=256 << 20)
    fill = "for d in /tmp /var/tmp /dev/shm; do head -c 900M /dev/zero > $d/full 2>/dev/null; done; "
    shared = (
        "import ctypes; c = ctypes.CDLL(None); n = 4 << 20; c.shmat.restype = ctypes.c_void_p; "
        "got = 0\n"
        "while (i := c.shmget(0, n, 0o1600)) >= 0 and got < 100: "
        "ctypes.memset(c.shmat(i, None, 0), 1, n); got += 1\n"
        "print(got * 4)"
    )
    await sandbox.tppd.write_file("shared.py", shared.encode(), epoch=1)
    await sandbox.sh(fill)
    mib = int((await sandbox.sh("python3 shared.py")).text)
    assert mib <= 16
    used = await sandbox.sh("du -cm /tmp/full /var/tmp/full /dev/shm/full | tail -1")
    assert 100 < int(used.text.split()[0]) + mib <= 256 * 3 // 4 + 1 or "v" in used.text
    assert (await sandbox.sh("rm /tmp/full; rm -f /var/tmp/full /dev/shm/full; ls /tmp | wc -l")).text == "0"
    await unhurt(sandbox, None)


async def test_secret_memory_is_refused(sandbox: Sandbox) -> None:
    probe = "import ctypes, errno; c = ctypes.CDLL(None, use_errno=True); "
    probe += "print(c.syscall(447, 0), errno.errorcode[ctypes.get_errno()])"
    assert (await sandbox.sh(f'python3 -c "{probe}"')).text == "-1 EPERM"
