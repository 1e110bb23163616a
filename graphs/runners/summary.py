"""One runner's closing words, read into numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

KINDS = ("passed", "failed", "errors", "skipped")
NO_TEST = "no test was found"
NO_TEST_RUN = "no test was run"
ALL_DESELECTED = "every test was deselected"
ALL_SKIPPED = "every test was skipped"
LARGEST = 10**9  # a larger number is not a number of tests


@dataclass(frozen=True, slots=True)
class Summary:
    """What one run of a runner said of itself at its end.

    `counts` holds only what was said and is not zero. `ok` is the runner's own verdict, None where it gave
    none. `nothing` says why no test ran. `sure` is False for words that a test may as well have printed.
    `frame` marks a program that runs runners (tox, nox): it has a verdict and no numbers of its own.
    """

    family: str
    line: int
    counts: dict[str, int] = field(default_factory=dict)
    ok: bool | None = None
    nothing: str | None = None
    sure: bool = True
    frame: bool = False
    seconds: float = 0.0

    @property
    def bad(self) -> int:
        """How many tests failed or had errors."""
        return self.counts.get("failed", 0) + self.counts.get("errors", 0)

    @property
    def red(self) -> bool:
        """Some test failed, or the runner says so without a number."""
        return self.bad > 0 or self.ok is False

    @property
    def green(self) -> bool:
        """Some test passed, or the runner says so without a number."""
        if self.counts:
            return self.counts.get("passed", 0) > 0
        return bool(self.ok) and self.nothing is None


def tally(**numbers: int | str | None) -> dict[str, int]:
    """Counts by kind without the zeros; digits as text are read, None is nothing."""
    read = {kind: min(int(numbers.get(kind) or 0), LARGEST) for kind in KINDS}
    return {kind: number for kind, number in read.items() if number > 0}


def total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of several counts."""
    summed: dict[str, int] = {}
    for one in counts:
        for kind, number in one.items():
            summed[kind] = summed.get(kind, 0) + number
    return {kind: summed[kind] for kind in KINDS if kind in summed}
