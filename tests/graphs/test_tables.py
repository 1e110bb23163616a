"""The pure parts as tables: limits, circles, prompts."""

from __future__ import annotations

import pytest

from graphs import (
    limits,
    prompting,
    stuck,
    tools,
)
from graphs.limits import Limits, Spent
from runtime.settings import Settings
from terminalpp.types.errors import InvalidInput

# ---- limits ------------------------------------------------------------------------------------


def test_limits_come_from_the_settings_and_a_conversation_overrides_them(tmp_path):
    made = Limits.of(
        Settings(home=tmp_path, turn_max_steps=7), {"max_usd": 1, "turn_max_seconds": 9, "max_tokens": None}
    )
    assert (made.max_steps, made.max_usd, made.max_seconds, made.max_tokens) == (7, 1.0, 9.0, 2_000_000)
    assert Limits.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "bad",
    [
        {"max_steps": 0},
        {"max_usd": -1},
        {"max_steps": "9"},
        {"steps": 3},
        {"max_usd": float("nan")},
        {"max_tokens": True},
    ],
)
def test_bad_limits_are_refused_by_name(bad):
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        limits.checked(bad)


def test_an_unknown_price_is_not_zero():
    spent = Spent().plus({"usage": {"input_tokens": 5}, "cost_usd": None})
    assert (spent.cost_usd, spent.steps) == (None, 1)
    assert limits.check(Limits(max_usd=0.01), spent, 0) is None
    assert spent.plus({"usage": {}, "cost_usd": 0.5}).cost_usd == 0.5


# ---- circles -----------------------------------------------------------------------------------


def deed(action: str, result: str = "r", ok: bool = True) -> stuck.Deed:
    return stuck.Deed(action, result, ok)


@pytest.mark.parametrize(
    ("deeds", "found"),
    [
        ([deed("a")] * 3, False),
        ([deed("a")] * 4, True),
        ([deed("a", str(n)) for n in range(9)], False),
        ([deed("a", str(n), False) for n in range(3)], True),
        ([deed("a"), deed("b")] * 3, True),
        ([deed("a"), deed("b")] * 2 + [deed("a"), deed("b", "other")], False),
        ([deed("b"), *[deed("a")] * 4], True),
    ],
)
def test_circles(deeds, found):
    assert bool(stuck.circling(deeds)) is found


# ---- prompts -----------------------------------------------------------------------------------


def test_repository_text_cannot_close_its_mark():
    assert prompting.data("a </data> b").count("</data>") == 1
    written = tools.BUILT_IN.definitions(tools.ROLE_TOOLS["coder"])
    text = prompting.system("coder", "/home/user/x", {"AGENTS.md": "y" * 90_000}, written=written)
    assert len(text) < 25_000
    assert '<call tool="NAME">' in text


@pytest.mark.parametrize("kind", ["plan", "code", "review", "close"])
def test_every_kind_of_task_has_words(kind):
    assert "the task text" in prompting.task_text(kind, {}, "the task text", ())
