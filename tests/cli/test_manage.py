"""`tpp conversation` and `tpp sandbox`: what is changed is what was meant, and nothing goes without a yes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.recorded_server import ID, SANDBOX, RecordedServer
from tests.cli.terminal import Terminal
from tests.cli.test_verbs import typed

TALK, BOX = f"/v1/conversations/{ID}", f"/v1/sandboxes/{SANDBOX}"


def changes(server: RecordedServer) -> list[tuple[str, str, bytes]]:
    return [request for request in server.requests if request[0] != "GET"]


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (("conversation", "rename", ID[:6], "a b"), ("PATCH", TALK, b'{"title":"a b"}')),
        (("conversation", "archive", ID[:6].upper()), ("PATCH", TALK, b'{"archived":true}')),
        (("conversation", "restore", ID), ("PATCH", TALK, b'{"archived":false}')),
        (("conversation", "rm", "--yes", ID[:6]), ("DELETE", TALK, b"")),
        (("sandbox", "start", SANDBOX[:6]), ("POST", f"{BOX}/start", b"")),
        (("sandbox", "stop", SANDBOX), ("POST", f"{BOX}/stop", b"")),
        (("sandbox", "pause", SANDBOX), ("POST", f"{BOX}/pause", b"")),
        (("sandbox", "resume", SANDBOX), ("POST", f"{BOX}/resume", b"")),
        (("sandbox", "restart", SANDBOX), ("POST", f"{BOX}/restart", b"")),
        (("sandbox", "rm", "-y", SANDBOX[:6]), ("DELETE", BOX, b"")),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value[1], str) else "",
)
async def test_each_verb_asks_for_one_thing(
    server: RecordedServer, words: tuple[str, ...], request_: tuple[str, str, bytes]
) -> None:
    done = await typed(*words)
    assert done.status == 0, done.err
    assert (ID if words[0] == "conversation" else SANDBOX) in done.out
    assert changes(server) == [request_]
    assert json.loads((await typed(*words, "--json")).out)


async def test_lists(server: RecordedServer) -> None:
    done = await typed("conversation", "ls", "--all")
    assert ID[:8] in done.out
    assert json.loads((await typed("sandbox", "ls", "--json")).out)["id"] == SANDBOX


@pytest.mark.parametrize("words", [("conversation", "rm", ID[:6]), ("sandbox", "rm", SANDBOX[:6])])
async def test_nothing_is_deleted_without_a_yes(
    server: RecordedServer, tmp_path: Path, words: tuple[str, ...]
) -> None:
    for more in ((), ("--json",)):
        done = await typed(*words, *more, stdin=b"y\n")  # a pipe is nobody who was asked
        assert done.status == 2
        assert "--yes" in done.out + done.err
    for answer, status in (("n\r", 130), ("\r", 130), ("\x04", 130), ("\x03", 130)):
        terminal = await Terminal.open(*words, cwd=tmp_path)
        try:
            await terminal.until("Delete it?")
            assert "cannot be undone" in terminal.text
            if words[0] == "sandbox":
                assert "and 1 conversation." in terminal.text
            assert await terminal.answered(answer) == status
        finally:
            await terminal.close()
    assert changes(server) == []
    terminal = await Terminal.open(*words, cwd=tmp_path)
    try:
        await terminal.until("Delete it?")
        assert await terminal.answered("y\r") == 0
    finally:
        await terminal.close()
    assert [method for method, *_ in changes(server)] == ["DELETE"]


@pytest.mark.parametrize("words", [("conversation", "archive"), ("sandbox", "stop"), ("kill",)])
async def test_an_id_that_nothing_has(server: RecordedServer, words: tuple[str, ...]) -> None:
    done = await typed(*words, "feed")
    assert (done.status, " ls" in done.err) == (2, True)
    assert (await typed(*words, "")).status == 2
    assert changes(server) == []
