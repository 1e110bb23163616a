"""What each implementation of `SandboxLink` owes to `SandboxAccess`: the local one, and a relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.sandbox.access import SandboxAccess
from actors.sandbox.link import LocalLink, SandboxLink
from actors.sandbox.tppd.journal import Life
from schema.executions import ExecutionRow
from terminalpp.types.errors import NotFound, SandboxNotRunning
from terminalpp.types.ids import new_id
from tests.sandbox.conftest import Make, Sandbox
from tests.sandbox.relay import Relay, RelayLink


@pytest.fixture(params=["local", "relay"])
async def link(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[SandboxLink]:
    if request.param == "local":
        yield LocalLink(sandbox.run_dir)
        return
    relay = Relay(sandbox.run_dir)
    yield RelayLink(await relay.start())
    await relay.stop()


@pytest.fixture
async def access(link: SandboxLink, sandbox: Sandbox) -> AsyncIterator[SandboxAccess]:
    async def attach() -> dict[str, Any]:
        return {"epoch": sandbox.epoch}

    made = SandboxAccess(link, attach)
    yield made
    await made.close()


async def test_the_life_of_a_command_is_told(
    access: SandboxAccess, link: SandboxLink, sandbox: Sandbox
) -> None:
    unknown = new_id()
    assert await link.life(unknown) == Life(False, False, False)
    assert await access.life(unknown) is None, "its row has to tell"
    assert await link.exit_record(unknown) is None
    assert await link.length(unknown, "stdout") == 0
    with pytest.raises(NotFound):
        await link.read(unknown, "stdout", 0, 10)
    with pytest.raises(NotFound):
        await access.end(unknown, 1)
    exec_id = await sandbox.begin("(read x < gate; echo late) & echo early; exit 3")
    await sandbox.sh("test -p gate || mkfifo gate")
    assert await access.end(exec_id, 10) is not None
    assert (await access.end(exec_id, 0)).exit_code == 3


async def test_output_comes_by_offset_and_to_its_end(access: SandboxAccess, sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("echo one; read x; echo two; echo three >&2", stdin=True)
    await access.more(exec_id, 10, 0, 2**62)
    assert (await access.output(exec_id)).data == b"one\n"
    assert await access.life(exec_id) == Life(True, False, False)
    pieces = []

    async def follow() -> None:
        async for piece in access.follow(exec_id, out_offset=2):
            pieces.append((piece.stream, piece.chunk.offset, piece.chunk.data))

    following = asyncio.create_task(follow())
    assert await access.stdin(exec_id, 0, b"go\n", eof=True) == 3
    async with asyncio.timeout(10):
        await following
    assert b"".join(data for stream, _, data in pieces if stream == "stdout") == b"e\ntwo\n"
    assert b"".join(data for stream, _, data in pieces if stream == "stderr") == b"three\n"
    assert await access.length(exec_id, "stdout") == 8
    assert await access.life(exec_id) == Life(True, True, True)


async def test_a_large_output_is_whole(access: SandboxAccess, sandbox: Sandbox) -> None:
    exec_id = await sandbox.begin("head -c 3000000 /dev/zero | tr '\\0' x")
    data = b"".join([piece.chunk.data async for piece in access.follow(exec_id)])
    assert data == b"x" * 3_000_000


async def test_rows_get_their_ends(link: SandboxLink, sandbox: Sandbox, row: Any) -> None:
    ended = (await sandbox.sh("echo said; exit 4")).status.exec_id
    runs = await sandbox.begin("sleep 600")
    found = await link.with_ends([row(ended), row(runs)], output=True)
    assert [(one.id, one.status, one.exit_code, one.stdout) for one in found] == [
        (ended, "completed", 4, "said\n"), (runs, "running", None, None),
    ]  # fmt: skip
    assert (await link.with_ends([row(ended)], output=False))[0].stdout is None
    await sandbox.tppd.kill_tree(runs, epoch=sandbox.epoch)


@pytest.fixture
def row() -> Any:
    """Makes the row of a command as it is while the command runs."""

    def make(id: str) -> ExecutionRow:
        fields = dict.fromkeys(ExecutionRow.__dataclass_fields__)
        return ExecutionRow(**{**fields, "id": id, "status": "running", "truncated": False})

    return make


async def test_files_and_signals_pass(access: SandboxAccess, sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 20_000
    await access.write_file("folder/file", data)
    assert await access.read_file("folder/file") == data
    assert (await access.stat("folder/file")).size_bytes == len(data)
    exec_id = await sandbox.begin("trap 'exit 5' TERM; while :; do sleep 0.01; done")
    assert exec_id in {one.exec_id for one in await access.processes()}
    assert await access.left(exec_id)
    await asyncio.sleep(0.1)
    await access.signal(exec_id, 15)
    assert (await access.end(exec_id, 10)).exit_code == 5


async def test_a_port_inside_is_reached(access: SandboxAccess, sandbox: Sandbox) -> None:
    listen = "import socket; s = socket.create_server(('127.0.0.1', 8300)); print('on', flush=True)"
    answer = "c, _ = s.accept(); c.sendall(c.recv(9)[::-1])"
    exec_id = await sandbox.begin(f'exec python3 -c "{listen}; {answer}"')
    await access.more(exec_id, 20, 0, 2**62)
    assert [one.port for one in (await access.listeners())[1]] == [8300]
    reader, writer = await access.dial(8300, wake=True)
    writer.write(b"drawer")
    assert await reader.read(-1) == b"reward"


@pytest.mark.parametrize("kind", ["local", "relay"])
async def test_a_sandbox_that_is_gone_is_told_and_its_journals_stay(make: Make, kind: str) -> None:
    sandbox = await make()
    relay = Relay(sandbox.run_dir)
    link: SandboxLink = LocalLink(sandbox.run_dir) if kind == "local" else RelayLink(await relay.start())
    exec_id = (await sandbox.sh("echo kept")).status.exec_id
    await sandbox.driver.stop(sandbox.spec.sandbox_id)
    with pytest.raises(SandboxNotRunning):
        await link.connect()
    assert (await link.read(exec_id, "stdout", 0, 100)).data == b"kept\n"
    assert (await link.exit_record(exec_id)).exit_code == 0
    if kind == "relay":
        await relay.stop()
