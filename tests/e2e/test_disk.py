"""A full disk is weather: what would fill it is refused, everything else goes on, and goes on by itself.

The home lies on a file system of its own (tmpfs), which is filled and freed by changing its size.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from terminalpp.types.errors import DeadlineExceeded, DiskFull, NotFound, TerminalError, Unavailable
from tests.e2e import scripts
from tests.e2e.stack import Stack, running_sandbox
from tests.e2e.test_failures import check, start_run
from tests.eventually import eventually

MIB = 1024**2
RESERVE = 64 * MIB
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")


class Disk:
    """The file system under the home."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.size(1024 * MIB, "mount", "-t", "tmpfs", "tmpfs")

    def size(self, bytes_: int, *how: str) -> None:
        command = [*(how or ("mount", "-o", "remount")), "-o", f"size={bytes_},mode=700", str(self.place)]
        subprocess.run(command, check=True)

    def leave(self, free: int) -> None:
        """So many bytes are free from now on."""
        for _ in range(100):  # the kernel refuses a size below what was written since we asked
            used = shutil.disk_usage(self.place).used
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.size((used // 4096 + 1) * 4096 + free)
        raise AssertionError(f"{self.place} is written to faster than it can be made small")

    def free(self) -> None:
        self.size(1024 * MIB)


@pytest.fixture(scope="module")
def disk():
    place = Path(tempfile.mkdtemp(prefix="tpp-disk-"))
    disk = Disk(place)
    yield disk
    subprocess.run(["umount", str(place)], check=True)
    place.rmdir()


@pytest.fixture(scope="module")
def small(disk: Disk):
    stack = Stack(
        disk.place / "home",
        {"TPP_SANDBOX_DRIVER": "bubblewrap", "TPP_DISK_RESERVE_BYTES": str(RESERVE)},
    )
    stack.start()
    yield stack
    disk.free()
    stack.stop()


@pytest.fixture
async def client(small: Stack, disk: Disk):
    disk.free()
    async with small.client() as client:
        yield client


async def refused(work) -> None:
    with pytest.raises(DiskFull) as caught:
        await work
    assert caught.value.retryable
    assert "TPP_HOME" in caught.value.next_step


async def low(client) -> bool:
    checks = {check["name"]: check for check in (await client.readyz())["checks"]}
    return "refused" in checks["disk"]["detail"]


async def roomy(client) -> bool:
    try:
        return not await low(client)
    except TerminalError:  # Postgres may be on its way back
        return False


async def runs(client, sandbox: str) -> bool:
    try:
        return (await client.run_command(sandbox, "echo again", wait_ms=10_000))["stdout"] == "again\n"
    except (Unavailable, DeadlineExceeded, DiskFull):
        return False


async def test_below_the_reserve_what_creates_is_refused_and_the_rest_goes_on(
    client, small: Stack, disk: Disk, tmp_path: Path
) -> None:
    sandbox = (await running_sandbox(client, name="box"))["id"]
    done = await client.run_command(sandbox, "echo kept > kept; echo hello", wait_ms=10_000)
    sleeper = await client.run_command(sandbox, "sleep 983", wait_ms=0)
    talk = await client.create_conversation(
        sandbox, "/home/user", model=scripts.script(tmp_path, [{"content": "done"}])
    )
    disk.leave(RESERVE // 2)
    await eventually(lambda: low(client))
    await refused(client.run_command(sandbox, "echo more", wait_ms=0))
    await refused(client.create_sandbox(name="more"))
    await refused(client.post_message(talk["id"], "hello"))
    await refused(client.create_conversation(sandbox, "/home/user"))
    await refused(client.upload_archive(sandbox, "/home/user/work", scripts.archive()))
    assert (await client.command(sandbox, done["id"]))["stdout"] == "hello\n"
    assert {row["id"] for row in await client.commands(sandbox)} == {done["id"], sleeper["id"]}
    assert await client.read_file(sandbox, "/home/user/kept") == b"kept\n"
    await client.signal(sandbox, sleeper["id"], "KILL")
    assert (await client.wait_command(sandbox, sleeper["id"]))["status"] == "killed"
    await client.cancel(talk["id"])
    told = small.tpp("status")
    assert "refused" in told.stdout, told.stdout
    told = small.tpp("doctor")
    assert "MiB free" in told.stdout, told.stdout
    await client.stop_sandbox(sandbox)
    await client.delete_sandbox(sandbox)
    with pytest.raises(NotFound):
        await client.sandbox(sandbox)


async def none_open(client, sandbox: str) -> bool:
    return not {row["status"] for row in await client.commands(sandbox)} & {"pending", "running"}


async def ran(client, sandbox: str, line: str) -> bool:
    return any(line in row["command"] for row in await client.commands(sandbox))


async def test_a_turn_waits_for_room_and_goes_on_by_itself(client, disk: Disk, tmp_path: Path) -> None:
    sandbox, talk = await start_run(client, tmp_path)
    await eventually(lambda: ran(client, sandbox, "echo 2 >>"), timeout_s=60)
    disk.leave(RESERVE // 2)
    await eventually(lambda: low(client))
    async for event in client.events(talk):
        if event["type"] == "command.started" and "echo 3 >>" in event["payload"]["command"]:
            break
    for _ in range(50):  # it is asked for, again and again, and not accepted
        assert not await ran(client, sandbox, "echo 3 >>")
    disk.free()
    await check(client, sandbox, talk)


async def test_the_last_byte_taken_is_weather_too(client, small: Stack, disk: Disk, tmp_path: Path) -> None:
    """Not one byte is left, for Postgres neither: what is refused is refused as retryable, and when there is
    room again the same sandbox and the turn that was running go on, with nothing put aside."""
    sandbox, talk = await start_run(client, tmp_path)
    other = (await running_sandbox(client, name="other"))["id"]
    await eventually(lambda: ran(client, sandbox, "echo 2 >>"), timeout_s=60)
    disk.leave(0)
    (small.home / "ballast").unlink(missing_ok=True)
    disk.leave(0)
    for _ in range(20):
        with pytest.raises(TerminalError) as caught:
            await client.run_command(other, "echo hello; seq 100000", wait_ms=1000)
        assert caught.value.retryable, caught.value
    disk.free()
    await eventually(lambda: roomy(client), timeout_s=60)
    await eventually(lambda: runs(client, other), timeout_s=60, interval_s=0.5)
    await check(client, sandbox, talk)
    assert {row["status"] for row in await client.commands(other)} == {"completed"}


@pytest.mark.chaos
async def test_postgres_without_room_comes_back_and_all_goes_on(disk: Disk, tmp_path: Path) -> None:
    """Without any reserve Postgres meets the full disk, in its tables or in its write-ahead log: callers
    are told 503 or 507, and when there is room the same sandbox takes commands."""
    disk.free()
    options = {"TPP_SANDBOX_DRIVER": "bubblewrap", "TPP_DISK_RESERVE_BYTES": "0"}
    stack = Stack(disk.place / "bare", options)
    stack.start()
    try:
        async with stack.client(patience_s=0) as client:
            sandbox = (await running_sandbox(client, name="bare"))["id"]
            disk.leave(0)
            noise = "head -c 60000 /dev/urandom | base64 -w0"
            told = set()
            for _ in range(150):
                try:
                    await client.run_command(sandbox, noise, wait_ms=0)
                except TerminalError as error:
                    told.add((error.code, error.retryable))
                disk.leave(0)  # whatever was freed is taken at once
            assert told, "the disk was never full"
            assert {retryable for _, retryable in told} == {True}, told
            disk.free()
            await eventually(lambda: runs(client, sandbox), timeout_s=120, interval_s=0.5)
            await eventually(lambda: none_open(client, sandbox), timeout_s=60)
            log = (stack.home / "logs" / "postgres.log").read_text(errors="replace")
            assert "No space left on device" in log
    finally:
        disk.free()
        stack.stop()
