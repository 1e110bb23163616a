"""The verbs as a person types them, against a gateway that plays a recording."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from terminalpp.types.limits import MESSAGE_BYTES
from tests.cli.recorded_server import EXEC, ID, SANDBOX, RecordedServer
from tests.cli.repositories import git, make, write

ROOT = Path(__file__).parents[2]


class Typed:
    """What a verb said and how it ended."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status, self.out, self.err = status, out.decode(), err.decode()


async def start(*words: str, cwd: Path | None = None, **environment: str) -> asyncio.subprocess.Process:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TPP_HOME")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "terminalpp.cli.main", *words, cwd=cwd or ROOT,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )


async def typed(*words: str, stdin: bytes = b"", cwd: Path | None = None, **environment: str) -> Typed:
    process = await start(*words, cwd=cwd, **environment)
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    return Typed(process.returncode or 0, out, err)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make(tmp_path / "my r", {"a.py": b"1\n", "b.py": b"1\n"})


async def test_run_applies_to_the_working_tree(server: RecordedServer, repo: Path) -> None:
    write(repo, {"loose.py": b"untracked\n"})
    done = await typed("run", "--model", "m", "--apply", "do it", cwd=repo)
    assert done.status == 0, done.out + done.err
    assert (repo / "a.py").read_bytes() == b"2\n"
    assert {"loose.py", "a.py", ".git/HEAD"} <= server.copied
    assert server.messages == ["do it"]
    assert "│ hello world" in done.out
    assert "\x1b" not in done.out
    assert done.out.splitlines()[0] == "Model: m (from --model)"
    again = await typed("run", "--resume", ID[:6], "--apply")
    assert "holds these changes already" in again.out


async def test_later_changes_of_the_same_conversation_apply_on_top(
    server: RecordedServer, repo: Path
) -> None:
    assert (await typed("run", "--model", "m", "--apply", "one", cwd=repo)).status == 0
    write(server.folder, {"a.py": b"3\n", "c.py": b"new\n"})
    done = await typed("run", "--resume", ID, "--apply", "two")
    assert done.status == 0, done.out + done.err
    assert (repo / "a.py").read_bytes() == b"3\n"
    assert (repo / "c.py").read_bytes() == b"new\n"
    assert server.messages == ["one", "two"]


async def test_a_conflict_keeps_the_patch_and_says_where(server: RecordedServer, repo: Path) -> None:
    await typed("run", "--model", "m", "do it", cwd=repo)
    write(repo, {"a.py": b"mine\n"})
    done = await typed("run", "--resume", ID, "--apply")
    assert done.status == 4
    assert "Not applied: changed since they were copied: a.py" in done.out
    kept = Path(done.out.rsplit("patch: ", 1)[1].strip())
    assert b"+2" in kept.read_bytes()
    assert (repo / "a.py").read_bytes() == b"mine\n"


async def test_branch_and_patch(server: RecordedServer, repo: Path, tmp_path: Path) -> None:
    done = await typed("run", "--model", "m", "--branch", "team", "do it", cwd=repo)
    assert done.status == 0, done.out + done.err
    assert git(repo, "show", "team:a.py") == b"2\n"
    assert (repo / "a.py").read_bytes() == b"1\n"
    done = await typed("run", "--resume", ID, "--patch", str(tmp_path / "out.patch"))
    assert done.status == 0
    git(repo, "apply", str(tmp_path / "out.patch"))
    assert (repo / "a.py").read_bytes() == b"2\n"


@pytest.mark.parametrize("outcome", ["failed", "unverified"])
async def test_the_exit_status_is_the_tests(server: RecordedServer, repo: Path, outcome: str) -> None:
    server.outcome = outcome
    done = await typed("run", "--model", "m", "--apply", "do it", cwd=repo)
    assert done.status == 1
    applied = (repo / "a.py").read_bytes() == b"2\n"
    assert applied == (outcome == "unverified"), "red work is kept, not applied"
    assert ("not green" in done.out) != applied
    done = await typed("run", "--resume", ID, "--apply")
    assert (repo / "a.py").read_bytes() == b"2\n", "who has seen it may have it"
    assert done.status == 1


async def test_json_is_one_object_a_line(server: RecordedServer, repo: Path) -> None:
    done = await typed("run", "--model", "m", "--apply", "--json", "do it", cwd=repo)
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["type"] for line in lines] == [
        "cli.model", "cli.started", "message.accepted", "turn.started", "command.started",
        "command.finished", "turn.finished", "cli.result"]
    assert lines[-1]["payload"] == {"result": "applied", "paths": ["a.py"]}


async def test_ctrl_c_once_cancels_and_keeps(server: RecordedServer, repo: Path) -> None:
    server.hold = True
    process = await start("run", "--model", "m", "do it", cwd=repo)
    async with asyncio.timeout(30):
        await server.watched.wait()
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert server.cancelled.is_set()
    assert process.returncode == 130
    assert b"The changes are kept" in out


async def test_ctrl_c_twice_leaves(server: RecordedServer, repo: Path) -> None:
    server.hold = True
    process = await start("run", "--model", "m", "do it", cwd=repo)
    async with asyncio.timeout(30):
        await server.watched.wait()
    server.cancelled = asyncio.Event()  # this server never gets the turn to end
    process.send_signal(signal.SIGINT)
    assert process.stdout
    async for line in process.stdout:
        if b"Cancelling" in line:
            process.send_signal(signal.SIGINT)
            break
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 130
    assert f"./tpp run --resume {ID[:8]}".encode() in out


async def test_task_from_standard_input_and_its_limits(server: RecordedServer, repo: Path) -> None:
    text = "x" * MESSAGE_BYTES
    done = await typed("run", "--model", "m", "-", stdin=text.encode(), cwd=repo)
    assert done.status == 0
    assert server.messages == [text]
    long = b"x" * (MESSAGE_BYTES + 1)
    for task, words in ((b" \n", "empty"), (long, "limit"), (b"\xff", "UTF-8"), (b"a\0b", "NUL")):
        done = await typed("run", "--model", "m", "-", stdin=task, cwd=repo)
        assert (done.status, words in done.err) == (2, True), done.err
    assert server.messages == [text]


async def test_chat_sends_each_line_after_the_turn_before(server: RecordedServer, repo: Path) -> None:
    lines = b"one\n/diff\n/cost\n/nonsense\ntwo\n/apply\n/quit\n"
    done = await typed("chat", "--model", "m", stdin=lines, cwd=repo)
    assert done.status == 0, done.out + done.err
    assert server.messages == ["one", "two"]
    assert "+2" in done.out
    assert "/model [NAME]" in done.out
    assert (repo / "a.py").read_bytes() == b"2\n"


async def test_logs_ps_and_version(server: RecordedServer, repo: Path) -> None:
    await typed("run", "--model", "m", "say hello", cwd=repo)
    logs = await typed("logs", ID[:4])
    assert logs.status == 0
    assert "▸ say hello" in logs.out
    assert "hello world" in logs.out
    assert (await typed("logs", "ffff")).status == 2
    assert ID[:8] in (await typed("ps")).out
    assert json.loads((await typed("ps", "--json")).out)["conversations"][0]["id"] == ID
    assert json.loads((await typed("version", "--json")).out)["server"]["version"] == "0.1.0"


async def test_processes_are_listed_and_ended(server: RecordedServer) -> None:
    shown = await typed("ps", SANDBOX[:6])
    assert shown.status == 0, shown.err
    assert f"17   {EXEC[:8]}  sleeping  1.5 s  1.5 MiB" in shown.out
    assert "983" in shown.out
    assert "\x1b" not in shown.out
    assert json.loads((await typed("ps", SANDBOX, "--json")).out)[0]["pid"] == 17
    assert (await typed("kill", SANDBOX[:6])).out == "2 processes ended\n"
    one = await typed("kill", SANDBOX[:6], EXEC[:4], "--json")
    assert json.loads(one.out) == {"killed": 1}
    path = f"/v1/sandboxes/{SANDBOX}/commands/{EXEC}/signal"
    assert ("POST", path, b'{"signal":"KILL","tree":true}') in server.requests
    for words in (("ps", "ffff"), ("kill", "ffff"), ("kill", SANDBOX[:6], "ffff")):
        assert (await typed(*words)).status == 2


async def test_bad_input_fails_before_anything_is_started(tmp_path: Path, repo: Path) -> None:
    for words, status in (
        (("run", "--repo", str(tmp_path / "nowhere"), "--model", "m", "x"), 2),
        (("run", "--model", "m", ""), 2),
        (("run", "--model", "m", "--apply", "--patch", "f", "x"), 2),
        (("run", "--model", "m", "--branch", "a..b", "x"), 2),
        (("run", "--model", "m", "--branch", "main", "x"), 2),
        (("run", "x"), 2),
        (("db", "drop"), 2),
        (("logs", "abc"), 3),
    ):
        done = await typed(*words, cwd=repo)
        assert done.status == status, (words, done.out, done.err)
        assert "Traceback" not in done.err
    no_model = await typed("run", "x", cwd=repo)
    assert "OPENAI_API_KEY" in no_model.err
    as_json = await typed("ps", "--json")
    assert json.loads(as_json.out)["payload"]["code"] == "unavailable"


async def test_a_wrong_token_is_said_so(server: RecordedServer, home: Path) -> None:
    (home / "secrets" / "owner.token").write_text("other")
    done = await typed("ps")
    assert done.status == 3
    assert "token" in done.err
    (home / "run" / "state.json").write_text("{")
    done = await typed("ps")
    assert done.status == 3
    assert "state.json" in done.err
