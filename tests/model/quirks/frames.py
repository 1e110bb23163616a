"""How events are framed on the wire."""

from __future__ import annotations

import json

from terminalpp.types import errors
from tests.model.quirks.row import DONE, PLAIN, Row, Want, delta

ROWS: list[Row] = [
    Row(
        "comments and keepalives",
        (
            ": keepalive\n\n",
            delta(content="Hello "),
            ": OPENROUTER PROCESSING\n\n",
            "\n",
            delta(content="there."),
            ": ping\n",
            delta("stop"),
            DONE,
        ),
        PLAIN,
    ),
    Row(
        "CR LF",
        (
            f"data: {json.dumps(delta(content='Hello there.'))}\r\n\r\n",
            f"data: {json.dumps(delta('stop'))}\r\n\r\n",
            "data: [DONE]\r\n\r\n",
        ),
        PLAIN,
    ),
    Row(
        "CR alone",
        (
            f"data: {json.dumps(delta(content='Hello there.'))}\r\r",
            f"data: {json.dumps(delta('stop'))}\r\r",
            "data: [DONE]\r\r",
        ),
        PLAIN,
    ),
    Row(
        "no space after data:",
        (
            f"data:{json.dumps(delta(content='Hello there.'))}\n\n",
            f"data:{json.dumps(delta('stop'))}\n\n",
            "data:[DONE]\n\n",
        ),
        PLAIN,
    ),
    Row(
        "no empty line between events",
        (
            f"data: {json.dumps(delta(content='Hello '))}\n",
            f"data: {json.dumps(delta(content='there.'))}\n",
            f"data: {json.dumps(delta('stop'))}\n",
            "data: [DONE]\n",
        ),
        PLAIN,
    ),
    Row(
        "event and id lines",
        (
            f"event: message\nid: 1\nretry: 5\ndata: {json.dumps(delta(content='Hello there.'))}\n\n",
            delta("stop"),
            DONE,
        ),
        PLAIN,
    ),
    Row(
        "one event over several data lines",
        (
            'data: {"choices": [{"index": 0,\ndata:  "delta": {"content":\ndata: "Hello there."}}]}\n\n',
            delta("stop"),
            DONE,
        ),
        PLAIN,
    ),
    Row(
        "an event in two packets",
        (
            f"data: {json.dumps(delta(content='Hello there.'))}"[:40],
            f"data: {json.dumps(delta(content='Hello there.'))}"[40:] + "\n\n",
            delta("stop"),
            DONE,
        ),
        PLAIN,
    ),
    Row(
        "one JSON a line, no SSE",
        (
            json.dumps(delta(content="Hello ")) + "\n",
            json.dumps(delta(content="there.")) + "\n",
            json.dumps(delta("stop")) + "\n",
        ),
        PLAIN,
    ),
    Row("a byte order mark", ("\ufeff", delta(content="Hello there."), delta("stop"), DONE), PLAIN),
    Row(
        "rubbish between events",
        (
            delta(content="Hello "),
            "data: {oops\n\n",
            "what?\n\n",
            delta(content="there."),
            delta("stop"),
            DONE,
        ),
        PLAIN,
    ),
    Row("no end mark after the finish reason", (delta(content="Hello there."), delta("stop")), PLAIN),
    Row(
        "an end mark without finish reason",
        (delta(content="Hello there."), DONE),
        PLAIN,
        {"content": "Hello there."},
        None,
    ),
    Row("finish reason with the last text", (delta("stop", content="Hello there."), DONE), PLAIN),
    Row(
        "events after the end mark",
        (delta(content="Hello there."), delta("stop"), DONE, delta(content=" More.")),
        PLAIN,
    ),
    Row(
        "text after the finish reason",
        (delta("stop", content="Hello "), delta(content="there."), DONE),
        PLAIN,
    ),
    Row(
        "a page of HTML",
        ("<html><body>Welcome</body></html>",),
        Want(error=errors.ModelReplyInvalid, words="no reply of a model"),
    ),
]
