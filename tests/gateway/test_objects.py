"""Sandboxes and commands as objects, on both faces, against a real gateway and real sandboxes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from terminalpp.client import AsyncSandbox, Client, CommandFailed, Sandbox
from terminalpp.client.blocking import Background, background
from terminalpp.types import errors
from tests.eventually import eventually
from tests.gateway.conftest import Served

LONG = "echo begun; sleep 600"


@pytest.fixture
def sandbox(api: Client, box: str) -> AsyncSandbox:
    return AsyncSandbox(api, box)


@pytest.fixture
async def ordinary(stack: Served, box: str) -> Callable[[Callable[[Sandbox], Any]], Any]:
    """Runs a function of ordinary code in a thread, as if it were a program of its own."""
    url, token = stack.url, stack.token

    async def run(program: Callable[[Sandbox], Any]) -> Any:
        return await asyncio.to_thread(lambda: program(Sandbox.connect(box, url=url, token=token)))

    return run


async def running(sandbox: AsyncSandbox) -> list[str]:
    return [row["command"] for row in await sandbox.commands.list(status="running")]


async def nothing_runs(sandbox: AsyncSandbox) -> None:
    async def idle() -> bool:
        return not await running(sandbox)

    await eventually(idle, 20)


async def test_a_command_and_what_it_prints(sandbox: AsyncSandbox) -> None:
    seen: list[tuple[str, str]] = []

    async def on_stdout(text: str) -> None:
        seen.append(("out", text))

    result = await sandbox.commands.run(
        "echo $A; pwd; echo é >&2; printf '\\377'",
        envs={"A": "hello"},
        cwd="/tmp",
        on_stdout=on_stdout,
        on_stderr=lambda text: seen.append(("err", text)),
    )
    assert (result.stdout, result.stderr, result.exit_code) == ("hello\n/tmp\n\ufffd", "é\n", 0)
    assert (result.status, result.reason, result.gap_bytes) == ("completed", None, 0)
    assert "".join(text for stream, text in seen if stream == "out") == result.stdout
    assert "".join(text for stream, text in seen if stream == "err") == result.stderr
    assert (await sandbox.commands.run(["printf", "%s", "$A b"])).stdout == "$A b"


async def test_what_does_not_succeed_raises_or_is_a_result(sandbox: AsyncSandbox) -> None:
    with pytest.raises(CommandFailed) as caught:
        await sandbox.commands.run("echo out; echo err >&2; exit 3")
    failed = caught.value
    assert (failed.exit_code, failed.stdout, failed.stderr) == (3, "out\n", "err\n")
    assert failed.extra["status"] == "completed"
    result = await sandbox.commands.run("exit 3", check=False)
    assert (result.exit_code, result.status) == (3, "completed")
    late = await sandbox.commands.run(LONG, timeout=0.3, check=False)
    assert (late.stdout, late.exit_code, late.reason) == ("begun\n", 124, "timeout")


async def test_a_command_in_the_background(sandbox: AsyncSandbox) -> None:
    cat = await sandbox.commands.run("read a; echo 1 $a; read b; echo 2 $b; cat", background=True, stdin=True)
    await cat.send_stdin("one\n")
    again = await sandbox.commands.connect(cat.id)
    await again.send_stdin(b"two\n")
    await again.close_stdin()
    assert (await again.wait()).stdout == "1 one\n2 two\n"
    assert (await cat.wait()).stdout == "1 one\n2 two\n"  # any number of times
    long = await sandbox.commands.run(LONG, background=True)
    async with aclosing(long.__aiter__()) as events:
        assert (await anext(events)).data == b"begun\n"
    assert await running(sandbox) == [LONG]
    assert await long.kill() is True
    result = await long.wait(check=False)
    assert (result.status, result.exit_code) == ("killed", 137)
    assert await long.kill() is False
    with pytest.raises(errors.NotFound):
        await sandbox.commands.connect("11111111-2222-4333-8444-555555555555")


async def test_a_result_does_not_wait_for_what_was_left(sandbox: AsyncSandbox) -> None:
    command = await sandbox.commands.run("(sleep 600; echo late) & echo early", background=True)
    assert (await command.wait()).stdout == "early\n"
    assert await command.kill() is True  # what it left
    assert [event.kind async for event in command.output()] == ["stdout", "exited", "end"]


@pytest.mark.parametrize("by", ["cancelled", "callback"])
async def test_nothing_is_left_running(sandbox: AsyncSandbox, by: str) -> None:
    begun = asyncio.Event()

    def on_stdout(text: str) -> None:
        begun.set()
        if by == "callback":
            raise LookupError(text)

    task = asyncio.ensure_future(sandbox.commands.run(LONG, on_stdout=on_stdout))
    await begun.wait()
    if by == "cancelled":
        task.cancel()
    with pytest.raises(asyncio.CancelledError if by == "cancelled" else LookupError):
        await task
    await nothing_runs(sandbox)


async def test_cancelled_while_it_is_started(sandbox: AsyncSandbox) -> None:
    task = asyncio.ensure_future(sandbox.commands.run(LONG))
    await asyncio.wait([task], timeout=0.005)  # wherever it is by then
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await nothing_runs(sandbox)


async def test_to_stop_waiting_stops_nothing(sandbox: AsyncSandbox) -> None:
    command = await sandbox.commands.run(LONG, background=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await command.wait()
    assert await running(sandbox) == [LONG]
    assert await command.kill()


async def test_files(sandbox: AsyncSandbox) -> None:
    files, folder = sandbox.files, "/home/user/d"
    assert not await files.exists(folder)
    await files.write(f"{folder}/a", "é\n")
    await files.write(f"{folder}/b", b"\xff", mode="700")
    assert await files.read(f"{folder}/a") == "é\n"
    assert await files.read_bytes(f"{folder}/b") == b"\xff"
    with pytest.raises(errors.FileProblem, match="UTF-8"):
        await files.read(f"{folder}/b")
    assert (await files.get_info(f"{folder}/b"))["mode"] == "0700"
    await files.make_dir(f"{folder}/c/d")
    await files.rename(f"{folder}/a", f"{folder}/c/d/e")
    with pytest.raises(errors.Conflict):
        await files.rename(f"{folder}/b", f"{folder}/c/d/e")
    assert [row["name"] for row in await files.list(folder, depth=3)] == ["b", "c", "d", "e"]
    await files.remove(f"{folder}/c", recursive=True)
    await files.remove(f"{folder}/c")  # what is not there is fine
    assert [row["name"] for row in await files.list(folder)] == ["b"]
    with pytest.raises(errors.NotFound):
        await files.read(f"{folder}/a")
    with pytest.raises(errors.InvalidInput):
        await files.write("relative", "")


async def test_a_sandbox_lives_as_long_as_its_block(stack: Served, api: Client) -> None:
    async with await AsyncSandbox.create(url=stack.url, token=stack.token, name="mine") as sandbox:
        assert (await sandbox.record())["status"] == "running"
        async with await AsyncSandbox.connect(sandbox.id, client=api) as other:
            assert other.id in [row["id"] for row in await AsyncSandbox.list(client=api)]
        assert (await sandbox.commands.run("echo still here")).stdout == "still here\n"
    with pytest.raises(errors.NotFound):
        await api.sandbox(sandbox.id)
    with pytest.raises(errors.NotFound):
        await AsyncSandbox(api, sandbox.id).files.exists("/tmp")
    assert await AsyncSandbox(api, sandbox.id).kill() is False
    with pytest.raises(errors.InvalidInput, match="closed"):
        await sandbox.record()


async def test_a_sandbox_that_fails_or_is_cancelled_is_not_left(stack: Served, api: Client) -> None:
    with pytest.raises(errors.TerminalError) as caught:
        await AsyncSandbox.create(client=api, image="no-such-image")  # bubblewrap has no images
    assert caught.value.code in ("sandbox-failed", "image-unavailable")
    making = asyncio.ensure_future(AsyncSandbox.create(client=api))

    async def some() -> bool:
        return bool(await api.sandboxes())

    await eventually(some, 20)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making

    async def none() -> bool:
        return not await api.sandboxes()

    await eventually(none, 20)


# ---- ordinary code ------------------------------------------------------------------------------


async def test_ordinary_code_reads_the_same(ordinary: Any) -> None:
    def program(sandbox: Sandbox) -> None:
        here, threads = threading.current_thread(), []
        result = sandbox.commands.run(
            "echo out; echo err >&2",
            on_stdout=lambda text: threads.append(threading.current_thread()),
            on_stderr=lambda text: threads.append(threading.current_thread()),
        )
        assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)
        assert set(threads) == {here}
        cat = sandbox.commands.run("cat", background=True, stdin=True)
        cat.send_stdin("x")
        cat.close_stdin()
        assert cat.wait().stdout == "x"
        assert [event.kind for event in cat] == ["stdout", "exited"]
        assert sandbox.commands.list()[0]["id"] == cat.id
        with pytest.raises(CommandFailed):
            sandbox.commands.run("exit 1")
        sandbox.files.write("/home/user/f", "text")
        assert sandbox.files.read("/home/user/f") == "text"
        assert sandbox.record()["status"] == "running"
        with sandbox:
            pass
        assert sandbox.files.exists("/home/user/f"), "a sandbox that was connected to is not deleted"

    await ordinary(program)


async def test_a_callback_uses_the_sandbox_and_may_fail(ordinary: Any, sandbox: AsyncSandbox) -> None:
    def program(sandbox: Sandbox) -> None:
        def on_stdout(text: str) -> None:
            assert sandbox.commands.run("echo from inside").stdout == "from inside\n"
            raise LookupError(text)

        with pytest.raises(LookupError, match="begun"):
            sandbox.commands.run(LONG, on_stdout=on_stdout)

    await ordinary(program)
    await nothing_runs(sandbox)


async def test_an_iterator_that_is_left_is_closed(ordinary: Any, sandbox: AsyncSandbox) -> None:
    def program(sandbox: Sandbox) -> int:
        command = sandbox.commands.run(LONG, background=True)
        before = len(asyncio.all_tasks(background()._loop))
        for event in command:
            assert event.data == b"begun\n"
            break
        command.kill()
        return len(asyncio.all_tasks(background()._loop)) - before

    assert await ordinary(program) <= 0


async def test_threads_share_one_connection(ordinary: Any) -> None:
    def program(sandbox: Sandbox) -> None:
        said: list[str] = []

        def work(n: int) -> None:
            said.append(sandbox.commands.run(f"echo {n}").stdout)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(said) == [f"{n}\n" for n in range(6)]

    await ordinary(program)


async def test_nobody_waits_for_himself(ordinary: Any) -> None:
    """On the loop's own thread, and after a fork, it refuses instead of hanging."""

    def program(sandbox: Sandbox) -> None:
        of = sandbox._background

        async def inside() -> None:
            sandbox.record()

        with pytest.raises(errors.InvalidInput, match="wait for itself"):
            of.call(inside())
        of._pid += 1
        try:
            with pytest.raises(errors.InvalidInput, match="forked"):
                sandbox.record()
        finally:
            of._pid = os.getpid()

    await ordinary(program)


def test_an_interrupted_wait_cancels_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives in the caller's thread while it waits; the work has undone itself when it goes on."""
    import signal

    undone = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            undone.append(True)

    with pytest.raises(KeyboardInterrupt):
        Background().call(work())
    assert undone == [True]
