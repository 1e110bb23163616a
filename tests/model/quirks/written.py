"""Calls that are written as text, and text that only looks like one."""

from __future__ import annotations

import json

from tests.model.quirks.row import (
    ASKED,
    CALLED,
    LS,
    LS_TEXT,
    ONE_TEXT,
    TWO,
    TWO_TEXT,
    Row,
    Want,
    call,
    calls,
    delta,
    raw,
    said,
)

_CALL = json.dumps({"name": "bash", "arguments": LS})
ROWS: list[Row] = [
    said(f"written {number}: {text.splitlines()[0][:30]}", text, Want(calls=ASKED.calls, content="*"))
    for number, text in enumerate(
        (
            f"I will look.\n<tool_call>\n{_CALL}\n</tool_call>",
            f"<tool_call>{_CALL}",
            "<tool_call>\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>",
            f"<function=bash>{LS_TEXT}</function>",
            "<tool_call>bash\n<arg_key>command</arg_key>\n<arg_value>ls</arg_value>\n</tool_call>",
            f"[TOOL_CALLS] [{_CALL}]",
            f"[TOOL_CALLS]bash[ARGS]{LS_TEXT}",
            f"functions.bash({LS_TEXT})",
            f"Let me look.\n\nfunctions.bash({LS_TEXT})",
            f"```json\n{_CALL}\n```",
            f"I will look:\n```json\n{_CALL}\n```",
            '<function_calls>\n<invoke name="bash">\n<parameter name="command">ls</parameter>\n'
            "</invoke>\n</function_calls>",
            f'<|python_tag|>{{"name": "bash", "parameters": {LS_TEXT}}}<|eom_id|>',
            '<call tool="bash">\n<command>ls</command>\n</call>',
            f"<|tool_calls_section_begin|><|tool_call_begin|>functions.bash:0<|tool_call_argument_begin|>{LS_TEXT}"
            "<|tool_call_end|><|tool_calls_section_end|>",
            f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>bash\n"
            f"```json\n{LS_TEXT}\n```<｜tool▁call▁end｜>",
            f"<|start|>assistant<|channel|>commentary to=functions.bash <|constrain|>json"
            f"<|message|>{LS_TEXT}<|call|>",
            "```tool_code\nprint(default_api.bash(command='ls'))\n```",
            f"Thought: I look.\nAction: bash\nAction Input: {LS_TEXT}",
            _CALL,
            json.dumps({"tool": "functions.bash", "parameters": LS}),
        )
    )
] + [
    said(
        "two written calls",
        f'<tool_call>{{"name": "bash", "arguments": {ONE_TEXT}}}</tool_call>\n'
        f'<tool_call>{{"name": "bash", "arguments": {TWO_TEXT}}}</tool_call>',
        Want(calls=TWO, content="*"),
    ),
    said("a written call that is cut", '<tool_call>\n{"name": "bash", "argu', Want(doubt=True, content="*")),
    said(
        "words after a written call",
        f"<tool_call>{_CALL}</tool_call>\nIt is done.",
        Want(doubt=True, content="*"),
    ),
    Row(
        "a native call outranks a written one",
        raw(
            delta(content=f'<tool_call>{{"name": "bash", "arguments": {TWO_TEXT}}}</tool_call>'),
            calls(call(index=0, id="a1")),
            end=CALLED,
        ),
        Want(calls=ASKED.calls, content="*"),
    ),
    *(
        said(f"no call {number}: {text.splitlines()[0][:30]}", text, Want(content=text))
        for number, text in enumerate(
            (
                f"To call it, write `<tool_call>{_CALL}</tool_call>`.",
                f"An example of a call:\n\n```json\n{_CALL}\n```",
                f"This is how it looks:\n```\n<tool_call>{_CALL}</tool_call>\n```",
                f"```json\n{_CALL}\n```\nThat was the request that failed.",
                f"The server answers with:\n\n```json\n{_CALL}\n```",
                '```json\n{"name": "app", "version": "1.0.0"}\n```',
                '{"name": "bash", "version": "5.2"}',
                '{"goal": "g", "steps": ["call bash"]}',
                "I documented `functions.bash({})` in the README.",
                "The parser now reads <tool_call> tags and [TOOL_CALLS].",
                '{"name": "fly", "arguments": {}}',
                "```python\nbash(command='ls')\n```",
                "```sh\nls\n```",
            )
        )
    ),
    said(
        "a written call of a tool that is not there",
        '<tool_call>{"name": "fly", "arguments": {}}</tool_call>',
        Want(doubt=True, content="*"),
    ),
    said(
        "a written call that is only shown",
        f"The reply of the model was:\n<tool_call>{_CALL}</tool_call>",
        Want(doubt=True, content="*"),
    ),
]
