"""Calls written as text, and texts that only speak of calls. Over the wire: tests/model/quirks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import inline_calls, tools

CODER = tools.ROLE_TOOLS["coder"]
LS = '{"name": "bash", "arguments": {"command": "ls"}}'


def read(text: str) -> inline_calls.Written:
    return inline_calls.read(text, CODER, tools.BUILT_IN.schemas)


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>{LS}</tool_call>",
        f"<tool_calls>[{LS}]</tool_calls>",
        f"<tool_call>\n```json\n{LS}\n```\n</tool_call>",
        f"<tool_call>\n{LS}\n</tool_call><|im_end|>",
        f"Now I look.\n\n<tool_call>{LS}</tool_call>\n",
        "<tool_call>{'name': 'bash', 'arguments': {'command': 'ls'}}</tool_call>",
        f"<function_call>{LS}</function_call>",
        f"<tool_use>{LS}</tool_use>",
        f"<|tool_call|>[{LS}]<|/tool_call|>",
        "<function=bash><parameter=command>ls</parameter></function>",
        '<invoke name="bash"><parameter name="command">ls</parameter></invoke>',
        '<minimax:tool_call>\n<invoke name="bash">\n'
        '<parameter name="command">ls</parameter>\n</invoke>\n</minimax:tool_call>',
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="bash">\n'
        '<｜DSML｜parameter name="command" string="true">ls'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "bash", '
        '"parameters": {"command": "ls"}}]<|END_ACTION|>',
        '<call tool="bash">{"command": "ls"}</call>',
        'bash(command="ls")',
        "default_api.bash(command='ls')",
        f"[{LS}]",
        '{"type": "function", "function": {"name": "bash", "arguments": "{\\"command\\": \\"ls\\"}"}}',
        f"Let me look at it:\n```\n{LS}\n```",
        f"```tool_call\n{LS}\n```",
    ],
)
def test_plain_calls(text):
    assert [call["arguments"] for call in read(text).calls] == [{"command": "ls"}]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Done.",
        f"The request was `{LS}`.",
        f"~~~\n<tool_call>{LS}</tool_call>\n~~~\n",
        f"A response of this kind:\n\n```json\n{LS}\n```",
        f"{LS}\nis what the server got.",
        "[1, 2]",
        '{"name": "x", "arguments": {"command": "ls"}}',
        '{"name": "bash", "arguments": {}, "other": 1}',
        '{"name": "bash", "arguments": {"command": ["ls"]}}',
        "print('bash(1)')",
        "Action: none\nAction Input: {}",
        "The form <tool_call> is read now.",
        "I renamed functions.bash(x) to shell(x).",
        "bash(1)",
        "bash()",
        '```json\n{"verdict": "approve", "issues": []}\n```',
        f"```json\n{LS}\n```\n\nThat is the log of the last run.",
    ],
)
def test_texts_that_are_no_calls(text):
    assert read(text) == inline_calls.Written([])


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>{LS}</tool_call>\nThe file is there.",
        f"For example:\n<tool_call>{LS}</tool_call>",
        '<tool_call>\n{"name": "bash", "arg',
        '<call tool="bash">\n<command>ls',
        f"Here:\n```json\n{LS}\n```",
        '<tool_call>{"name": "bash", "arguments": {}}</tool_call>',
        '<invoke name="bash">',
    ],
)
def test_what_could_be_one_is_told_to_the_model(text):
    found = read(text)
    assert found.calls == []
    assert "bash" in found.doubt


def test_a_call_among_others_that_cannot_be_understood_is_still_answered():
    bad = '{"name": "read", "arguments": {}}'
    found = read(f"<tool_call>{LS}</tool_call><tool_call>{bad}</tool_call>")
    assert [call["name"] for call in found.calls] == ["bash", "read"]
    found = read(f"[TOOL_CALLS][{LS}, {bad}]")
    assert [call["name"] for call in found.calls] == ["bash", "read"]


def test_only_the_agents_own_tools_count():
    found = inline_calls.read(f"<tool_call>{LS}</tool_call>", ("read", "search"), tools.BUILT_IN.schemas)
    assert found.calls == []
    assert found.doubt


@given(
    st.text(
        alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80
    )
)
def test_any_argument_survives_as_json(text):
    body = json.dumps({"name": "bash", "arguments": {"command": text}})
    if "<" in text or "`" in text:
        return
    for form in (f"<tool_call>\n{body}\n</tool_call>", f"```json\n{body}\n```", body):
        assert read(form).calls == [{"name": "bash", "arguments": {"command": text}}]


@given(st.text(alphabet="<>tool_call{}\"'`bash()=[]TOOL_CALLS:, \n", max_size=80))
def test_no_text_makes_the_reader_fail(text):
    read(text)
