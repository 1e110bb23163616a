"""Records of commands when the disk takes a part only, or tppd died in the middle of a line.

The full disk is tppd's own limit on the size of a file: the kernel then cuts a write exactly as a full
disk does, at a byte of our choice.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.journal import Outcome
from terminalpp.types.errors import DiskFull
from terminalpp.types.ids import new_id
from tests.eventually import eventually
from tests.sandbox.conftest import Make, Sandbox


def tppd_pid(run_dir: str) -> int:
    """The host's pid of the tppd that has `run_dir` open."""
    wanted = os.stat(run_dir)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() != "tppd\n":
                continue
            if any(os.path.samestat(os.stat(entry), wanted) for entry in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue  # it ended meanwhile
    raise AssertionError(f"no tppd for {run_dir}")


def limit_files(pid: int, size: int) -> None:
    """As the user of that process, who may do it everywhere; root may be without SYS_RESOURCE."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(int(status["Gid"].split()[0]))
                os.setuid(int(status["Uid"].split()[0]))
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


async def test_no_room_for_the_start_leaves_the_id_free(make: Make) -> None:
    sandbox = await make()
    pid, exec_id = tppd_pid(sandbox.run_dir), new_id()
    await sandbox.sh("true")
    limit_files(pid, 20)
    with pytest.raises(DiskFull):
        await sandbox.begin("echo ran >> ran", exec_id)
    assert journal.outcome(sandbox.run_dir, exec_id) is Outcome.NOT_STARTED
    assert exec_id not in journal.list_ids(sandbox.run_dir)
    limit_files(pid, resource.RLIM_INFINITY)
    await sandbox.begin("echo ran >> ran", exec_id)
    assert (await sandbox.tppd.wait(exec_id, timeout_s=10)).record.exit_code == 0
    assert await sandbox.tppd.read_file("ran") == b"ran\n"


async def test_no_room_for_the_end_is_made_good_later(make: Make) -> None:
    sandbox = await make()
    pid = tppd_pid(sandbox.run_dir)
    exec_id = await sandbox.begin("read line; exit 7", stdin=True)
    record = Path(sandbox.run_dir, "records", exec_id)
    begun = record.read_bytes()
    limit_files(pid, len(begun) + 40)
    await sandbox.tppd.stdin(exec_id, 0, b"\n", epoch=sandbox.epoch)
    status = await sandbox.tppd.wait(exec_id, timeout_s=10)
    assert status.record.exit_code == 7  # whoever waits is told from memory
    assert record.read_bytes() == begun  # what went in of the second line was cut off again
    assert journal.outcome(sandbox.run_dir, exec_id) is Outcome.RUNNING
    limit_files(pid, resource.RLIM_INFINITY)
    await eventually(lambda: journal.outcome(sandbox.run_dir, exec_id) is Outcome.ENDED, timeout_s=10)
    assert journal.exit_record(sandbox.run_dir, exec_id) == status.record


async def test_half_a_start_was_no_start(sandbox: Sandbox) -> None:
    done = (await sandbox.sh("true")).status.exec_id
    whole = Path(sandbox.run_dir, "records", done).read_bytes().split(b"\n")[0]
    for torn in (b"", whole[:50], whole):
        exec_id = new_id()
        Path(sandbox.run_dir, "records", exec_id).write_bytes(torn)
        assert journal.outcome(sandbox.run_dir, exec_id) is Outcome.NOT_STARTED
        await sandbox.begin("exit 5", exec_id)
        assert (await sandbox.tppd.wait(exec_id, timeout_s=10)).record.exit_code == 5
        assert journal.outcome(sandbox.run_dir, exec_id) is Outcome.ENDED
