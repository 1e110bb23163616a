"""Keeps by number what is not shown in full, so that `/show K` can show it."""

from __future__ import annotations

from dataclasses import dataclass

from terminalpp.types.errors import InvalidInput, NotFound

KEPT = 500


@dataclass(frozen=True, slots=True)
class FoldedOutput:
    """Something longer than what stands on the screen: the output of a command, or a text."""

    title: str
    exec_id: str = ""
    text: str = ""


class FoldedOutputs:
    """The last KEPT folds of a conversation, counted from 1."""

    def __init__(self) -> None:
        self._folds: dict[int, FoldedOutput] = {}
        self._count = 0

    def add(self, fold: FoldedOutput) -> str:
        """Keep it; what to say beside the number of hidden lines."""
        self._count += 1
        self._folds[self._count] = fold
        self._folds.pop(self._count - KEPT, None)
        return f", /show {self._count} prints them"

    def get(self, number: str) -> FoldedOutput:
        """The fold of that number, the last one for an empty `number`. Raises InvalidInput and NotFound."""
        if number and not (number.isascii() and number.isdigit() and len(number) < 10):
            raise InvalidInput(f"/show takes the number of what was folded, not {number[:40]!r}",
                               "The number stands beside what was folded: `… 40 lines, /show 3 prints them`.")
        found = self._folds.get(int(number) if number else self._count)
        if found is None:
            raise NotFound(f"there is nothing folded under {number}" if number else "nothing was folded",
                           "The number stands beside what was folded: `… 40 lines, /show 3 prints them`.")
        return found
