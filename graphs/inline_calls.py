"""Calls that a model wrote into its answer, in a form of its own, where native ones were wanted.

Servers without a parser for their model hand its calls on as text: `<tool_call>{…}</tool_call>`,
`<function=bash>…`, `[TOOL_CALLS] […]`, `functions.bash({…})`, a fenced JSON object and many more. Taken as
the agent's answer they would end its work unfinished.

What it guarantees
- A reply that is plainly a call of a tool that exists, with arguments that fit, is one: it ends in the call,
  outside code and quotes.
- A reply that merely quotes or explains such text is never run: it goes on after it, stands in backticks, or
  is introduced as an example.
- What looks like a call but is none of both is told to the model (`doubt`), and neither run nor taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphs import arguments

NAME_KEYS = ("name", "tool_name", "tool", "function", "recipient_name", "function_name", "action")
VALUE_KEYS = ("arguments", "parameters", "args", "input", "params", "tool_input", "action_input", "kwargs")
_NOTABLE = frozenset({"id", "type", "tool_call_id", "index", "call_id"})

_NAME = r"[\"']?([\w.:/-]+)[\"']?"
# Each form's pattern holds one whole call or block of calls, from its first mark to its last.
_TAGGED = (
    # Hermes, Qwen, GLM, Kimi, DeepSeek, Mistral, Llama, Phi, Granite, Cohere, MiniMax, Claude, gpt-oss, ours
    ("json", r"<tool_calls?>(?P<body>.*?)(?:</tool_calls?>|\Z)"),
    ("json", r"<(?P<tag>function_call|tool_use|tool|action)>\s*(?P<body>[\[{].*?)</(?P=tag)>"),
    ("function", r"(?P<body><function=.*?</function>)(?:\s*</tool_call>)?"),
    ("invoke", r"<(?:antml:|｜DSML｜)?invoke\s(?P<body>.*?)</(?:antml:|｜DSML｜)?invoke>"),
    ("ours", r"<call\s(?P<body>.*?)</call>"),
    ("mistral", r"\[TOOL_CALLS\](?P<body>.*)"),
    ("json", r"<\|python_tag\|>(?P<body>.*)"),
    ("json", r"<\|tool_calls?\|>(?P<body>\s*[\[{].*?)(?:<\|/tool_calls?\|>|\Z)"),
    ("json", r"<\|START_ACTION\|>(?P<body>.*?)(?:<\|END_ACTION\|>|\Z)"),
    ("kimi", r"<\|tool_call_begin\|>(?P<body>.*?)<\|tool_call_end\|>"),
    ("deepseek", r"<｜tool▁call▁begin｜>(?P<body>.*?)<｜tool▁call▁end｜>"),
    ("harmony", r"<\|channel\|>\s*commentary\s+to=(?P<body>.*?)(?:<\|call\|>|\Z)"),
)
_FORMS = [(kind, re.compile(pattern, re.DOTALL)) for kind, pattern in _TAGGED]
_MARKS = re.compile(
    r"<tool_calls?>|<function=|<(?:antml:|｜DSML｜)?invoke\s+name=|<call\s+tool=|\[TOOL_CALLS\]|<\|python_tag\|>"
    r"|<\|tool_calls?_?\w*\|>|<｜tool▁call|<\|START_ACTION\|>|<\|channel\|>\s*commentary\s+to="
)
_SHAPED = re.compile(
    r"[\"'](name|tool|function)[\"']\s*:|<function=|<parameter[= ]|\bname=|\btool=|<arg_key>"
)
# Wrappers and stop tokens around calls: they mean nothing by themselves.
_SHELL = re.compile(
    r"</?(?:antml:|minimax:|｜DSML｜)?(?:function_calls|tool_calls?|tools|actions|response)>"
    r"|<\|(?:im_end|im_start|eot_id|eom_id|end|start|return|call|endoftext|tool_calls_section_(?:begin|end))\|>"
    r"|<｜tool▁calls▁(?:begin|end)｜>|<｜end▁of▁sentence｜>|</s>|<\|end_of_text\|>"
)
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w-]*)[ \t]*\n(.*?)\n?[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_FUNCTION = re.compile(rf"<function={_NAME}\s*>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(
    r"<(?:antml:|｜DSML｜)?parameter(?:=|\s+name=)[\"']?([\w-]+)[\"']?[^>]*>(.*?)"
    r"</(?:antml:|｜DSML｜)?parameter>",
    re.DOTALL,
)
_PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_NAMED = re.compile(
    r"([\w.-]+)\s*(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*(\{.*?\})\s*(?=\[TOOL_CALLS\]|</s>|\Z)", re.DOTALL
)
_PYTHON = re.compile(r"(?:print\()?\s*((?:functions|default_api|tools|tool)\.)?(\w+)\((.*)\)\s*", re.DOTALL)
_REACT = re.compile(rf"^Action:\s*{_NAME}\s*\nAction Input:\s*(.*?)\s*\Z", re.DOTALL | re.MULTILINE)
_SHOWS = re.compile(
    r"\b(example|e\.g|for instance|looks? like|written as|format|syntax|such as|as follows|this form)\b",
    re.IGNORECASE,
)
_INTENT = re.compile(
    r"\b(I'll|I will|I am going to|I'm going to|let me|let's|now|first|next|then|calling|running|using)\b",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"\b(e\.g|for instance|such as|as follows|looks? like|would|could|should|was|were|wrote|reads|says|said"
    r"|sends|sent|(example|shape|format|mean|document|explain|schema|syntax|sample|answer|result|output|response"
    r"|request|contain|return|config|printed|prints|shown|shows)\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Written:
    """`calls` as `{name, arguments}`; `doubt` says to the model what was neither run nor taken."""

    calls: list[dict[str, Any]]
    doubt: str | None = None


def read(text: str, allowed: Sequence[str], schemas: Mapping[str, Mapping[str, Any]]) -> Written:
    """The calls that `text` ends in. `allowed`: the agent's tools; `schemas`: by tool."""
    if not text.strip() or not allowed:
        return Written([])
    tagged, start, end = _tagged(text, allowed, schemas)
    if tagged:
        last = _SHELL.sub("", text[end:]).strip() == ""
        before = text[:start].strip().rsplit("\n\n", 1)[-1]
        shown = _SHOWS.search(before) or (before.endswith(":") and _EXPLAINS.search(before))
        return Written(tagged) if last and not shown else Written([], _doubt(tagged[0]["name"]))
    if (mark := _mark(text)) is not None and _begins_its_line(text, mark):
        named = [name for name in allowed if re.search(rf"\b{name}\b", text[mark:], re.IGNORECASE)]
        if named or _SHAPED.search(text, mark):
            return Written([], _doubt(named[0] if named else "a tool"))
    return _plain(text.strip(), allowed, schemas)


def _doubt(name: str) -> str:
    return (
        f"Your reply holds a call of {name} written as text, and it was not run. Call the tool itself, with "
        "nothing after it; or, if this was your answer, give it again without the text of a call."
    )


def _tagged(
    text: str, allowed: Sequence[str], schemas: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], int, int]:
    """The calls in tags of any form, in their order, where the first one begins and the last one ends."""
    found: list[tuple[int, int, list[dict[str, Any]]]] = []
    plain = False  # whether one of them, at least, is a call beyond doubt
    for kind, pattern in _FORMS:
        for match in pattern.finditer(text):
            inside = any(start <= match.start() < end for start, end, _ in found)
            if inside or _quoted(text, match.start()):
                continue
            raws = [raw for raw in _calls(kind, match.group("body"))
                    if arguments.tool(raw[0], allowed) in allowed]  # fmt: skip
            if raws:
                found.append((match.start(), match.end(), [_call(raw, allowed) for raw in raws]))
                plain = plain or any(_valid(raw, allowed, schemas) for raw in raws)
    found.sort(key=lambda item: item[0])
    if not plain:
        return [], 0, 0
    return [call for _, _, calls in found for call in calls], found[0][0], max(end for _, end, _ in found)


def _calls(kind: str, body: str) -> Iterator[tuple[str, Any]]:
    """`(name, arguments)` of each call in the body of one tagged form."""
    match kind:
        case "function":
            for found in _FUNCTION.finditer(body):
                yield found.group(1), _elements(found.group(2))
        case "invoke":
            if found := re.match(rf"name={_NAME}[^>]*>(.*)", body, re.DOTALL):
                yield found.group(1), _elements(found.group(2))
        case "ours":
            if found := re.match(rf"tool={_NAME}\s*>(.*)", body, re.DOTALL):
                inner = found.group(2)
                fields = re.findall(r"<([a-z_]+)>\n?(.*?)\n?</\1>", inner, re.DOTALL)
                yield found.group(1), dict(fields) if fields else inner
        case "mistral":
            if body.lstrip().startswith(("[", "{")):
                yield from _objects(body)
            else:
                yield from _NAMED.findall(body)
        case "kimi":
            name, _, given = body.partition("<|tool_call_argument_begin|>")
            yield name, given
        case "deepseek":
            head, _, rest = body.partition("<｜tool▁sep｜>")
            name, _, given = (rest if head.strip() == "function" else f"{head}\n{rest}").partition("\n")
            yield name, given
        case "harmony":
            if found := re.match(r"([\w.]+)[^{]*?<\|message\|>(.*)", body, re.DOTALL):
                yield found.group(1), found.group(2)
        case _:
            if _FUNCTION.search(body):
                yield from _calls("function", body)
            elif "<invoke" in body:
                for found in re.finditer(r"<invoke\s(.*?)</invoke>", body, re.DOTALL):
                    yield from _calls("invoke", found.group(1))
            elif pairs := _PAIR.findall(body):
                yield body.split("<arg_key>")[0], {key.strip(): value for key, value in pairs}
            else:
                yield from _objects(body)


def _elements(body: str) -> Any:
    """Arguments as `<parameter=name>value</parameter>`, else whatever the body holds."""
    fields = _PARAMETER.findall(body)
    if fields:
        return {name: value.removeprefix("\n").removesuffix("\n") for name, value in fields}
    return body.strip()


def _objects(body: str) -> Iterator[tuple[str, Any]]:
    """Calls as JSON: an object, a list of objects, or objects one after the other."""
    text, at = body.strip(), 0
    fenced = re.match(r"```\w*\n(.*?)\n?```\s*\Z", text, re.DOTALL)
    text = fenced.group(1) if fenced else text
    decoder = json.JSONDecoder(strict=False)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            value, at = arguments.read(text[at:]), len(text)
        for item in value if isinstance(value, list) else [value]:
            if (call := _shaped(item)) is not None:
                yield call
        while at < len(text) and (text[at].isspace() or text[at] in ",;"):
            at += 1


def _shaped(value: Any) -> tuple[str, Any] | None:
    """`(name, arguments)` when `value` has the shape of a call and nothing else in it."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("function"), Mapping):
        return _shaped(value["function"])
    names = [key for key in NAME_KEYS if isinstance(value.get(key), str)]
    values = [key for key in VALUE_KEYS if key in value]
    if not names or len(values) != 1 or value.keys() - {names[0], values[0]} - _NOTABLE:
        return None
    return value[names[0]], value[values[0]]


def _valid(
    raw: tuple[str, Any], allowed: Sequence[str], schemas: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The call, when its tool exists and its arguments are what that tool takes."""
    call = _call(raw, allowed)
    if call["name"] not in allowed:
        return None
    fitted = arguments.fit(call["arguments"], schemas[call["name"]])
    return call if arguments.problem(call["name"], fitted, allowed, schemas) is None else None


def _call(raw: tuple[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    return {"name": arguments.tool(raw[0], allowed), "arguments": arguments.read(raw[1])}


def _plain(text: str, allowed: Sequence[str], schemas: Mapping[str, Any]) -> Written:
    """Calls without tags of their own: JSON or Python, bare or in a last fence, and `Action:` lines."""
    fence = next((match for match in _FENCE.finditer(text) if match.end() == len(text)), None)
    react = _REACT.search(text)
    if fence is not None:
        before, body, language = text[: fence.start()].strip(), fence.group(2), fence.group(1).lower()
    elif react is not None and not _quoted(text, react.start()):
        call = _valid((react.group(1), react.group(2)), allowed, schemas)
        return Written([call] if call else [])
    else:
        before, body, language = _last_line(text)
    if body.lstrip().startswith(("{", "[")):
        found = list(_objects(body)) if body.rstrip().endswith(("}", "]")) else []
    else:
        found = _pythonic(body, language)
    calls = [call for raw in found if (call := _valid(raw, allowed, schemas))]
    if not calls or len(calls) != len(found):
        return Written([])
    if not before:
        return Written(calls)
    if _EXPLAINS.search(before.rsplit("\n\n", 1)[-1]):
        return Written([])
    return Written(calls) if _INTENT.search(before) else Written([], _doubt(calls[0]["name"]))


def _last_line(text: str) -> tuple[str, str, str]:
    """A reply without a fence: all of it when it is JSON, else its last line when that is a prefixed call."""
    if text.startswith(("{", "[")):
        return "", text, ""
    if _PYTHON.fullmatch(text) and text.count("\n") == text.strip().count("\n"):
        return "", text, "tool_code"
    start = max(text.rfind("\nfunctions."), text.rfind("\ndefault_api."))
    return (text[:start].strip(), text[start:].strip(), "") if start >= 0 else (text, "", "")


def _pythonic(body: str, language: str) -> list[tuple[str, Any]]:
    """`functions.bash({…})` or `bash(command="ls")`; without a prefix only where nothing else is meant."""
    found = _PYTHON.fullmatch(body.strip())
    if found is None or not (found.group(1) or language in ("tool_code", "tool_call")):
        return []
    inner = found.group(3).strip()
    if body.strip().startswith("print("):
        inner = inner.removesuffix(")").strip()
    if inner.startswith("{"):
        return [(found.group(2), inner)]
    given = arguments.keywords(inner)
    return [(found.group(2), given)] if given is not None else []


def _mark(text: str) -> int | None:
    """Where the first mark of a call stands outside code and quotes."""
    return next((match.start() for match in _MARKS.finditer(text) if not _quoted(text, match.start())), None)


def _begins_its_line(text: str, mark: int) -> bool:
    """Whether a mark begins its line: in the middle of a sentence it is a word about marks."""
    return not text[text.rfind("\n", 0, mark) + 1 : mark].strip()


def _quoted(text: str, at: int) -> bool:
    """Whether `at` stands in a code fence or between backticks."""
    before = text[:at]
    fences = len(re.findall(r"^[ \t]*(?:```+|~~~+)", before, re.MULTILINE))
    return fences % 2 == 1 or before.rsplit("\n", 1)[-1].count("`") % 2 == 1
