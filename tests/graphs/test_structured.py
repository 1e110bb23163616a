# ruff: noqa: E501 (a row of a table is one line)
"""Plans and verdicts as models write them: what is read, and what is never taken for an approval."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import structured

PLAN = {"goal": "g", "acceptance": [], "files": [], "steps": ["s"], "test_commands": []}


@pytest.mark.parametrize(
    "text",
    [
        '{"goal": "g", "steps": ["s"]}',
        'Here:\n```json\n{"goal": "g", "steps": "s"}\n```',
        'x {"goal": "g", "steps": ["s"]} y',
        '<think>{"goal": "no", "steps": ["no"]}</think>{"goal": "g", "steps": ["s"]}',
        '<thinking>\nhm\n</thinking>\n{"goal": "g", "steps": ["s"],}',
        '<reasoning>{</reasoning>{"Goal": "g", "Steps": ["s"]}',
        '[THINK]first { then[/THINK]{"goal": "g", "steps": ["s"]}',
        'thought without an opening\n</think>\n{"goal": "g", "steps": ["s"]}',
        '{"goal": "no"}\nBetter:\n{"goal": "g", "steps": ["s"]}',
        '{"goal": "first", "steps": ["x"]}\n\nI correct myself:\n{"goal": "g", "steps": ["s"]}',
        '```\n{"a": 1}\n```\n{"goal": "g", "steps": ["s"]}',
        "{'goal': 'g', 'steps': ['s'], 'files': None}",
        "{\u201cgoal\u201d: \u201cg\u201d, \u201csteps\u201d: [\u201cs\u201d]}",
        '{\n  // what will be true\n  "goal": "g", /* and */\n  "steps": ["s",], # how\n}',
        '{goal: "g", steps: ["s"]}',
        '{"plan": {"goal": "g", "steps": [{"step": 1, "description": "s"}]}}',
        json.dumps('{"goal": "g", "steps": ["s"]}'),
    ],
)
def test_plans_are_read_leniently(text):
    assert structured.plan(text) == PLAN


def test_what_escapes_hide_is_scrubbed_too():
    plan = structured.plan('{"goal": "g\\ud83d", "steps": ["s\\u0000"]}')
    assert (plan["goal"], plan["steps"]) == ("g\N{REPLACEMENT CHARACTER}", ["s\N{REPLACEMENT CHARACTER}"])


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"goal": ""}', '{"goal": "g"}', '{"goal": "g", "steps": [null]}', '{"goal": "g", "steps": 3}',
        "I would fix it.", '<think>{"goal": "g", "steps": ["s"]}', '<think>{"goal": "g", "steps": ["s"]}</think>',
        '{"goal": "g", "steps": ["s"', "{" * 5000, "[" * 5000,
    ],
)  # fmt: skip
def test_plans_that_are_none(text):
    with pytest.raises(structured.Malformed):
        structured.plan(text)


def test_plans_keep_what_is_quoted_in_them():
    text = '{"goal": "say \\"{}\\" // twice, ]", "steps": ["write `# a` and \'b\'", "line\nbreak"]}'
    assert structured.plan(text)["goal"] == 'say "{}" // twice, ]'
    assert structured.plan(text)["steps"] == ["write `# a` and 'b'", "line\nbreak"]


HIGH = '{"severity": "high", "claim": "c"}'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"verdict": "approve", "issues": []}', "approve"),
        ('{"verdict": "Approved."}', "approve"),
        ('{"Verdict": "LGTM", "Issues": null}', "approve"),
        ("{'verdict': 'approve', 'issues': []}", "approve"),
        ('{"approved": true}', "approve"),
        ('```json\n{"verdict": "approve", "issues": [],}\n```', "approve"),
        ('<think>I might reject it. {"verdict": "revise"}</think>{"verdict": "approve"}', "approve"),
        ('{"verdict": "approve", "issues": [{"severity": "low", "claim": "c"}]}', "approve"),
        ('{"verdict": "request_changes", "issues": []}', "revise"),
        ('{"verdict": "REQUEST CHANGES"}', "revise"),
        ('{"verdict": "Needs-Work"}', "revise"),
        ('{"decision": "reject"}', "revise"),
        ('{"approved": false}', "revise"),
        ('{"review": {"verdict": "revise"}}', "revise"),
        (f"[{HIGH}]", "revise"),
        (f"Found:\n[{HIGH}]", "revise"),
        (f'{{"issues": [{HIGH}]}}', "revise"),
        ('{"findings": ["it deletes the file"]}', "revise"),
        # an approval with a severe issue is none
        (f'{{"verdict": "approve", "issues": [{HIGH}]}}', "revise"),
        ('{"verdict": "approve", "issues": [{"severity": "CRITICAL", "description": "c"}]}', "revise"),
        ('{"verdict": "approve", "issues": [{"severity": "must_fix", "claim": "c"}]}', "revise"),
        ('{"verdict": "approve"}\nNo, on reflection:\n{"verdict": "revise"}', "revise"),
    ],
)
def test_verdicts(text, word):
    assert structured.verdict(text)["verdict"] == word


@pytest.mark.parametrize(
    "text",
    [
        "",
        "approve",
        "I approve this change.",
        "LGTM!",
        "{}",
        "[]",
        '{"issues": []}',
        '{"verdict": "maybe"}',
        '{"verdict": "maybe", "status": "ok"}',
        '{"verdict": null}',
        '{"verdict": "approve" or "revise"}',
        '{"verdict": "approve|revise"}',
        '{"verdict": "approve"',
        '{"verdict": "approve", "issues": [{"severity": "high"}]}',
        '<think>{"verdict": "approve"}</think>',
        '<think>{"verdict": "approve"}',
        '<thinking>fine: {"verdict": "approve", "issues": []}',
        '{"status": "ok"}',
        '{"verdict": "revise"}\n{"verdict": "approve"}',
        'One could write {"verdict": "approve"}, but I reject this.',
        'I cannot approve this.\n{"verdict": "approve"}',
    ],
)
def test_what_is_never_an_approval(text):
    with pytest.raises(structured.Malformed):
        structured.verdict(text)


def test_verdicts_are_bounded():
    text = '{"verdict": "REVISE", "issues": [{"claim": "c", "severity": "odd", "line": "12-14", "Path": "a.py"}]}'
    issue = {"severity": "medium", "file": "a.py", "line": 12, "claim": "c", "evidence_command": None}
    assert structured.verdict(text)["issues"] == [issue]
    many = {"verdict": "revise", "issues": [{"claim": "c" * 5000}] * 90}
    found = structured.verdict(json.dumps(many))
    assert (len(found["issues"]), len(found["issues"][0]["claim"])) == (20, 600)


@given(st.text(max_size=300))
def test_no_text_is_an_approval_by_chance(text):
    try:
        found = structured.verdict(text)
    except structured.Malformed:
        return
    assert found["verdict"] == "revise"


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(
    st.sampled_from(["verdict", "issues", "claim", "severity", "goal", "steps", "x"]), x, max_size=4), max_leaves=9))  # fmt: skip
def test_any_json_is_read_or_refused(value):
    for read in (structured.plan, structured.verdict):
        try:
            read(json.dumps(value))
        except structured.Malformed:
            continue
