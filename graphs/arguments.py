"""The arguments of a tool call, as models write them: read leniently, fitted to the schema, then checked.

What it guarantees
- `read` understands JSON with raw line breaks and tabs in strings, wrong escapes, trailing commas, a fence
  around it, words after it, a missing last bracket; JSON encoded twice; a Python dict; nothing for no
  arguments. What it cannot read stays the string it was.
- `fit` unwraps `{"arguments": {…}}`, drops keys that the tool does not have, and turns `"30"` and `30.0` into
  30, `"true"` into true, 404 into `"404"` where the schema wants it so.
- No text is invented: a string that was cut stays unreadable, because half a command is another command.

What is still wrong after that is told to the model in words by `problem`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from terminalpp.types.text import clean

WRAPPERS = ("arguments", "parameters", "input", "args", "kwargs", "params")
_TIMES_ENCODED, _TIMES_WRAPPED = 4, 3
_FENCED = re.compile(r"\A\s*```\w*[ \t]*\n?(.*?)\n?\s*```\s*\Z", re.DOTALL)
_BAD_ESCAPE = re.compile(r'\\(\\|["/bfnrt]|u[0-9a-fA-F]{4})|\\')
_CLOSERS = {"{": "}", "[": "]"}
_WORDS = {"true": True, "false": False, "null": None, "undefined": None, "None": None}


def read(given: Any) -> Any:
    """`given` as an object where it can be read as one, else as it stands. Cleaned of unfit characters."""
    value = given
    for _ in range(_TIMES_ENCODED):
        if value is None:
            return {}
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
            value = value[0]
        if not isinstance(value, str):
            break
        if not value.strip():
            return {}
        decoded = _decoded(value)
        if decoded is _NOTHING:
            break
        value = decoded
    # The escapes are gone only now: a lone surrogate may have been hidden in one.
    try:
        return clean(value if value is None or isinstance(value, Mapping) else given)
    except RecursionError:  # no tool takes anything that is nested hundreds of levels deep
        return clean(given) if isinstance(given, str) else {}


_NOTHING = object()


def _decoded(text: str) -> Any:
    """The JSON value that `text` holds, or `_NOTHING`."""
    fenced = _FENCED.match(text)
    text = (fenced.group(1) if fenced else text).strip()
    for attempt in (text, _escaped(text), _mended(text)):
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(attempt)
        except (ValueError, RecursionError):
            continue
        # Words after the object are noise; a second object is another call, and nobody knows which is meant.
        if not attempt[end:].strip().startswith(("{", "[")):
            return value
    return _python(text)


def _escaped(text: str) -> str:
    r"""With `\d`, `\$` and `\'`, which are no JSON, as the backslash and the letter they were meant as."""
    return _BAD_ESCAPE.sub(lambda match: match.group(0) if match.group(1) else r"\\", text)


def _mended(text: str) -> str:
    """Without commas before a closing bracket, and with the brackets that are missing at the end.

    A string or number that is still open at the end stays open: its rest is not known.
    """
    out: list[str] = []
    open_: list[str] = []
    quoted = False
    for letter in _escaped(text):
        if quoted:
            quoted = letter != '"' or _odd(out)
        elif letter == '"':
            quoted = True
        elif letter in _CLOSERS:
            open_.append(_CLOSERS[letter])
        elif letter in "}]":
            while out and (out[-1].isspace() or out[-1] == ","):
                out.pop()
            if open_ and open_[-1] == letter:
                open_.pop()
        out.append(letter)
    whole = not quoted and "".join(out[-1:]) in '"}]'
    return "".join(out) + ("".join(reversed(open_)) if whole else "")


def _odd(out: Sequence[str]) -> bool:
    """Whether `out` ends in an odd number of backslashes: the next character is escaped."""
    count = 0
    while count < len(out) and out[-1 - count] == "\\":
        count += 1
    return count % 2 == 1


def _python(text: str) -> Any:
    """A Python or JavaScript object: single quotes, bare keys, True and true alike."""
    if not text.startswith(("{", "[", '"', "'")):
        return _NOTHING
    try:
        return _literal(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return _NOTHING


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Dict():
            keys = [key.id if isinstance(key, ast.Name) else _literal(key) for key in node.keys if key]
            return dict(zip(keys, map(_literal, node.values), strict=True))
        case ast.List() | ast.Tuple():
            return [_literal(item) for item in node.elts]
        case ast.Name() if node.id in _WORDS:
            return _WORDS[node.id]
        case _:
            return ast.literal_eval(node)


def keywords(text: str) -> dict[str, Any] | None:
    """The arguments of a Python call, `command="ls", timeout_seconds=3`; None when it is none."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if isinstance(call, ast.Call) and not call.args and all(word.arg for word in call.keywords):
            return clean({str(word.arg): _literal(word.value) for word in call.keywords})
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    return None


def fit(arguments: Any, schema: Mapping[str, Any]) -> Any:
    """`arguments` as `schema` wants them, where that can be done without guessing; else unchanged."""
    if not isinstance(arguments, Mapping):
        return arguments
    wanted = schema.get("properties", {})
    for _ in range(_TIMES_WRAPPED):
        if wanted.keys() & arguments.keys():
            break
        inner = next((read(arguments[name]) for name in WRAPPERS if arguments.get(name)), None)
        if not isinstance(inner, Mapping):
            break
        arguments = inner
    required = schema.get("required", ())
    return {
        key: _as(wanted[key].get("type"), value)
        for key, value in arguments.items()
        if key in wanted and (key in required or not _left_out(wanted[key].get("type"), value))
    }


def _left_out(kind: str | None, value: Any) -> bool:
    """Whether an optional value says that there is none: null, or no number where one could be."""
    word = value.strip().lower() if isinstance(value, str) and kind != "string" else None
    return value is None or word in ("", "null", "none", "undefined")


def _as(kind: str | None, value: Any) -> Any:
    match kind:
        case "integer" if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,15}(\.0*)?\s*", value):
            return int(float(value))
        case "integer" if isinstance(value, float) and abs(value) < 1e15:
            return round(value)
        case "boolean" if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        case "string" if isinstance(value, int | float):
            return json.dumps(value)
        case _:
            return value


def tool(given: str, allowed: Sequence[str]) -> str:
    """The tool that `given` means (`functions.bash`, `default_api:Bash`, `bash `), else `given` stripped."""
    name = given.strip()
    if name in allowed:
        return name
    # `bash<|channel|>commentary` and `functions.bash:0` are how two models' templates leak into the name.
    bare = re.sub(r":\d+\Z", "", name.split("<|")[0]).strip("`'\" ()")
    last = re.split(r"[.:/]|__", bare)[-1].strip().lower()
    meant = [known for known in allowed if known.lower() == last]
    return meant[0] if len(meant) == 1 else name


def problem(
    name: str, arguments: Any, allowed: Sequence[str], schemas: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Why a fitted call cannot be understood, in words for the model; None when it can."""
    if name not in allowed:
        return f"there is no tool {name!r}; you have: {', '.join(allowed)}"
    schema = schemas[name]
    if not isinstance(arguments, Mapping):
        return (
            f"the arguments of {name} must be an object with {', '.join(schema['properties'])}, "
            "and could not be read as JSON"
        )
    missing = [key for key in schema["required"] if arguments.get(key) is None]
    if missing:
        return f"{name} needs {', '.join(missing)}"
    for key, value in arguments.items():
        kind = schema["properties"].get(key, {}).get("type")
        if value is not None and kind is not None and not _is(kind, value):
            return f"{name}: {key} must be a {kind}"
    return None


def _is(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case _:
            return True
