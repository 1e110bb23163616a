"""`runtime.local_transport` alone: frames, deaths, takeovers, and names that are too long for a socket."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import local_transport
from runtime.client import CellLost
from runtime.cluster import RayCells
from terminalpp.types.errors import DeadlineExceeded

CELL = "cell/some_node/3"


async def echo(method: str, data: bytes) -> bytes:
    if data == b"fail":
        raise ValueError("as asked")
    if data == b"slow":
        await asyncio.sleep(0.2)
    return method.encode() + b":" + data


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
async def test_what_is_sent_comes_back(tmp_path: Path, size: int) -> None:
    server = await local_transport.serve(tmp_path, CELL, echo)
    lines = local_transport.Lines(tmp_path)
    data = os.urandom(size)
    assert await lines.ask(CELL, "deliver", data) == b"deliver:" + data
    lines.close()
    server.close()


async def test_answers_come_in_their_own_order(tmp_path: Path) -> None:
    server = await local_transport.serve(tmp_path, CELL, echo)
    lines = local_transport.Lines(tmp_path)
    done: list[bytes] = []

    async def ask(data: bytes) -> None:
        done.append(await lines.ask(CELL, "call", data))

    await asyncio.gather(ask(b"slow"), *(ask(b"%d" % number) for number in range(100)))
    assert done[-1] == b"call:slow"
    assert set(done) == {b"call:slow", *(b"call:%d" % number for number in range(100))}
    lines.close()
    server.close()


async def test_nobody_there(tmp_path: Path) -> None:
    lines = local_transport.Lines(tmp_path)
    with pytest.raises(local_transport.NoLine):
        await lines.ask(CELL, "call", b"")
    server = await local_transport.serve(tmp_path, CELL, echo)
    server.close()
    await server.wait_closed()
    with pytest.raises(local_transport.NoLine):
        await lines.ask(CELL, "call", b"")


async def test_a_failed_handler_is_an_unknown_outcome(tmp_path: Path) -> None:
    server = await local_transport.serve(tmp_path, CELL, echo)
    lines = local_transport.Lines(tmp_path)
    with pytest.raises(local_transport.LineBroke):
        await lines.ask(CELL, "call", b"fail")
    assert await lines.ask(CELL, "call", b"again") == b"call:again"
    lines.close()
    server.close()


async def test_a_caller_that_gave_up_harms_nobody(tmp_path: Path) -> None:
    server = await local_transport.serve(tmp_path, CELL, echo)
    lines = local_transport.Lines(tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await lines.ask(CELL, "call", b"slow")
    assert await lines.ask(CELL, "call", b"next") == b"call:next"
    await asyncio.sleep(0.3)  # the answer nobody waits for arrives
    assert await lines.ask(CELL, "call", b"last") == b"call:last"
    lines.close()
    server.close()


async def test_the_newest_incarnation_has_the_name(tmp_path: Path) -> None:
    async def newer(_method: str, _data: bytes) -> bytes:
        return b"newer"

    old = await local_transport.serve(tmp_path, CELL, echo)
    lines = local_transport.Lines(tmp_path)
    assert await lines.ask(CELL, "call", b"1") == b"call:1"
    new = await local_transport.serve(tmp_path, CELL, newer)
    assert await lines.ask(CELL, "call", b"2") == b"call:2"  # the old one is still connected
    under_way = asyncio.create_task(lines.ask(CELL, "call", b"slow"))
    await asyncio.sleep(0.05)
    lines.renew(CELL)
    assert await lines.ask(CELL, "call", b"3") == b"newer"
    assert await under_way == b"call:slow"
    lines.close()
    old.close()
    new.close()


async def another(answer: str, home: Path) -> subprocess.Popen[bytes]:
    """A process that serves as the cell, once it does; `answer` is what its handler does, in Python."""
    program = (
        "import asyncio, pathlib, sys\n"
        "from runtime import local_transport\n"
        f"async def handler(method, data): {answer}\n"
        "async def main():\n"
        f"    await local_transport.serve(pathlib.Path(sys.argv[1]), {CELL!r}, handler)\n"
        "    print('serving', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(local_transport.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(home)], cwd=root, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"serving\n"
    return process


async def test_what_has_ended_what_is_frozen_and_what_never_was_are_told_apart(tmp_path: Path) -> None:
    """The steward takes entities over at once from what has ended, and only from that."""
    cells = RayCells(object, tmp_path)
    assert await cells.incarnation(CELL, 5.0) is None, "there is no such socket: only Ray can tell"
    process = await another("return b'owner@1'", tmp_path)
    try:
        assert await cells.incarnation(CELL, 5.0) == "owner@1"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded):
            await cells.incarnation(CELL, 0.1)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        with pytest.raises(CellLost):
            await cells.incarnation(CELL, 5.0)
        with pytest.raises(CellLost) as lost:
            await cells.ask(CELL, "call", b"", timeout_s=5.0)
        assert lost.value.gone, "nothing was sent, so the caller may go on elsewhere"
    finally:
        process.kill()
    server = await local_transport.serve(tmp_path, CELL, echo)
    assert await cells.incarnation(CELL, 5.0) == "whoami:", "the next one answers under the same name"
    server.close()
    await cells.close()


async def test_who_waits_for_a_cell_that_is_being_started_again_needs_no_ray(tmp_path: Path) -> None:
    """Ray tells callers about a second later that it is back."""
    process = await another("return b'first'", tmp_path)
    cells = RayCells(object, tmp_path)  # there is no Ray: asking it would fail
    try:
        assert await cells.ask(CELL, "locate", b"", timeout_s=5.0) == b"first"
        process.kill()
        await asyncio.to_thread(process.wait)
        asked = asyncio.create_task(cells.ask(CELL, "locate", b"x", timeout_s=5.0))
        await asyncio.sleep(0.1)
        assert not asked.done()
        server = await local_transport.serve(tmp_path, CELL, echo)
        assert await asked == b"locate:x"
        server.close()
    finally:
        process.kill()
        await cells.close()


async def test_a_killed_process_is_known_at_once(tmp_path: Path) -> None:
    process = await another("print('asked', flush=True); await asyncio.sleep(60)", tmp_path)
    try:
        lines = local_transport.Lines(tmp_path)
        asking = asyncio.create_task(lines.ask(CELL, "call", b""))
        assert await asyncio.to_thread(process.stdout.readline) == b"asked\n"
        process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(5):
            with pytest.raises(local_transport.LineBroke):
                await asking
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_very_long_home(tmp_path: Path) -> None:
    home = tmp_path.joinpath(*["long name with spaces " * 5] * 3)
    server = await local_transport.serve(home, CELL, echo)
    lines = local_transport.Lines(home)
    assert await lines.ask(CELL, "nudge", b"x") == b"nudge:x"
    assert (home / local_transport.FOLDER).stat().st_mode & 0o777 == 0o700
    lines.close()
    server.close()
