"""The prompt of `chat` in a real pseudo terminal, and what helps to type in it."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from terminalpp.cli import inputs
from terminalpp.cli.inputs import PromptCompleter, PromptHistory
from tests.cli.recorded_server import RecordedServer
from tests.cli.repositories import make
from tests.cli.terminal import Terminal

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make(tmp_path / "my r", {"a.py": b"1\n", "my notes.txt": b"1\n", "src/thing.py": b"1\n"})


async def test_a_conversation_at_the_prompt(server: RecordedServer, repo: Path, home: Path) -> None:
    """A pasted text is one message, files complete, output stands above the prompt, Ctrl-C stops the turn and
    leaves only when nothing runs; what was typed is there the next time."""
    server.output = b"".join(b"line %d\n" % number for number in range(100))
    server.said = "I *did* it in `a.py`."
    terminal = await Terminal.open("chat", "--model", "m", cwd=repo)
    try:
        await terminal.until("you ▸")
        await terminal.until("m · 0 tokens")
        terminal.type("\x1b[200~first\r\nsecond\rthird\x1b[201~ \\\rsee @no")
        await terminal.until("my notes.txt")  # the menu
        terminal.type("\t")
        await terminal.until('"my notes.txt"')
        server.hold = True
        terminal.type("\r\r")
        await server.watched.wait()
        await terminal.until("│ line 99")
        await terminal.until("I did it in a.py.")
        await terminal.until("m · 1.2k tokens · $0.2500 · working")
        assert server.messages == ['first\nsecond\nthird \nsee @"my notes.txt"']
        assert re.search(r"… 70 lines, /show 1 prints them", terminal.text)
        terminal.type("a draft")
        await terminal.until("a draft")
        terminal.type("\x03")
        await terminal.until("Cancelling")
        await terminal.until("● cancelled")
        await terminal.until("you ▸ a draft")  # still there
        terminal.type("\x03/show 1\r")
        await terminal.until("▸ /show 1")
        await terminal.until("line 50")
        terminal.resize(30)
        terminal.type("\x03\x03")
        await terminal.until("The conversation is kept")
        assert await terminal.ended() == 0
    finally:
        await terminal.close()
    kept = home / "chat" / "history"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text().splitlines()[1]) == server.messages[0]
    again = await Terminal.open("chat", "--conversation", "11111111", cwd=repo)
    try:
        await again.until("you ▸")
        again.type("\x12secon")  # Ctrl-R
        await again.until("second")
        again.type("\x03\x1b[A")  # Ctrl-C leaves the search, the arrow goes to the entry before
        await again.until("/show 1")
        again.type("\x03\x04")
        assert await again.ended() == 0
    finally:
        await again.close()


async def test_a_terminal_without_colour_or_without_a_cursor(server: RecordedServer, repo: Path) -> None:
    for variable, prompt in (({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False)):
        terminal = await Terminal.open("chat", "--model", "m", cwd=repo, **variable)
        try:
            await terminal.until("you ▸")
            terminal.type("漢字 in a line\r")
            await terminal.until("▸ 漢字 in a line")
            await terminal.until("✓ passed")
            terminal.type("/quit\r")
            assert await terminal.ended() == 0
            assert not COLOUR.search(terminal.raw)
            assert (b"\x1b" in terminal.raw) == prompt
        finally:
            await terminal.close()
            server.copied.clear()
            server.folder = server.folder.with_name("again")


def test_history_keeps_no_secrets_and_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past = PromptHistory()
    plain = ["fix the token parser", "two\nlines", "ünï"]
    hidden = ["OPENAI_API_KEY=sk-abcdefghijklmnop", "use ghp_abcdefghijklmnopqrst", " not this", "x" * 20_000,
              "-----BEGIN PRIVATE KEY-----", "password: hunter22", "https://me:word@host/x.git"]
    for text in [*plain, *hidden]:
        past.store_string(text)
    assert list(PromptHistory().load_history_strings()) == plain[::-1]
    file = home / "chat" / "history"
    file.write_bytes(file.read_bytes() + b'\n"half')
    past.store_string("after a kill")
    assert list(PromptHistory().load_history_strings()) == ["after a kill", *plain[::-1]]
    monkeypatch.setattr(inputs, "ENTRIES", 1)
    list(PromptHistory().load_history_strings())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"parser" not in file.read_bytes()
    assert next(iter(PromptHistory().load_history_strings())) == "after a kill"


def completed(names: PromptCompleter, text: str) -> list[str]:
    return [text[: len(text) + one.start_position] + one.text
            for one in names.get_completions(Document(text), CompleteEvent())]


def test_completion_of_commands_files_and_models(repo: Path, tmp_path: Path) -> None:
    (repo / ".gitignore").write_text("ignored.py\n")
    for name in ("ignored.py", "new.py", 'odd"name.py', "odd\nname.py"):
        (repo / name).write_text("")
    names = PromptCompleter(("/diff", "/show"), repo)
    assert completed(names, "/") == ["/diff", "/show"]
    assert completed(names, "/sh") == ["/show"]
    assert completed(names, "see @TH") == ["see @src/thing.py"]
    assert completed(names, "see @not") == ['see @"my notes.txt"']
    assert completed(names, 'see @"my n') == ['see @"my notes.txt"']
    assert completed(names, "@.py") == ["@a.py", "@new.py", "@src/thing.py"]
    assert completed(names, "mail@a") == []
    assert completed(names, "/model openai/") == ["/model openai/gpt-5.5", "/model groq/openai/gpt-oss-120b"]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "one.txt").write_text("")
    assert completed(PromptCompleter((), tmp_path / "plain"), "@") == ["@one.txt"]
    assert completed(PromptCompleter((), None), "@") == []


def test_a_huge_tree_is_looked_through_no_further_than_the_bound(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MOST", 2)
    assert inputs.files(repo) == ["a.py", "my notes.txt"]
    (repo / ".git").rename(repo / "no repository")
    assert len(inputs.files(repo)) == 2
    monkeypatch.setattr(inputs, "LISTING_S", 0.0)  # what is not told in time is left out
    (repo / "no repository").rename(repo / ".git")
    assert inputs.files(repo) == []
