"""The painted screen against a public list of what a terminal must do: that of libvterm 0.1.4, with
screens of vttest.

The list is not ours and not in this repository: `.ci/vt-list.sh FOLDER` brings it from Debian's sources, and
TPP_VT_LIST names the folder. Without it this test is left out; CI sets it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.terminal.ghostty import GhosttyScreen
from actors.terminal.screen import Text
from tests.terminal.vt_list import COLS, ROWS, Check, Push, Resize, steps

LIST = os.environ.get("TPP_VT_LIST", "")
# What the emulator does otherwise, painted or not.
OTHERWISE = {
    "13state_edit: IL #3": "the cursor goes to the margin, as ECMA-48 says",
    "16state_resize: Resize shrink moves cursor #1": "a line that no longer fits is folded, not cut",
    "21state_tabstops: TBC 0 #1": "CSI g without a number is taken for nothing",
    "28state_dbl_wh: Double Width, Single Height #2": "no lines of double width",
    "63screen_resize: Resize taller attempts to pop scrollback #4": "nothing comes back from the scrollback",
    "63screen_resize: Resize taller attempts to pop scrollback #5": "the same",
    "63screen_resize: Resize taller attempts to pop scrollback #6": "the same",
    "63screen_resize: Resize taller attempts to pop scrollback #7": "the same",
}


@pytest.mark.skipif(not LIST, reason="TPP_VT_LIST names no folder: .ci/vt-list.sh makes it")
def test_the_painted_screen_is_as_the_list_says() -> None:
    passed, wrong = 0, {}
    for file in sorted(Path(LIST).glob("*.test")):
        for check, screen in states(file):
            then, painted = screen.text(), painted_anew(screen).text()
            assert shown(check, painted) == shown(check, then), f"{check.name} is painted wrong"
            if shown(check, painted) == check.wanted.rstrip():
                passed += 1
            else:
                wrong[check.name] = shown(check, painted)
    assert wrong.keys() == OTHERWISE.keys(), wrong
    assert passed == 328


def states(file: Path):
    """Each check of a script with the screen at that moment."""
    screen = GhosttyScreen(COLS, ROWS)
    for step in steps(file):
        match step:
            case Resize(rows, cols, reset=True):
                screen.close()
                screen = GhosttyScreen(cols, rows)
            case Resize(rows, cols):
                screen.resize(cols, rows)
            case Push(data):
                screen.feed(data)
            case Check():
                yield step, screen
    screen.close()


def painted_anew(screen: GhosttyScreen) -> GhosttyScreen:
    now = screen.text()
    other = GhosttyScreen(now.cols, now.rows)
    other.feed(screen.paint())
    return other


def shown(check: Check, text: Text) -> str:
    """What the screen answers to a check."""
    if check.what == "cursor":
        column, row = text.cursor
        return f"{row},{column}"
    if check.what == "row":
        return text.lines[check.where[0]].rstrip()
    top, left, bottom, right = check.where
    return "\n".join(line[left:right] for line in text.lines[top:bottom]).rstrip()
