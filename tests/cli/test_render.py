"""Recorded events give the same text every time, and nothing hostile reaches the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from terminalpp.cli import diffs
from terminalpp.cli.render import HEAD_LINES, TAIL_LINES, Renderer
from terminalpp.cli.sanitize import Sanitizer, clean, overwritten
from terminalpp.cli.screen import Screen

HERE = Path(__file__).parent


def screen(*, tty: bool = False, colour: bool = False) -> Screen:
    return Screen(io.StringIO(), tty=tty, colour=colour, width=100)


def event(type: str, actor: str = "coder", **payload: Any) -> dict[str, Any]:
    return {"seq": 1, "type": type, "actor": actor, "payload": payload, "created_at": "2026-01-01T00:00:00Z"}


def shown(*events: dict[str, Any], **options: bool) -> str:
    target = screen(**options)
    renderer = Renderer(target)
    for item in events:
        renderer.feed(item)
    return target.stream.getvalue()


def test_a_recorded_session_reads_as_it_should() -> None:
    """`session.jsonl`: a whole turn; lines of type `output` stand for the bytes of a command."""
    target = screen()
    renderer = Renderer(target)
    for line in (HERE / "session.jsonl").read_text().splitlines():
        item = json.loads(line)
        if item["type"] == "output":
            renderer.output(item["exec_id"], item["text"].encode())
        else:
            renderer.feed(item)
    assert target.stream.getvalue() == (HERE / "session.txt").read_text()


def test_without_colour_there_is_not_one_escape() -> None:
    text = shown(event("tests.finished", passed=False, counts={"failed": 1}, command="make", digest="x"),
                 event("review.finished", verdict="revise", issues=[{"severity": "high", "claim": "c"}]))
    assert "\x1b" not in text
    assert "\x1b[" in shown(event("tests.finished", passed=True, counts={}, command="make"), colour=True)


def test_tests_that_did_not_run_are_neither_red_nor_green() -> None:
    before = event("tests.finished", passed=False, ran=True, counts={"failed": 1}, command="pytest",
                   phase="before", exec_id="a", digest="boom")
    after = event("tests.finished", passed=False, ran=False, counts={"skipped": 1}, command="pytest",
                  phase="after", exec_id="b", digest="", reason="every test was skipped (1)")
    why = "the tests were not run: every test was skipped (1)"
    end = event("turn.finished", outcome="unverified", reason=why)
    text = shown(before, after, end)
    assert "– tests not run  every test was skipped (1)  pytest\n" in text
    assert "● ended, not verified  the tests were not run: every test was skipped (1)\n" in text
    assert "tests: red (1 failed) → not run (1 skipped)\n" in text
    assert "green" not in text


def test_what_is_missing_comes_with_the_way_to_bring_it() -> None:
    text = shown(event("tests.finished", passed=False, ran=False, counts={}, command="npm test", exec_id="b",
                       digest="sh: 1: jest: not found", reason="cannot run: jest is missing", setup="npm ci"))
    assert text == ("– tests not run  cannot run: jest is missing  npm test\n"
                    '    → --setup-cmd "npm ci" --network open\n'
                    "    sh: 1: jest: not found\n")


def test_weakened_tests_are_told_under_the_green_ones() -> None:
    found = [{"file": "t.py", "claim": "the test `a` was deleted", "severity": "high", "blocks": True},
             {"file": "t.py", "claim": "`b` expects something else", "severity": "medium", "blocks": False},
             {"file": "t.py", "claim": "asked for", "severity": "low", "blocks": False}]
    tests = event("tests.finished", passed=True, counts={"passed": 1}, command="p", weakened=found)
    text = shown(tests, event("turn.finished", outcome="unverified", reason="tests were weakened: …"))
    assert "! tests weakened  t.py  the test `a` was deleted\n" in text
    assert "! tests changed  t.py  `b` expects something else\n" in text
    assert "asked for" not in text
    assert "tests: green, weakened (1 passed)\n" in text


def test_a_change_that_nobody_reviewed_says_so() -> None:
    text = shown(event("review.finished", verdict="none", issues=[], reason="the verdict could not be read"))
    assert text == "critic  verdict: not reviewed (the verdict could not be read)\n"


def test_words_stream_on_a_terminal_and_come_as_lines_in_a_log() -> None:
    started = event("model.started", call_id="1", agent="coder")
    deltas = [event("model.delta", call_id="1", text=text) for text in ("Hel", "lo\nwor", "ld")]
    assert shown(started, *deltas, tty=True).endswith("coder  Hello\n  world")
    assert shown(started, *deltas) == "coder  Hello\n"
    finished = event("model.finished", call_id="1", agent="coder", content="Hello\nworld")
    assert shown(started, *deltas, finished) == "coder  Hello\n  world\n"
    assert shown(finished) == "coder  Hello\n  world\n", "a replay has no deltas"


def test_data_replies_are_not_shown_raw() -> None:
    text = shown(event("model.started", call_id="1", agent="planner"),
                 event("model.delta", call_id="1", text='{"goal": "x"'),
                 event("model.finished", call_id="1", agent="planner", content='{"goal": "x"}'))
    assert text == ""


def test_a_command_that_prints_without_end_is_bounded() -> None:
    target = screen()
    renderer = Renderer(target)
    renderer.feed(event("command.started", exec_id="e", command="yes", agent="coder"))
    for number in range(10_000):
        renderer.output("e", b"line %d\n" % number)
    renderer.output("e", b"x" * 5_000_000)
    renderer.feed(event("command.finished", exec_id="e", status="completed", exit_code=0, duration_ms=5))
    lines = target.stream.getvalue().splitlines()
    assert len(lines) == 1 + HEAD_LINES + 1 + TAIL_LINES + 1
    assert "9,971 lines not shown" in target.stream.getvalue()
    assert max(map(len, lines)) < 400


def test_cost_that_is_not_known_is_not_zero() -> None:
    end = event("turn.finished", outcome="passed", reason="", summary="", duration_ms=61_000,
                usage={"input_tokens": 1000, "output_tokens": 5}, cost_usd=None)
    assert "cost unknown (no price for this model)" in shown(end)
    end["payload"]["cost_usd"] = 0.01234
    assert "1,000 tokens in, 5 out · $0.0123 · 1 min 1 s" in shown(end)


def test_an_unknown_event_is_passed_over() -> None:
    assert shown(event("something.new", anything=1)) == ""


def test_no_event_can_steer_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\x00"
    events = [
        event("message.accepted", text=evil), event("turn.started", model=evil),
        event("plan.made", goal=evil, steps=[evil], files=[evil], acceptance=[evil], test_commands=[evil]),
        event("model.started", call_id="1", agent=evil), event("model.delta", call_id="1", text=evil),
        event("model.finished", call_id="1", content=evil), event("model.retried", detail=evil, wait_ms=1),
        event("tool.called", tool_call_id="t", tool=evil, arguments={"path": evil}),
        event("tool.finished", actor=evil, tool_call_id="t", ok=False, output=evil),
        event("command.started", exec_id="e", command=evil, agent=evil),
        event("command.finished", exec_id="e", status=evil, exit_code=None, duration_ms=1),
        event("tests.finished", passed=False, counts={}, command=evil, digest=evil, reason=evil, note=evil),
        event("tests.finished", passed=False, ran=False, command=evil, digest=evil, reason=evil, setup=evil,
              weakened=[{"file": evil, "claim": evil, "severity": evil}]),
        event("diff.made", files=[{"path": evil, "added": 1, "removed": 1}]),
        event("review.finished", verdict="none", issues=[], reason=evil),
        event("review.finished", verdict=evil, issues=[{"severity": evil, "file": evil, "claim": evil}]),
        event("revision.rolled_back", reason=evil), event("nudge.given", agent=evil, reason=evil),
        event("limit.reached", limit=evil, value=evil),
        event("error.raised", code=evil, detail=evil, hint=evil),
        event("turn.finished", outcome=evil, reason=evil, summary=evil),
    ]
    target = screen()
    diffs.show(target, ("+" + evil).encode())
    for text in (shown(*events), target.stream.getvalue()):
        assert "evil" in text
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\x00"}
        assert "owned" not in text


@given(st.lists(st.text(alphabet=st.sampled_from("a\n\x1b[]0;m\x07\x9b\x9d\\P1\x9c\x00\r")), max_size=8))
def test_cutting_text_anywhere_changes_nothing(pieces: list[str]) -> None:
    neutral = Sanitizer()
    cut = "".join(neutral.feed(piece) for piece in pieces)
    assert cut == Sanitizer().feed("".join(pieces))
    assert not any((ord(char) < 32 and char not in "\n\r\t") or 127 <= ord(char) < 160 for char in cut)
    assert cut.count("\n") == "".join(pieces).count("\n"), "a line was hidden"


def test_bytes_cut_inside_a_character() -> None:
    neutral = Sanitizer()
    assert neutral.feed_bytes("é".encode()[:1]) + neutral.feed_bytes("é".encode()[1:]) == "é"
    assert clean("a\x1b[31mb\x1b[0m") == "ab"
    assert clean("a\n\n b", one_line=True) == "a b"
    assert overwritten("10%\r50%\r100%\r") == "100%"


def test_a_long_diff_says_how_much_is_hidden() -> None:
    target = screen()
    diffs.show(target, b"+x\n" * 500, max_lines=10)
    assert target.stream.getvalue().endswith("… 490 more lines\n")


def test_the_status_line_leaves_no_trace() -> None:
    target = screen(tty=True)
    target.status("working")
    target.line("done")
    assert target.stream.getvalue() == "working\r\x1b[Kdone\n"
    target = screen()
    target.status("working")
    assert target.stream.getvalue() == ""
