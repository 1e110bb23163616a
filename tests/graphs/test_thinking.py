"""Thoughts told from the answer, whole and while they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import thinking

TABLE = [
    ("Hello.", "Hello.", ""),
    ("<think>hm</think>Hello.", "Hello.", "hm"),
    ("\n <Think>\nhm\n</Think>\n\nHello.", "Hello.", "hm"),
    ("<thinking>hm</thinking>Hello.", "Hello.", "hm"),
    ("<seed:think>hm</seed:think>Hello.", "Hello.", "hm"),
    ("[THINK]hm[/THINK]Hello.", "Hello.", "hm"),
    ("◁think▷hm◁/think▷Hello.", "Hello.", "hm"),
    ("<think>hm", "", "hm"),
    ("Hello.\n<think>hm", "Hello.", "hm"),
    ("Well. <think>hm</think>Hello.", "Well. Hello.", "hm"),
    ("hm</think>Hello.", "Hello.", "hm"),
    ("hm\n</think>\nHello.", "Hello.", "hm"),
    ("<think></think>Hello.", "Hello.", ""),
    ("<think>a</think>x\n<think>b</think>\ny", "x\n\ny", "a\nb"),
    ("The <think> tag opens.", "The <think> tag opens.", ""),
    ("Write </think> at the end.", "Write </think> at the end.", ""),
    ("Use `<think>x</think>`.", "Use `<think>x</think>`.", ""),
    ('Say "</think>" then.', 'Say "</think>" then.', ""),
    ("```\n<think>\nx\n</think>\n```", "```\n<think>\nx\n</think>\n```", ""),
    ("a < b, c > d", "a < b, c > d", ""),
    ('<call tool="write">\n<content>\n<think>x</think>\n</content>\n</call>',
     '<call tool="write">\n<content>\n<think>x</think>\n</content>\n</call>', ""),
    ('<tool_call>\n{"name": "write", "arguments": {"content": "</think>"}}\n</tool_call>',
     '<tool_call>\n{"name": "write", "arguments": {"content": "</think>"}}\n</tool_call>', ""),
    ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|return|>",
     "Hello.", "hm"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer", "thoughts"), TABLE)
def test_split(text, answer, thoughts):
    assert thinking.split(text) == (answer, thoughts)


@pytest.mark.parametrize(("text", "answer", "thoughts"), TABLE)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_what_is_shown_while_it_comes(text, answer, thoughts, size):
    screen, shown = thinking.Screen(), ""
    for start in range(0, len(text), size):
        screen.add(text[start : start + size])
        shown += screen.new()
    shown += screen.new(last=True)
    if not thoughts or not text.startswith("hm"):  # thought that nothing announced cannot be held back
        assert shown.strip() == answer
        assert not thoughts or "hm" not in shown


@given(st.text(alphabet="<>/think[]THINK \n`a|", max_size=60))
def test_no_text_is_lost_or_shown_twice(text):
    answer, thoughts = thinking.split(text)
    assert thinking.split(text) == (answer, thoughts)
    assert len(answer) + len(thoughts) <= len(text)
    screen = thinking.Screen()
    screen.add(text)
    assert screen.new(last=True).strip() == answer.strip()


@given(st.text(max_size=100).filter(lambda text: not any(sign in text for sign in thinking._SIGNS)))
def test_a_text_without_tags_is_left_as_it_is(text):
    assert thinking.split(text) == (text, "") or "<|channel|>" in text
