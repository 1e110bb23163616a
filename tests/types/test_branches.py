"""The present branch of a log with rewinds in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from terminalpp.types.branches import holds, ranges


def test_without_a_rewind_it_is_all() -> None:
    assert ranges([], 7) == [(1, 7)]
    assert ranges([], 0) == []


def test_a_rewind_leaves_what_lies_between() -> None:
    assert ranges([(8, 3)], 10) == [(1, 3), (8, 10)]
    assert ranges([(8, 0)], 10) == [(8, 10)]


def test_a_rewind_is_undone_by_another() -> None:
    assert ranges([(8, 3), (10, 7)], 11) == [(1, 7), (10, 11)]
    assert ranges([(8, 3), (10, 9), (12, 5)], 12) == [(1, 5), (12, 12)]


@given(st.lists(st.integers(0, 5), max_size=12))
def test_it_is_what_a_list_would_be(back: list[int]) -> None:
    """Each number appends an event; one above 0 appends a rewind that far back in the log as it is now."""
    branch, branches, rewinds, last = [], {0: []}, [], 0
    for steps in back:
        last += 1
        if steps:
            to = max(0, last - 1 - steps)
            rewinds.append((last, to))
            branch = [*branches[to], last]
        else:
            branch = [*branch, last]
        branches[last] = branch
    found = ranges(rewinds, last)
    assert [seq for seq in range(1, last + 1) if holds(found, seq)] == branch
