"""Plans and verdicts: JSON that a model wrote, read leniently and kept within bounds.

Lenient about form, strict about meaning. Thoughts are taken away first (`thinking`); then every JSON object
in the text is tried, fenced or bare, with the slips that models make: trailing commas, comments, single or
typographic quotes, Python's True and None, raw line breaks in strings. Of several objects the last that has
the form counts, because models correct themselves downwards. Keys and words have synonyms.

What it refuses: a text that says neither yes nor no is no verdict, and none is ever made up. An approval with
a severe issue is no approval. One beside another verdict or beside words that refuse is not readable.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graphs import thinking
from terminalpp.types.text import clean

_ITEMS, _CHARACTERS = 20, 600
_OBJECTS = 40  # tried in one reply
_REFUSAL = re.compile(
    r"\b(?:revise|reject(?:ed)?|(?:not|n['’]t)\s+(?:be\s+)?approve\w*|cannot\s+approve|disapprove|"
    r"request(?:ing|ed)?\s+changes|must\s+not\s+be\s+(?:used|merged))\b",
    re.IGNORECASE,
)
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"', "‘": "'", "’": "'", "\u00a0": " "})

_APPROVE = frozenset(
    ("approve", "approved", "approves", "accept", "accepted", "lgtm", "ok", "okay", "pass", "passed",
     "merge", "good", "looks good", "ship", "ship it", "no issues", "yes", "approve with comments",
     "approve with nits", "approved with comments", "approve with suggestions")
)  # fmt: skip
_REVISE = frozenset(
    ("revise", "revision", "needs revision", "revisions needed", "request changes", "requested changes",
     "changes requested", "request change", "needs changes", "needs work", "reject", "rejected", "fail",
     "failed", "rework", "redo", "change", "changes", "block", "blocked", "no", "not approved",
     "disapprove", "disapproved", "decline", "declined", "changes required", "needs fix", "needs fixes",
     "fix", "do not merge", "do not approve")
)  # fmt: skip
_SEVERITY = {
    **dict.fromkeys(("high", "critical", "blocker", "blocking", "severe", "major", "fatal", "must fix",
                     "error", "p0", "p1", "important", "serious"), "high"),
    **dict.fromkeys(("low", "minor", "nit", "nitpick", "info", "trivial", "suggestion", "style", "p3",
                     "p4", "cosmetic", "note", "optional"), "low"),
}  # fmt: skip
_VERDICT_KEYS = ("verdict", "decision", "recommendation", "approved", "approve")
_ISSUE_KEYS = ("issues", "findings", "problems", "comments", "remarks", "concerns")
_CLAIM_KEYS = ("claim", "description", "message", "issue", "problem", "title", "detail", "details", "comment",
               "text", "summary", "finding", "reason")  # fmt: skip


_WORDS = re.compile(
    r"(?P<text>\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')|\b(?P<word>true|false|null)\b", re.DOTALL
)
_PYTHON = {"true": "True", "false": "False", "null": "None"}


class Malformed(ValueError):
    """The reply holds no such JSON; the message tells the model what is wrong."""


def plan(text: str) -> dict[str, Any]:
    """`{goal, acceptance, files, steps, test_commands}` with bounded strings. Raises Malformed."""
    return _read(text, _plan)[-1]


def verdict(text: str) -> dict[str, Any]:
    """`{verdict: approve|revise, issues: [{severity, file, line, claim, evidence_command}]}`.

    Raises Malformed when the reply holds no verdict that can be read, or an approval beside its contrary.
    """
    found = _read(text, _verdict)
    words = text
    for given, _ in _spans(thinking.split(text)[0]):
        words = words.replace(given, " ")
    other = any(one["verdict"] == "revise" for one in found)
    if found[-1]["verdict"] == "approve" and (other or _REFUSAL.search(thinking.split(words)[0])):
        raise Malformed("it approves and refuses at once; `verdict` must be either `approve` or `revise`")
    return found[-1]


def _read(text: str, read: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """What `read` makes of the values in the text that it understands. Raises Malformed when of none."""
    answer, thoughts = thinking.split(text)
    complaint = "no JSON object was found in the reply"
    if thoughts and not answer.strip():
        complaint = "the reply held thoughts only"
    found = []
    for _, value in _spans(answer):
        try:
            found.append(read(value))
        except Malformed as problem:
            complaint = str(problem)
    if not found:
        raise Malformed(complaint)
    return found


def _spans(text: str) -> Iterator[tuple[str, Any]]:
    """The JSON values in a text with their own text: the whole of it, or else what stands in it, in order."""
    whole = _loads(text.strip())
    if isinstance(whole, str):  # encoded twice
        whole = _loads(whole)
    if isinstance(whole, dict | list):
        yield text, whole
        return
    at = tried = 0
    while tried < _OBJECTS and (start := _opening(text, at)) >= 0:
        tried += 1
        end = _closing(text, start)
        value = _loads(text[start:end]) if end else None
        known = isinstance(value, dict | list)
        if end and known:
            yield text[start:end], value
        at = end if end and known else start + 1


def _opening(text: str, at: int) -> int:
    places = [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]
    return min(places, default=-1)


def _closing(text: str, start: int) -> int | None:
    """Where the bracket at `start` closes, strings left aside; None: it does not."""
    depth, quote, escaped = 0, "", False
    for index in range(start, len(text)):
        char = text[index]
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote or (quote == "“" and char == "”"):
                quote = ""
        elif char in '"“' or (char == "'" and text[index - 1] in "{[,: \n\t("):
            quote = char
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return index + 1
    return None


def _loads(text: str) -> Any:
    """A JSON value, or one with the usual slips; None when it cannot be read."""
    for candidate in (text, text.translate(_QUOTES)):
        tidy = _without_comments(candidate)
        for attempt in (candidate, tidy):
            try:
                return clean(json.loads(attempt, strict=False))  # an escape hides what is no text till now
            except (ValueError, RecursionError):
                continue
        python = _WORDS.sub(lambda match: match.group("text") or _PYTHON[match.group("word")], tidy)
        try:
            tidied = re.sub(r"([{,]\s*)([A-Za-z_]\w*)(\s*:)", r'\1"\2"\3', python).strip()
            return clean(ast.literal_eval(tidied))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def _without_comments(text: str) -> str:
    """Without `//`, `#` and `/* */` comments and without commas before a closing bracket; strings stay."""
    kept = re.sub(
        r"(?P<text>\"(?:\\.|[^\"\\])*\"|(?<=[{\[,:\s])'(?:\\.|[^'\\])*')|//[^\n]*|/\*.*?\*/|(?<=[\s,{\[])#[^\n]*",
        lambda match: match.group("text") or "",
        text,
        flags=re.DOTALL,
    )
    return re.sub(
        r"(?P<text>\"(?:\\.|[^\"\\])*\")|,(?=\s*[}\]])",
        lambda match: match.group("text") or "",
        kept,
        flags=re.DOTALL,
    )


# ---- what they mean -----------------------------------------------------------------------------


def _plan(value: Any) -> dict[str, Any]:
    value = _keyed(value, ("plan",), "goal")
    goal = value.get("goal") or value.get("objective") or value.get("summary")
    if not isinstance(goal, str) or not goal.strip():
        raise Malformed("`goal` must be a non-empty string")
    out: dict[str, Any] = {"goal": goal.strip()[: 2 * _CHARACTERS]}
    for name, other in (("acceptance", "acceptance_criteria"), ("files", "paths"), ("steps", "tasks"),
                        ("test_commands", "tests")):  # fmt: skip
        out[name] = _strings(name, value.get(name, value.get(other)))
    if not out["steps"]:
        raise Malformed("`steps` must name at least one step")
    return out


def _verdict(value: Any) -> dict[str, Any]:
    if isinstance(value, list):  # the issues alone; an empty list says nothing
        if not value:
            raise Malformed("`verdict` must be `approve` or `revise`")
        value = {"verdict": None, "issues": value}
    value = _keyed(value, ("verdict", "review", "result"), "verdict")
    word = _word(value)
    raw = next((value[key] for key in _ISSUE_KEYS if value.get(key) is not None), [])
    issues = [_issue(one) for one in (raw if isinstance(raw, list) else [raw])]
    if word is None:
        if not issues or any(value.get(key) is not None for key in _VERDICT_KEYS):
            raise Malformed("`verdict` must be `approve` or `revise`")
        word = "revise"
    if any(issue["severity"] == "high" for issue in issues):
        word = "revise"
    return {"verdict": word, "issues": issues[:_ITEMS]}


def _keyed(value: Any, wrappers: tuple[str, ...], key: str) -> dict[str, Any]:
    """The object with lower-case keys, taken out of a wrapper if it stands in one."""
    if not isinstance(value, Mapping):
        raise Malformed("the reply must be one JSON object")
    flat = {re.sub(r"[\s-]+", "_", str(name).strip().lower()): item for name, item in value.items()}
    for wrapper in wrappers:
        inner = flat.get(wrapper)
        if isinstance(inner, Mapping) and (key not in flat or wrapper == key):
            return _keyed(inner, (), key)
    return flat


def _word(value: Mapping[str, Any]) -> str | None:
    """approve, revise, or None when no key says either."""
    given = next((value[key] for key in _VERDICT_KEYS if value.get(key) is not None), None)
    if isinstance(given, bool):
        return "approve" if given else "revise"
    plain = re.sub(r"[^a-z ]+", " ", str(given or "").lower().replace("_", " ").replace("-", " "))
    plain = " ".join(plain.split())
    return "revise" if plain in _REVISE else "approve" if plain in _APPROVE else None


def _issue(raw: Any) -> dict[str, Any]:
    if isinstance(raw, str) and raw.strip():
        raw = {"claim": raw}
    if not isinstance(raw, Mapping):
        raise Malformed("each issue must be an object with a `claim`")
    item = {re.sub(r"[\s-]+", "_", str(name).strip().lower()): given for name, given in raw.items()}
    claim = next(
        (item[key] for key in _CLAIM_KEYS if isinstance(item.get(key), str) and item[key].strip()), None
    )
    if claim is None:
        raise Malformed("each issue must be an object with a `claim`")
    severity = str(item.get("severity") or item.get("level") or item.get("priority") or "low").strip().lower()
    line = item.get("line") or item.get("line_number")
    evidence = item.get("evidence_command") or item.get("evidence_cmd") or item.get("evidence")
    return {
        "severity": _SEVERITY.get(severity.replace("_", " ").replace("-", " "), "medium"),
        "file": str(item.get("file") or item.get("path") or "")[:300],
        "line": _line(line),
        "claim": claim[:_CHARACTERS],
        "evidence_command": str(evidence)[:2000] if evidence else None,
    }


def _line(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    found = re.match(r"\s*(?:L|lines?\s*)?(\d+)", value) if isinstance(value, str) else None
    return int(found.group(1)) if found else None


def _strings(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        value = [value] if value.strip() else []
    if not isinstance(value, list):
        raise Malformed(f"`{name}` must be a list of strings")
    out = []
    for item in value[:_ITEMS]:
        if isinstance(item, Mapping):  # `{"step": 1, "description": "…"}`
            texts = [given for given in item.values() if isinstance(given, str) and given.strip()]
            item = max(texts, key=len, default=None)
        if item is None or not isinstance(item, str | int | float):
            raise Malformed(f"`{name}` must be a list of strings")
        out.append(str(item)[:_CHARACTERS])
    return out
