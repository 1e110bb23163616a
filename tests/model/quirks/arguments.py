"""How a call's arguments are written."""

from __future__ import annotations

import json

from tests.model.quirks.row import LS, LS_TEXT, Row, called

ROWS: list[Row] = [
    called("raw line breaks", '{"command": "a\nb\tc"}', {"command": "a\nb\tc"}),
    called("encoded twice", json.dumps(LS_TEXT)),
    called("encoded three times", json.dumps(json.dumps(LS_TEXT))),
    called("an object", LS),
    called("a list of one object", json.dumps([LS])),
    called("fenced", f"```json\n{LS_TEXT}\n```"),
    called("a trailing comma", '{"command": "ls",}'),
    called("words after it", LS_TEXT + "\n</tool_call>"),
    called("a brace too many", LS_TEXT + "}"),
    called("a brace too few", '{"command": "ls"'),
    called("a Python dict", "{'command': 'ls'}"),
    called("a JavaScript object", "{command: 'ls'}"),
    called("wrong escapes", r'{"command": "grep \d \$HOME"}', {"command": r"grep \d \$HOME"}),
    called(
        "keys of its own",
        {"command": "ls", "description": "d", "timeout_seconds": 30, "sandbox": True},
        {"command": "ls", "timeout_seconds": 30},
    ),
    called(
        "numbers as text",
        {"command": "ls", "timeout_seconds": "30"},
        {"command": "ls", "timeout_seconds": 30},
    ),
    called(
        "numbers with a point",
        {"command": "ls", "timeout_seconds": 30.0},
        {"command": "ls", "timeout_seconds": 30},
    ),
    called("null for what is optional", {"command": "ls", "timeout_seconds": None}),
    called("a number for a text", {"command": 404}, {"command": "404"}),
    called("wrapped in arguments", {"arguments": LS}),
    called("wrapped in parameters, as text", {"parameters": LS_TEXT}),
    called("wrapped with its name", {"name": "bash", "arguments": LS}),
    called("nothing at all", "", {}),
    called("null", None, {}),
    called("the word null", "null", {}),
    called("two objects in one", LS_TEXT + LS_TEXT, None),
    called("a string that is not closed", '{"command": "rm -rf /tmp', None),
    called("no JSON at all", "ls -l", None),
    called(
        "half a surrogate pair in an escape",
        '{"command": "a\\ud83d"}',
        {"command": "a\N{REPLACEMENT CHARACTER}"},
    ),
    called("NUL in an escape", '{"command": "a\\u0000b"}', {"command": "a\N{REPLACEMENT CHARACTER}b"}),
    called("a whole pair in escapes", '{"command": "\\ud83d\\ude00"}', {"command": "\U0001f600"}),
    called("an empty text for a number", {"command": "ls", "timeout_seconds": ""}),
    called("None as text for a number", {"command": "ls", "timeout_seconds": "None"}),
    called(
        "a number with spaces",
        {"command": "ls", "timeout_seconds": " 30 "},
        {"command": "ls", "timeout_seconds": 30},
    ),
    called("fenced without language", f"```\n{LS_TEXT}\n```"),
    called("wrapped twice", {"arguments": {"parameters": LS}}),
]
