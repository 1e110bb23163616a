"""What agents say, laid out: nothing is lost, nothing steers the terminal, and it comes block by block."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terminalpp.cli import diffs
from terminalpp.cli.folded_output import FoldedOutputs
from terminalpp.cli.markdown import LONGEST, Blocks, rendered
from terminalpp.cli.render import DIGEST_LINES, Renderer
from terminalpp.cli.screen import fitting
from terminalpp.types.errors import InvalidInput, NotFound
from tests.cli.test_render import event, screen, shown

COLOURS = re.compile(r"\x1b\[[\d;]*m")
REPLY = """# What I did

I changed *two* files, see `a.py`:

1. the first

   with a reason
2. the second

```python
def f():

    return 1
```

| a | b |
|---|---|
| 1 | 漢字 |

<div>kept</div> <script>x</script>
![picture](http://x/y.png)
"""


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


def plain(text: str, width: int = 60) -> str:
    return COLOURS.sub("", "\n".join(rendered(text, width)))


def test_blocks_come_whole_wherever_the_text_is_cut() -> None:
    whole = Blocks()
    expected = [*whole.feed(REPLY), whole.end()]
    assert [block.split("\n")[0] for block in expected] == [
        "# What I did", "I changed *two* files, see `a.py`:", "1. the first", "```python", "| a | b |",
        "<div>kept</div> <script>x</script>"]
    blocks = Blocks()
    found = [block for char in REPLY for block in blocks.feed(char)]
    assert [*found, blocks.end()] == expected


def test_markdown_is_laid_out_and_nothing_is_lost() -> None:
    text = plain(REPLY)
    for words in ("What I did", "two", "a.py", "with a reason", "def f():", "return 1", "漢字",
                  "<div>kept</div>", "<script>", "http://x/y.png"):
        assert words in text
    assert "*two*" not in text
    assert "```" not in text
    assert COLOURS.search("\n".join(rendered("**bold**", 60)))
    assert not any(line.endswith(" ") for line in text.split("\n"))
    assert plain("漢" * 40, 30).split("\n") == ["漢" * 15, "漢" * 15, "漢" * 10]
    table = "| a | b |\n|---|---|\n| 1234567890123456 | averyverylongword |"
    assert "1234567890123456 | averyverylongword" in plain(table, 22), "the library would cut the cells"
    assert plain("&nbsp;x") == "&nbsp;x"
    long = "word *a* " * (LONGEST // 9 + 1)
    assert rendered(long, 60) == [long], "what would take seconds is shown as it is"


@pytest.mark.parametrize("evil", [
    "\x1b[2Jevil", "&#27;[2Jevil &#x9b;2J", "&#x202e;evil", "[evil](http://a/\x1b]8;;b\x07)", "`\x1b[2Jevil`",
    "`evil`", "```\n\x1b]0;x\x07evil&#x202e;\n```", "<evil&#x202e;>",
    "[evil](<http://a/&#x202e;>)", "| evil&#8238; |\n|-|",
    "> " * 500 + "evil", "[" * 3000 + "evil",
])
def test_no_markdown_can_steer_the_terminal(evil: str) -> None:
    text = plain(evil, 80)
    assert "evil" in text.replace("\n", "")
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}
    for options in ({"colour": True}, {"colour": True, "tty": True}):
        whole = shown(event("model.finished", call_id="1", content="a " + evil),
                      event("turn.finished", outcome="passed", summary=evil), **options)
        assert not set(COLOURS.sub("", whole)) & {"\x1b", "\x07", "\x9b", "\u202e"}


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab \n*_`#>-|[]()!<&;:~1.x\x1b\x9b\x07\u202e"), max_size=60))
def test_no_text_breaks_the_layout(text: str) -> None:
    assert not set(plain(text, 40)) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}


def test_a_reply_is_shown_a_block_at_a_time_on_a_terminal_with_colour() -> None:
    events = [event("model.started", call_id="1", agent="coder"),
              event("model.delta", call_id="1", text="First *bl"),
              event("model.delta", call_id="1", text="ock*\n\nSec")]
    assert COLOURS.sub("", shown(*events, colour=True)) == "coder\n"
    events.append(event("model.delta", call_id="1", text="ond\n"))
    assert COLOURS.sub("", shown(*events, colour=True)) == "coder\n  First block\n\n"
    events += [
               event("model.finished", call_id="1", agent="coder", content="First *block*\n\nSecond")]
    assert COLOURS.sub("", shown(*events, colour=True)) == "coder\n  First block\n\n  Second\n\n"
    assert shown(events[-1]) == "coder  First *block*\n  \n  Second\n", "a log holds what was said"


def test_what_is_folded_has_a_number_where_it_can_be_shown() -> None:
    target = screen()
    renderer = Renderer(target)
    renderer.folds = FoldedOutputs()
    renderer.feed(event("command.started", exec_id="e", command="yes", agent="coder"))
    renderer.output("e", b"line\n" * 50)
    renderer.feed(event("command.finished", exec_id="e", status="completed", exit_code=0, duration_ms=5))
    renderer.feed(event("tests.finished", passed=False, counts={}, command="t",
                        digest="d\n" * (DIGEST_LINES + 3)))
    renderer.feed(event("message.accepted", text="m\n" * 10 + "end"))
    text = target.stream.getvalue()
    for words in ("… 20 lines, /show 1 prints them", "… 3 more lines, /show 2 prints them",
                  "(+5 lines, /show 3 prints them)"):
        assert words in text
    assert renderer.folds.get("1").exec_id == "e"
    assert renderer.folds.get("").text.endswith("end")
    with pytest.raises(NotFound):
        renderer.folds.get("4")
    with pytest.raises(InvalidInput):
        renderer.folds.get("-1")
    with pytest.raises(NotFound):
        FoldedOutputs().get("")


def test_wide_characters_take_two_columns() -> None:
    assert fitting("漢字漢字", 5) == "漢字 "
    assert fitting("abcdef", 3) == "abc"
    target = screen(tty=True)
    target.status("漢" * 100)
    assert target.stream.getvalue() == "漢" * 49 + " "
    target = screen(colour=True)
    diffs.show(target, "+漢\x1b[2J\n".encode())
    assert target.stream.getvalue() == "\x1b[32m+漢\x1b[0m\n"
