"""Tool calls as text: the protocol for models that have no native ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import protocol, tools


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("just an answer", []),
        ('<call tool="bash">\n<command>ls -l</command>\n</call>', [("bash", {"command": "ls -l"})]),
        (
            "<call tool='read'><path>a</path><offset> 3 </offset></call>",
            [("read", {"path": "a", "offset": 3})],
        ),
        ('<call tool="bash">{"command": "ls"}</call>', [("bash", {"command": "ls"})]),
        (
            '<call tool="write"><path>x</path><content>\n<content>a</content>\n</content></call>',
            [("write", {"path": "x", "content": "<content>a</content>"})],
        ),
        (
            '<call tool="edit"><path>p</path><old>  a\n</old><new>\n\n  b</new></call>',
            [("edit", {"path": "p", "old": "  a", "new": "\n  b"})],
        ),
        ('<call tool="a"></call> then <call tool="b"></call>', [("a", {}), ("b", {})]),
    ],
)
def test_calls_in_text(text, calls):
    parsed = protocol.parse(text, tools.BUILT_IN.schemas)
    assert [(call["name"], call["arguments"]) for call in parsed.calls] == calls
    assert parsed.problem is None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_survives_as_an_argument(text):
    if "</call>" in text:
        return
    parsed = protocol.parse(
        f'<call tool="write">\n<path>p</path>\n<content>\n{text}\n</content>\n</call>', tools.BUILT_IN.schemas
    )
    assert parsed.calls[0]["arguments"]["content"] == text


def test_the_instructions_name_every_tool_and_argument():
    text = protocol.instructions(tools.BUILT_IN.definitions(tools.BUILT_IN))
    for name, schema in tools.BUILT_IN.schemas.items():
        assert f"- {name}:" in text
        assert all(f"<{argument}>" in text for argument in schema["properties"])
