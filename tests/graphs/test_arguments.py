"""Reading, fitting and checking the arguments of a call. How they come over the wire: tests/model/quirks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import arguments, tools

CODER = tools.ROLE_TOOLS["coder"]
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4)


@given(objects, st.integers(0, 3))
def test_valid_json_is_read_as_it_is_however_often_it_was_encoded(value, times):
    text = value
    for _ in range(times):
        text = json.dumps(text)
    assert arguments.read(text) == value


@given(st.dictionaries(texts, texts, min_size=1, max_size=4))
def test_raw_line_breaks_change_nothing(value):
    escaped = json.dumps(value, ensure_ascii=False)
    if "\\\\" not in escaped:  # a backslash before `n` is no line break
        assert arguments.read(escaped.replace("\\n", "\n").replace("\\t", "\t")) == value


@given(texts, texts)
def test_no_end_of_a_text_is_invented(name, text):
    """Cut anywhere, an object is read with whole values or not at all."""
    whole = json.dumps({name or "n": text, "z": "end"})
    for end in range(1, len(whole)):
        read = arguments.read(whole[:end])
        assert isinstance(read, str) or all(read[key] in (text, "end") for key in read)


@given(st.text(max_size=200))
def test_nothing_makes_the_reader_fail(text):
    json.dumps(arguments.read(text)).encode()
    arguments.fit(arguments.read(text), tools.BUILT_IN.schemas["bash"])


@pytest.mark.parametrize("depth", [400, 600, 5_000])
def test_arguments_nested_too_deeply_stay_unread(depth):
    read = arguments.read('{"command": ' + "[" * depth + '"\\ud83d"' + "]" * depth + "}")
    json.dumps(read, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("fly", {}, "no tool"),
        ("bash", {}, "needs command"),
        ("bash", [], "must be an object"),
        ("bash", "{oops", "could not be read as JSON"),
        ("bash", {"command": None}, "needs command"),
        ("bash", {"command": ["ls"]}, "must be a string"),
        ("read", {"path": "a", "limit": True}, "must be a integer"),
        ("read", {"path": "a", "limit": "ten"}, "must be a integer"),
        ("bash", {"command": "x", "cwd": "/"}, None),
        ("bash", {"command": 3}, None),
        ("bash", {"command": "x", "timeout_seconds": None}, None),
        ("read", {"path": "a", "limit": "10", "offset": 1.0}, None),
        ("read", {"path": "a"}, None),
    ],
)
def test_calls_are_checked(name, value, words):
    fitted = arguments.fit(value, tools.BUILT_IN.schemas[name]) if name in tools.BUILT_IN.schemas else value
    found = arguments.problem(name, fitted, CODER, tools.BUILT_IN.schemas)
    assert (found is None) if words is None else words in found


@pytest.mark.parametrize(
    ("kind", "given_", "wanted"),
    [
        ("integer", "30", 30),
        ("integer", " -3 ", -3),
        ("integer", "30.0", 30),
        ("integer", 30.0, 30),
        ("integer", 29.6, 30),
        ("integer", "3.5", "3.5"),
        ("integer", "x", "x"),
        ("integer", True, True),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("boolean", "yes", "yes"),
        ("string", 404, "404"),
        ("string", 1.5, "1.5"),
        ("string", True, "true"),
        ("string", ["a"], ["a"]),
    ],
)
def test_values_become_what_the_schema_wants_where_nothing_is_guessed(kind, given_, wanted):
    schema = {"properties": {"x": {"type": kind}}, "required": ["x"]}
    assert arguments.fit({"x": given_}, schema) == {"x": wanted}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bash", "bash"),
        (" Bash\n", "bash"),
        ("functions.bash", "bash"),
        ("default_api:bash", "bash"),
        ("functions.bash:3", "bash"),
        ("tools/read", "read"),
        ("mcp__box__read", "read"),
        ("`bash`", "bash"),
        ("bash<|channel|>json", "bash"),
        ("shell", "shell"),
        ("bash_tool", "bash_tool"),
        ("", ""),
        ("list", "list"),
    ],
)
def test_names_of_tools(name, meant):
    assert arguments.tool(name, CODER) == meant


def test_a_name_that_two_tools_could_have_is_left_alone():
    assert arguments.tool("x.Read", ("read", "READ")) == "x.Read"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("command='ls'", {"command": "ls"}),
        ("command='''a\nb''', timeout_seconds=3", {"command": "a\nb", "timeout_seconds": 3}),
        ("", {}),
        ("'ls'", None),
        ("command=ls", None),
        ("**x", None),
        ("command=", None),
    ],
)
def test_arguments_of_a_python_call(text, read):
    assert arguments.keywords(text) == read
