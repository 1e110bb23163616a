"""The reserve, the ballast and what takes the room, on a file system of known size."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import disk, maintenance, supervision, wire
from runtime.supervision import Verdict
from terminalpp.types.errors import DiskFull

MIB = 1024**2
mounting = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(place: Path, leave: int) -> Path:
    """A file that takes all but `leave` bytes."""
    path = place / "filling"
    with open(path, "ab") as file:
        os.posix_fallocate(file.fileno(), 0, file.tell() + disk.free_bytes(place) - leave)
    return path


@mounting
def test_work_is_refused_below_the_reserve_and_taken_again_above(small: Path) -> None:
    filling = fill(small, leave=10 * MIB)
    low = disk.Disk(small, 20 * MIB)
    with pytest.raises(DiskFull, match=r"10 MiB are free.*TPP_DISK_RESERVE_BYTES"):
        low.check()
    assert low.low
    assert "refused" in low.words()
    assert disk.Disk(small, 6 * MIB).nearly_low
    filling.unlink()
    roomy = disk.Disk(small, 20 * MIB)
    roomy.check()
    assert not roomy.nearly_low


@mounting
def test_the_ballast_is_given_up_with_the_last_bytes_and_made_again(small: Path) -> None:
    ballast = disk.Ballast(small, reserve_bytes=32 * MIB)
    ballast.tend()
    assert ballast.path.stat().st_blocks * 512 == 8 * MIB
    filling = fill(small, leave=4 * MIB)
    ballast.tend()
    assert ballast.path.exists()  # that is little, and enough for Postgres
    fill(small, leave=0)
    ballast.tend()
    assert disk.free_bytes(small) == 8 * MIB
    ballast.tend()
    assert not ballast.path.exists()
    filling.unlink()
    ballast.tend()
    assert ballast.path.exists()
    assert [path.name for path in small.iterdir()] == ["ballast"]


def test_what_takes_the_room_is_told_by_part(tmp_path: Path) -> None:
    for name in ("pg/base/1", "sandboxes/a/run/output/x/out.0", "sandboxes/a/work/big", "logs/l", "x/y"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * MIB)
    used = disk.usage(tmp_path)
    assert used.whole
    found = {name: size // MIB for name, size in used.parts.items() if size}
    assert found == {"postgres": 1, "journals": 1, "sandboxes": 1, "logs": 1, "other": 1}
    assert "postgres 1 MiB" in disk.shown(used.parts, used.whole)
    assert not disk.usage(tmp_path, within_s=-1).whole


def test_an_error_of_the_operating_system_that_says_full_is_disk_full() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        error = OSError(number, os.strerror(number), "/some/file")
        assert isinstance(wire.as_terminal(error), DiskFull)
        assert supervision.judge_message(error, 99).verdict is Verdict.RETRY
        assert supervision.judge_effect(error, 99).verdict is Verdict.RETRY
    assert disk.full(OSError(errno.EIO, "io")) is None


def test_logs_stay_bounded_while_somebody_appends_to_them(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    with open(path, "ab", buffering=0) as writer:
        for number in range(5):
            writer.write(b"%d\n" % number * 600)
            maintenance.bound_logs(tmp_path, max_bytes=1000)
            assert path.stat().st_size == 0
            assert (tmp_path / "service.log.1").read_bytes() == b"%d\n" % number * 600
    assert sorted(item.name for item in tmp_path.iterdir()) == ["service.log", "service.log.1"]


def test_old_logs_of_ray_go_oldest_first_and_never_one_in_use(tmp_path: Path) -> None:
    logs = tmp_path / "session_x" / "logs"
    logs.mkdir(parents=True)
    for age, name in enumerate(("now", "recent", "old", "older")):
        (logs / name).write_bytes(b"x" * MIB)
        os.utime(logs / name, (0, os.stat(logs / name).st_mtime - age * 1000))
    maintenance.bound_ray_logs(tmp_path, max_bytes=2 * MIB)
    assert sorted(path.name for path in logs.iterdir()) == ["now", "recent"]
    maintenance.bound_ray_logs(tmp_path, max_bytes=0)
    assert [path.name for path in logs.iterdir()] == ["now"]
    with open(logs / "now", "ab", buffering=0) as writer:  # a process that never ends
        os.posix_fallocate(writer.fileno(), 0, 21 * MIB)
        maintenance.bound_ray_logs(tmp_path)
        writer.write(b"more")
    assert (logs / "now").stat().st_size == 4
    assert (logs / "now.1").stat().st_size == 21 * MIB
