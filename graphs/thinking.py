"""Thinking that a model writes into its answer: `<think>…</think>` and its relatives, told from the answer.

Some servers hand a model's thoughts on in a field of their own, others leave them in the text. A thought is
no answer: it is never shown as one, and no plan, verdict or call is read from it.

Tags in code or quotes do not count, so that an answer *about* `<think>` keeps its words. A block that begins
a line and is never closed goes to the end. A closing tag without an opening one ends a block that the
model's prompt had opened: everything before it was thought.
"""

from __future__ import annotations

import re

_NAMES = r"(?:(?:seed|antml|mm):)?(?:think|thinking|thought|thoughts|reasoning|scratchpad)"
_PAIRS = (
    (re.compile(rf"<({_NAMES})>", re.IGNORECASE), r"</{}>"),
    (re.compile(r"\[(THINK)\]"), r"\[/{}\]"),
    (re.compile("◁(think)▷"), "◁/{}▷"),
    (re.compile(r"<\|(?:start_(?:of_)?)?(thinking|think)\|>", re.IGNORECASE), r"<\|(?:end_(?:of_)?|/){}\|>"),
)
_ORPHAN = re.compile(rf"</{_NAMES}>|\[/THINK\]|◁/think▷", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)", re.MULTILINE)
# gpt-oss' own form ("harmony"), as it leaks from servers that do not parse it
_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*(\w+)([^<]*)(?:<\|constrain\|>\s*\w+\s*)?<\|message\|>"
    r"(.*?)(?:<\|end\|>|<\|return\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.DOTALL,
)
_SIGNS = ("think", "THINK", "Think", "thought", "Thought", "reasoning", "Reasoning", "scratchpad")
# From a written call on, tags belong to its arguments: the text of a file, for instance.
_CALL = re.compile(
    r"^[ \t]*(?:<(?:call\s+tool=|tool_call|invoke\b|function[=_])|\[TOOL_CALLS\])", re.MULTILINE
)
_HOLD = 24  # characters of an unfinished line that may still turn out to be an opening tag


def split(text: str) -> tuple[str, str]:
    """`(answer, thoughts)`; the answer is `text` itself when there are none."""
    if "<|channel|>" in text:
        return _channels(text)
    if not any(sign in text for sign in _SIGNS):
        return text, ""
    answer, thoughts, at = "", [], 0
    while (block := _block(text, at)) is not None:
        start, inner, inner_end, end = block
        answer += text[at:start]
        thoughts.append(text[inner:inner_end].strip())
        at = end
    answer += text[at:]
    call = _CALL.search(answer)
    orphan = _ORPHAN.search(answer, 0, call.start() if call else len(answer))
    if orphan and not thoughts and not _quoted(answer, orphan) and not _in_sentence(answer, orphan):
        thoughts.append(answer[: orphan.start()].strip())
        answer = answer[orphan.end() :]
    return (answer.strip(), "\n".join(thoughts).strip()) if thoughts else (text, "")


def _block(text: str, at: int) -> tuple[int, int, int, int] | None:
    """The first block from `at` on: where it begins, its thought begins and ends, and it ends."""
    found = []
    call = _CALL.search(text, at)
    for opening, closing in _PAIRS:
        for match in opening.finditer(text, at, call.start() if call else len(text)):
            if _quoted(text, match):
                continue
            close = re.compile(closing.format(re.escape(match.group(1))), re.IGNORECASE)
            closed = close.search(text, match.end())
            if closed:
                found.append((match.start(), match.end(), closed.start(), closed.end()))
                break
            if not text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip():
                found.append((match.start(), match.end(), len(text), len(text)))
                break
    return min(found, default=None)


def _quoted(text: str, tag: re.Match[str]) -> bool:
    """Whether a tag stands in a code fence, or between backticks or quotes."""
    before, after = text[: tag.start()], text[tag.end() :]
    line = before.rsplit("\n", 1)[-1]
    return (
        len(_FENCE.findall(before)) % 2 == 1
        or line.count("`") % 2 == 1
        or (before[-1:] in "\"'“" and after[:1] in "\"'”" and bool(before) and bool(after))
    )


def _in_sentence(text: str, tag: re.Match[str]) -> bool:
    """Whether a lone closing tag has words of its own line on both sides, as in "write </think> first"."""
    after = text[tag.end() :].split("\n", 1)[0]
    return text[: tag.start()].endswith(" ") and after.startswith(" ") and bool(after.strip())


def _channels(text: str) -> tuple[str, str]:
    """gpt-oss: `final` is the answer, `analysis` is thought; a `commentary to=tool` stays as it stands."""
    answer, thoughts, at = "", [], 0
    for match in _CHANNEL.finditer(text):
        answer += text[at : match.start()]
        at = match.end()
        name, recipient, body = match.group(1), match.group(2), match.group(3)
        if "to=" in recipient:
            answer += match.group(0)
        elif name == "analysis":
            thoughts.append(body.strip())
        else:
            answer += body
    answer += text[at:]
    return answer.strip(), "\n".join(thoughts).strip()


class Screen:
    """The part of a stream that may be shown while it comes: nothing of an open thought, nothing twice."""

    def __init__(self) -> None:
        self._text, self._shown = "", 0

    def add(self, piece: str) -> None:
        """One more piece of the stream."""
        self._text += piece

    def new(self, *, last: bool = False) -> str:
        """What of the answer is new and safe to show; with `last`, also what was held back until now."""
        answer = split(self._text)[0] if last else self._safe()
        if not answer.strip():  # white space may stand before a thought, and is no answer then
            return ""
        new = answer[self._shown :]
        self._shown = max(self._shown, len(answer))
        return new

    def _safe(self) -> str:
        if "<|" in self._text:
            return ""
        answer = split(self._text)[0]
        for opening, _ in _PAIRS:  # one that is still open, wherever it stands
            answer = answer[: match.start()] if (match := opening.search(answer)) else answer
        line = answer[answer.rfind("\n") + 1 :]
        tag = max(line.rfind(sign) for sign in ("<", "[", "◁"))
        if tag >= 0 and len(line) - tag < _HOLD and not any(end in line[tag:] for end in (">", "]", "▷")):
            return answer[: len(answer) - len(line) + tag]
        return answer
