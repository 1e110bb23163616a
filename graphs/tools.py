"""The agents' tools: what they are called, what they take, and how they act on a sandbox.

A call runs in two parts. `prepare` checks the arguments and works out the effect (for an edit: the
digests of the file before and after). The loop writes `tool.called` with that effect, then `perform`
acts. After a crash `perform` runs again with the recorded effect and can tell what was already done:
a command is joined by its exec id, an edit whose file already has the digest "after" is complete.

Texts are kept as they are: graphs/textfile.py reads a file's encoding and line ends, and read, edit, write,
search and list count lines alike, at line feeds.

Whatever goes wrong inside a sandbox is an observation for the model, never an exception of the turn.
"""

from __future__ import annotations

import codecs
import hashlib
import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from graphs import edit, listing, observation, search
from graphs.ports import Sandbox
from graphs.textfile import NotText, Style, TextFile, lines, rewritten
from terminalpp.types.errors import FileProblem, NotFound
from terminalpp.types.text import REPLACEMENT

HOME = "/home/user"
READ_LINES = 400
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_COMMAND_BYTES = 100_000  # quoted; one argument of execve holds 128 KiB
OUTPUT_SCHEME = "output:"
_REPLACED = (
    "[your call holds U+FFFD: that is what ran or was written. Where you did not write it, it stands for a "
    "character that is no text: NUL, or half of a surrogate pair]"
)


def _tool(
    name: str, about: str, properties: dict[str, tuple[str, str]], required: list[str]
) -> dict[str, Any]:
    shaped = {key: {"type": kind, "description": text} for key, (kind, text) in properties.items()}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": about,
            "parameters": {
                "type": "object",
                "properties": shaped,
                "required": required,
                "additionalProperties": False,
            },
        },
    }


TOOLS: dict[str, dict[str, Any]] = {
    tool["function"]["name"]: tool
    for tool in (
        _tool(
            "bash",
            "Run a shell command in the sandbox. Working directory and exported variables persist "
            "from call to call. A command that outlives its timeout goes on; you get its output so far. "
            "The text runs as it is: its lines must end with LF alone.",
            {
                "command": ("string", "the command"),
                "timeout_seconds": ("integer", "how long to wait for it, 1 to 600"),
            },
            ["command"],
        ),
        _tool(
            "read",
            "Read a text file with line numbers, or the whole output of an earlier command with "
            "path `output:<exec id>` and a byte offset. Line ends and an encoding other than UTF-8 are named "
            "at the end.",
            {
                "path": ("string", "file, relative to the workspace or absolute"),
                "offset": ("integer", "first line (or byte of an output), from 1 (or 0)"),
                "limit": ("integer", "how many lines (or bytes)"),
            },
            ["path"],
        ),
        _tool(
            "edit",
            "Replace text in a file. `old` must occur exactly once; copy it exactly, without the line "
            "numbers that read shows. Write line ends as LF: the file keeps its own (CRLF too) and its "
            "encoding.",
            {
                "path": ("string", "the file"),
                "old": ("string", "the exact text to replace"),
                "new": ("string", "the text to put in its place"),
            },
            ["path", "old", "new"],
        ),
        _tool(
            "write",
            "Make a file, or replace all of it. The content is written as it is, in UTF-8; but a file that "
            "was there keeps its encoding and byte order mark, and its line ends if all were CRLF and the "
            "content has LF alone (the result says so; to change them use bash).",
            {"path": ("string", "the file"), "content": ("string", "its whole text")},
            ["path", "content"],
        ),
        _tool(
            "search",
            "Search the workspace's files for a regular expression, line by line. Folders of dependencies, "
            "caches and git (node_modules, .venv, .git …) are left out unless the path names them.",
            {
                "pattern": ("string", "the regular expression"),
                "path": ("string", "folder or file to search; the workspace by default"),
                "glob": ("string", "only files whose name matches, for instance *.py or src/**/*.{ts,tsx}"),
            },
            ["pattern"],
        ),
        _tool(
            "list",
            "List files below a folder, two levels deep.",
            {"path": ("string", "the folder; the workspace by default")},
            [],
        ),
    )
}

ROLE_TOOLS: dict[str, tuple[str, ...]] = {
    "planner": ("read", "search", "list"),
    "coder": ("bash", "read", "edit", "write", "search"),
    "critic": ("read", "search"),
    "executor": ("bash", "read"),
}

SCHEMAS = {name: tool["function"]["parameters"] for name, tool in TOOLS.items()}


@dataclass(frozen=True, slots=True)
class Prepared:
    """An accepted call: its effect (JSON, recorded before it acts) and the exec id if it runs a command."""

    effect: dict[str, Any]
    exec_id: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the model sees. `malformed` marks a call that could not be understood at all."""

    ok: bool
    output: str
    exit_code: int | None = None
    malformed: bool = False


def resolve(workspace: str, path: str) -> str:
    """An absolute path in the sandbox; `~` is the home, everything else starts at the workspace."""
    if path == "~" or path.startswith("~/"):
        path = HOME + path[1:]
    return posixpath.normpath(posixpath.join(workspace, path or "."))


async def prepare(
    name: str, arguments: Mapping[str, Any], exec_id: str, sandbox: Sandbox
) -> Prepared | Result:
    """Work out a valid call's effect, reading but changing nothing; a Result when it cannot be done."""
    if name == "bash":
        if len(shlex.quote(arguments["command"]).encode("utf-8", "replace")) > MAX_COMMAND_BYTES:
            return Result(False, "the command is too long: put the text into a file with `write`")
        return Prepared({}, exec_id)
    if name == "search" and (refusal := search.problem(arguments["pattern"])):
        return Result(False, refusal)
    if name in ("search", "list"):
        return Prepared({}, exec_id)
    if name == "edit":
        path = resolve(sandbox.workspace, arguments["path"])
        try:
            before = await _data(sandbox, path)
            done = edit.replace_once(before, arguments["old"], arguments["new"], arguments["path"])
        except (edit.EditRefused, NotFound, FileProblem) as refusal:
            return Result(False, _words(refusal, arguments["path"]))
        return Prepared({"before": _digest(before), "after": _digest(done.data),
                         "first": done.first_line, "last": done.last_line})
    if name == "write":
        style = await _style(sandbox, resolve(sandbox.workspace, arguments["path"]))
        return Prepared({} if style == Style() else {"style": style.to_json()})
    return Prepared({})


async def perform(
    name: str,
    arguments: Mapping[str, Any],
    prepared: Prepared,
    sandbox: Sandbox,
    *,
    timeout_s: float,
    limit: int,
) -> Result:
    """Carry a prepared call out, or finish one that a crash interrupted. `limit`: characters shown."""
    done = await _performed(name, arguments, prepared, sandbox, timeout_s, limit)
    if any(isinstance(value, str) and REPLACEMENT in value for value in arguments.values()):
        return replace(done, output=f"{done.output}\n{_REPLACED}")
    return done


async def _performed(
    name: str,
    arguments: Mapping[str, Any],
    prepared: Prepared,
    sandbox: Sandbox,
    timeout_s: float,
    limit: int,
) -> Result:
    try:
        match name:
            case "bash":
                return await _bash(arguments, prepared, sandbox, timeout_s, limit)
            case "read":
                return await _read(arguments, sandbox, limit)
            case "edit":
                return await _edit(arguments, prepared, sandbox, limit)
            case "write":
                return await _write(arguments, prepared, sandbox)
            case "search":
                return await _search(arguments, prepared, sandbox, limit)
            case "list":
                return await _list(arguments, prepared, sandbox, limit)
    except (NotFound, FileProblem, NotText) as refusal:
        return Result(False, _words(refusal, str(arguments.get("path", ""))))
    raise ValueError(f"no such tool: {name}")


async def _bash(
    arguments: Mapping[str, Any], prepared: Prepared, sandbox: Sandbox, timeout_s: float, limit: int
) -> Result:
    wait_s = float(min(600, max(1, arguments.get("timeout_seconds") or timeout_s)))
    exec_id = str(prepared.exec_id)
    seen = await sandbox.run(exec_id, arguments["command"], wait_s)
    text = shown(seen, exec_id, limit)
    if seen.running:
        note = (
            f"[still running after {wait_s:.0f} s; it goes on as exec id {exec_id}. Read what it prints: "
            f"read path={OUTPUT_SCHEME}{exec_id}]"
        )
        return Result(True, f"{text}\n{note}" if text else note)
    if seen.reason == "lost":
        return Result(False, f"{text}\n[the sandbox died under this command; it was not run again]".lstrip())
    if seen.exit_code is None:
        return Result(False, f"{text}\n[{seen.status}{': ' + seen.reason if seen.reason else ''}]".lstrip())
    why = f": {seen.reason}" if seen.reason in ("out-of-memory", "timeout") else ""
    note = "" if seen.exit_code == 0 else f"\n[exit code {seen.exit_code}{why}]"
    if note and "\r\n" in arguments["command"]:
        note += "\n[the command has CRLF line ends: the shell takes each CR as part of a word]"
    return Result(seen.exit_code == 0, (text or "[no output]") + note, seen.exit_code)


def shown(seen: Any, exec_id: str, limit: int) -> str:
    """A command's output as a model sees it: whole, or head and tail with a pointer between."""
    if not seen.tail:
        return observation.cut_middle(
            seen.output.rstrip("\r\n"), limit, f"read path={OUTPUT_SCHEME}{exec_id} offset=0"
        )
    half = limit // 2
    head, tail = seen.output[:half], seen.tail[-half:]
    # A U+FFFD may stand for one byte: rather show a few bytes twice than never.
    head_bytes = len(head.encode("utf-8", "replace")) - 2 * head.count("\ufffd")
    missing = max(0, seen.output_bytes - head_bytes - len(tail.encode("utf-8", "replace")))
    pointer = f"read path={OUTPUT_SCHEME}{exec_id} offset={head_bytes}"
    return observation.join(head, tail.rstrip("\r\n"), missing, "bytes", pointer)


async def _read(arguments: Mapping[str, Any], sandbox: Sandbox, limit: int) -> Result:
    path = arguments["path"]
    if path.startswith(OUTPUT_SCHEME):
        return await _read_output(arguments, sandbox, limit)
    file = TextFile.of(await sandbox.read_file(resolve(sandbox.workspace, path)))
    there = lines(file.shown)
    first = max(1, arguments.get("offset") or 1)
    count = max(1, arguments.get("limit") or READ_LINES)
    if not there:
        return Result(True, f"[{path} is empty]")
    if first > len(there):
        return Result(False, f"{path} has {len(there)} lines; there is no line {first}")
    part = there[first - 1 : first - 1 + count]
    body = observation.cut_middle(observation.numbered(part, first), limit, "read with offset and limit")
    more = len(there) - (first - 1 + len(part))
    notes = [f"[{more} more lines; go on with offset={first + len(part)}]"] if more else []
    notes += [f"[{about}]"] if (about := file.about()) else []
    return Result(True, "\n".join([body, *notes]))


async def _read_output(arguments: Mapping[str, Any], sandbox: Sandbox, limit: int) -> Result:
    offset = max(0, arguments.get("offset") or 0)
    size = min(limit, max(1, arguments.get("limit") or limit))
    data, after = await sandbox.output(arguments["path"].removeprefix(OUTPUT_SCHEME), offset, size)
    if not data:
        return Result(True, f"[nothing at offset {offset}: this is the end so far]")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    cut = len(decoder.getstate()[0])  # bytes of a character whose rest comes next
    text, after = (text, after - cut) if text else (data.decode("utf-8", "replace"), after)
    return Result(True, f"{text}\n[bytes {offset}–{after}; go on with offset={after}]")


async def _edit(arguments: Mapping[str, Any], prepared: Prepared, sandbox: Sandbox, limit: int) -> Result:
    path = resolve(sandbox.workspace, arguments["path"])
    data = await _data(sandbox, path)
    effect = prepared.effect
    if _digest(data) == effect["before"]:
        data = edit.replace_once(data, arguments["old"], arguments["new"], arguments["path"]).data
        await sandbox.write_file(path, data)
    elif _digest(data) != effect["after"]:  # equal: a crash came between the edit and its record
        return Result(False, f"{arguments['path']} was changed meanwhile: read it again")
    view = observation.around(lines(TextFile.of(data).shown), effect["first"], effect["last"])
    view = observation.cut_middle(view, limit, "read with offset and limit")
    return Result(True, f"edited {arguments['path']}, now:\n{view}".removesuffix("\n"))


async def _write(arguments: Mapping[str, Any], prepared: Prepared, sandbox: Sandbox) -> Result:
    style = prepared.effect.get("style")
    data, kept = rewritten(Style.from_json(style) if style else Style(), arguments["content"])
    await sandbox.write_file(resolve(sandbox.workspace, arguments["path"]), data)
    return Result(True, "; ".join([f"wrote {arguments['path']}, {len(data)} bytes", *kept]))


async def _search(arguments: Mapping[str, Any], prepared: Prepared, sandbox: Sandbox, limit: int) -> Result:
    path = resolve(sandbox.workspace, arguments.get("path") or ".")
    script = search.script(sandbox.workspace, path, arguments["pattern"], arguments.get("glob"))
    seen = await sandbox.run(str(prepared.exec_id), script, 60.0, quiet=True)
    found = search.read(seen.output + seen.tail)
    narrower = "search with a narrower pattern, path or glob"
    notes = [f"[{found.more} more matches: {narrower}]"] if found.more else []
    if seen.running:
        await sandbox.kill(str(prepared.exec_id))
        notes.append("[the search took longer than 60 s and was stopped: name a folder]")
    if found.said:
        notes.append(found.said if found.matches else f"[nothing found; the search said:]\n{found.said}")
    text = observation.cut_middle(found.matches, limit, narrower)
    ok = seen.exit_code == 0 and bool(found.matches or not found.said)
    return Result(ok, "\n".join(part for part in (text, *notes) if part) or "[no match]")


async def _list(arguments: Mapping[str, Any], prepared: Prepared, sandbox: Sandbox, limit: int) -> Result:
    script = listing.script(resolve(sandbox.workspace, arguments.get("path") or "."))
    seen = await sandbox.run(str(prepared.exec_id), script, 30.0, quiet=True)
    names, said = listing.read(seen.output + seen.tail)
    if seen.running:
        await sandbox.kill(str(prepared.exec_id))
        said = f"{said}\n[the listing took longer than 30 s and was stopped]".strip("\n")
    text = observation.cut_middle(names, limit, "list a folder")
    ok = seen.exit_code == 0 and bool(names or not said)
    return Result(ok, "\n".join(part for part in (text, said) if part) or "[empty]")


async def _data(sandbox: Sandbox, path: str) -> bytes:
    data = await sandbox.read_file(path)
    if len(data) > MAX_FILE_BYTES:
        raise FileProblem(f"{path} is larger than {MAX_FILE_BYTES} bytes: use bash")
    return data


async def _style(sandbox: Sandbox, path: str) -> Style:
    """How a text that will be replaced is written; the plain style when there is none."""
    try:
        return TextFile.of(await sandbox.read_file(path)).style
    except (NotFound, FileProblem, NotText):
        return Style()


def _words(refusal: Exception, path: str) -> str:
    if isinstance(refusal, NotText):
        return f"{path} is {refusal}"
    if isinstance(refusal, NotFound):
        return f"there is no file {path}"
    return str(refusal)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
