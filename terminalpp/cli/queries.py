"""Taking out of a terminal's output what asks the terminal something.

A program's questions (where is the cursor, what are you, which colour is the background) are answered by the
server's own screen, once. If the person's terminal answered too, its answer would arrive as if it was typed.
So questions are not shown to it. Everything else passes as it is; a sequence that is cut in two by a
network read is kept until its rest is there, a long one that is no question passes at once.
"""

from __future__ import annotations

import re

_LONGEST = 256  # bytes of an unfinished sequence that may still be a question
_QUESTION = re.compile(
    rb"\x05"                                          # ENQ
    rb"|\x1b\[[>=]?[0-9;]*c"                          # DA1, DA2, DA3
    rb"|\x1b\[\??[0-9;]*n"                            # DSR, CPR
    rb"|\x1b\[\??[0-9;]*\$p"                          # DECRQM
    rb"|\x1b\[>[0-9;]*q"                              # XTVERSION
    rb"|\x1b\[\?u"                                    # kitty keyboard
    rb"|\x1b\[[0-9;]*x"                               # DECREQTPARM
    rb"|\x1b\[(?:1[1-9]|2[01])(?:;[0-9;]*)?t"         # XTWINOPS reports
    rb"|\x1b\](?:4;[0-9]+|1[0-9]|5;[0-9]+|52;[a-z0-9]*);\?(?:\x07|\x1b\\)"  # colours, clipboard
    rb"|\x1bP(?:\$q|\+q)[^\x1b]*\x1b\\"               # DECRQSS, XTGETTCAP
    rb"|\x1b_G[^\x1b]*a=q[^\x1b]*\x1b\\"              # kitty graphics
    rb"|\x1bZ"                                        # DECID
)
# What may be the beginning of a sequence, at the end of a piece.
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|P[^\x1b]*\x1b?|_[^\x1b]*\x1b?)?\Z")


class Questions:
    """Feeds output through; `feed` returns what may be shown."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """The part of it (and of what was kept) that may be shown now."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        if b"\x1b" not in data and b"\x05" not in data:
            return data
        if (begun := _BEGUN.search(data, max(0, len(data) - _LONGEST))) is not None:
            data, self._kept = data[: begun.start()], data[begun.start() :]
        return _QUESTION.sub(b"", data)
