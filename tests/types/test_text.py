"""What counts as text: the refusal names the place, the scrub changes nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminalpp.types import text
from terminalpp.types.errors import InvalidInput

fine = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
odd = st.text(alphabet=st.characters(categories=["Cs", "Lu", "Cc", "So"]))
values = st.recursive(odd, lambda inner: st.lists(inner) | st.dictionaries(odd, inner), max_leaves=8)


@given(odd)
def test_what_was_cleaned_can_be_stored_and_stays_clean(value):
    once = text.clean(value)
    assert once.encode().decode() == once
    assert "\0" not in once
    assert text.clean(once) == once
    assert len(once) <= len(value)


@given(fine)
def test_what_is_text_is_left_and_taken(value):
    assert text.clean(value) == value
    text.refuse({"a": [value, {value: 1}]}, "body")


@given(values)
def test_what_is_not_refused_can_be_encoded_and_the_rest_can_once_it_is_clean(value):
    json.dumps(text.clean(value), ensure_ascii=False).encode()
    assert text.fault(text.clean(value)) is None
    if text.fault(value) is None:
        json.dumps(value, ensure_ascii=False).encode()
        assert text.clean(value) == value


def test_two_halves_side_by_side_are_one_character():
    assert text.clean("\ud83d\ude00!") == "\U0001f600!"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\0", "body: must not contain the NUL character"),
        ({"argv": ["echo", "\ud800"]}, "body.argv.1: must not contain half of a surrogate pair (U+D800)"),
        ({"env": {"A": "\udfff"}}, "body.env.A: must not contain half of a surrogate pair (U+DFFF)"),
        ({"env": {"A\0": "x"}}, "body.env.A\ufffd: its name must not contain the NUL character"),
        ([[[{"k": ["\ud83d"]}]]], "body.0.0.0.k.0: must not contain half of a surrogate pair (U+D83D)"),
    ],
)  # fmt: skip
def test_the_refusal_names_the_place(value, words):
    with pytest.raises(InvalidInput) as caught:
        text.refuse(value, "body")
    assert caught.value.detail == words
    json.dumps(caught.value.to_json(), ensure_ascii=False).encode()


def test_depth_and_names_are_bounded():
    value: object = "\ud800"
    for _ in range(20_000):
        value = [value]
    place, _ = text.fault(value, "body")
    assert len(place) <= text.PLACE_MAX
    assert len(text.fault({"k" * 10_000: "\0"}, "body")[0]) <= text.PLACE_MAX
