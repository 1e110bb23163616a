"""`tpp model`: a key goes from the keyboard or standard input to the server, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

from terminalpp.cli import models
from tests.cli.recorded_server import RecordedServer
from tests.cli.terminal import Terminal
from tests.cli.test_verbs import typed

KEY = "sk-this-is-never-shown"
PUT = ("PUT", "/v1/models/keys/openai", b'{"key":"%s"}' % KEY.encode())


async def test_a_key_is_typed_without_echo(server: RecordedServer, tmp_path: Path) -> None:
    terminal = await Terminal.open("model", "add", "openai", cwd=tmp_path)
    try:
        await terminal.until("Key for openai:")
        terminal.type(KEY + "\r")
        await terminal.until("is stored")
        assert await terminal.ended() == 0
        assert KEY not in terminal.text
        assert PUT in server.requests
        terminal = await Terminal.open("model", "add", "openai", cwd=tmp_path)
        await terminal.until("Key for openai:")
        terminal.type("\x03")
        assert await terminal.ended() == 130
    finally:
        await terminal.close()


async def test_a_key_comes_on_standard_input(server: RecordedServer) -> None:
    done = await typed("model", "add", "openai", "--json", stdin=f"{KEY}\n".encode())
    assert done.status == 0, done.err
    assert json.loads(done.out)["provider"] == "openai"
    assert KEY not in done.out + done.err
    assert PUT in server.requests
    asked = len(server.requests)
    for key in (b"", b"\n", b"two words", b"\xff\xfe", b"x" * 5000, b"a\x1b[31m"):
        done = await typed("model", "add", "openai", stdin=key)
        assert (done.status, "this is no key" in done.err) == (2, True)
    assert (await typed("model", "add", "opnai", stdin=b"k")).status == 2
    assert len(server.requests) == asked


async def test_keys_are_listed_and_forgotten(server: RecordedServer) -> None:
    done = await typed("model", "ls")
    assert "openai" in done.out
    assert "add it again" in done.out
    assert "openai/m  (default)" in done.out
    assert json.loads((await typed("model", "ls", "--json")).out)["keys"][0]["usable"] is False
    assert (await typed("model", "rm", "openai")).status == 0
    assert ("DELETE", "/v1/models/keys/openai", b"") in server.requests


def test_a_stored_key_chooses_the_model(home: Path) -> None:
    assert models.stored() == frozenset()
    (home / "secrets").mkdir(parents=True)
    file = home / "secrets" / "model-keys.json"
    file.write_text('{"xai": {"key": "encrypted"}}')
    found = models.choose(None, {}, demo=True, keys=models.stored())
    assert (found.model, found.reason) == ("xai/grok-4.7", "the stored key for xai")
    file.write_text("[")
    assert models.choose(None, {}, demo=True, keys=models.stored()).scripted
