"""Every error crosses a process and the wire unchanged."""

from __future__ import annotations

import json
import pickle

import pytest

from terminalpp.types import errors
from terminalpp.types.ids import Ref, derived_id


@pytest.mark.parametrize("code", sorted(errors.all_codes()))
def test_round_trips(code):
    error = errors.all_codes()[code]("what happened", "what to do", {"expected": 3})
    for copy in (
        pickle.loads(pickle.dumps(error)),
        errors.from_json(json.loads(json.dumps(error.to_json()))),
    ):
        assert type(copy) is type(error)
        assert (copy.detail, copy.next_step, copy.extra) == ("what happened", "what to do", {"expected": 3})


def test_defaults_say_what_and_what_next():
    for error in errors.all_codes().values():
        made = error()
        assert made.detail
        assert made.next_step
        assert 400 <= made.status < 600


def test_an_unknown_code_keeps_its_words():
    error = errors.from_json({"code": "from-the-future", "detail": "words", "hint": "step"})
    assert (type(error), error.detail, error.next_step) == (errors.TerminalError, "words", "step")


def test_a_code_is_taken_once():
    with pytest.raises(TypeError):
        type("Another", (errors.TerminalError,), {"code": "fenced"})


def test_derived_ids_are_the_same_everywhere():
    assert derived_id("a", 1) == derived_id("a", "1") == "5a3b9a17-6934-5aeb-9291-43e11820f79b"
    assert derived_id("ab") != derived_id("a", "b")


def test_refs():
    assert Ref.parse("agent/x/y") == Ref("agent", "x/y")
    with pytest.raises(ValueError, match="not a ref"):
        Ref.parse("agent")
