"""The pure cores as tables: leases, supervision, placement. No clock, no database, no Ray."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import leases, placement, supervision
from runtime.entity import Turn, turn_method
from runtime.leases import Lease
from runtime.placement import CellInfo, Start, Use
from runtime.supervision import Ruling, Verdict
from terminalpp.types import errors
from terminalpp.types.ids import Ref
from tests.runtime.entities import Counter, Sleepy


def test_lease_serves_until_before_the_database_lets_it_go() -> None:
    lease = Lease.begin(10.0, now=100.0)
    assert lease.serving(108.9)
    assert not lease.serving(109.0)
    assert lease.renew_every == pytest.approx(10 / 3)
    assert lease.renewed(sent_at=105.0).serving(113.9)
    assert lease.renewed(sent_at=90.0) == lease, "a late confirmation takes nothing away"


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), max_size=20))
def test_a_cell_never_serves_past_what_the_database_granted(renewals: list[tuple[float, float]]) -> None:
    """Whatever the delay of the answers: the database granted from the moment it worked, at or after the
    request was sent, so the cell's own end lies before the database's."""
    now, lease, granted_until = 0.0, Lease.begin(10.0, 0.0), 10.0
    for pause, delay in renewals:
        sent = now + pause
        granted_until = max(granted_until, sent + 10.0)
        now = sent + delay
        lease = lease.renewed(sent)
        assert lease.serve_until <= granted_until


def test_lost_is_what_was_held_and_not_confirmed() -> None:
    a, b, c = ("k", "a", 1), ("k", "b", 1), ("k", "c", 1)
    assert leases.lost({a, b}, {b, c}) == {a}
    assert leases.lost({("k", "a", 1)}, {("k", "a", 2)}) == {("k", "a", 1)}, "another epoch is another owner"


@pytest.mark.parametrize(
    ("error", "attempt", "verdict", "defect"),
    [
        (errors.Conflict("no"), 1, Verdict.REFUSED, False),
        (errors.UnknownMethod("?"), 1, Verdict.REFUSED, False),
        (errors.Unavailable("db"), 1, Verdict.RETRY, False),
        (errors.Unavailable("db"), 99, Verdict.RETRY, False),
        (errors.Overloaded("receiver"), 1, Verdict.RETRY, False),
        (errors.Fenced("x"), 1, Verdict.DROP, False),
        (errors.NotOwner("x"), 1, Verdict.DROP, False),
        (ValueError("bug"), 1, Verdict.RETRY, True),
        (ValueError("bug"), 2, Verdict.RETRY, True),
        (ValueError("bug"), 3, Verdict.DEAD, True),
        (errors.TerminalError("internal"), 3, Verdict.DEAD, True),
    ],
)
def test_message_verdicts(error: Exception, attempt: int, verdict: Verdict, defect: bool) -> None:
    ruling = supervision.judge_message(error, attempt, attempt)
    assert (ruling.verdict, ruling.defect) == (verdict, defect)
    assert (ruling.pause_seconds > 0) == (verdict is Verdict.RETRY)
    assert ruling.pause_seconds <= 2.0


@pytest.mark.parametrize(
    ("error", "attempt", "verdict"),
    [
        (OSError("net"), 1, Verdict.RETRY),
        (OSError("net"), supervision.EFFECT_ATTEMPTS, Verdict.DEAD),
        (errors.Unavailable("x"), supervision.EFFECT_ATTEMPTS, Verdict.RETRY),
        (errors.Unavailable("x"), supervision.EFFECT_ATTEMPTS_OUTSIDE, Verdict.DEAD),
        (errors.ModelKeyRejected("x"), 1, Verdict.DEAD),
        (errors.Fenced("x"), 1, Verdict.DROP),
    ],
)
def test_effect_verdicts(error: Exception, attempt: int, verdict: Verdict) -> None:
    assert supervision.judge_effect(error, attempt).verdict is verdict


def test_backoff_grows_and_is_bounded() -> None:
    pauses = [supervision.backoff(attempt) for attempt in range(1, 200)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(pauses) == supervision.BACKOFF_MAX_SECONDS
    assert Ruling(Verdict.DEAD).pause_seconds == 0


def test_one_poison_message_does_not_reach_quarantine() -> None:
    assert supervision.MESSAGE_ATTEMPTS < supervision.BUDGET_FAILURES
    assert supervision.CRASHES_PER_MESSAGE < supervision.BUDGET_FAILURES


def cell(n: int, entities: int = 0, group: str = "general", **more: object) -> CellInfo:
    return CellInfo(f"cell/local/{n}", group, entities, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cells", "group", "budget", "expected"),
    [
        ([], "general", 8, Start("general")),
        ([cell(1)], "general", 8, Use("cell/local/1")),
        ([cell(1, 1), cell(2)], "general", 8, Use("cell/local/2")),
        ([cell(10), cell(9)], "general", 8, Use("cell/local/9")),
        ([cell(1, ready=False), cell(2)], "general", 8, Use("cell/local/2")),
        ([cell(1, 3), cell(2, 1)], "general", 8, Start("general")),
        ([cell(1, 3), cell(2, 1)], "general", 2, Use("cell/local/2")),
        ([cell(1, reachable=False)], "general", 1, Start("general")),
        ([cell(1)], "conversation", 8, Start("conversation")),
        ([cell(1, 5)], "conversation", 1, Start("conversation")),
        ([cell(0, 1, "node")], "node", 8, Use("cell/local/0")),
        ([cell(3, 7, "model")], "model", 8, Use("cell/local/3")),
    ],
)
def test_choose(cells: list[CellInfo], group: str, budget: int, expected: Use | Start) -> None:
    assert placement.choose(cells, group, budget) == expected


@pytest.mark.parametrize(
    ("cells", "budget", "expected"),
    [
        ([cell(0, 1, "node")], 8, ["general", "conversation", "model"]),
        ([cell(1), cell(2, group="conversation"), cell(3, group="model")], 8, []),
        ([cell(1, 1), cell(2, group="conversation"), cell(3, group="model")], 8, ["general"]),
        ([cell(1, 1), cell(2, group="conversation"), cell(3, group="model")], 3, []),
        ([cell(1), cell(2, group="conversation"), cell(3, 4, "model")], 8, []),
        ([cell(n, 1) for n in range(4)], 4, ["conversation", "model"]),
    ],
)
def test_missing_spares(cells: list[CellInfo], budget: int, expected: list[str]) -> None:
    assert placement.missing_spares(cells, budget) == expected


def test_superfluous_are_idle_cells_beyond_the_spares() -> None:
    cells = [cell(n, idle_seconds=1000.0) for n in (3, 1, 2)] + [cell(4, idle_seconds=1.0), cell(5, 1)]
    assert placement.superfluous(cells) == ["cell/local/2", "cell/local/3"]


def test_numbers_and_budget() -> None:
    assert placement.free_number({"cell/n/0", "cell/n/1", "cell/n/3"}) == 2
    assert placement.free_number(set()) == 1
    assert placement.default_budget(16 * 1024**3, 8) == 40
    assert placement.default_budget(16 * 1024**3, 2) == 24
    assert placement.default_budget(0, 8) == placement.default_budget(10**15, 0) == placement.CELLS_MIN
    assert placement.default_budget(10**15, 100) == placement.CELLS_MAX


def test_a_repeated_turn_asks_for_the_same_ids() -> None:
    def run() -> tuple[list[str], list[str]]:
        turn = Turn(Ref("k", "1"), {}, None, "message-1")  # type: ignore[arg-type]
        turn.act("a")
        turn.act("a")
        turn.act("b", key="only")
        turn.send(Ref("k", "2"), "m")
        turn.send(Ref("k", "2"), "m", message_id="mine")
        return [action.id for action in turn.actions], [send.message_id for send in turn.sends]

    assert run() == run()
    actions, sends = run()
    assert len(set(actions)) == 3
    assert sends[1] == "mine"


def test_which_method_a_message_calls() -> None:
    assert turn_method(Counter, "add") == ("add", None)
    assert turn_method(Counter, "echo") is None
    assert turn_method(Counter, "activated") is None
    assert turn_method(Counter, "remind:tick") == ("on_reminder", {"name": "tick"})
    assert turn_method(Sleepy, "remind:tick") is None
    assert turn_method(Counter, "effect_failed") == ("on_effect_failed", None)
    assert turn_method(Sleepy, "effect_failed") is None
