"""The results in a machine-readable report of a test run."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphs.runners import summary

LARGEST_BYTES = 64 * 1024 * 1024
MOST_CASES = 200_000


@dataclass(slots=True)
class Tally:
    """`cases`: test id to passed, failed, error, skipped. `beside`: failures that belong to no test."""

    cases: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(summary.KINDS, 0))

    def add(self, name: str, result: str) -> None:
        """One more result; a test that ran again under the same id is told apart by its number."""
        kind = "errors" if result == "error" else result
        self.numbers[kind] += 1
        if len(self.cases) < MOST_CASES:
            unique, number = name, 2
            while unique in self.cases and number < 1000:
                unique, number = f"{name} #{number}", number + 1
            self.cases[unique] = result

    def beside(self, kind: str, number: int) -> None:
        """Count tests that have no name."""
        self.numbers[kind] += max(0, min(number, summary.LARGEST))

    @property
    def counts(self) -> dict[str, int]:
        """How many passed, failed, were skipped or had errors."""
        return summary.tally(**self.numbers)
