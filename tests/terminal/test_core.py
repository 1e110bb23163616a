"""Who types, who looks, which size: the rules as a table, and random sequences of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.terminal.core import (
    IGNORED,
    LEASE_SECONDS,
    VIEWERS_MAX,
    Ask,
    Expire,
    Leave,
    Op,
    Release,
    Resize,
    See,
    SetPolicy,
    Stage,
    Take,
    Viewer,
    apply,
    may_take,
)
from terminalpp.types.terminals import Policy, Role


def person(id: str, cols: int = 0, rows: int = 0, **more: object) -> Viewer:
    return Viewer(id, "u", id, Role.WRITER, cols=cols, rows=rows, **more)  # type: ignore[arg-type]


def run(*ops: Op, stage: Stage | None = None) -> Stage:
    s = stage or Stage()
    for op in ops:
        s = apply(s, op) or s
    return s


ANNA, BEN, BOT = See(person("anna", 80, 24)), See(person("ben", 120, 40)), See(person("bot", agent=True))
EVE = See(Viewer("eve", "u", "eve", Role.VIEWER))

CONTROL = [
    ("nobody has it at first", [ANNA], None),
    ("whoever takes it has it", [ANNA, Take("anna")], "anna"),
    ("a second person takes it over", [ANNA, BEN, Take("anna"), Take("ben")], "ben"),
    ("an agent does not push a person aside", [ANNA, BOT, Take("anna"), Take("bot")], "anna"),
    ("a person pushes an agent aside", [ANNA, BOT, Take("bot"), Take("anna")], "anna"),
    ("who only looks never has it", [EVE, Take("eve")], None),
    ("a stranger never has it", [ANNA, Take("nobody")], None),
    ("released it is free", [ANNA, Take("anna"), Release("anna")], None),
    ("released by somebody else it stays", [ANNA, BEN, Take("anna"), Release("ben")], "anna"),
    ("handed over", [ANNA, BEN, Take("anna"), Release("anna", "ben")], "ben"),
    (
        "handed to one who may not have it, it is free",
        [ANNA, EVE, Take("anna"), Release("anna", "eve")],
        None,
    ),
    ("it leaves with its holder", [ANNA, Take("anna"), Leave("anna")], None),
    ("it ends with its holder's silence", [ANNA, Take("anna"), Expire(LEASE_SECONDS + 1)], None),
    ("who says it was his has it again", [See(person("anna"), control=True)], "anna"),
    ("but not where another has it", [BEN, Take("ben"), See(person("anna"), control=True)], "ben"),
    (
        "who no longer wants to write loses it",
        [ANNA, Take("anna"), See(Viewer("anna", "u", "anna", Role.VIEWER))],
        None,
    ),
]


@pytest.mark.parametrize(("what", "ops", "holder"), CONTROL, ids=[row[0] for row in CONTROL])
def test_control(what: str, ops: list[Op], holder: str | None) -> None:
    assert run(*ops).controller == holder


SIZES = [
    ("nobody with a size: as it was made", [BOT], (80, 24)),
    ("the only one's", [BEN], (120, 40)),
    ("the last to come", [BEN, ANNA], (80, 24)),
    ("the last to resize", [BEN, ANNA, Resize("ben", 100, 30)], (100, 30)),
    ("who is in control", [BEN, ANNA, Take("ben")], (120, 40)),
    ("control without a size: the last to resize", [BEN, BOT, Take("bot")], (120, 40)),
    ("who left does not count", [ANNA, BEN, Leave("ben")], (80, 24)),
    (
        "smallest: each side for itself",
        [See(person("a", 70, 50)), See(person("b", 90, 20)), SetPolicy(Policy.SMALLEST)],
        (70, 20),
    ),
    ("fixed stays", [ANNA, Resize("x", 132, 43, fix=True), BEN, Resize("anna", 10, 10)], (132, 43)),
    (
        "no longer fixed: as it follows",
        [ANNA, Resize("x", 132, 43, fix=True), SetPolicy(Policy.LATEST)],
        (80, 24),
    ),
]


@pytest.mark.parametrize(("what", "ops", "size"), SIZES, ids=[row[0] for row in SIZES])
def test_size(what: str, ops: list[Op], size: tuple[int, int]) -> None:
    assert run(*ops).size == size


def test_asking_is_shown_until_it_is_answered() -> None:
    s = run(ANNA, BEN, Take("anna"), Ask("ben"))
    assert s.viewers["ben"].asks
    assert apply(s, Ask("ben")) is IGNORED
    assert not run(Release("anna", "ben"), stage=s).viewers["ben"].asks
    assert apply(s, Ask("anna")) is IGNORED


def test_there_is_a_most_of_viewers() -> None:
    s = run(*(See(person(f"v{n}")) for n in range(VIEWERS_MAX + 5)))
    assert len(s.viewers) == VIEWERS_MAX
    assert len(run(See(replace(s.viewers["v0"], seen_at=9.0)), stage=s).viewers) == VIEWERS_MAX


IDS = st.sampled_from(["anna", "ben", "bot", "eve", "x"])
OPS = st.one_of(
    st.sampled_from([ANNA, BEN, BOT, EVE]),
    st.builds(Take, IDS), st.builds(Ask, IDS), st.builds(Leave, IDS),
    st.builds(Release, IDS, st.none() | IDS),
    st.builds(Resize, IDS, st.integers(1, 300), st.integers(1, 300), st.booleans()),
    st.builds(SetPolicy, st.sampled_from(Policy)), st.builds(Expire, st.floats(0, 100)),
)  # fmt: skip


@given(st.lists(OPS, max_size=60))
def test_whatever_happens(ops: list[Op]) -> None:
    s = Stage()
    for op in ops:
        before, s = s, apply(s, op) or s
        if s.controller is not None:
            assert s.controller in s.viewers
            assert s.viewers[s.controller].role is Role.WRITER
        if isinstance(op, Take) and s.controller != before.controller:
            assert may_take(before, op.id)
            holder = before.viewers.get(before.controller or "")
            assert not (s.viewers[op.id].agent and holder is not None and not holder.agent)
        assert 1 <= s.cols <= 300
        assert 1 <= s.rows <= 300
