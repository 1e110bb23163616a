"""Characters that are no line ends break no line on the screen, in a patch or in lines of JSON."""

from __future__ import annotations

import io
import json

import pytest

from terminalpp.cli import diffs
from terminalpp.cli.render import Renderer
from terminalpp.cli.screen import Screen
from terminalpp.types import errors

SEPARATORS = "\u2028\u2029"  # shown as they are
CONTROLS = "\x0b\x0c\x1c\x1d\x1e\x85"  # a terminal might obey them: not shown


@pytest.fixture
def screen() -> Screen:
    return Screen(io.StringIO(), tty=False, colour=False)


def test_a_command_s_output_keeps_its_lines(screen):
    renderer = Renderer(screen, live=False)
    renderer.feed({"type": "command.started", "payload": {"exec_id": "e", "command": "x"}, "actor": "coder"})
    output = f"a{SEPARATORS}b{CONTROLS}c\nd\r\n".encode()
    for at in range(len(output)):  # cut anywhere
        renderer.output("e", output[at : at + 1])
    ended = {"exec_id": "e", "status": "completed", "exit_code": 0}
    renderer.feed({"type": "command.finished", "payload": ended})
    lines = screen.stream.getvalue().split("\n")
    assert [line for line in lines if line.startswith("  │ ")] == [f"  │ a{SEPARATORS}bc", "  │ d"]


def test_a_summary_keeps_its_lines(screen):
    payload = {"outcome": "passed", "summary": f"Done{SEPARATORS}with {CONTROLS}care.\nYes."}
    Renderer(screen, live=False).feed({"type": "turn.finished", "payload": payload})
    assert f"\n  Done{SEPARATORS}with care.\n  Yes.\n" in screen.stream.getvalue()


def test_a_patch_keeps_its_lines(screen):
    patch = f"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a{SEPARATORS}b\n+a{CONTROLS}{SEPARATORS}c\r\n"
    diffs.show(screen, patch.encode())
    assert screen.stream.getvalue().split("\n")[3:] == [f"-a{SEPARATORS}b", f"+a{SEPARATORS}c", ""]


def test_an_error_keeps_its_words_as_json():
    words = f"a{SEPARATORS}b{CONTROLS}"
    error = errors.InvalidInput(words)
    line = json.dumps(error.to_json())
    assert len(line.splitlines()) == 1
    assert errors.from_json(json.loads(line)).detail == words
