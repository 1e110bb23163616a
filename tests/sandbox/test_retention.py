"""Which journals go: a table of what the rule chooses."""

from __future__ import annotations

from pathlib import Path

from actors.sandbox import retention
from actors.sandbox.retention import Budget, Entry

NOW = 1000.0
ENTRIES = [
    Entry("a", "a1", 10, 100.0), Entry("a", "a2", 10, 300.0), Entry("a", "a3", 10, 500.0),
    Entry("b", "b1", 40, 200.0), Entry("b", "b2", 10, 600.0),
]  # fmt: skip
ROOMY = Budget(10**9, 10**9, 10**9)


def chosen(budget: Budget, kept: set[str] | None = None) -> list[str]:
    return [entry.exec_id for entry in retention.victims(ENTRIES, kept or set(), budget, NOW)]


def test_nothing_goes_within_the_budgets() -> None:
    assert chosen(ROOMY) == []
    assert chosen(Budget(50, 80, 901)) == []


def test_the_oldest_go_until_a_sandbox_fits() -> None:
    assert chosen(Budget(30, 10**9, 10**9)) == ["b1"]
    assert chosen(Budget(20, 10**9, 10**9)) == ["a1", "b1"]
    assert chosen(Budget(0, 10**9, 10**9)) == ["a1", "b1", "a2", "a3", "b2"]


def test_the_oldest_of_all_go_until_the_home_fits() -> None:
    assert chosen(Budget(10**9, 79, 10**9)) == ["a1"]
    assert chosen(Budget(10**9, 60, 10**9)) == ["a1", "b1"]


def test_what_is_too_old_goes_and_what_must_stay_stays() -> None:
    assert chosen(Budget(10**9, 10**9, 750)) == ["a1", "b1"]
    assert chosen(Budget(0, 0, 0), kept={"a1", "b2", "a3"}) == ["b1", "a2"]
    assert retention.newest(ENTRIES) == {"a3", "b2"}


def test_the_survey_counts_what_is_there(tmp_path: Path) -> None:
    assert retention.survey(tmp_path) == []
    run = tmp_path / "sandboxes" / "a" / "run"
    for name in ("records/one", "records/two", "records/.spare", "output/two/out.0", "output/gone/err.0"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"x" * 5000)
    found = {entry.exec_id: entry.size_bytes for entry in retention.survey(tmp_path)}
    assert set(found) == {"one", "two", "gone"}
    assert found["two"] >= found["one"] + 8192
